"""What is heard is judged, written down with its story, and only then told to the log."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.commands import carry_out
from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Decision,
    Event,
    Money,
    Ms,
    Rejected,
    Status,
)
from jobs.news import (
    Ask,
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    Message,
    Notification,
    NotifyKind,
    OtherKind,
    Resolve,
    Silence,
    Tick,
    Unusable,
)
from jobs.outcome import rfc3339
from jobs.schedule import MINUTE
from jobs.step import Step, judge, take, write
from jobs.tools import Loaded
from tests.fakes import (
    CLIENT,
    KEY,
    REQUEST,
    USD,
    Bench,
    notification,
    open_bench,
    order,
    track,
)


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A bench with one payment, tracked a moment ago."""
    async with open_bench(redis_url, prefix) as bench:
        await carry_out(track(await bench.now()), bench.worker.tools)
        bench.worker.log.lines.clear()
        yield bench


def inquiry(now: Ms, status: GatewayStatus, **changes: Any) -> InquiryAnswer:
    answer = InquiryAnswer(
        asked_at=now,
        answered_at=now,
        call=Call.OK,
        code="SUCCESS",
        payment_status=status,
        payment_request_id=REQUEST,
        payment_id="gw-1",
        amount=USD,
    )
    return replace(answer, **changes)


def notified(now: Ms, status: str = "S") -> Notification:
    return Notification(
        kind=NotifyKind.RESULT,
        client_id=CLIENT,
        payment_request_id=REQUEST,
        status=status,
        code="SUCCESS",
        amount=USD,
        sent_at=now,
        received_at=now,
        digest="0123456789abcdef",
    )


# The story: one line for each message, and what it changed


def told(message: Message, story: list[tuple[str, str, str]]) -> Any:
    return pytest.param(message, story, id=type(message).__name__ + " " + story[0][1])


NOW = 0  #: stands for the present in the table below
ABOUT = {"client_id": CLIENT, "payment_request_id": REQUEST}

STORIES = [
    told(inquiry(NOW, GatewayStatus.PROCESSING), [("inquiry", "not_yet", "SUCCESS")]),
    told(
        inquiry(NOW, GatewayStatus.SUCCESS),
        [("inquiry", "paid", "SUCCESS"), ("status", "succeeded", "")],
    ),
    told(
        inquiry(NOW, GatewayStatus.FAIL, code="RISK_REJECT"),
        [("inquiry", "failed", "RISK_REJECT"), ("status", "cancelling", "failed")],
    ),
    told(
        inquiry(NOW, GatewayStatus.SUCCESS, amount=Money("EUR", 1)),
        [("inquiry", "amount_mismatch", "EUR 1")],
    ),
    told(
        inquiry(NOW, GatewayStatus.PROCESSING, call=Call.NOT_EXIST, code="ORDER_NOT_EXIST"),
        [("inquiry", "not_exist", "ORDER_NOT_EXIST")],
    ),
    told(Silence(asked_at=NOW, why="timeout"), [("inquiry", "no_answer", "timeout")]),
    told(
        Silence(asked_at=NOW, why="http_503", to_cancel=True), [("cancel", "no_answer", "http_503")]
    ),
    told(
        CancelAnswer(asked_at=NOW, answered_at=NOW, call=Call.UNKNOWN, code="UNKNOWN_EXCEPTION"),
        [("cancel", "no_answer", "UNKNOWN_EXCEPTION")],
    ),
    told(
        CancelAnswer(asked_at=NOW, answered_at=NOW, call=Call.REFUSED, code="ORDER_IS_CLOSED"),
        [("cancel", "cancel_refused", "ORDER_IS_CLOSED")],
    ),
    told(notified(NOW), [("notification", "paid", "SUCCESS"), ("status", "succeeded", "")]),
    told(notified(NOW, "U"), [("notification", "hint", "SUCCESS")]),
    told(Unusable(payment_request_id=REQUEST, why="amount"), [("notification", "hint", "")]),
    told(OtherKind(kind="REFUND_RESULT"), [("notification", "known", "")]),
    told(track(NOW, amount=Money("USD", 1)), [("command", "payment.track", "USD 1")]),
    told(
        replace(order(Ask.CANCEL, NOW), reason="out of stock"),
        [("command", "payment.cancel", "out of stock"), ("status", "cancelling", "requested")],
    ),
    told(order(Ask.RECHECK, NOW), [("command", "payment.recheck", "")]),
    told(order(Ask.FORGET, NOW), [("command", "payment.forget", ""), ("status", "forgotten", "")]),
    told(
        Resolve(id="3-0", status=Status.FAILED, who="ann", why="called the bank"),
        [("command", "payment.resolve", "ann: called the bank")],
    ),
]


