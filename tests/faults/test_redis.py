"""Redis hangs, is slow, refuses, is full, forgets or loses the end of its log."""

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis as plain_redis
from structlog.typing import EventDict

from tests.faults.stage import (
    KEYS,
    acknowledged_are_kept,
    eventually,
    proxied_server,
    reading,
    receiver,
    status_of,
)
from tests.keys import CLIENT_ID
from tests.proxy import Talk
from tests.servers import (
    environ,
    notification,
    own_server,
    paid,
    receiving,
    says,
    scripted_gateway,
    send,
    until,
)
from worker import connect
from worker.client import track
from worker.embedded import EmbeddedServer
from worker.main import run_worker
from worker.receiver import KEEP_SECONDS
from worker.scripts import Confirm
from worker.settings import load
from worker.store import Store

pytestmark = pytest.mark.once  # what is under test is not Python

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process: Linux only")
WAITAOF = Confirm(("WAITAOF", 1, 0, connect.CONFIRM_MS), 1)


def post(name: str) -> bytes:
    return notification(paid(name)).wire()


@asynccontextmanager
async def receiving_from(url: str) -> AsyncIterator[int]:
    """A receiver in this process whose Redis is there."""
    client = connect.client(url, tries=1)
    try:
        async with receiving(Store(client, KEYS, confirm=WAITAOF)) as port:
            yield port
    finally:
        await client.aclose()


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """The URL of one where everybody has paid."""
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        yield gateway.url


@asynccontextmanager
async def working(url: str, gateway: str) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker in this process; it must still run at the end, and end when asked to."""
    stopping = asyncio.Event()
    task = asyncio.create_task(run_worker(load(environ(url, KEYS.prefix, gateway)), stopping))
    try:
        yield task
        assert not task.done(), task
    finally:
        stopping.set()
        await asyncio.wait_for(task, 30)


async def is_told(url: str, *names: str, seconds: float = 30) -> None:
    """Wait until these payments have succeeded, once each, and nothing else was told."""
    wanted = sorted(f"{CLIENT_ID}:{name}:succeeded" for name in names)

    async def told() -> bool:
        async with reading(url) as redis:
            found = [fields["id"] for _, fields in await redis.xrange(KEYS.outcomes)]
        assert len(found) <= len(wanted), found
        return sorted(found) == wanted

    await until(told, seconds)


async def buy(url: str, name: str) -> None:
    async with reading(url) as redis:
        await track(redis, name, "USD", 599)


# 37: Redis does not answer, and nobody says that it is gone


async def test_a_redis_that_hangs_costs_a_sender_seconds_and_is_used_again_when_it_answers(
    log_lines: list[EventDict],
) -> None:
    """redis-py's timeouts, tries and health checks alone added up to more than a minute."""
    async with proxied_server() as (_, proxy, url), receiving_from(url) as port:
        assert await status_of(port, post("before")) == 200
        proxy.block()
        started = time.monotonic()
        answers = await asyncio.gather(*(status_of(port, post(f"in-{n}")) for n in range(100)))
        assert set(answers) == {503}
        assert time.monotonic() - started < KEEP_SECONDS + 10
        proxy.unblock()
        for n in range(100):
            assert await status_of(port, post(f"after-{n}")) == 200
    down = [line for line in log_lines if line["event"] == "receiver.store_down"]
    assert [line["fault"] for line in down] == ["TimeoutError"] * 100


async def test_a_worker_whose_redis_hangs_goes_on_when_it_answers(gateway: str) -> None:
    async with proxied_server() as (server, proxy, url), working(url, gateway):
        await buy(server.url, "paid-1")
        await is_told(server.url, "paid-1")
        proxy.block()
        await buy(server.url, "paid-2")
        await asyncio.sleep(connect.SOCKET_SECONDS + 1)
        proxy.unblock()
        await is_told(server.url, "paid-1", "paid-2")


# 38: Redis takes a second for everything


async def test_a_slow_redis_slows_us_down_and_nothing_is_done_twice(gateway: str) -> None:
    async with (
        proxied_server() as (server, proxy, url),
        working(url, gateway),
        receiving_from(url) as port,
    ):
        await buy(server.url, "paid-0")
        await is_told(server.url, "paid-0")
        proxy.delay = 1
        started = time.monotonic()
        answers = await asyncio.gather(*(status_of(port, post(f"n-{n}")) for n in range(50)))
        assert time.monotonic() - started < KEEP_SECONDS + 10
        assert set(answers) <= {200, 503}
        names = [f"n-{n}" for n in range(50)]
        await acknowledged_are_kept(server.url, list(zip(names, answers, strict=True)))
        await eventually(lambda: send(port, post("n-0")), 200)
        proxy.delay = 0.1  # a payment takes dozens of commands
        await buy(server.url, "paid-1")
        await is_told(server.url, "paid-0", "paid-1", seconds=60)


# 39: Redis answers, but refuses


REFUSALS = {
    "LOADING": "LOADING Valkey is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "BUSY": "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN.",
    "NOAUTH": "NOAUTH Authentication required.",
    "NOPERM": "NOPERM User default has no permissions to run the 'evalsha' command",
    "MISCONF": "MISCONF Errors writing to the AOF file: No space left on device",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN": "MASTERDOWN Link with MASTER is down",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "maxclients": "ERR max number of clients reached",
    "no error": "ERR unknown",
}


