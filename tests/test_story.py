"""A payment's story is told in order, in sentences: what happened, what comes next, what to do."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money, Status
from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import environ, now_ms, until
from tests.test_payment import decided
from worker import story
from worker.client import track
from worker.main import run_worker
from worker.mock_gateway import MockConfig, RunningMock, start
from worker.mock_gateway.scenarios import SCENARIOS, Fault, Happening, Notify, Scenario, Trouble
from worker.settings import load
from worker.story import length, sentence, tell, to_do, why_open
from worker.views import look_up

NOW = 1_800_000_000_000  #: 2027-01-15T08:00:00Z

#: The buyer pays long after the closing time. No notification ever comes; the first inquiries find
#: nobody; two cancels are not answered, the third one is refused.
SAGA = Scenario(
    name="saga",
    description="Everything goes wrong, and in the end the buyer pays.",
    expects=Status.SUCCEEDED,
    happens=((300, Happening.PAID),),
    notify=Notify(copies=0),
    inquiries=Trouble(faults=(Fault.UNAVAILABLE,), until=40),
    cancels=Trouble(faults=(Fault.UNKNOWN, Fault.DROP, Fault.WINDOW), first=3),
)


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningMock]:
    monkeypatch.setitem(SCENARIOS, "saga", SAGA)
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        attacker_private_key=private_key("attacker"),
        merchant_public_keys={1: public_key("merchant_v1")},
        default_closing_seconds=2,
    )
    mock = await start(config)
    yield mock
    await mock.close()


async def record_of(redis: Redis, prefix: str, name: str) -> dict[str, Any]:
    seen = await look_up(redis, prefix, CLIENT_ID, name)
    return seen or {"payment": {}, "timeline": []}


async def ended(redis: Redis, prefix: str, name: str) -> bool:
    return "finalAt" in (await record_of(redis, prefix, name))["payment"]


@pytest.mark.once
async def test_loss_inquiries_timeout_cancels_and_late_success_are_told_in_order(
    redis: Redis, redis_url: str, prefix: str, gateway: RunningMock
) -> None:
    """The real worker against the gateway in a box, read as a person would."""
    given = environ(
        redis_url,
        prefix,
        gateway.url,
        CANCEL_SCHEDULE="0.3",
        CANCEL_QUIET_SECONDS="0.5",
        UNRESOLVED_SCHEDULE="1",
        AFTERCARE_SCHEDULE="3600",
    )
    stopping = asyncio.Event()
    working = asyncio.create_task(run_worker(load(given), stopping))
    gateway.ledger.create("saga-1", Money("USD", 599), now_ms())
    await track(redis, "saga-1", "USD", 599, expires_in=2, prefix=prefix)
    await until(lambda: ended(redis, prefix, "saga-1"))
    stopping.set()
    await working
    seen = await record_of(redis, prefix, "saga-1")
    told = tell(seen, now_ms())
    assert happened(told) == [
        "Your system asked to have it followed: USD 599.",
        "Our question got no answer that counts: HTTP 503.",
        "The gateway says: not paid yet.",
        "-- its closing time --",
        "Hope is given up, as its time was up: your system hears `cancelling`, a cancel follows.",
        "A cancel was sent.",
        "The cancel got no answer that counts: it said UNKNOWN_EXCEPTION.",
        "A cancel was sent.",
        "The cancel got no answer that counts: the connection was lost.",
        "A cancel was sent.",
        "The gateway refused the cancel: CANCEL_WINDOW_EXCEED.",
        "The gateway says: not paid yet.",
        f"A person must look: {story.UNRESOLVED['cancel_window'][0]}.",
        "The gateway says: not paid yet.",
        "The gateway says: paid.",
        "It ended: SUCCEEDED, after its closing time. Your system hears it.",
    ]
    first, second, third, fourth, *_ = told.splitlines()
    assert first == f"Payment saga-1: USD 599 in its smallest unit, account {CLIENT_ID}"
    assert re.fullmatch(
        r"SUCCEEDED, \d+(\.\d)? s after it was tracked, learned by an inquiry; after its closing"
        r" time\.",
        second,
    )
    assert re.match(r"So far: no notifications heard, \d+ inquiries, 3 cancels; its closing", third)
    assert re.fullmatch(
        r"Next: in 59 min \d+ s the gateway is asked whether it stays paid\.", fourth
    )


def happened(told: str) -> list[str]:
    """The sentences of a story, without times and counts, each run of equal ones once."""
    part = told.split("What happened:\n")[1].split("\n\n")[0]
    lines = [re.sub(r"^.{38}| \(\d+ times.*\)$", "", line) for line in part.splitlines()]
    return [line for n, line in enumerate(lines) if n == 0 or line != lines[n - 1]]


# Sentences


@pytest.mark.parametrize(
    ("source", "what", "detail", "told"),
    [
        ("notification", "paid", "SUCCESS", "A notification says: paid."),
        ("notification", "known", "SUCCESS", "A notification came with nothing new."),
        ("notification", "amount_mismatch", "USD 1", "A notification says: another amount than yours, USD 1."),
        ("inquiry", "not_exist", "ORDER_NOT_EXIST", "The gateway says: there is no such order."),
        ("inquiry", "no_answer", "timeout", "Our question got no answer that counts: it took too long."),
        ("inquiry", "no_answer", "untrusted_sig_mismatch", "Our question got no answer that counts: nothing proves that it is the gateway's (sig_mismatch)."),
        ("command", "payment.submit", "USD 599", "Your system asked to have it submitted and followed: USD 599."),
        ("pay", "sent", "", "Our pay was sent."),
        ("pay", "no_answer", "timeout", "Our pay got no answer that counts: it took too long."),
        ("pay", "order_created", "SUCCESS", "The gateway made the order: your system hears where the buyer pays."),
        ("pay", "pay_refused", "RISK_REJECT", "The gateway refused to make the order: RISK_REJECT."),
        ("pay", "amount_mismatch", "USD 1", "The gateway says: another amount than yours, USD 1."),
        ("pay", "no_answer", "no_redirect", "Our pay got no answer that counts: it does not say where the buyer pays."),
        ("cancel", "cancel_confirmed", "SUCCESS", "The gateway confirmed the cancel."),
        ("cancel", "no_answer", "stale", "The cancel got no answer that counts: an answer came that is not of now."),
        ("command", "payment.cancel", "out of stock", "Your system asked to cancel it: out of stock."),
        ("command", "payment.recheck", "", "Your system asked to look again."),
        ("command", "payment.resolve", "ann: seen in the bank", "An operator decided: ann: seen in the bank."),
        ("status", "cancelled", "refunded", "It ended: CANCELLED, the money was given back. Your system hears it."),
        ("status", "forgotten", "", "It is followed no more, as your system asked."),
        ("status", "pending", "", "It is waited for again, not cancelled."),
        ("status", "unresolved", "a reason of tomorrow", "A person must look: a reason of tomorrow."),
        ("", "unreadable", "{", " unreadable: {."),
    ],
)  # fmt: skip
def test_each_line_of_a_timeline_is_a_sentence(
    source: str, what: str, detail: str, told: str
) -> None:
    assert sentence({"source": source, "what": what, "detail": detail}) == told


def test_every_reason_and_every_mark_of_the_product_has_its_words() -> None:
    ends = [decision.payment for _, _, _, decision in decided()]
    unresolved = {p.reason for p in ends if p.status is Status.UNRESOLVED}
    assert unresolved - story.UNRESOLVED.keys() <= {""}
    assert {mark for p in ends for mark in p.marks} <= story.MARKS.keys()


def test_whoever_must_look_is_told_what_to_do_and_how_to_say_so() -> None:
    for reason in [*story.UNRESOLVED, "a reason of tomorrow"]:
        record = {"status": "unresolved", "reason": reason, "paymentRequestId": "order-1"}
        wanted = "`reconciler resolve order-1 --as succeeded|failed|cancelled --reason TEXT`"
        assert to_do(record).endswith(wanted)
    record = {"status": "failed", "aftercare": "refund_required", "paymentRequestId": "order-1"}
    assert to_do(record).startswith("refund it on the gateway's dashboard")
    assert "`reconciler resolve order-1 --as refunded --reason TEXT`" in to_do(record)
    assert to_do({"status": "pending"}) == to_do({"status": "succeeded"}) == ""


WINDOW_END = {"cancelWindowEnd": "2027-01-15T16:15:00.000Z"}


def test_whoever_must_refund_is_told_when_the_cancel_window_ends() -> None:
    refund = {"status": "failed", "aftercare": "refund_required"}
    assert to_do(refund | WINDOW_END).startswith(
        "the gateway cancels until 2027-01-15 16:15 UTC; refund it on the gateway's dashboard"
    )
    for reason in ("cancel_window", "cancel_limit", "cancel_refused"):
        record = {"status": "unresolved", "reason": reason} | WINDOW_END
        assert to_do(record).startswith("the gateway cancels until 2027-01-15 16:15 UTC; ")
    other = {"status": "unresolved", "reason": "brake"} | WINDOW_END
    assert "UTC" not in to_do(other)


# What comes next

PENDING = {
    "paymentRequestId": "order-1",
    "clientId": CLIENT_ID,
    "amount": "599",
    "currency": "USD",
    "status": "pending",
    "trackedAt": str(NOW - 60_000),
    "closingTime": str(NOW + 200_000),
    "nextInquiryAt": str(NOW + 12_000),
    "attempts": "7",
}
MISMATCHED = {"told": '["attention.amount_mismatch=USD 600"]'}
CANCELLING = {"status": "cancelling", "cause": "timed_out", "nextAct": "cancel"}
FAILED = {"status": "failed", "finalAt": str(NOW - 1000), "aftercare": "watching"}


@pytest.mark.parametrize(
    ("changed", "comes"),
    [
        ({}, "in 12 s the gateway is asked again; if it is not paid within 3 min 20 s, it is cancelled"),
        ({"onTimeout": "report"}, "in 12 s the gateway is asked again; if it is not paid within 3 min 20 s, it is reported"),
        (MISMATCHED, "in 12 s the gateway is asked again; if it says the same at the closing time, a person must look"),
        ({"closingTime": str(NOW - 1)}, "in 12 s the gateway is asked for the last time; if it is not paid, it is cancelled"),
        ({"nextInquiryAt": str(NOW - 180_000)}, "it was due 3 min ago; a worker that runs takes it up at once"),
        ({"nextInquiryAt": str(NOW - 1000)}, "now the gateway is asked again; if it is not paid within 3 min 20 s, it is cancelled"),
        ({"nextAct": "pay"}, "in 12 s our pay is sent"),
        ({"nextAct": "pay", "submitState": "open"}, "in 12 s our pay is sent again, as it was"),
        (CANCELLING, "in 12 s the cancel is sent"),
        (CANCELLING | {"cancelAttempts": "2"}, "in 12 s the cancel is sent again"),
        ({"status": "unresolved", "reason": "brake"}, "in 12 s the gateway is asked how it stands"),
        ({"status": "unresolved", "nextInquiryAt": ""}, "nothing, until a person decides"),
        (FAILED, "in 12 s the gateway is asked whether money was taken after all"),
        (FAILED | {"nextInquiryAt": "", "aftercare": "none"}, "nothing"),
    ],
)  # fmt: skip
def test_it_says_what_comes_next_and_when(changed: dict[str, str], comes: str) -> None:
    told = tell({"payment": PENDING | changed, "timeline": []}, NOW)
    assert f"\nNext: {comes}.\n" in told


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "the gateway has not said that it is paid, asked 7 times"),
        ({"unanswered": "3"}, "the gateway has not answered the last 3 of our questions"),
        ({"unanswered": "1"}, "the gateway has not answered our last question"),
        ({"nextAct": "pay"}, "our pay is about to leave"),
        ({"submitState": "open", "unanswered": "1"}, "our pay has no answer yet"),
        ({"submitState": "refused"}, "the gateway refused our pay; it is asked whether an earlier one made the order"),
        ({"submitState": "created"}, "the gateway has not said that it is paid, asked 7 times"),
        (MISMATCHED, "the gateway speaks of another payment or amount than yours"),
        ({"confirmingSince": "1"}, "the buyer has paid, the bank is confirming"),
        ({"nextInquiryAt": str(NOW - 180_000)}, "no worker has taken it up, 3 min after its time"),
        (CANCELLING, "its time was up; the cancel is about to be sent"),
        (CANCELLING | {"unanswered": "2"}, "its time was up; the gateway has not answered the last 2 of our questions"),
        (CANCELLING | {"cancelState": "open", "cancelAttempts": "3"}, "its time was up; cancelled 3 times, not confirmed yet"),
        (CANCELLING | {"cancelState": "refused"}, "its time was up; the gateway refused the cancel, and is asked how it ended"),
        ({"status": "unresolved", "reason": "cancel_limit"}, "a person must look: the gateway has never confirmed the cancel"),
        (FAILED, "it has ended; a few more questions, whether money is taken after all"),
        (FAILED | {"aftercare": "refund_required"}, "money stays taken after the end: a person must refund it"),
    ],
)  # fmt: skip
def test_it_says_why_a_payment_is_open(changed: dict[str, str], why: str) -> None:
    assert why_open(PENDING | changed, NOW) == why


def test_an_end_says_how_it_was_learned_and_what_an_operator_said() -> None:
    record = PENDING | {
        "status": "cancelled",
        "finalAt": str(NOW),
        "via": "operator",
        "marks": '["resolved"]',
        "reason": "ann: refunded by hand",
        "aftercare": "refund_required",
        "reference": "cart 7",
    }
    first, second, *_ = tell({"payment": record, "timeline": []}, NOW).splitlines()
    assert first.endswith(", reference cart 7")
    assert second == (
        "CANCELLED, 1 min after it was tracked, learned by an operator; an operator decided so"
        " (ann: refunded by hand). But money stays taken, and no cancel gives it back."
    )


def test_a_record_and_a_timeline_that_are_odd_are_told_all_the_same() -> None:
    line = {"at": "soon", "source": "", "what": "unreadable", "detail": "{"}
    told = tell({"payment": {"status": "?"}, "timeline": [line] * 200}, NOW)
    assert "only the last 200 lines are kept" in told
    assert "unreadable: {." in told


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0.0 s"),
        (9_900, "9.9 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (200_000, "3 min 20 s"),
        (7_500_000, "2 h 5 min"),
        (273_600_000, "3 d 4 h"),
        (-60_000, "-1 min"),
    ],
)
def test_lengths_are_told_as_people_do(ms: int, text: str) -> None:
    assert length(ms) == text
