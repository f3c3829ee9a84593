"""What the merchant orders is carried out once, or rejected with the reason; never dropped."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.commands import NOT_TRACKED_GRACE, carry_out
from jobs.model import CancelState, Cause, Money, Ms, Status
from jobs.news import Ask
from jobs.outcome import rfc3339
from jobs.schedule import DAY, MINUTE
from jobs.step import judge, write
from tests.fakes import (
    CLIENT,
    CONFIRMED,
    KEY,
    NOT_YET,
    PAID,
    REQUEST,
    Bench,
    after,
    notification,
    open_bench,
    order,
    track,
)

SOON: Ms = 2_000
ABOUT = {"client_id": CLIENT, "payment_request_id": REQUEST}


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


async def do(bench: Bench, command: Any) -> bool:
    return await carry_out(command, bench.worker.tools)


async def start(bench: Bench, **changes: Any) -> None:
    """A payment is tracked; what was logged of it is forgotten."""
    assert await do(bench, track(await bench.now(), **changes))
    bench.worker.log.lines.clear()


async def ask(bench: Bench, what: Ask) -> bool:
    return await do(bench, order(what, await bench.now()))


async def rejections(bench: Bench) -> list[tuple[str, str, str, str]]:
    told = [
        event["data"] for event in await bench.outcomes() if event["type"] == "command.rejected"
    ]
    return [(e["commandId"], e["command"], e["reason"], e["advice"]) for e in told]


async def pay(bench: Bench) -> None:
    bench.worker.gateway.will(PAID)
    await bench.wake()


# track


async def test_a_tracked_payment_is_followed(bench: Bench) -> None:
    at = await bench.now()
    closing = at + 10 * MINUTE
    assert await do(bench, track(at, closing_time=closing, reference="basket 7"))
    payment = await bench.payment()
    assert (payment.status, payment.closing_time) == (Status.PENDING, closing)
    assert payment.reference == "basket 7"
    assert await bench.story() == ["command payment.track"]
    assert at < (await bench.due() or 0) < closing
    assert bench.worker.log.lines == [
        (
            "payment.tracked",
            {
                **ABOUT,
                "amount": "USD 599",
                "closing_time": rfc3339(closing),
                "closes_in_ms": closing - payment.tracked_at,
                "command_id": "1-0",
            },
        ),
        ("command.accepted", {**ABOUT, "command": "payment.track", "command_id": "1-0"}),
    ]
    assert await bench.told() == []


async def test_the_same_again_is_no_news(bench: Bench) -> None:
    await start(bench, reference="first")
    before = await bench.payment()
    assert await do(bench, track(await bench.now(), reference="second"))
    assert replace(await bench.payment(), version=before.version) == before
    assert await bench.due() == before.next_at
    assert await bench.told() == []
    [line] = await bench.timeline()
    assert (line["what"], line["count"]) == ("payment.track", 2)


async def test_the_same_again_after_the_end_tells_the_end_again_under_the_same_id(
    bench: Bench,
) -> None:
    await start(bench)
    await pay(bench)
    assert await do(bench, track(await bench.now()))
    first, again = await bench.outcomes()
    assert first["id"] == again["id"] == f"{KEY}:succeeded"
    assert first["data"]["seq"] < again["data"]["seq"]
    assert again["data"]["status"] == "succeeded"


async def test_another_amount_is_another_payment_and_rejected(bench: Bench) -> None:
    await start(bench)
    assert await do(bench, track(await bench.now(), id="2-0", amount=Money("USD", 600)))
    assert await rejections(bench) == [("2-0", "payment.track", "conflict", "none")]
    assert (await bench.payment()).amount == Money("USD", 599)


async def test_of_two_workers_that_track_at_once_the_second_finds_it_tracked(
    bench: Bench,
) -> None:
    other = await bench.another()
    command = track(await bench.now())
    bench.worker.store.before_save = lambda: carry_out(command, other.tools)
    assert await do(bench, command)
    [line] = await bench.timeline()
    assert line["count"] == 2
    assert bench.worker.log.named("payment.tracked") == []
    assert len(other.log.named("payment.tracked")) == 1


async def test_a_notification_that_came_first_is_heard_as_soon_as_it_is_tracked(
    bench: Bench,
) -> None:
    assert await bench.deliver(notification()) == "parked"
    await start(bench)
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]
    assert bench.worker.gateway.calls == []


# Orders about what is not tracked

ORDERS = list(Ask)


@pytest.mark.parametrize("what", ORDERS)
async def test_an_order_that_overtook_its_track_is_tried_again(bench: Bench, what: Ask) -> None:
    assert not await ask(bench, what)
    assert await bench.told() == []
    await start(bench)
    assert await ask(bench, what)
    assert await rejections(bench) == []


@pytest.mark.parametrize("what", ORDERS)
async def test_after_a_minute_it_is_rejected(bench: Bench, what: Ask) -> None:
    await bench.worker.store.load(KEY)  # so that the worker knows the time of Redis
    written_at = await bench.now() - NOT_TRACKED_GRACE
    assert not await do(bench, order(what, written_at + 1_000))
    assert await do(bench, order(what, written_at - 1))
    assert await rejections(bench) == [("2-0", what.value, "not_tracked", "none")]
    [event] = await bench.outcomes()
    assert event["subject"] == REQUEST
    assert event["source"] == f"/reconciler/{CLIENT}"
    assert bench.worker.log.lines == [
        (
            "command.rejected",
            {
                "command": what.value,
                "command_id": "2-0",
                "reason": "not_tracked",
                "message": "no such payment is tracked; track it first, with the same clientId",
                **ABOUT,
            },
        )
    ]


# cancel


async def test_a_cancel_is_sent_at_once(bench: Bench) -> None:
    await start(bench)
    await ask(bench, Ask.CANCEL)
    payment = await bench.payment()
    assert (payment.status, payment.cause) == (Status.CANCELLING, Cause.REQUESTED)
    job = await bench.redis.zscore(bench.keys.queue, bench.keys.job(KEY))
    assert job == await bench.due() == pytest.approx(await bench.now(), abs=SOON)
    bench.worker.gateway.will(CONFIRMED)
    await bench.worker.follow()
    assert await bench.told() == ["cancelling.1", "cancelled"]


async def test_a_cancel_ordered_while_an_inquiry_runs_is_not_lost(bench: Bench) -> None:
    await start(bench)
    other = await bench.another()
    command = order(Ask.CANCEL, await bench.now())
    bench.worker.gateway.will(after(lambda: carry_out(command, other.tools), NOT_YET), CONFIRMED)
    await bench.wake()
    await bench.wake()
    assert bench.worker.gateway.calls == ["inquire", "cancel"]
    assert await bench.told() == ["cancelling.1", "cancelled"]


async def test_a_cancel_ordered_twice_is_sent_once(bench: Bench) -> None:
    await start(bench)
    await ask(bench, Ask.CANCEL)
    await ask(bench, Ask.CANCEL)
    bench.worker.gateway.will(CONFIRMED)
    await bench.worker.follow()
    await ask(bench, Ask.CANCEL)
    await bench.worker.follow()
    assert bench.worker.gateway.calls == ["cancel"]
    assert await rejections(bench) == []


async def test_what_has_succeeded_is_not_cancelled_but_to_be_refunded(bench: Bench) -> None:
    await start(bench)
    await pay(bench)
    await ask(bench, Ask.CANCEL)
    assert await rejections(bench) == [("2-0", "payment.cancel", "already_final", "refund")]
    assert (await bench.payment()).cancel_state is CancelState.NONE


# recheck


async def test_a_recheck_asks_at_once(bench: Bench) -> None:
    await start(bench)
    assert await ask(bench, Ask.RECHECK)
    assert await bench.due() == pytest.approx(await bench.now(), abs=SOON)
    bench.worker.gateway.will(PAID)
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]


async def test_what_has_ended_can_be_asked_about_again(bench: Bench) -> None:
    await start(bench)
    await pay(bench)
    assert await bench.due() is None
    await ask(bench, Ask.RECHECK)
    bench.worker.gateway.will(PAID)
    await bench.worker.follow()
    assert bench.worker.gateway.calls == ["inquire", "inquire"]
    assert await bench.told() == ["succeeded"]


# forget


async def test_what_is_forgotten_while_open_is_told_and_kept_until_it_expires(
    bench: Bench,
) -> None:
    await start(bench)
    assert await ask(bench, Ask.FORGET)
    assert await bench.told() == ["forgotten"]
    assert await bench.due() is None
    assert await bench.redis.pttl(bench.keys.payment(KEY)) > 34 * DAY


async def test_what_is_forgotten_after_its_end_is_erased(bench: Bench) -> None:
    await start(bench)
    await pay(bench)
    assert await ask(bench, Ask.FORGET)
    assert await bench.redis.exists(bench.keys.payment(KEY), bench.keys.timeline(KEY)) == 0
    assert await bench.due() is None
    assert await rejections(bench) == []


async def test_what_was_erased_can_be_tracked_anew(bench: Bench) -> None:
    await start(bench)
    await pay(bench)
    await ask(bench, Ask.FORGET)
    await start(bench)
    assert (await bench.payment()).status is Status.PENDING
    await pay(bench)
    first, again = await bench.outcomes()
    assert first["id"] == again["id"]
    assert first["data"]["seq"] < again["data"]["seq"]


@pytest.mark.parametrize(("command", "then"), [("track", True), ("cancel", False)])
async def test_a_command_about_what_is_erased_meanwhile_is_tried_again(
    bench: Bench, command: str, then: bool
) -> None:
    """Not dropped: the next time it finds that there is no such payment."""
    await start(bench)
    await pay(bench)
    other = await bench.another()

    async def erase() -> None:
        forget = judge(other.tools, await other.load(), order(Ask.FORGET, 0))
        assert await write(other.tools, forget)

    now = await bench.now()
    wanted = track(now) if command == "track" else order(Ask.CANCEL, now)
    bench.worker.store.before_save = erase
    assert not await do(bench, wanted)
    assert await bench.worker.store.load(KEY) is None
    assert await do(bench, wanted) is then
