"""A payment that should have ended long ago is told of once, with its history, whatever ails it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.commands import carry_out
from jobs.model import Ms, Payment, Status
from jobs.news import Silence
from jobs.schedule import HOUR, MINUTE, SECOND
from jobs.stuck import STUCK_AFTER, report_stuck
from tests.fakes import CLIENT, KEY, PAID, REQUEST, Bench, open_bench, silent, track
from worker import store

LONG_AGO = {"closingTime": "0", "trackedAt": "0"}
PAST = 840 * SECOND + STUCK_AFTER  #: from tracking, by the contract's closing time


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A bench with one payment that nobody has asked about since it was tracked."""
    async with open_bench(redis_url, prefix) as bench:
        await add(bench, REQUEST)
        yield bench


async def add(bench: Bench, request: str) -> None:
    await carry_out(track(await bench.now(), payment_request_id=request), bench.worker.tools)


async def reported(bench: Bench) -> list[dict[str, Any]]:
    bench.worker.log.lines.clear()
    count = await report_stuck(bench.worker.tools)
    lines = bench.worker.log.named("payment.stuck")
    assert len(lines) == count
    return lines


async def test_a_payment_open_ten_minutes_after_its_closing_time_is_told_of(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    (line,) = await reported(bench)
    assert (line["client_id"], line["payment_request_id"]) == (CLIENT, REQUEST)
    assert line["status"] == "pending"
    assert "next_inquiry_at" in line
    assert STUCK_AFTER < line["past_closing_ms"] < STUCK_AFTER + MINUTE


async def test_the_line_holds_its_history(bench: Bench) -> None:
    await bench.pass_time(PAST - MINUTE)
    bench.worker.gateway.will(silent)
    await bench.worker.follow()
    await bench.pass_time(2 * MINUTE)
    (line,) = await reported(bench)
    assert line["unanswered"] == "1"
    assert any("inquiry no_answer  timeout" in told for told in line["history"])


async def test_one_whose_questions_never_leave_warns_each_time_and_is_told_of_in_the_end(
    bench: Bench,
) -> None:
    """No such name, an expired certificate: no patience is spent, and it does not go unseen."""
    tries = 0
    bench.worker.gateway.will(*[never_left] * 100)
    await bench.pass_time(PAST - STUCK_AFTER - SECOND)
    while (await bench.payment()).closing_time + STUCK_AFTER >= await bench.now():
        await bench.wake()
        tries += 1
    payment = await bench.payment()
    assert (payment.status, payment.attempts, payment.tried_for) == (Status.PENDING, 0, 0)
    warned = bench.worker.log.named("inquiry.unanswered")
    assert [line["why"] for line in warned] == ["not_connected"] * tries
    (line,) = await reported(bench)
    assert (line["status"], line["unanswered"]) == ("pending", str(tries))
    assert any("inquiry no_answer  not_connected" in told for told in line["history"])


def never_left(_: Payment, asked_at: Ms) -> Silence:
    return Silence(asked_at=asked_at, why="not_connected", left=False)


async def test_before_that_nothing_is_said(bench: Bench) -> None:
    await bench.pass_time(PAST - MINUTE)
    assert await reported(bench) == []


async def test_one_that_was_tracked_long_after_its_closing_time_gets_ten_minutes(
    bench: Bench,
) -> None:
    """Or a list of old payments would page somebody for each as soon as it is imported."""
    await bench.redis.hset(bench.keys.payment(KEY), "closingTime", "0")  # type: ignore[misc]
    assert await reported(bench) == []
    await bench.pass_time(STUCK_AFTER + SECOND)
    (line,) = await reported(bench)
    assert line["past_closing_ms"] > HOUR


async def test_it_is_said_once(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    assert len(await reported(bench)) == 1
    await bench.pass_time(HOUR)
    assert await reported(bench) == []


async def test_a_worker_that_dies_before_it_has_told_is_replaced(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    async for _ in bench.worker.store.stuck(STUCK_AFTER):
        pass  # and nobody was told
    assert await reported(bench) == []  # the other has a minute
    await bench.redis.zadd(bench.keys.stuck, {KEY: await bench.now() - 1})
    assert len(await reported(bench)) == 1


async def test_one_that_ended_after_all_is_stuck_no_more(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    await reported(bench)
    assert await bench.redis.zrange(bench.keys.stuck, 0, -1) == [KEY.encode()]
    bench.worker.gateway.will(PAID)
    await bench.worker.follow()
    assert await reported(bench) == []
    assert await bench.redis.zcard(bench.keys.stuck) == 0


async def test_a_record_of_another_version_is_told_of_as_well(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    await bench.redis.hset(bench.keys.payment(KEY), "schema", "999")  # type: ignore[misc]
    (line,) = await reported(bench)
    assert line["schema"] == "999"


async def test_what_waits_for_a_person_has_an_alarm_of_its_own(bench: Bench) -> None:
    await bench.pass_time(PAST + SECOND)
    await bench.redis.hset(bench.keys.payment(KEY), "status", "unresolved")  # type: ignore[misc]
    assert await reported(bench) == []


@pytest.mark.parametrize("count", [4, 5, 6, 10, 11])
async def test_page_after_page_none_is_forgotten(
    bench: Bench, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SWEEP_PAGE", 5)
    for number in range(2, count + 1):
        await add(bench, f"order-{number}")
        key = f"{CLIENT}:order-{number}"
        await bench.redis.hset(bench.keys.payment(key), mapping=LONG_AGO)  # type: ignore[misc]
    await bench.redis.hset(bench.keys.payment(KEY), mapping=LONG_AGO)  # type: ignore[misc]
    names = {line["payment_request_id"] for line in await reported(bench)}
    assert names == {f"order-{number}" for number in range(1, count + 1)}


async def test_when_everything_is_stuck_the_log_is_not_flooded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have their turn in the next round."""
    monkeypatch.setattr(store, "STUCK_AT_ONCE", 3)
    for number in range(2, 6):
        await add(bench, f"order-{number}")
        key = f"{CLIENT}:order-{number}"
        await bench.redis.hset(bench.keys.payment(key), mapping=LONG_AGO)  # type: ignore[misc]
    assert len(await reported(bench)) == 3
    assert len(await reported(bench)) == 1
