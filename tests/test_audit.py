"""Our books against the gateway's: every way to disagree is told, and nothing is changed."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.audit import AGREEMENTS, UNSETTLED, Asked, Comparison, Verdict, compare
from jobs.model import CancelState, Decision, Event, Money, Payment, Status
from jobs.news import Call, GatewayStatus, InquiryAnswer, Return, Silence
from jobs.schedule import Policy
from tests.fakes import (
    CLIENT,
    CLOSED,
    KEY,
    NOT_YET,
    PAID,
    REQUEST,
    USD,
    Bench,
    Reply,
    open_bench,
    says,
    silent,
)
from worker.adoption import told
from worker.audit import GIVE_UP, TRIES, Audit, read_asked, recent
from worker.payment_list import Format, read_list

NOW = 1_796_000_000_000
ASKED = Asked(client_id=CLIENT, payment_request_id=REQUEST)
FAIL = says(GatewayStatus.FAIL)
CONFIRMING = says(GatewayStatus.PENDING)


def answer_of(reply: Reply, payment: Payment, asked_at: int) -> InquiryAnswer:
    answer = reply(payment, asked_at)
    assert isinstance(answer, InquiryAnswer)
    return answer


def changed(reply: Reply, **more: Any) -> Reply:
    return lambda payment, asked_at: replace(answer_of(reply, payment, asked_at), **more)


REFUNDED = changed(PAID, returns=(Return("REFUND", USD),))
PARTLY = changed(PAID, returns=(Return("REFUND", Money("USD", 1)),))
NO_SUCH = changed(NOT_YET, call=Call.NOT_EXIST, code="ORDER_NOT_EXIST")
OTHER_AMOUNT = changed(PAID, amount=Money("USD", 600))
OTHER_ID = changed(PAID, payment_id="gw-2")


def ours(status: Status, **more: Any) -> Payment:
    payment = Payment(
        client_id=CLIENT,
        payment_request_id=REQUEST,
        amount=USD,
        tracked_at=NOW - 3_600_000,
        closing_time=NOW - 1_000_000,
        status=status,
        payment_id="gw-1",
    )
    return replace(payment, **more)


def found(payment: Payment | None, reply: Reply, asked: Asked = ASKED) -> Comparison:
    stand_in = payment or ours(Status.PENDING)
    answer = reply(stand_in, NOW)
    assert isinstance(answer, InquiryAnswer | Silence)
    return compare(asked, payment, answer, NOW, Policy())


S, V = Status, Verdict
THERE = {
    "paid": PAID,
    "failed": FAIL,
    "closed": CLOSED,
    "refunded": REFUNDED,
    "partly refunded": PARTLY,
    "open": NOT_YET,
    "confirming": CONFIRMING,
    "unknown": NO_SUCH,
    "other amount": OTHER_AMOUNT,
    "other id": OTHER_ID,
    "silent": silent,
}
#: Ours against theirs, cell by cell.
TABLE = {
    S.SUCCEEDED: {
        "paid": V.AGREES,
        "failed": V.CLOSED_THERE_PAID_HERE,
        "closed": V.CLOSED_THERE_PAID_HERE,
        "refunded": V.CLOSED_THERE_PAID_HERE,
        "partly refunded": V.AGREES,
        "open": V.OPEN_THERE_PAID_HERE,
        "confirming": V.OPEN_THERE_PAID_HERE,
        "unknown": V.UNKNOWN_THERE,
    },
    S.CANCELLED: {
        "paid": V.PAID_THERE_CLOSED_HERE,
        "failed": V.AGREES,
        "closed": V.AGREES,
        "refunded": V.AGREES,
        "partly refunded": V.PAID_THERE_CLOSED_HERE,
        "open": V.OPEN_THERE_CLOSED_HERE,
        "confirming": V.OPEN_THERE_CLOSED_HERE,
        "unknown": V.AGREES,
    },
    S.PENDING: dict.fromkeys(THERE, V.OPEN) | {"unknown": V.UNKNOWN_THERE},
    S.FORGOTTEN: dict.fromkeys(THERE, V.AGREES),
    None: dict.fromkeys(THERE, V.UNKNOWN_HERE)
    | {"unknown": V.AGREES, "other amount": V.UNKNOWN_HERE, "other id": V.UNKNOWN_HERE},
}
TABLE[S.FAILED] = TABLE[S.CANCELLED]
TABLE[S.CANCELLING] = TABLE[S.UNRESOLVED] = TABLE[S.PENDING]
MISMATCHES = {"other amount": V.AMOUNT_DIFFERS, "other id": V.ID_DIFFERS}


@pytest.mark.parametrize("there", THERE)
@pytest.mark.parametrize("status", [*Status, None], ids=str)
def test_every_status_here_meets_everything_there(status: Status | None, there: str) -> None:
    wanted = TABLE[status].get(there)
    if status is not None:
        wanted = MISMATCHES.get(there, wanted)
    if there == "silent":
        wanted = V.UNANSWERED
    comparison = found(ours(status) if status else None, THERE[there])
    assert comparison.verdict is wanted
    assert comparison.disagrees is (wanted not in AGREEMENTS)
    assert comparison.ours == (status.value if status else "untracked")
    assert (comparison.client_id, comparison.payment_request_id) == (CLIENT, REQUEST)


def test_before_its_time_is_over_a_payment_may_still_be_made() -> None:
    assert found(ours(S.PENDING, closing_time=NOW + 1), NO_SUCH).verdict is V.OPEN
    assert found(ours(S.PENDING, closing_time=NOW), NO_SUCH).verdict is V.UNKNOWN_THERE


def test_while_a_cancel_is_on_its_way_no_answer_counts() -> None:
    sent = ours(S.CANCELLING, cancel_state=CancelState.OPEN, last_cancel_at=NOW - 1000)
    comparison = found(sent, PAID)
    assert (comparison.verdict, comparison.theirs) == (V.OPEN, f"no_answer {UNSETTLED}")


def test_an_old_answer_is_no_answer() -> None:
    stale = changed(PAID, answered_at=NOW - 600_000)
    assert found(ours(S.CANCELLED), stale).verdict is V.UNANSWERED


def test_what_the_gateway_said_is_told_in_its_words() -> None:
    assert found(ours(S.CANCELLED), PAID).theirs == "paid SUCCESS"
    assert found(ours(S.SUCCEEDED), OTHER_AMOUNT).theirs == "amount_mismatch USD 600"


@pytest.mark.parametrize(
    "kind", ["reversed_after_success", "paid_after_cancel", "paid_after_failure", "refund_required"]
)
def test_what_the_merchant_has_heard_of_already_is_marked(kind: str) -> None:
    assert found(ours(S.CANCELLED, told=(f"attention.{kind}=0",)), PAID).told == kind
    assert found(ours(S.CANCELLED, told=("attention.amount_mismatch=0",)), PAID).told == ""


def test_the_amount_of_a_list_is_held_against_ours_and_theirs() -> None:
    other = replace(ASKED, amount=Money("USD", 600))
    same = replace(ASKED, amount=USD)
    assert found(ours(S.SUCCEEDED), PAID, other).verdict is V.AMOUNT_DIFFERS
    assert found(ours(S.SUCCEEDED), PAID, same).verdict is V.AGREES
    assert found(None, PAID, other).theirs == "amount_mismatch USD 599"
    assert found(None, PAID, same).theirs == "paid SUCCESS"


# A whole run


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


async def put(bench: Bench, status: Status, name: str = REQUEST) -> None:
    await bench.worker.store.wake_overdue()  # so that the store knows Redis' time
    now = bench.worker.store.now()
    payment = ours(status, payment_request_id=name, tracked_at=now, closing_time=now)
    event = Event(type=f"payment.{status}", name=status.value, seq=now)
    open_at = now + 9_000_000 if status is S.PENDING else None
    decision = Decision(payment=replace(payment, next_at=open_at), events=(event,))
    assert await bench.worker.store.create(decision, [])


async def these(*names: str, client_id: str = CLIENT) -> AsyncIterator[Asked]:
    for name in names:
        yield Asked(client_id=client_id, payment_request_id=name)


def audit_of(bench: Bench) -> Audit:
    return Audit(tools=bench.worker.tools, rate=1000)


async def everything(bench: Bench) -> dict[str, Any]:
    """All that Redis holds."""
    return {key: await bench.redis.dump(key) for key in await bench.redis.keys("*")}


async def test_an_audit_finds_what_disagrees_and_changes_nothing(bench: Bench) -> None:
    await put(bench, S.CANCELLED, "a")
    await put(bench, S.SUCCEEDED, "b")
    before = await everything(bench)
    bench.worker.gateway.will(PAID, PAID)
    audit = audit_of(bench)
    await audit.run(these("a", "b"))
    [bad] = audit.disagreements
    assert (bad.payment_request_id, bad.verdict) == ("a", V.PAID_THERE_CLOSED_HERE)
    assert audit.counts == {V.PAID_THERE_CLOSED_HERE: 1, V.AGREES: 1}
    assert await everything(bench) == before


async def test_a_question_without_an_answer_is_repeated(bench: Bench) -> None:
    await put(bench, S.SUCCEEDED)
    bench.worker.gateway.will(*[silent] * (TRIES - 1), PAID)
    audit = audit_of(bench)
    await audit.run(these(REQUEST))
    assert audit.counts == {V.AGREES: 1}


async def test_a_gateway_that_answers_nothing_is_not_asked_for_ever(bench: Bench) -> None:
    bench.worker.gateway.will(*[silent] * TRIES * 100)
    audit = audit_of(bench)
    await audit.run(these(*(f"order-{n}" for n in range(90))))
    assert audit.gave_up
    assert GIVE_UP <= audit.counts[V.UNANSWERED] < 90


async def test_payments_of_accounts_that_we_have_no_keys_of_are_counted(bench: Bench) -> None:
    audit = audit_of(bench)
    await audit.run(these("a", "b", client_id="OTHER"))
    assert (audit.elsewhere, audit.counts.total()) == (2, 0)


async def test_a_record_of_another_version_is_told_and_nobody_is_asked(bench: Bench) -> None:
    await bench.redis.hset(bench.keys.payment(KEY), mapping={"schema": "99"})  # type: ignore[misc]
    audit = audit_of(bench)
    await audit.run(these(REQUEST))
    assert (audit.disagreements[0].ours, bench.worker.gateway.calls) == ("unreadable", [])


async def test_what_is_open_and_what_was_told_lately_is_recent(bench: Bench) -> None:
    await put(bench, S.PENDING, "open-and-told")
    await put(bench, S.SUCCEEDED, "ended")
    found = [one.payment_request_id async for one in recent(bench.redis, bench.keys, 0)]
    assert found == ["open-and-told", "ended"]
    now = await bench.now()
    later = [one.payment_request_id async for one in recent(bench.redis, bench.keys, now + 1000)]
    assert later == ["open-and-told"]
    assert [e["subject"] async for e in told(bench.redis, bench.keys, now + 1000)] == []


# A list


def asked_in(content: str, *accounts: str) -> tuple[list[Asked], list[tuple[int, str]]]:
    lines = read_list(io.BytesIO(content.encode()), Format.CSV)
    one = accounts[0] if len(accounts) == 1 else None
    asked, faulty = read_asked(lines, accounts, one)
    return asked, [(bad.line, bad.message) for bad in faulty]


def test_a_list_for_an_audit_needs_only_names() -> None:
    assert asked_in("paymentRequestId\norder-1\n", CLIENT) == ([ASKED], [])
    names = "paymentRequestId,clientId,currency,value,paymentExpiryTime"
    asked, _ = asked_in(f"{names}\norder-1,{CLIENT},USD,599,nonsense\n", CLIENT, "OTHER")
    assert asked == [replace(ASKED, amount=USD)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("order 1,,USD,599", "paymentRequestId: write"),
        ("order-1,OTHER,USD,599", "no such account"),
        ("order-1,,USD,5.99", "columns currency and value: write both, as USD and 599, or no"),
        ("order-1", "it has 1 cells"),
    ],
)
def test_a_line_that_names_none_is_told(row: str, says: str) -> None:
    asked, [(number, message)] = asked_in(
        f"paymentRequestId,clientId,currency,value\n{row}", CLIENT
    )
    assert (asked, number) == ([], 2)
    assert says in message
