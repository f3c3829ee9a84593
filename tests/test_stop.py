"""Asked to stop, a process ends what it has in hand, within the time that whoever asks must grant.

Real processes, as supervisors start and stop them.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.keys import CLIENT_ID
from tests.servers import (
    Asked,
    OtherServer,
    Post,
    Process,
    environ,
    inquired,
    notification,
    own_server,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    signed_answer,
    until,
)
from worker import client, connect, main
from worker.environment import BadSettings
from worker.keys import Keys
from worker.receiver import BODY_SECONDS, KEEP_SECONDS
from worker.settings import load

SLACK = 2  #: seconds that cancelling takes: what hangs is cancelled again and again
#: The same process with less patience, so that a test need not wait for all of it.
HURRY = """
import sys, worker.main as main
from worker.cli import main as run
main.DRAIN_SECONDS, main.CLOSE_SECONDS = 2, 1
sys.exit(run(sys.argv[1:]))
"""


def port_of(started: dict[str, Any]) -> int:
    return int(started["addresses"][0].split(",")[1].strip(" )"))


async def line(running: Process, event: str, **facts: Any) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(running.wait_for, event, **facts)
    return found


async def ended(running: Process) -> int:
    return await asyncio.to_thread(running.ended)


def test_what_a_process_may_take_is_more_than_its_parts_add_up_to() -> None:
    assert main.DRAIN_SECONDS + main.CLOSE_SECONDS + SLACK < main.STOP_SECONDS
    assert BODY_SECONDS + KEEP_SECONDS < main.STOP_SECONDS


def test_a_gateway_that_takes_as_long_as_it_may_is_still_waited_for() -> None:
    given = environ("redis://h", "p", "http://127.0.0.1:9")
    assert load(given | {"GATEWAY_TIMEOUT_SECONDS": "12"}).gateway_timeout / 1000 < (
        main.DRAIN_SECONDS
    )
    with pytest.raises(BadSettings):
        load(given | {"GATEWAY_TIMEOUT_SECONDS": "12.1"})


async def half(port: int, post: Post) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which all but the last bytes of a notification were sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post.wire()[:-10])
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize("command", ["receiver", "run"])
async def test_a_notification_that_is_half_here_is_taken_kept_and_answered(
    redis: Redis, prefix: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    given = environ(redis_url, prefix, "http://127.0.0.1:9")
    post = notification(paid("order-1"))
    with process(tmp_path, given, *reconciler(command)) as running:
        port = port_of(await line(running, "receiver.started"))
        reader, writer = await half(port, post)
        await asyncio.sleep(0.3)
        running.signal(signal.SIGTERM)
        await until(lambda: _refused(port))  # nothing new is let in
        assert running.running
        writer.write(post.wire()[-10:])
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200")
        writer.close()
        assert await ended(running) == 0
        assert running.find("notification.accepted") and running.find("receiver.stopped")
    assert await redis.llen(Keys(prefix).inbox(f"{CLIENT_ID}:order-1")) == 1  # type: ignore[misc]


async def _refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


@pytest.mark.parametrize("command", ["worker", "run"])
async def test_an_inquiry_that_is_under_way_is_finished_and_its_answer_written(
    redis: Redis, prefix: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    """What the gateway says after SIGTERM is the payment's end, and is told."""
    asked_to_stop = asyncio.Event()

    async def answer(asked: Asked) -> Any:
        await asked_to_stop.wait()
        return signed_answer(asked.path, inquired("order-1", "SUCCESS"))

    async with scripted_gateway() as gateway:
        gateway.answer = answer
        given = environ(redis_url, prefix, gateway.url, GATEWAY_TIMEOUT_SECONDS="12")
        with process(tmp_path, given, *reconciler(command)) as running:
            await client.track(redis, "order-1", "USD", 599, prefix=prefix)

            async def asked() -> list[Asked]:
                return gateway.asked

            await until(asked)
            running.signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert running.running
            asked_to_stop.set()
            assert await ended(running) == 0
            assert running.find("payment.final", status="succeeded", via="inquiry")
            assert running.find("worker.stopped")
    [[_, outcome]] = await redis.xrange(Keys(prefix).outcomes)
    assert outcome["id"] == f"{CLIENT_ID}:order-1:succeeded"
    assert len(gateway.asked) == 1


