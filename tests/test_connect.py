"""A connection that does not hang, and a promise of safety that is checked, not believed."""

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.typing import EventDict

from worker import connect
from worker.connect import CONFIRM_MS, client, confirmation, pool, wait_for
from worker.embedded import EmbeddedServer
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


async def test_those_who_wait_for_a_server_that_hangs_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "SOCKET_SECONDS", 1)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    redis = client(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", tries=0)
    async with asyncio.timeout(15):  # one after the other they would take 30 s
        pings = await asyncio.gather(*(redis.ping() for _ in range(30)), return_exceptions=True)
    assert {type(ping) for ping in pings} == {RedisTimeoutError}
    await redis.aclose()
    server.close()


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


@pytest.mark.parametrize(("denied", "url"), [("-ping", ""), ("-select", "&db=1")])
async def test_a_server_that_denies_us_something_answers(
    redis: Redis, redis_url: str, denied: str, url: str, log_lines: list[EventDict]
) -> None:
    """What our user may not do is for the probes to tell."""
    await redis.execute_command("ACL", "SETUSER", "poor", "on", ">p", "+@all", denied)  # type: ignore[no-untyped-call]
    poor = client(f"{redis_url}?username=poor&password=p{url}", tries=0)
    await asyncio.wait_for(wait_for(poor), 5)
    await poor.aclose()
    await redis.acl_deluser("poor")
    assert log_lines == []


# Durability


@pytest.mark.parametrize(
    ("durability", "confirm"), [(FSYNC, ON_DISK), (REPLICAS, ON_TWO_REPLICAS), (MEMORY, None)]
)
def test_what_was_asked_for_is_what_a_write_waits_for(
    durability: Durability, confirm: Confirm | None
) -> None:
    assert confirmation(durability) == confirm
