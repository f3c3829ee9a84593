"""Who may call the gateway, and who waits in line: the shell of `jobs.limits`, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

from jobs.follow import follow
from jobs.limits import IN_A_ROW, TOO_FAST, Gate
from jobs.model import Act, Ms
from jobs.news import Answer, Silence, Submit
from jobs.payment import track as tracked
from jobs.schedule import HOUR, MINUTE, SECOND, Policy
from jobs.tools import Account, Loaded, Tools
from tests.fakes import (
    CLIENT,
    NOT_YET,
    PAID,
    Bench,
    ScriptedGateway,
    notification,
    open_bench,
    silent,
    track,
)
from worker.limits import COME_BACK, Limits, _read, _write

PLACES = 64


class Held:
    """One process: its limits, its gateway, and payments that it has claimed."""

    def __init__(self, bench: Bench, rate: float = 0, places: int = PLACES) -> None:
        self.bench, self.gateway = bench, ScriptedGateway()
        self.limits = Limits(bench.worker.store, {CLIENT: rate}, places)
        self.line = self.limits.counted(CLIENT, self.gateway)
        self.lane = self.limits.lane(CLIENT)
        self.waiting = bench.keys.waiting(CLIENT)

    async def track(self, name: str, closes_in: Ms = MINUTE, **known: Any) -> str:
        now = await self.bench.now()
        command = track(now, payment_request_id=name, closing_time=now + closes_in)
        decision = tracked(command, now, Policy())
        decision = replace(decision, payment=replace(decision.payment, next_at=now, **known))
        assert await self.bench.worker.store.create(decision, [])
        return decision.payment.key

    async def claim(self, key: str) -> Loaded:
        loaded = await self.bench.worker.store.claim(key)
        assert loaded is not None, f"{key} is not due"
        return loaded

    async def asks(self, name: str, act: Act = Act.INQUIRE, **known: Any) -> bool:
        """Whether a payment that is due may be asked for."""
        return await self.limits.admit(await self.claim(await self.track(name, **known)), act)

    async def again(self, name: str) -> bool:
        return await self.limits.admit(await self.claim(f"{CLIENT}:{name}"), Act.INQUIRE)

    async def hears(self, *answers: Any) -> None:
        self.gateway.will(*answers)
        name = f"heard-{len(self.gateway.calls)}"
        loaded = await self.bench.worker.store.load(await self.track(name))
        assert loaded
        for _ in answers:
            await self.line.inquire(loaded.payment, await self.bench.now())

    async def in_line(self) -> list[str]:
        """The names of those who wait, in order."""
        found = await self.bench.redis.zrangebyscore(self.waiting, 0, "+inf")
        return [id_.decode().partition(":")[2] for id_ in found]

    async def due(self) -> set[str]:
        """Who is due by the open set."""
        now = await self.bench.now()
        found = await self.bench.redis.zrangebyscore(self.bench.keys.open, "-inf", now)
        return {id_.decode().partition(":")[2] for id_ in found}

    async def pass_time(self, length: Ms) -> None:
        """What the gate knows becomes that much longer ago."""
        gate = _read((await self.bench.redis.hget(self.name, "gate") or b"").decode())  # type: ignore[misc]
        moved = replace(gate, probe_at=gate.probe_at - length)
        await self.bench.redis.hset(self.name, "gate", _write(moved))  # type: ignore[misc]
        self.lane.looked_at -= length
        self.lane.gate = replace(self.lane.gate, probe_at=self.lane.gate.probe_at - length)

    @property
    def name(self) -> str:
        return self.bench.keys.limits(CLIENT)


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
def held(bench: Bench) -> Held:
    return Held(bench)


@pytest.fixture
async def away(log_lines: list[EventDict], held: Held) -> Held:
    """The breaker is open."""
    await held.hears(*[silent] * IN_A_ROW)
    await held.limits.round()
    return held


# While all is well


async def test_a_call_costs_no_round_trip(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [await held.claim(await held.track(f"{n}")) for n in range(10)]

    async def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("Redis was asked")

    monkeypatch.setattr(held.limits, "_run", fail)
    assert all([await held.limits.admit(each, Act.INQUIRE) for each in loaded])


async def test_with_a_limit_tokens_are_taken_by_the_handful(bench: Bench) -> None:
    held, trips = Held(bench, rate=100), 0
    run = held.limits._run

    async def counted(name: str, *args: Any) -> Any:
        nonlocal trips
        trips += 1
        return await run(name, *args)

    held.limits._run = counted  # type: ignore[assignment]
    assert all([await held.asks(f"{n}") for n in range(40)])
    assert trips <= 5


async def test_what_a_gateway_does_is_passed_on_as_it_is(held: Held) -> None:
    loaded = await held.claim(await held.track("1"))
    held.gateway.will(PAID, silent, silent)
    await held.line.inquire(loaded.payment, 1)
    await held.line.cancel(loaded.payment, 1)
    await held.line.pay(loaded.payment, 1)
    submit = Submit(**_fields(track(1)), form="f", digest="d")
    assert held.line.pay_request(submit, 5) == "f until 5"
    assert held.gateway.calls == ["inquire", "cancel", "pay"]
    assert (held.lane.in_flight, held.lane.calls) == (0, 3)


def _fields(command: Any) -> dict[str, Any]:
    return {name: getattr(command, name) for name in type(command).__dataclass_fields__}


# The breaker


async def test_it_opens_and_is_told_of_once_with_the_reason(
    away: Held, log_lines: list[EventDict]
) -> None:
    other = Held(away.bench)
    await other.limits.round()
    [line] = [line for line in log_lines if line["event"] == "breaker.opened"]
    assert (line["log_level"], line["client_id"], line["why"]) == ("error", CLIENT, "timeout")
    assert other.lane.gate.open, "every process knows it"


async def test_while_it_is_open_a_payment_waits_and_nothing_is_written_about_it(
    away: Held,
) -> None:
    loaded = await away.claim(await away.track("1"))
    assert not await away.limits.admit(loaded, Act.INQUIRE)
    after = await away.bench.worker.store.load(loaded.payment.key)
    assert after is not None and after.payment == loaded.payment
    assert await away.bench.redis.exists(away.bench.keys.timeline(loaded.payment.key)) == 0
    due = await away.bench.redis.zscore(away.bench.keys.open, loaded.payment.key)
    now = await away.bench.now()
    assert COME_BACK * 0.7 < due - now < COME_BACK * 1.3


async def test_mail_is_heard_at_once_while_its_payment_waits(away: Held) -> None:
    assert not await away.asks("order-1")
    await away.bench.deliver(notification())
    assert "order-1" in await away.due()


async def test_a_payment_with_mail_that_nobody_has_heard_is_not_put_off(away: Held) -> None:
    loaded = await away.claim(await away.track("order-1"))
    await away.bench.deliver(notification())
    assert not await away.limits.admit(loaded, Act.INQUIRE)
    assert "order-1" in await away.due()


async def test_who_has_lost_a_payment_puts_it_in_no_line(away: Held) -> None:
    loaded = await away.claim(await away.track("1"))
    stale = replace(loaded, payment=replace(loaded.payment, version=1))
    assert not await away.limits.admit(stale, Act.INQUIRE)
    assert await away.in_line() == []


async def test_one_probe_leaves_at_a_time_for_the_one_who_closes_first(away: Held) -> None:
    for name, closes_in in (("later", HOUR), ("first", MINUTE), ("last", 2 * HOUR)):
        assert not await away.asks(name, closes_in=closes_in)
    await away.limits.round()
    assert await away.in_line() == ["first", "later", "last"], "not at once"
    await away.pass_time(2 * SECOND)
    await away.limits.round()
    await away.limits.round()
    assert await away.in_line() == ["later", "last"]
    assert await away.again("first")


async def test_a_probe_that_is_answered_closes_it_and_all_who_wait_are_called_in_order(
    away: Held, log_lines: list[EventDict]
) -> None:
    names = [f"{n}" for n in range(5)]
    for name in reversed(names):
        assert not await away.asks(name, closes_in=MINUTE + int(name) * SECOND)
    assert await away.in_line() == names
    await away.hears(NOT_YET)
    await away.limits.round()
    [line] = [line for line in log_lines if line["event"] == "breaker.closed"]
    assert (line["waiting"], line["log_level"]) == (5, "info")
    assert await away.in_line() == []
    assert set(names) <= await away.due()
    assert all([await away.again(name) for name in names])


async def test_a_probe_in_vain_is_not_the_last(away: Held) -> None:
    await away.asks("1")
    for _ in range(3):
        await away.pass_time(10 * SECOND)
        await away.limits.round()
        assert await away.again("1")
        await away.hears(silent)
        await away.limits.round()
        await away.bench.redis.zadd(away.bench.keys.open, {f"{CLIENT}:1": 1})
        assert not await away.again("1")
    assert away.lane.gate.probes == 3


# The line


async def test_cancels_go_before_all_that_is_merely_asked(away: Held) -> None:
    assert not await away.asks("asked", closes_in=SECOND)
    assert not await away.asks("cancelled", Act.CANCEL, closes_in=HOUR)
    assert await away.in_line() == ["cancelled", "asked"]


async def test_who_waits_no_more_is_not_called_and_costs_no_turn(away: Held) -> None:
    for n, name in enumerate(("ended", "put off", "waits")):
        assert not await away.asks(name, closes_in=MINUTE + n * SECOND)
    keys, redis = away.bench.keys, away.bench.redis
    await redis.zrem(keys.open, f"{CLIENT}:ended")
    later = str(await away.bench.now() + HOUR)
    await redis.hset(keys.payment(f"{CLIENT}:put off"), "nextInquiryAt", later)  # type: ignore[misc]
    await away.pass_time(2 * SECOND)
    await away.limits.round()  # one probe
    assert await away.in_line() == []
    assert (await away.due()) & {"ended", "put off", "waits"} == {"waits"}


async def test_a_limit_holds_for_all_processes_together(bench: Bench) -> None:
    one, two, began = Held(bench, rate=10), Held(bench, rate=10), await bench.now()
    asked = [await (one, two)[n % 2].asks(f"{n}") for n in range(30)]
    meanwhile = (await bench.now() - began) * 10 / SECOND
    assert 10 <= sum(asked) <= 10 + meanwhile + 1, "a second's worth, and what came meanwhile"
    assert len(await one.in_line()) == 30 - sum(asked)


async def test_who_comes_later_does_not_go_before_those_who_wait(bench: Bench) -> None:
    held = Held(bench, rate=0.001)
    assert [await held.asks("1"), await held.asks("2")] == [True, False]
    await bench.redis.hset(held.name, "tokens", "1000000")  # type: ignore[misc]
    assert not await held.asks("late", closes_in=HOUR), "there is a token, but not for this one"
    held.lane.looked_at = 0
    await held.limits.round()
    assert await held.in_line() == ["late"]


async def test_a_line_that_is_deleted_loses_nobody(away: Held) -> None:
    assert not await away.asks("1")
    await away.bench.redis.delete(away.waiting, away.name)
    key = f"{CLIENT}:1"
    due = await away.bench.redis.zscore(away.bench.keys.open, key)
    assert due is not None, "the open set has it"
    job = await away.bench.redis.zscore(away.bench.keys.queue, away.bench.keys.job(key))
    assert job == due, "and so has the queue"


async def test_who_was_called_long_ago_and_never_came_has_no_claim_any_more(away: Held) -> None:
    assert not await away.asks("1")
    long_ago = await away.bench.now() - MINUTE
    await away.bench.redis.zadd(away.waiting, {f"{CLIENT}:1": -long_ago})
    await away.bench.redis.zadd(away.bench.keys.open, {f"{CLIENT}:1": 1})
    assert not await away.again("1")
    assert await away.in_line() == ["1"]


# The pace


async def test_a_gateway_that_finds_us_too_fast_is_asked_at_half_the_pace(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    held = Held(bench, rate=50)

    def too_fast(_: Any, asked_at: Ms) -> Answer:
        return replace(NOT_YET(_, asked_at), code=TOO_FAST)  # type: ignore[type-var,return-value]

    await held.hears(too_fast, too_fast)
    await held.limits.round()
    [line] = [line for line in log_lines if line["event"] == "gateway.slowed"]
    assert line["calls_per_second"] == 25
    assert held.limits._pace(held.lane, await bench.now()) == pytest.approx(25, abs=1)


# The bulkhead


async def test_calls_that_hang_leave_places_for_mail(bench: Bench) -> None:
    held = Held(bench, places=8)
    hanging = []
    loaded = [await held.claim(await held.track(f"{n}")) for n in range(8)]
    forever = asyncio.Event()

    async def hang(_: Any, asked_at: Ms) -> Answer:
        await forever.wait()
        return Silence(asked_at=asked_at, why="timeout")

    for each in loaded:
        if await held.limits.admit(each, Act.INQUIRE):
            held.gateway.will(hang)
            hanging.append(asyncio.create_task(held.line.inquire(each.payment, 1)))
            await asyncio.sleep(0)
    assert len(hanging) == 6
    assert len(await held.in_line()) == 2
    forever.set()
    await asyncio.gather(*hanging)
    assert held.lane.in_flight == 0


async def test_a_gateway_that_answers_has_a_place_in_a_moment(bench: Bench) -> None:
    held = Held(bench, places=4)
    loaded = await held.claim(await held.track("1"))
    held.lane.in_flight, held.lane.answered_at = 3, await bench.now()
    waiting = asyncio.create_task(held.limits.admit(loaded, Act.INQUIRE))
    await asyncio.sleep(0.01)
    held.limits.ends(held.lane, None)
    assert await waiting


# Repeats


async def test_repeats_beyond_their_share_wait_behind_all_others(held: Held) -> None:
    passed = [await held.asks(f"{n}", closes_in=-HOUR, unanswered=1) for n in range(14)]
    assert passed == [True] * 10 + [False] * 4
    assert not await held.asks("ordinary")  # somebody waits
    assert (await held.in_line())[0] == "ordinary"
    await held.limits.round()
    left = await held.in_line()
    assert len(left) == 4, "without a share none of them is called"


async def test_what_was_asked_in_vain_before_an_outage_keeps_its_place_after_it(
    away: Held,
) -> None:
    away.lane.budget = replace(away.lane.budget, saved=0.0, at=await away.bench.now())
    assert not await away.asks("2", closes_in=-MINUTE)
    assert not await away.asks("1", closes_in=-HOUR, unanswered=1)
    assert await away.in_line() == ["1", "2"]


# What is stored


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"v":1,"opened_at":"x"}', '{"v":9}'])
def test_a_gate_that_cannot_be_read_is_at_rest(text: str) -> None:
    assert _read(text) == Gate()


def test_a_gate_is_read_as_it_was_written() -> None:
    gate = Gate(opened_at=5, probing=True, probes=2, slowed_to=1.5, slowed_at=3)
    assert _read(_write(gate)) == gate


# In the job


async def test_a_job_whose_call_may_not_leave_asks_nothing_and_writes_nothing(away: Held) -> None:
    key = await away.track("1")
    account = Account(gateway=away.line, policy=Policy(), brake=0)
    tools = Tools(
        store=away.bench.worker.store,
        accounts={CLIENT: account},
        log=away.bench.worker.log,
        limits=away.limits,
    )
    asked = len(away.gateway.calls)
    await follow(key, tools)
    assert len(away.gateway.calls) == asked
    assert await away.in_line() == ["1"]