@pytest.mark.parametrize("command", ["receiver", "worker", "run"])
async def test_a_second_signal_does_not_wait_and_what_was_in_hand_is_left_to_others(
    redis: Redis, prefix: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    async def never(_: Asked) -> Any:
        await asyncio.sleep(60)

    async with scripted_gateway() as gateway:
        gateway.answer = never
        given = environ(redis_url, prefix, gateway.url, GATEWAY_TIMEOUT_SECONDS="12")
        with process(tmp_path, given, *reconciler(command)) as running:
            if command != "worker":
                port = port_of(await line(running, "receiver.started"))
                _, writer = await half(port, notification(paid("order-2")))
            if command != "receiver":
                await client.track(redis, "order-1", "USD", 599, prefix=prefix)

                async def asked() -> list[Asked]:
                    return gateway.asked

                await until(asked)
            await asyncio.sleep(0.3)
            running.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert running.running
            running.signal(signal.SIGTERM)
            assert await ended(running) == -signal.SIGTERM
            if command != "worker":
                writer.close()
    if command != "receiver":
        assert await redis.zcard(Keys(prefix).open) == 1


async def stopped_beside_a_redis_that_hangs(
    server: OtherServer, folder: Path, command: str
) -> tuple[int, float, Process]:
    """Its exit code, and the seconds that it took from SIGTERM on."""
    redis = connect.client(server.url)
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        given = environ(server.url, "reconciler", gateway.url)
        with process(folder, given, *HURRIED, command) as running:
            await client.track(redis, "order-1", "USD", 599)
            await line(running, "inquiry.completed")
            await redis.aclose()
            os.kill(server.pid or 0, signal.SIGSTOP)
            try:
                await asyncio.sleep(0.5)
                started = time.monotonic()
                running.signal(signal.SIGTERM)
                code = await ended(running)
                return code, time.monotonic() - started, running
            finally:
                os.kill(server.pid or 0, signal.SIGCONT)


HURRIED = (reconciler()[0], "-c", HURRY)


@pytest.mark.once
@pytest.mark.parametrize("command", ["worker", "run"])
async def test_a_redis_that_hangs_does_not_keep_a_process_from_stopping(
    tmp_path: Path, command: str
) -> None:
    """arq's own commands are tried for minutes: whoever stops the process would have to kill it."""
    with own_server() as server:
        code, took, running = await stopped_beside_a_redis_that_hangs(server, tmp_path, command)
    assert code == 0
    assert took < 2 + 1 + SLACK + 5  # the machine may be slow, but this is not the end of 30 tries
    assert running.find("worker.stopped")


def can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    words = ["unshare", "--pid", "--fork", "true"]
    return subprocess.run(words, capture_output=True).returncode == 0


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.once
@pytest.mark.skipif(not can_unshare(), reason="needs root and unshare, of util-linux")
@pytest.mark.parametrize("command", ["receiver", "worker"])
async def test_the_first_process_of_a_container_ends_in_good_order(
    redis: Redis, prefix: str, redis_url: str, tmp_path: Path, command: str
) -> None:
    """The kernel gives process 1 no signal that it has not asked for."""
    given = environ(redis_url, prefix, "http://127.0.0.1:9")
    words = ("unshare", "--pid", "--fork", *reconciler(command))
    with process(tmp_path, given, *words) as unshare:
        started = await line(unshare, f"{command}.started")
        assert started["pid"] == 1
        os.kill(child_of(unshare.pid), signal.SIGTERM)
        assert await ended(unshare) == 0
        assert unshare.find(f"{command}.stopped")
