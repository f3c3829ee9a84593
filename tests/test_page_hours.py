"""Outcomes of the last day are counted by hour and type, each once, however many there are."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Ms
from jobs.schedule import HOUR, MINUTE
from worker import connect
from worker.keys import Keys
from worker.page import hours as module
from worker.page.hours import HOURS, PAGE, Day, Hours


@pytest.fixture
async def client(redis: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """As in production: it gives bytes."""
    made = connect.client(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


@pytest.fixture
async def hour(client: Redis) -> Ms:
    """The start of the running hour."""
    seconds, _ = await client.time()
    return int(seconds) * 1000 // HOUR * HOUR


async def publish(client: Redis, keys: Keys, *events: tuple[Ms, str]) -> None:
    async with client.pipeline(transaction=False) as pipe:
        for at, type_ in events:
            pipe.xadd(keys.outcomes, {"id": "x", "type": type_, "data": "{}"}, id=f"{at}-*")
        await pipe.execute()


def counted(day: Day) -> dict[Ms, Any]:
    return {hour: counts for hour, counts in day.hours.items() if counts}


async def scripts_run(client: Redis) -> int:
    stats = await client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_outcomes_are_counted_by_hour_and_type(client: Redis, keys: Keys, hour: Ms) -> None:
    await publish(
        client,
        keys,
        (hour - 2 * HOUR, "payment.succeeded"),
        (hour - HOUR - 1, "payment.succeeded"),
        (hour - HOUR, "payment.succeeded"),
        (hour - HOUR, "payment.failed"),
        (hour, "payment.attention"),
    )
    day = await Hours(client, keys).look()
    assert counted(day) == {
        hour - 2 * HOUR: {"payment.succeeded": 2},
        hour - HOUR: {"payment.succeeded": 1, "payment.failed": 1},
        hour: {"payment.attention": 1},
    }
    assert day.counted_to is None
    assert day.total("payment.succeeded") == 3


async def test_a_day_is_the_running_hour_and_those_before_it(
    client: Redis, keys: Keys, hour: Ms
) -> None:
    first = hour - (HOURS - 1) * HOUR
    await publish(client, keys, (first - 1, "payment.failed"), (first, "payment.succeeded"))
    day = await Hours(client, keys).look()
    assert list(day.hours) == list(range(first, hour + 1, HOUR))
    assert counted(day) == {first: {"payment.succeeded": 1}}


async def test_where_nothing_was_published_every_hour_is_empty(client: Redis, keys: Keys) -> None:
    day = await Hours(client, keys).look()
    assert (len(day.hours), counted(day), day.counted_to) == (HOURS, {}, None)


async def test_types_that_nobody_knows_are_counted_as_other(
    client: Redis, keys: Keys, hour: Ms
) -> None:
    await client.xadd(keys.outcomes, {"kind": "no type"}, id=f"{hour}-1")
    await publish(client, keys, (hour + 1, "<script>"), (hour + 2, ""))
    assert counted(await Hours(client, keys).look()) == {hour: {"other": 3}}


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, 2 * PAGE + 1])
async def test_page_after_page_each_one_is_counted_once(
    client: Redis, keys: Keys, hour: Ms, count: int
) -> None:
    await publish(client, keys, *[(hour - MINUTE, "payment.succeeded")] * count)
    day = await Hours(client, keys).look()
    assert counted(day) == {hour - HOUR: {"payment.succeeded": count}}


async def test_what_was_counted_is_not_read_again(client: Redis, keys: Keys, hour: Ms) -> None:
    counting = Hours(client, keys)
    await publish(client, keys, *[(hour, "payment.succeeded")] * 3 * PAGE)
    await counting.look()
    await publish(client, keys, (hour + 1, "payment.failed"))
    before = await scripts_run(client)
    day = await counting.look()
    assert await scripts_run(client) - before == 1
    assert counted(day) == {hour: {"payment.succeeded": 3 * PAGE, "payment.failed": 1}}


async def test_what_takes_too_long_is_counted_at_the_next_look(
    client: Redis, keys: Keys, hour: Ms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    counting = Hours(client, keys)
    await publish(client, keys, *[(hour, "payment.succeeded")] * (PAGE + 1))
    first, second = await counting.look(), await counting.look()
    assert (first.total("payment.succeeded"), first.counted_to) == (PAGE, hour)
    assert (second.total("payment.succeeded"), second.counted_to) == (PAGE + 1, None)


async def test_hours_that_are_over_for_a_day_are_forgotten(
    client: Redis, keys: Keys, hour: Ms
) -> None:
    counting = Hours(client, keys)
    await publish(client, keys, (hour, "payment.succeeded"))
    await counting.look()
    counting._counts[hour - 40 * HOUR] = counting._counts[hour]
    assert counted(await counting.look()) == {hour: {"payment.succeeded": 1}}
    assert list(counting._counts) == [hour]


@pytest.mark.parametrize(
    "after",
    [(), ((0, "payment.failed"),), ((0, "payment.failed"), (9, "payment.failed"))],
    ids=["empty", "older", "newer"],
)
async def test_another_stream_in_its_place_is_counted_afresh(
    client: Redis, keys: Keys, hour: Ms, after: Sequence[tuple[Ms, str]]
) -> None:
    """A failover, or a restart, may have taken back what was counted."""
    counting = Hours(client, keys)
    await publish(client, keys, (hour + 5, "payment.succeeded"))
    await counting.look()
    await client.delete(keys.outcomes)
    await publish(client, keys, *((hour + at, type_) for at, type_ in after))
    day = await counting.look()
    assert (day.total("payment.succeeded"), day.total("payment.failed")) == (0, len(after))


async def test_it_changes_nothing(client: Redis, keys: Keys, hour: Ms) -> None:
    await publish(client, keys, (hour, "payment.succeeded"))
    before = await client.dump(keys.outcomes)
    await Hours(client, keys).look()
    assert await client.dump(keys.outcomes) == before