def at(message: Any, now: Ms) -> Message:
    """The message with `NOW` put in."""
    names = ("asked_at", "answered_at", "sent_at", "received_at", "at")
    moments = {n: now for n in names if getattr(message, n, None) == NOW}
    return replace(message, **moments)  # type: ignore[no-any-return]


async def lines(bench: Bench) -> list[tuple[str, str, str]]:
    timeline = (await bench.timeline())[1:]  # the first one says that it was tracked
    return [(line["source"], line["what"], line["detail"]) for line in timeline]


@pytest.mark.parametrize(("message", "story"), STORIES)
async def test_the_timeline_tells_who_said_what_and_what_came_of_it(
    bench: Bench, message: Message, story: list[tuple[str, str, str]]
) -> None:
    now = await bench.now()
    assert await take(bench.worker.tools, await bench.worker.load(), at(message, now))
    assert await lines(bench) == story
    for line in (await bench.timeline())[1:]:
        assert line["at"] == pytest.approx(now, abs=200)


async def test_the_clock_alone_is_no_story(bench: Bench) -> None:
    assert await take(bench.worker.tools, await bench.worker.load(), Tick())
    assert await lines(bench) == []


async def test_a_cancel_is_in_the_timeline_before_it_leaves(bench: Bench) -> None:
    tools = bench.worker.tools
    await take(tools, await bench.worker.load(), order(Ask.CANCEL, 0))
    step = judge(tools, await bench.worker.load(), Tick())
    assert step.decision.act is Act.CANCEL
    await write(tools, step)
    assert (await lines(bench))[-1] == ("cancel", "sent", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"status": Status.UNRESOLVED, "reason": "cancel_limit"}, "cancel_limit"),
        ({"status": Status.CANCELLING, "cause": Cause.TIMED_OUT}, "timed_out"),
        ({"status": Status.CANCELLED, "marks": ("blind", "refunded")}, "blind refunded"),
    ],
)
async def test_an_end_is_told_with_its_marks_and_all_else_with_its_reason(
    bench: Bench, changes: dict[str, Any], why: str
) -> None:
    assert await decided(bench, **changes)
    assert (await lines(bench))[-1] == ("status", changes["status"], why)


async def decided(
    bench: Bench,
    *,
    events: tuple[Event | Rejected, ...] = (),
    alarms: tuple[str, ...] = (),
    **changes: Any,
) -> Loaded | None:
    """Write a decision as it may come from `decide`."""
    loaded = await bench.worker.load()
    payment = replace(loaded.payment, **changes)
    decision = Decision(payment=payment, events=events, alarms=alarms)
    return await write(bench.worker.tools, Step(loaded, Tick(), Tick(), decision))


# The log: said after it was written


@pytest.mark.parametrize(
    ("message", "event", "fields"),
    [
        (
            inquiry(NOW, GatewayStatus.PROCESSING, took=12),
            "inquiry.completed",
            {"endpoint": "inquiryPayment", "ms": 12, "heard": "not_yet", "code": "SUCCESS"},
        ),
        (
            Silence(asked_at=NOW, why="timeout", took=2000),
            "inquiry.unanswered",
            {"endpoint": "inquiryPayment", "ms": 2000, "why": "timeout", "in_a_row": 1},
        ),
        (
            Silence(asked_at=NOW, why="not_connected", to_cancel=True, left=False, took=1),
            "cancel.unanswered",
            {"endpoint": "cancel", "ms": 1, "why": "not_connected", "in_a_row": 1},
        ),
        (
            CancelAnswer(
                asked_at=NOW, answered_at=NOW, call=Call.REFUSED, code="ORDER_IS_CLOSED", took=34
            ),
            "cancel.completed",
            {"endpoint": "cancel", "ms": 34, "heard": "cancel_refused", "code": "ORDER_IS_CLOSED"},
        ),
        (
            notified(NOW, "U"),
            "notification.applied",
            {"body_sha256": "0123456789abcdef", "heard": "hint", "code": "SUCCESS"},
        ),
        (
            order(Ask.RECHECK, NOW),
            "command.accepted",
            {"command": "payment.recheck", "command_id": "2-0"},
        ),
        (order(Ask.CANCEL, NOW), "payment.changed", {"status": "cancelling", "why": "requested"}),
        (
            track(NOW, amount=Money("USD", 1)),
            "command.rejected",
            {
                "command": "payment.track",
                "command_id": "1-0",
                "reason": "conflict",
                "message": "this payment is tracked with USD 599; USD 1 is another payment",
            },
        ),
    ],
)
async def test_what_happened_is_one_line(
    bench: Bench, message: Message, event: str, fields: dict[str, Any]
) -> None:
    await take(bench.worker.tools, await bench.worker.load(), at(message, await bench.now()))
    assert bench.worker.log.named(event) == [fields | ABOUT]


