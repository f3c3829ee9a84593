"""Whatever a process of ours needs of Redis is known, and whether its user may have it is found."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from tests.servers import debian_redis, own_server
from worker import connect, rights
from worker.keys import Keys
from worker.rights import Role
from worker.values import Durability, Persistence

pytestmark = pytest.mark.once  # what is under test is not Python

FSYNC = Durability(Persistence.FSYNC)
PROCESSES = [Role.RECEIVER, Role.WORKER]


def sent(role: Role, durability: Durability = FSYNC) -> list[list[str]]:
    return role.sends(Keys(), durability)


def name_of(words: list[str]) -> str:
    """As ACL rules name it."""
    contained = words[0] in ("SCRIPT", "XGROUP", "XINFO", "MEMORY")
    return "|".join(words[: 1 + contained]).lower()


def keys_of(words: list[str]) -> set[str]:
    return {word for word in words if ":" in word}


EACH_COMMAND = [
    (role, name)
    for role in PROCESSES
    for name in sorted({name_of(words) for words in sent(role)} | {"multi", "discard"})
]
EACH_KEY = [
    (role, key)
    for role in PROCESSES
    for key in sorted({key for words in sent(role) for key in keys_of(words)})
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_server() as server:
        yield server.url


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Redis]:
    redis = connect.client(url)
    yield redis
    await redis.aclose()


async def found(admin: Redis, url: str, role: Role, *acl: str) -> list[str]:
    """What a user with these rights lacks."""
    await admin.execute_command("ACL", "SETUSER", "u", "reset", "on", ">p", *acl)  # type: ignore[no-untyped-call]
    user = connect.client(f"{url}?username=u&password=p")
    try:
        return await rights.lacking(user, sent(role))
    finally:
        await user.aclose()


@pytest.mark.parametrize("role", PROCESSES)
async def test_a_user_who_may_do_everything_lacks_nothing(
    admin: Redis, url: str, role: Role
) -> None:
    assert await found(admin, url, role, "~*", "+@all") == []


@pytest.mark.parametrize(("role", "name"), EACH_COMMAND)
async def test_each_command_that_a_user_lacks_is_found(
    admin: Redis, url: str, role: Role, name: str
) -> None:
    lacked = await found(admin, url, role, "~*", "+@all", f"-{name}")
    assert lacked
    assert all(one.lower().replace(" ", "|").startswith(name) for one in lacked)


@pytest.mark.parametrize(("role", "key"), EACH_KEY)
async def test_each_key_that_a_user_may_not_touch_is_found(
    admin: Redis, url: str, role: Role, key: str
) -> None:
    others = [f"~{other}" for role_, other in EACH_KEY if role_ is role and other != key]
    lacked = await found(admin, url, role, *others, "+@all")
    assert lacked
    assert all(key in one for one in lacked)


async def test_where_nothing_can_be_tried_without_being_done_nothing_is_tried(
    admin: Redis, url: str
) -> None:
    await admin.flushall()
    assert await found(admin, url, Role.WORKER, "~*", "+@all", "-multi") == ["MULTI"]
    assert await admin.dbsize() == 0


@pytest.mark.parametrize("name", ["ZADD", "XTRIM"])
async def test_a_command_that_redis_does_not_know_is_found(name: str) -> None:
    with own_server("--rename-command", name, "") as server:
        redis = connect.client(server.url)
        lacked = await rights.lacking(redis, sent(Role.WORKER))
        assert lacked and all(one.startswith(name) for one in lacked)
        await redis.aclose()


async def test_a_full_redis_is_not_taken_for_one_that_lacks_commands() -> None:
    with own_server("--maxmemory", "1") as server:
        redis = connect.client(server.url)
        assert await rights.lacking(redis, sent(Role.WORKER)) == []
        await redis.aclose()


async def test_redis_7_0_knows_every_command() -> None:
    with own_server(program=debian_redis()) as server:
        redis = connect.client(server.url)
        for role in PROCESSES:
            assert await rights.lacking(redis, sent(role)) == []
        await redis.aclose()


def test_who_waits_for_replicas_needs_the_command_for_it() -> None:
    on_replicas = sent(Role.RECEIVER, Durability(Persistence.REPLICA, 1))
    assert [words for words in on_replicas if words not in sent(Role.RECEIVER)] == [
        ["WAIT", "0", "1"]
    ]
