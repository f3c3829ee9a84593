"""Nothing is deleted that somebody may still have to read, and nothing odd fills Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

from jobs.model import Ms
from jobs.schedule import DAY, HOUR
from tests.fakes import CLIENT, KEY, REQUEST, Bench, notification, open_bench
from worker import housekeeping
from worker.commands import GROUP
from worker.housekeeping import keep_house
from worker.store import Store

RETENTION: Ms = 35 * DAY


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        await bench.worker.store.load(KEY)  # so that it knows the time of Redis
        yield bench


async def keep(bench: Bench, retention: Ms = RETENTION) -> None:
    await keep_house(bench.redis, bench.worker.store, retention)


async def fill(bench: Bench, stream: str, *days_ago: float) -> None:
    """Entries as old as that, the oldest first; each one says how old it is."""
    now = await bench.now()
    async with bench.redis.pipeline() as pipe:
        for days in days_ago:
            at = f"{now - round(days * DAY)}-0"
            pipe.xadd(stream, {"days": str(days), "body": "x" * 1000}, id=at)
        await pipe.execute()


async def left(bench: Bench, stream: str) -> list[float]:
    return [float(fields[b"days"]) for _, fields in await bench.redis.xrange(stream)]


async def group(bench: Bench, stream: str, name: str, read: int, acked: int) -> None:
    """A consumer group that was given the first `read` entries and acknowledged `acked` of them."""
    await bench.redis.xgroup_create(stream, name, "0")
    if read:
        [(_, entries)] = await bench.redis.xreadgroup(name, "c", {stream: ">"}, count=read)
        for entry_id, _ in entries[:acked]:
            await bench.redis.xack(stream, name, entry_id)


AGES = (40, 30, 20, 10, 6, 1)

#: Groups as (entries given, entries acknowledged), and what may go by each rule.
TABLE = [
    ("one group has acknowledged everything", [(6, 6)], 5, 2),
    ("one group has acknowledged three", [(6, 3)], 3, 3),
    ("one was given four, and has acknowledged them", [(4, 4)], 3, 3),
    ("one was given four, and has acknowledged one", [(4, 1)], 1, 5),
    ("one has read nothing yet", [(0, 0)], 0, 5),
    ("the slower of two counts", [(6, 6), (3, 2)], 2, 4),
    ("one of two has read nothing yet", [(6, 6), (0, 0)], 0, 5),
]


@pytest.mark.parametrize(
    ("groups", "gone"), [(g, n) for _, g, n, _ in TABLE], ids=[r[0] for r in TABLE]
)
async def test_commands_are_kept_until_every_group_has_acknowledged_them(
    bench: Bench, groups: list[tuple[int, int]], gone: int
) -> None:
    await fill(bench, bench.keys.commands, *AGES)
    for number, (read, acked) in enumerate(groups):
        await group(bench, bench.keys.commands, f"g{number}", read, acked)
    await keep(bench)
    assert await left(bench, bench.keys.commands) == list(AGES[gone:])


async def test_commands_that_no_worker_has_seen_are_kept(bench: Bench) -> None:
    """The merchant may write before the first worker has made its group."""
    await fill(bench, bench.keys.commands, *AGES)
    await keep(bench)
    assert await left(bench, bench.keys.commands) == list(AGES)


@pytest.mark.parametrize(
    ("groups", "kept"), [(g, n) for _, g, _, n in TABLE], ids=[r[0] for r in TABLE]
)
async def test_outcomes_are_kept_until_acknowledged_at_least_7_days_and_at_most_the_retention(
    bench: Bench, groups: list[tuple[int, int]], kept: int
) -> None:
    await fill(bench, bench.keys.outcomes, *AGES)
    for number, (read, acked) in enumerate(groups):
        await group(bench, bench.keys.outcomes, f"g{number}", read, acked)
    await keep(bench)
    assert await left(bench, bench.keys.outcomes) == list(AGES[-kept:])


async def test_outcomes_without_a_group_are_kept_7_days(bench: Bench) -> None:
    await fill(bench, bench.keys.outcomes, 36, 8, 7.01, 6.99, 1)
    await keep(bench)
    assert await left(bench, bench.keys.outcomes) == [6.99, 1]


async def test_a_retention_under_7_days_is_heeded(bench: Bench) -> None:
    await fill(bench, bench.keys.outcomes, 3, 2, 1)
    await group(bench, bench.keys.outcomes, "slow", 0, 0)
    await keep(bench, retention=round(1.5 * DAY))
    assert await left(bench, bench.keys.outcomes) == [1]


@pytest.mark.parametrize("name", ["quarantine", "dead", "dead_deliveries"])
async def test_what_is_odd_is_kept_as_long_as_records_are(bench: Bench, name: str) -> None:
    stream = getattr(bench.keys, name)
    await fill(bench, stream, *AGES)
    await keep(bench)
    assert await left(bench, stream) == [30, 20, 10, 6, 1]
    await keep(bench, retention=15 * DAY)
    assert await left(bench, stream) == [10, 6, 1]


@pytest.mark.parametrize("name", ["quarantine", "dead", "dead_deliveries"])
async def test_what_is_odd_never_fills_redis_and_the_newest_stays(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, limit = getattr(bench.keys, name), 50_000
    monkeypatch.setattr(housekeeping, "ODD_BYTES", limit)
    await fill(bench, stream, *(age / 10 for age in range(200, 0, -1)))  # of 1 KB each
    await keep(bench)
    size = await bench.redis.memory_usage(stream, samples=0)
    assert size == pytest.approx(limit, rel=0.1)
    ages = await left(bench, stream)
    assert ages == [age / 10 for age in range(len(ages), 0, -1)]


async def park(bench: Bench, request: str, hours: float) -> None:
    key = f"{CLIENT}:{request}"
    await bench.deliver(notification(paymentRequestId=request), key=key)
    at = await bench.now() - round(hours * HOUR)
    await bench.redis.zadd(bench.keys.parked, {key: at})


async def test_what_nobody_tracked_for_72_hours_is_quarantined_with_one_alarm(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    await park(bench, REQUEST, hours=72.01)
    await park(bench, "order-2", hours=200)
    await park(bench, "order-3", hours=71.99)
    await keep(bench)
    kept = [fields for _, fields in await bench.redis.xrange(bench.keys.quarantine)]
    assert {fields[b"paymentRequestId"] for fields in kept} == {b"order-1", b"order-2"}
    assert await bench.redis.zrange(bench.keys.parked, 0, -1) == [f"{CLIENT}:order-3".encode()]
    alarms = [line for line in log_lines if line["event"] == "notification.never_tracked"]
    assert [line["count"] for line in alarms] == [2]


async def test_a_house_in_order_is_left_as_it_is(bench: Bench, log_lines: list[EventDict]) -> None:
    await park(bench, REQUEST, hours=1)
    await keep(bench)
    await keep(bench)
    assert [line["event"] for line in log_lines] == ["retention.completed"] * 2
    assert len(await bench.inbox()) == 1


async def test_several_workers_may_keep_house_at_once(bench: Bench) -> None:
    await fill(bench, bench.keys.quarantine, *AGES)
    await park(bench, REQUEST, hours=80)
    other = Store((await bench.another()).store.redis, bench.keys)
    await other.load(KEY)
    await keep_house(other.redis, other, RETENTION)
    await keep(bench)
    kept = await bench.redis.xrange(bench.keys.quarantine)
    assert [fields.get(b"reason") for _, fields in kept].count(b"never_tracked") == 1


async def test_consumers_long_gone_with_nothing_in_hand_are_dismissed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = bench.keys.commands
    await fill(bench, stream, 0.2, 0.1)
    await bench.redis.xgroup_create(stream, GROUP, "0")
    await bench.redis.xreadgroup(GROUP, "busy", {stream: ">"}, count=1)
    await bench.redis.xgroup_createconsumer(stream, GROUP, "gone")
    await keep(bench)
    assert {c["name"] for c in await bench.redis.xinfo_consumers(stream, GROUP)} == {
        b"busy",
        b"gone",
    }
    monkeypatch.setattr(housekeeping, "CONSUMER_GONE", -1)
    await keep(bench)
    assert {c["name"] for c in await bench.redis.xinfo_consumers(stream, GROUP)} == {b"busy"}