def refusing(said: str) -> Talk:
    """Answers every command so. It counts the lines that begin an array."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                writer.write(b"-%b\r\n" % said.encode())

    return talk


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS)
async def test_whatever_redis_refuses_with_nothing_is_acknowledged_and_all_goes_on_after_it(
    said: str,
) -> None:
    async with proxied_server() as (server, proxy, url):
        proxy.instead = refusing(said)
        async with receiving_from(url) as port:
            assert await status_of(port, post("order-1")) == 503
            proxy.instead = None
            proxy.reset()
            assert await status_of(port, post("order-1")) == 200


async def test_a_worker_outlives_whatever_redis_refuses_with(
    gateway: str, log_lines: list[EventDict]
) -> None:
    async with proxied_server() as (server, proxy, url), working(url, gateway):
        for n, name in enumerate(("NOAUTH", "READONLY", "MISCONF")):  # one of each class
            await buy(server.url, f"paid-{n}")
            await is_told(server.url, *(f"paid-{m}" for m in range(n + 1)))
            log_lines.clear()
            proxy.instead = refusing(REFUSALS[name])
            proxy.reset()
            await until(lambda: _waiting(log_lines))
            await asyncio.sleep(1)  # arq asks four times a second, and ends when it is refused
            proxy.instead = None
            proxy.reset()
        await buy(server.url, "paid-3")
        await is_told(server.url, *(f"paid-{n}" for n in range(4)))


async def _waiting(lines: list[EventDict]) -> bool:
    return any(line["event"] == "worker.redis_waiting" for line in lines)


# 43: the script cache is flushed


async def test_scripts_that_redis_has_forgotten_are_told_again_in_the_midst_of_the_work(
    gateway: str,
) -> None:
    async with (
        proxied_server() as (server, _, url),
        working(url, gateway),
        receiving_from(url) as port,
        reading(server.url) as redis,
    ):
        for n in range(20):
            await redis.script_flush()
            assert await status_of(port, post(f"order-{n}")) == 200
        await redis.script_flush()
        await buy(server.url, "paid-1")
        await is_told(server.url, "paid-1")


# 42: everything is gone


async def test_a_worker_whose_redis_was_emptied_takes_what_is_tracked_again(
    gateway: str,
) -> None:
    async with proxied_server() as (server, _, url), working(url, gateway):
        await buy(server.url, "paid-1")
        await is_told(server.url, "paid-1")
        async with reading(server.url) as redis:
            await redis.flushall()
        await buy(server.url, "paid-2")
        await is_told(server.url, "paid-2")


# 35: the disk is full


def fill_disk(server: EmbeddedServer, free: int | None) -> None:
    """The server's files may grow by `free` bytes; None: as they like."""
    assert server.pid
    size = sum(file.stat().st_size for file in server.directory.rglob("*.aof"))
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    limit = resource.RLIM_INFINITY if free is None else size + free
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit, hard))


@LINUX
@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_a_full_disk_acknowledges_nothing_and_loses_nothing_that_was(
    tmp_path: Path, fsync: str
) -> None:
    """With `always` the server ends at once, with `everysec` it refuses every write."""
    with own_server() as server, receiver(tmp_path, server.url) as (running, port):
        running.wait_for("probes.passed")  # it would refuse what is set next
        with plain_redis.Redis.from_url(server.url) as client:
            client.config_set("appendfsync", fsync)
        names = [f"order-{n}" for n in range(60)]
        answers = [(name, await status_of(port, post(name))) for name in names[:20]]
        fill_disk(server, 3000)
        statuses = await asyncio.gather(*(status_of(port, post(name)) for name in names[20:]))
        assert 503 in statuses and set(statuses) <= {200, 503}
        answers += zip(names[20:], statuses, strict=True)
        if fsync == "always":
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        else:
            fill_disk(server, None)
        await eventually(lambda: send(port, post("later")), 200)
        assert await acknowledged_are_kept(server.url, answers) >= 20


# 34: the last write to the log was cut in the middle


async def test_a_log_cut_in_the_middle_of_a_write_costs_that_write_alone(tmp_path: Path) -> None:
    with own_server() as server, receiver(tmp_path, server.url) as (_, port):
        answers = [(name, await status_of(port, post(name))) for name in ("a", "b", "c")]
        await asyncio.to_thread(server.kill)
        [log] = server.directory.rglob("*.incr.aof")
        with log.open("ab") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nhal")
        await asyncio.to_thread(server.start)
        await eventually(lambda: send(port, post("d")), 200)
        assert await acknowledged_are_kept(server.url, answers) == 3


# 32: it is killed


async def test_a_killed_redis_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with own_server() as server, receiver(tmp_path, server.url) as (_, port):
        names = [f"order-{n}" for n in range(200)]
        sending = asyncio.gather(*(status_of(port, post(name)) for name in names))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.kill)
        statuses = await sending
        assert set(statuses) <= {200, 503}
        await asyncio.to_thread(server.start)
        await eventually(lambda: send(port, post("later")), 200)
        await acknowledged_are_kept(server.url, list(zip(names, statuses, strict=True)))