async def test_a_command_is_either_accepted_or_rejected(bench: Bench) -> None:
    now = await bench.now()
    for command in (order(Ask.RECHECK, now), track(now, amount=Money("USD", 1))):
        bench.worker.log.lines.clear()
        await take(bench.worker.tools, await bench.worker.load(), command)
        said = [event for event, _ in bench.worker.log.lines if event.startswith("command.")]
        assert len(said) == 1


async def test_a_payment_that_is_erased_leaves_the_line_of_its_command(bench: Bench) -> None:
    now = await bench.now()
    for _ in range(2):  # forgotten, then erased
        bench.worker.log.lines.clear()
        await take(bench.worker.tools, await bench.worker.load(), order(Ask.FORGET, now))
    assert await bench.redis.exists(bench.keys.payment(KEY)) == 0
    accepted = {"command": "payment.forget", "command_id": "2-0", **ABOUT}
    assert bench.worker.log.lines == [("command.accepted", accepted)]


async def test_an_outcome_is_logged_as_it_was_published(bench: Bench) -> None:
    paid = inquiry(await bench.now(), GatewayStatus.SUCCESS)
    await take(bench.worker.tools, await bench.worker.load(), paid)
    [event] = await bench.outcomes()
    [line] = bench.worker.log.named("outcome.published")
    seq = event["data"]["seq"]
    assert line == {"type": "payment.succeeded", "name": "succeeded", "seq": seq, **ABOUT}


async def test_an_alarm_is_a_line_for_a_person(bench: Bench) -> None:
    await decided(bench, alarms=("unresolved: brake",), status=Status.UNRESOLVED)
    assert bench.worker.log.named("payment.alarmed") == [
        {"alarm": "unresolved: brake", "status": "unresolved", **ABOUT}
    ]


async def test_the_last_line_tells_the_whole_story_once(bench: Bench) -> None:
    tracked_at = (await bench.payment()).tracked_at
    ended: dict[str, Any] = {
        "status": Status.CANCELLED,
        "final_at": tracked_at + MINUTE,
        "closing_time": tracked_at + MINUTE - 7,
        "marks": ("late",),
        "attempts": 5,
        "cancel_attempts": 2,
        "payment_id": "gw-1",
        "result_code": "SUCCESS",
        "notifications": 3,
        "unanswered": 1,
        "cancel_state": CancelState.CONFIRMED,
    }
    await decided(bench, **ended)
    await decided(bench, attempts=6)  # aftercare is no second end
    assert bench.worker.log.named("payment.final") == [
        {
            "status": "cancelled",
            "marks": ["late"],
            "cause": None,
            "via": None,
            "payment_id": "gw-1",
            "amount": "USD 599",
            "notifications": 3,
            "inquiries": 5,
            "unanswered": 1,
            "cancels": 2,
            "cancel_state": "confirmed",
            "result_code": "SUCCESS",
            "tracked_at": rfc3339(tracked_at),
            "closing_time": rfc3339(tracked_at + MINUTE - 7),
            "followed_ms": MINUTE,
            "past_closing_ms": 7,
            **ABOUT,
        }
    ]


async def test_an_end_in_time_is_not_past_closing(bench: Bench) -> None:
    tracked_at = (await bench.payment()).tracked_at
    await decided(bench, status=Status.SUCCEEDED, final_at=tracked_at + 1)
    assert bench.worker.log.named("payment.final")[0]["past_closing_ms"] == 0


