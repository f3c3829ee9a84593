"""A sweep that hangs, and a reconciler without a worker, are noticed."""

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

import worker.main
import worker.receiving
import worker.tasks
import worker.watch
from jobs.model import Ms
from jobs.schedule import MINUTE, SECOND
from jobs.tools import Tools
from tests.fakes import open_bench
from tests.servers import environ, now_ms, until
from worker.commands import CommandStream
from worker.keys import Keys
from worker.main import companions
from worker.outage import Outage
from worker.settings import Settings, load
from worker.store import Store
from worker.watch import ABANDONED_AFTER, STALLED_AFTER, Lookout, Pulse, check_sweep


class Clock:
    """A monotonic clock that is wound by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def wind(self, length: Ms) -> None:
        self.now += length / 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(worker.watch, "time", clock)
    yield clock


async def test_a_sweep_that_comes_round_ends_the_outage_of_the_jobs(
    redis_url: str, prefix: str, log_lines: list[EventDict]
) -> None:
    """No job may be due for long after it."""
    given = load(environ(redis_url, prefix, "http://127.0.0.1:9", SWEEP_SECONDS="0.1"))
    jobs = Outage("jobs")
    jobs.waits(OSError("away"))
    async with worker.tools.open_tools(given) as (tools, store):
        pulse = Pulse(given.sweep_every)
        beside = companions(given, tools, store, jobs, pulse)
        tasks = [asyncio.create_task(each) for each in beside]
        await until(lambda: back(log_lines))
        await worker.tasks.end(tasks)


async def back(log_lines: list[EventDict]) -> bool:
    return any(line["event"] == "worker.redis_back" for line in log_lines)


def started(given: Settings, tools: Tools, store: Store) -> list["asyncio.Task[None]"]:
    """What runs beside the jobs of a worker."""
    beside = companions(given, tools, store, Outage("jobs"), Pulse(given.sweep_every))
    return [asyncio.create_task(each) for each in beside]


# The worker looks at itself


def test_a_sweep_that_comes_round_is_not_talked_of(
    clock: Clock, log_lines: list[EventDict]
) -> None:
    pulse = Pulse(10 * SECOND)
    for _ in range(30):
        clock.wind(10 * SECOND)
        check_sweep(pulse)
        pulse.beat()
    assert log_lines == []


def test_a_sweep_that_hangs_is_told_of_again_and_again(
    clock: Clock, log_lines: list[EventDict]
) -> None:
    pulse = Pulse(10 * SECOND)
    for _ in range(3):
        clock.wind(10 * SECOND + STALLED_AFTER)
        check_sweep(pulse)
    assert [line["event"] for line in log_lines] == ["sweep.stalled"] * 2
    assert log_lines[-1]["silent_ms"] == 3 * (10 * SECOND + STALLED_AFTER)


async def test_the_workers_sweep_has_a_pulse_as_long_as_it_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, prefix: str, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(worker.watch, "STALLED_AFTER", 0)
    monkeypatch.setattr(worker.main, "WATCH_EVERY", 100)
    given = load(environ(redis_url, prefix, "http://127.0.0.1:9", SWEEP_SECONDS="0.1"))
    async with worker.tools.open_tools(given) as (tools, store):
        tasks = started(given, tools, store)
        await asyncio.sleep(1)
        hanging = asyncio.Event()
        monkeypatch.setattr(worker.main, "sweep", lambda _: hanging.wait())
        await asyncio.sleep(1)
        await worker.tasks.end(tasks)
    assert "sweep.stalled" in {line["event"] for line in log_lines}


async def test_a_sweep_that_redis_refuses_each_time_counts_as_none(
    monkeypatch: pytest.MonkeyPatch,
    redis: Redis,
    redis_url: str,
    prefix: str,
    log_lines: list[EventDict],
) -> None:
    monkeypatch.setattr(worker.watch, "STALLED_AFTER", 200)
    monkeypatch.setattr(worker.main, "WATCH_EVERY", 100)
    await redis.set(Keys(prefix).open, "no sorted set")
    given = load(environ(redis_url, prefix, "http://127.0.0.1:9", SWEEP_SECONDS="0.1"))
    async with worker.tools.open_tools(given) as (tools, store):
        tasks = started(given, tools, store)
        await asyncio.sleep(1)
        await worker.tasks.end(tasks)
    assert "sweep.stalled" in {line["event"] for line in log_lines}
    assert await redis.get(Keys(prefix).swept) is None  # the receivers see it as well


async def test_a_bug_in_reading_commands_is_not_the_end_of_it(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, prefix: str, log_lines: list[EventDict]
) -> None:
    reads = 0

    async def read(_: object) -> int:
        nonlocal reads
        reads += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(CommandStream, "read", read)
    monkeypatch.setattr(worker.main, "COMMANDS_AGAIN", 10)
    given = load(environ(redis_url, prefix, "http://127.0.0.1:9"))
    async with worker.tools.open_tools(given) as (tools, store):
        tasks = started(given, tools, store)
        await asyncio.sleep(0.5)
        await worker.tasks.end(tasks)
    assert reads > 3
    assert {line["event"] for line in log_lines if line["log_level"] != "debug"} == {
        "commands.failed"
    }


# The receiver looks at the workers


@pytest.fixture
async def lookout(clock: Clock, redis: Redis, prefix: str) -> Lookout:
    return Lookout(redis, Keys(prefix))


async def test_workers_that_sweep_are_not_talked_of(
    redis_url: str, prefix: str, clock: Clock, lookout: Lookout, log_lines: list[EventDict]
) -> None:
    clock.wind(ABANDONED_AFTER + SECOND)
    async with open_bench(redis_url, prefix) as bench:
        await bench.worker.store.wake_overdue()
    await lookout.look()
    assert log_lines == []


async def test_without_a_sweep_for_minutes_no_worker_can_be_running(
    redis: Redis, prefix: str, clock: Clock, lookout: Lookout, log_lines: list[EventDict]
) -> None:
    clock.wind(ABANDONED_AFTER + SECOND)
    await redis.set(Keys(prefix).swept, now_ms() - ABANDONED_AFTER - MINUTE)
    await lookout.look()
    (line,) = log_lines
    assert line["event"] == "sweep.missing"
    assert line["silent_ms"] == pytest.approx(ABANDONED_AFTER + MINUTE, abs=SECOND)


async def test_where_no_worker_ever_was_it_is_said_as_well(
    clock: Clock, lookout: Lookout, log_lines: list[EventDict]
) -> None:
    clock.wind(ABANDONED_AFTER + SECOND)
    await lookout.look()
    assert [(line["event"], line["silent_ms"]) for line in log_lines] == [("sweep.missing", None)]


async def test_after_a_start_workers_are_given_time(
    lookout: Lookout, clock: Clock, log_lines: list[EventDict]
) -> None:
    clock.wind(ABANDONED_AFTER - SECOND)
    await lookout.look()
    assert log_lines == []


async def test_the_receiver_looks(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, prefix: str, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(worker.watch, "ABANDONED_AFTER", -1)
    stopping = asyncio.Event()
    given = load(environ(redis_url, prefix, "http://127.0.0.1:9"))
    running = asyncio.create_task(worker.receiving.run_receiver(given, stopping))
    async with asyncio.timeout(10):
        while "sweep.missing" not in {line["event"] for line in log_lines}:
            await asyncio.sleep(0.02)
    stopping.set()
    await running
