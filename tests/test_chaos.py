"""The short version of `make chaos`, and what it stands on: power cuts, and wires that cut."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from tests.chaos.__main__ import run
from tests.chaos.cuts import REQUESTS, lives
from tests.chaos.killed import seconds_until_asked_again
from tests.chaos.proxy import Wire
from tests.chaos.server import Server, compile_shim
from tests.chaos.world import Setup
from tests.servers import environ, notification, paid, send, until
from worker.main import run_receiver
from worker.settings import Need, load

WRITES = 300


@pytest.fixture
def folder() -> Iterator[Path]:
    """In /tmp, as the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture
def shim(folder: Path) -> Path:
    found = compile_shim(folder)
    if found is None:
        pytest.skip("no C compiler, so no power cuts: install gcc")
    return found


# The whole


@pytest.mark.once
async def test_whatever_breaks_nothing_is_lost_wrong_or_doubled(folder: Path) -> None:
    setup = Setup(folder=folder, shim=compile_shim(folder), seed=4)
    result = await run(setup, seconds=6, settle=60)
    assert [(f.kind, f.about, f.what) for f in result.findings] == []
    assert result.kills >= 2
    assert len(result.facts.wishes) > 10


# What it stands on: power


@pytest.mark.parametrize(
    ("fsync", "forgets"),
    [("always", False), ("everysec", True), ("no", True)],
)
def test_a_power_cut_forgets_what_was_acknowledged_unless_every_write_is_synced(
    folder: Path, shim: Path, fsync: str, forgets: bool
) -> None:
    server = Server(folder, shim, fsync=fsync)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for n in range(WRITES):
                client.set(f"acknowledged-{n}", n)
            lost = server.cut_power()
            server.start()
            kept = sum(client.exists(f"acknowledged-{n}") for n in range(WRITES))
    finally:
        server.stop()
    assert (lost > 0, kept < WRITES) == (forgets, forgets)


def test_a_log_that_was_rewritten_is_still_cut_to_what_was_synced(folder: Path, shim: Path) -> None:
    server = Server(folder, shim)
    server.start()
    try:
        with redis.Redis.from_url(server.url) as client:
            for n in range(WRITES):
                client.set(f"acknowledged-{n}", n)
            client.bgrewriteaof()
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.01)
            client.set("later", 1)
            server.cut_power(random.Random(1))
            server.start()
            assert client.dbsize() == WRITES + 1
    finally:
        server.stop()


# What it stands on: a wire


async def test_a_wire_passes_everything_on_and_cuts_when_told(redis_url: str) -> None:
    wire = Wire(redis_url.removeprefix("unix://"))
    await wire.start()
    client = Redis.from_url(f"redis://127.0.0.1:{wire.port}", decode_responses=True)
    try:
        assert await client.set("a", "b")
        wire.lose_next = True
        with pytest.raises(redis.ConnectionError):
            await client.set("a", "c")
        assert await client.get("a") == "c"  # carried out, only nobody was told
        assert wire.cut() == 1
        with pytest.raises(redis.ConnectionError):
            await client.get("a")
        wire.refusing = True
        with pytest.raises(redis.ConnectionError):
            await client.get("a")
        wire.flow()
        assert await client.get("a") == "c"
        wire.swallow()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.get("a"), 0.2)
        wire.flow()
        wire.drop_next = True
        with pytest.raises(redis.ConnectionError):
            await client.set("a", "d")
        assert await client.get("a") == "c"  # never passed on
    finally:
        await client.aclose()
        await wire.close()


# The worker


@pytest.mark.once
async def test_a_connection_dropped_at_any_command_changes_no_end() -> None:
    """A sample: `python -m tests.chaos.cuts` goes through every command of a life."""
    found = await lives(range(1, REQUESTS, 11))
    assert [life for life in found if not life.right] == []
    assert len({life.command for life in found}) > 5


@pytest.mark.parametrize("first", range(1, 9))
async def test_a_receiver_whose_redis_goes_away_as_it_starts_receives_all_the_same(
    redis_url: str, prefix: str, first: int, unused_tcp_port: int
) -> None:
    cut = range(first, first + 3)  # more than one command is tried
    wire = Wire(redis_url.removeprefix("unix://"))
    wire.on_request = lambda *_: wire.requests not in cut
    await wire.start()
    given = environ(
        f"redis://127.0.0.1:{wire.port}", prefix, "", RECEIVER_PORT=str(unused_tcp_port)
    )
    stopping = asyncio.Event()
    receiver = asyncio.ensure_future(run_receiver(load(given, need=Need.NOTIFICATIONS), stopping))

    async def acknowledged() -> bool:
        with contextlib.suppress(ConnectionError):
            reply = await send(unused_tcp_port, notification(paid("order-1")).wire())
            return reply is not None and reply.status == 200
        return False

    await until(acknowledged)
    assert not receiver.done()
    stopping.set()
    await receiver
    await wire.close()


@pytest.mark.once
async def test_another_worker_asks_again_within_25_s_after_a_worker_was_killed_in_mid_inquiry(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    assert await seconds_until_asked_again(redis_url, prefix, tmp_path) < 25