async def test_the_loser_of_a_race_says_nothing(bench: Bench) -> None:
    loaded = await bench.worker.load()
    step = judge(bench.worker.tools, loaded, inquiry(await bench.now(), GatewayStatus.SUCCESS))
    await decided(bench, attempts=1)
    bench.worker.log.lines.clear()
    assert await write(bench.worker.tools, step) is None
    assert bench.worker.log.lines == []
    assert await bench.told() == []


# Races


async def test_the_loser_of_a_race_decides_again_about_what_it_meets(bench: Bench) -> None:
    """Paid, it heard; meanwhile the payment was closed. The end stays, money is looked for."""
    loaded = await bench.worker.load()
    now = await bench.now()
    closed = inquiry(now, GatewayStatus.CANCELLED)
    await take(bench.worker.tools, loaded, closed)
    other = await bench.another()
    await take(other.tools, loaded, inquiry(now, GatewayStatus.SUCCESS))
    payment = await bench.payment()
    assert payment.status is Status.CANCELLED
    assert payment.aftercare is Aftercare.CANCELLING
    assert await bench.told() == ["cancelled", "attention.paid_after_cancel.1"]


@pytest.mark.parametrize("version", ["0", "-1"])
async def test_a_version_that_no_worker_has_written_is_one_like_any_other(
    bench: Bench, version: str
) -> None:
    """It must not be taken for that of a payment that is to be new: no save would ever succeed."""
    await bench.redis.hset(bench.keys.payment(KEY), "version", version)  # type: ignore[misc]
    async with asyncio.timeout(10):
        paid = inquiry(await bench.now(), GatewayStatus.SUCCESS)
        assert await take(bench.worker.tools, await bench.worker.load(), paid)
    assert (await bench.payment()).status is Status.SUCCEEDED


async def test_a_message_is_written_however_often_others_are_first(bench: Bench) -> None:
    worker, other, races = bench.worker, await bench.another(), 0

    async def be_first() -> None:
        nonlocal races
        if races < 3:
            races, worker.store.before_save = races + 1, be_first
            assert await take(other.tools, await other.load(), Silence(asked_at=1, why="timeout"))

    worker.store.before_save = be_first
    assert await take(worker.tools, await worker.load(), order(Ask.CANCEL, 0))
    assert races == 3
    assert (await bench.payment()).status is Status.CANCELLING
    assert (await bench.payment()).attempts == 3
    assert (await bench.story()).count("command payment.cancel") == 1


async def test_news_of_a_payment_erased_meanwhile_brings_nothing_back(bench: Bench) -> None:
    worker, other = bench.worker, await bench.another()
    await decided(bench, status=Status.SUCCEEDED)
    stale = await worker.load()
    forget = judge(other.tools, await other.load(), order(Ask.FORGET, 0))
    assert forget.decision.act is Act.ERASE
    assert await write(other.tools, forget)
    assert not await take(worker.tools, stale, Silence(asked_at=1, why="timeout"))
    assert await worker.store.load(KEY) is None


async def test_what_changed_meanwhile_is_not_erased_unheard(bench: Bench) -> None:
    await decided(bench, status=Status.SUCCEEDED)
    forget = judge(bench.worker.tools, await bench.worker.load(), order(Ask.FORGET, 0))
    await decided(bench, attempts=1)
    assert await write(bench.worker.tools, forget) is None
    assert (await bench.payment()).attempts == 1


# What a write leaves in hand


async def test_what_was_heard_is_no_longer_in_hand(bench: Bench) -> None:
    for number in range(3):
        await bench.deliver(notification("U", number=number))
    loaded = await bench.worker.load()
    step = judge(bench.worker.tools, loaded, loaded.inbox[0])
    written = await write(bench.worker.tools, step, heard=1)
    assert written is not None
    assert written.inbox == loaded.inbox[1:]
    assert written.payment == await bench.payment()


# Whose patience


@pytest.mark.parametrize(
    ("brake", "misses", "braked"),
    [(20, 19, False), (20, 20, True), (20, 21, True), (0, 99, False), (1, 0, False)],
)
async def test_the_brake_acts_from_its_limit_on_and_never_if_off(
    bench: Bench, brake: int, misses: int, braked: bool
) -> None:
    bench.worker.brake = brake
    loaded = replace(await bench.worker.load(), misses=misses)
    assert bench.worker.tools.policy(loaded).braked is braked
