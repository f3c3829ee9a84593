"""How the machinery stands is told from a few commands; what cannot be told is not guessed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from worker import connect
from worker.commands import GROUP
from worker.groups import Group
from worker.keys import Keys
from worker.page.machinery import Machinery, look

ENTRY: dict[Any, Any] = {"type": "x"}


@pytest.fixture
async def client(redis: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """As in production: it gives bytes."""
    made = connect.client(redis_url)
    yield made
    await made.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


async def seen(client: Redis, keys: Keys) -> Machinery:
    return await look(client, keys, ["c"])


async def test_where_nothing_was_written_there_is_nothing(client: Redis, keys: Keys) -> None:
    found = await seen(client, keys)
    assert (found.swept, found.commands, found.dead, found.quarantined, found.parked) == (
        None,
        0,
        0,
        0,
        0,
    )
    assert (found.groups, found.misses, found.memory_limit) == ((), {"c": 0}, 0)
    assert found.memory_used and found.memory_used > 100_000


async def test_everything_is_counted(client: Redis, keys: Keys) -> None:
    await client.set(keys.swept, "1700000000000")
    for stream, times in ((keys.dead, 2), (keys.quarantine, 3)):
        for _ in range(times):
            await client.xadd(stream, ENTRY)
    await client.zadd(keys.parked, {"a": 1, "b": 2, "c": 3, "d": 4})
    await client.hset(keys.brake, "c", "7")  # type: ignore[misc]
    found = await seen(client, keys)
    assert found.swept == 1_700_000_000_000
    assert (found.dead, found.quarantined, found.parked, found.misses) == (2, 3, 4, {"c": 7})


async def test_commands_wait_until_they_are_carried_out(client: Redis, keys: Keys) -> None:
    await client.xgroup_create(keys.commands, GROUP, "0", mkstream=True)
    await client.xgroup_create(keys.commands, "another", "0")
    for _ in range(5):
        await client.xadd(keys.commands, ENTRY)
    [[_, entries]] = await client.xreadgroup(GROUP, "me", {keys.commands: ">"}, count=3)
    await client.xack(keys.commands, GROUP, entries[0][0])
    assert (await seen(client, keys)).commands == 4


async def test_a_group_is_told_with_what_it_has_not_acknowledged(client: Redis, keys: Keys) -> None:
    for name in ("idle", "late", "done", "half"):
        await client.xgroup_create(keys.outcomes, name, "0", mkstream=True)
    for at in (1000, 2000, 3000):
        await client.xadd(keys.outcomes, ENTRY, id=f"{at}-0")
    await client.xreadgroup("late", "me", {keys.outcomes: ">"}, count=2)
    await client.xack(keys.outcomes, "late", "1000-0")
    await client.xreadgroup("half", "me", {keys.outcomes: ">"}, count=1, noack=True)
    await client.xreadgroup("done", "me", {keys.outcomes: ">"}, noack=True)
    assert (await seen(client, keys)).groups == (
        Group(name="done", waiting=0, since=None),
        Group(name="half", waiting=2, since=2000),
        Group(name="idle", waiting=3, since=1000),
        Group(name="late", waiting=2, since=2000),
    )


async def test_what_redis_cannot_tell_is_not_guessed(client: Redis, keys: Keys) -> None:
    """Of a stream from which entries were deleted, Redis does not know how far behind one is."""
    await client.xgroup_create(keys.outcomes, "shop", "0", mkstream=True)
    for at in (1000, 2000, 3000):
        await client.xadd(keys.outcomes, ENTRY, id=f"{at}-0")
    await client.xdel(keys.outcomes, "2000-0")
    assert (await seen(client, keys)).groups == (Group(name="shop", waiting=None, since=1000),)


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("swept", "swept"),
        ("dead", "dead"),
        ("quarantine", "quarantined"),
        ("parked", "parked"),
        ("commands", "commands"),
        ("outcomes", "groups"),
    ],
)
async def test_a_key_of_another_type_hides_no_other(
    client: Redis, keys: Keys, key: str, part: str
) -> None:
    await client.hset(getattr(keys, key), "x", "y")  # type: ignore[misc]
    found = await seen(client, keys)
    assert getattr(found, part) is None
    others = {"dead", "quarantined", "parked", "commands"} - {part}
    assert {getattr(found, other) for other in others} == {0}


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e9", "²", b"\xff"])
async def test_a_time_that_is_none_is_no_sweep(
    client: Redis, keys: Keys, value: str | bytes
) -> None:
    await client.set(keys.swept, value)
    assert (await seen(client, keys)).swept is None


async def test_a_limit_of_memory_is_told_with_its_share(
    client: Redis, keys: Keys, redis: Redis
) -> None:
    used = (await client.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used * 2)
    try:
        found = await seen(client, keys)
    finally:
        await redis.config_set("maxmemory", 0)
    assert found.memory_limit == used * 2
    assert 0.3 < found.memory_share < 0.7
