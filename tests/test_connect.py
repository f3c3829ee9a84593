"""A connection that does not hang, and a promise of safety that is checked, not believed."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from worker import connect
from worker.connect import (
    CONFIRM_MS,
    Unsafe,
    check_durability,
    client,
    confirmation,
    pool,
    wait_for,
)
from worker.embedded import EmbeddedServer, embedded_server
from worker.scripts import Confirm
from worker.values import Durability, Persistence

FSYNC = Durability(Persistence.FSYNC)
REPLICAS = Durability(Persistence.REPLICA, 2)
MEMORY = Durability(Persistence.MEMORY)

ON_DISK = Confirm(("WAITAOF", 1, 0, CONFIRM_MS), 1)
ON_TWO_REPLICAS = Confirm(("WAIT", 2, CONFIRM_MS), 2)


# Connections


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0", "unix:///run/r.sock"])
def test_no_call_waits_for_ever(url: str) -> None:
    options = pool(url, tries=1).connection_kwargs
    assert (options["socket_connect_timeout"], options["socket_timeout"]) == (2, 5)
    assert not options.get("health_check_interval"), "in redis-py 5.3 it may take minutes"
    assert connect.SOCKET_SECONDS * 1000 > CONFIRM_MS  # or we would hang up on the confirmation


def test_a_tls_server_must_prove_its_name() -> None:
    connection = pool("rediss://h/0", tries=1).make_connection()  # type: ignore[no-untyped-call]
    assert isinstance(connection, SSLConnection)
    assert connection.ssl_context.check_hostname
    assert connection.ssl_context.cert_reqs is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("url", "alive"), [("redis://h/0", True), ("rediss://h/0", True), ("unix:///r.sock", None)]
)
def test_dead_peers_are_noticed_where_there_is_a_network(url: str, alive: bool | None) -> None:
    assert pool(url, tries=1).connection_kwargs.get("socket_keepalive") is alive


async def test_nothing_is_connected_before_it_is_needed() -> None:
    await client("unix:///nowhere/r.sock").aclose()


async def test_a_restart_of_the_server_is_a_pause_not_a_failure(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    patient, hasty = client(server.url, tries=30), client(server.url, tries=0)
    try:
        assert await patient.set("a", "b")
        server.kill()
        asking = asyncio.ensure_future(patient.get("a"))
        with pytest.raises(RedisConnectionError):
            await hasty.get("a")
        server.start()
        assert await asking == b"b"
    finally:
        server.stop()
        await patient.aclose()
        await hasty.aclose()


# Waiting for the server


async def test_it_returns_at_once_where_the_server_answers(
    redis: Redis, log_lines: list[EventDict]
) -> None:
    await wait_for(redis)
    assert log_lines == []


async def test_it_waits_ever_longer_until_the_server_answers(
    tmp_path: Path, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, waits = EmbeddedServer(tmp_path), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 6:
            server.start()

    monkeypatch.setattr(connect, "asyncio", SimpleNamespace(sleep=sleep))
    redis = client(server.url, tries=0)
    try:
        await wait_for(redis)
    finally:
        server.stop()
        await redis.aclose()
    assert waits == [0.5, 1, 2, 4, 5, 5]
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"] * 6 + [
        "worker.redis_back"
    ]


# Durability


@pytest.mark.parametrize(
    ("durability", "confirm"), [(FSYNC, ON_DISK), (REPLICAS, ON_TWO_REPLICAS), (MEMORY, None)]
)
def test_what_was_asked_for_is_what_a_write_waits_for(
    durability: Durability, confirm: Confirm | None
) -> None:
    assert confirmation(durability) == confirm


@pytest.fixture(scope="module")
def spare_url() -> Iterator[str]:
    """A server of our own whose configuration a test may spoil."""
    with embedded_server() as url:
        yield url


@pytest.fixture
async def spare(spare_url: str) -> AsyncIterator[Redis]:
    redis = client(spare_url)
    yield redis
    await redis.config_set("appendonly", "yes")
    await redis.config_set("appendfsync", "always")
    while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
        await asyncio.sleep(0.01)  # it would not let itself be ended
    await redis.aclose()


@pytest.mark.parametrize(
    ("durability", "confirm"), [(FSYNC, ON_DISK), (REPLICAS, ON_TWO_REPLICAS), (MEMORY, None)]
)
async def test_a_server_that_can_keep_the_promise_is_taken(
    spare: Redis, durability: Durability, confirm: Confirm | None
) -> None:
    assert await check_durability(spare, durability) == confirm


async def test_a_server_that_keeps_nothing_on_disk_is_refused(spare: Redis) -> None:
    await spare.config_set("appendonly", "no")
    with pytest.raises(Unsafe, match="keeps nothing on disk: set `appendonly yes`"):
        await check_durability(spare, FSYNC)
    assert await check_durability(spare, MEMORY) is None


@pytest.fixture
async def old(spare_url: str, spare: Redis) -> AsyncIterator[Redis]:
    """The spare server as Redis 7.0 would answer: it knows no WAITAOF."""
    await spare.acl_setuser(
        "old", True, nopass=True, keys="*", commands=["-waitaof"], categories=["+@all"]
    )
    redis = client(f"{spare_url}?username=old&password=x")
    yield redis
    await redis.aclose()
    await spare.acl_deluser("old")


async def test_an_older_server_is_taken_if_every_write_is_on_disk_before_its_answer(
    old: Redis,
) -> None:
    assert await check_durability(old, FSYNC) is None


@pytest.mark.parametrize(("name", "value"), [("appendfsync", "everysec"), ("appendonly", "no")])
async def test_an_older_server_that_may_lose_a_write_is_refused(
    spare: Redis, old: Redis, name: str, value: str
) -> None:
    await spare.config_set(name, value)
    with pytest.raises(Unsafe, match="`appendonly yes` and `appendfsync always`"):
        await check_durability(old, FSYNC)


async def test_an_older_server_that_hides_its_configuration_is_refused(
    spare: Redis, old: Redis
) -> None:
    await spare.execute_command("ACL", "SETUSER", "old", "-config")  # type: ignore[no-untyped-call]
    with pytest.raises(Unsafe, match="lets us not see its configuration"):
        await check_durability(old, FSYNC)
