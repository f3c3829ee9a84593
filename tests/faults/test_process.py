"""Our processes under crowds, limits, signals and frozen clocks."""

import asyncio
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.faults.stage import (
    KEYS,
    NOBODY,
    acknowledged_are_kept,
    at_once,
    eventually,
    memory_mib,
    open_files,
    port_of,
    proxied_server,
    reading,
    receiver,
    status_of,
)
from tests.keys import CLIENT_ID, key_text, public_key
from tests.proxy import proxying, to_url
from tests.servers import (
    environ,
    notification,
    own_server,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    send,
    until,
)
from worker.client import track
from worker.signature import private_text, public_text

pytestmark = pytest.mark.once  # what is under test is not Python

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc and prlimit: Linux only")


def posts(count: int) -> dict[str, bytes]:
    return {f"order-{n}": notification(paid(f"order-{n}")).wire() for n in range(count)}


# 7: everything that was held back comes at once


@LINUX
async def test_two_thousand_at_once_are_answered_in_seconds_while_payments_are_followed(
    tmp_path: Path,
) -> None:
    """`run`: receiver and worker share a process, so neither may starve the other."""
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url)
            with process(tmp_path, given, *reconciler("run")) as both:
                port = await asyncio.to_thread(port_of, both)
                burst = posts(2000)
                before = memory_mib(both.pid)
                sending = asyncio.create_task(at_once(port, list(burst.values())))
                async with reading(server.url) as redis:
                    await track(redis, "followed", "USD", 599)
                    await until(lambda: redis.xlen(KEYS.outcomes))
                    clients = (await redis.info("clients"))["connected_clients"]
                statuses, longest = await sending
                # None: its connection was ended, to make room; the gateway sends again.
                assert set(statuses) <= {200, 503, None} and statuses[200] > 0
                assert both.running
                assert longest < 30, "each has four seconds for Redis; the rest is this machine"
                assert memory_mib(both.pid) - before < 150
                assert clients < 100, "64 for messages, some for the worker"


# 4: the acknowledgement is lost on its way


async def test_one_whose_acknowledgement_was_cut_off_is_a_duplicate_when_it_comes_again(
    tmp_path: Path,
) -> None:
    with own_server() as server, receiver(tmp_path, server.url) as (running, port):
        async with proxying(to_url(f"http://127.0.0.1:{port}")) as proxy:
            [post] = posts(1).values()
            proxy.cut_after = 0
            assert await status_of(proxy.port, post) is None
            proxy.cut_after = None
            assert await status_of(proxy.port, post) == 200
        results = [line["result"] for line in running.find("notification.accepted")]
        assert results == ["parked", "duplicate"]


# 19, 20: it is killed, or asked to stop, under load


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_what_was_acknowledged_before_the_receiver_ended_is_kept(
    tmp_path: Path, number: signal.Signals
) -> None:
    with own_server() as server:
        with receiver(tmp_path, server.url) as (running, port):
            burst = posts(300)
            sending = asyncio.gather(*(status_of(port, post) for post in burst.values()))
            async with reading(server.url) as redis:
                await until(lambda: redis.exists(KEYS.parked))
            running.signal(number)
            statuses = await sending
            code = await asyncio.to_thread(running.ended)
        answers = list(zip(burst, statuses, strict=True))
        acked = await acknowledged_are_kept(server.url, answers)
    if number is signal.SIGTERM:
        assert code == 0
        assert set(statuses) <= {200, 503, None}  # None: came after it had closed its door
        answered = running.find("notification.accepted")
        assert len(answered) == acked, "what was begun was answered"
        assert running.lines[-1]["event"] == "receiver.stopped"
    else:
        assert code == -signal.SIGKILL


async def test_what_was_begun_before_sigterm_is_kept_and_answered(tmp_path: Path) -> None:
    async with proxied_server() as (server, proxy, url):
        with receiver(tmp_path, url) as (running, port):
            first, second = posts(2).values()
            assert await status_of(port, first) == 200
            proxy.delay = 1
            answer = asyncio.create_task(status_of(port, second))
            await asyncio.sleep(0.3)
            running.signal(signal.SIGTERM)
            assert await answer == 200
            assert await asyncio.to_thread(running.ended) == 0
        assert await acknowledged_are_kept(server.url, [("order-1", 200)]) == 1


# 21: it stands still


@LINUX
async def test_a_receiver_that_stands_still_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    with own_server() as server, receiver(tmp_path, server.url) as (running, port):
        burst = posts(50)
        running.signal(signal.SIGSTOP)
        senders = [asyncio.create_task(status_of(port, post, 0.5)) for post in burst.values()]
        assert set(await asyncio.gather(*senders)) == {None}, "they gave up"
        await asyncio.sleep(4)
        running.signal(signal.SIGCONT)
        statuses, _ = await at_once(port, list(burst.values()))
        assert statuses == {200: 50}
        await asyncio.to_thread(running.wait_for, "process.stalled")


# 22: it may open no more files


@LINUX
async def test_a_receiver_out_of_file_descriptors_pauses_and_recovers(tmp_path: Path) -> None:
    with own_server() as server, receiver(tmp_path, server.url) as (running, port):
        open_now = open_files(running.pid)
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (open_now + 20, open_now + 20))
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        await asyncio.to_thread(running.wait_for, "process.out_of_files")
        for _, writer in idle:
            writer.close()
        [post] = posts(1).values()
        await eventually(lambda: send(port, post), 200, 30)
        assert await acknowledged_are_kept(server.url, [("order-0", 200)]) == 1
        assert running.running
        assert len(running.lines) < 20, "asyncio says it a hundred times a second"


# 23: two thousand that hold a body open


@LINUX
async def test_two_thousand_unfinished_bodies_are_cut_off_and_cost_little_memory(
    tmp_path: Path,
) -> None:
    needed = 2100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        pytest.skip(f"needs {needed} open files: ulimit -n {needed}")
    with own_server() as server, receiver(tmp_path, server.url) as (running, port):
        before = memory_mib(running.pid)
        body = b'{"padding": "' + b"x" * 60_000
        head = notification(paid("order-1")).head + b"Content-Length: 65000\r\n\r\n"
        slow = asyncio.create_task(at_once(port, [head + body] * 2000))
        peak = before
        while not slow.done():
            peak = max(peak, memory_mib(running.pid))
            await asyncio.sleep(0.05)
        statuses, _ = await slow
        assert set(statuses) <= {408, 503, None} and statuses[408] > 0
        assert peak - before < 500, "the bodies alone are 125 MiB"
        [post] = posts(1).values()

        async def received() -> bool:
            return await status_of(port, post) == 200

        await until(received)
        assert running.running


# 24: it stands still in the middle of an inquiry


async def test_a_worker_that_stood_still_says_so_and_tells_one_outcome(tmp_path: Path) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url)
            with process(tmp_path, given, *reconciler("worker")) as worker:
                await asyncio.to_thread(worker.wait_for, "worker.started")
                async with reading(server.url) as redis:
                    await track(redis, "order-1", "USD", 599)
                    await until(lambda: _asked(gateway.asked))
                    worker.signal(signal.SIGSTOP)
                    await asyncio.sleep(5)
                    worker.signal(signal.SIGCONT)
                    stalled = await asyncio.to_thread(worker.wait_for, "process.stalled")
                    assert stalled["seconds"] >= 3
                    await until(lambda: redis.xlen(KEYS.outcomes))
                    told = [fields["id"] for _, fields in await redis.xrange(KEYS.outcomes)]
                    assert told == [f"{CLIENT_ID}:order-1:succeeded"]


async def _asked(asked: list[Any]) -> bool:
    return bool(asked)


# 29: one payment whose record cannot be read, one command that cannot be carried out


async def test_what_breaks_at_one_payment_holds_up_no_other(tmp_path: Path) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url)
            with process(tmp_path, given, *reconciler("worker")) as worker:
                async with reading(server.url) as redis:
                    poison = KEYS.payment(f"{CLIENT_ID}:poison")
                    await redis.hset(poison, mapping={"schema": "1", "status": "nonsense"})  # type: ignore[misc]
                    await redis.zadd(KEYS.open, {f"{CLIENT_ID}:poison": 1})
                    await redis.xadd(KEYS.commands, {"type": "payment.track", "data": "["})
                    await asyncio.to_thread(worker.wait_for, "record.unreadable")
                    for n in range(5):
                        await track(redis, f"order-{n}", "USD", 599)

                    async def told() -> bool:
                        types = [f["type"] for _, f in await redis.xrange(KEYS.outcomes)]
                        return types.count("payment.succeeded") == 5

                    await until(told)
                    assert await redis.xlen(KEYS.dead) == 1
                    assert await redis.zscore(KEYS.open, f"{CLIENT_ID}:poison"), "still seen to"


# 55: the gateway's key changes


async def test_a_withdrawn_key_is_refused_and_the_other_one_believed(tmp_path: Path) -> None:
    one, two = (key_text(f"alipay_v{n}", "public_x509_b64") for n in (1, 2))
    old = notification(paid("order-1")).wire()
    new = notification(paid("order-2"), key="alipay_v2", key_version=2).wire()
    with own_server() as server:
        with receiver(tmp_path, server.url, ALIPAY_PUBLIC_KEYS=f"1={one},2={two}") as (_, port):
            assert [await status_of(port, post) for post in (old, new)] == [200, 200]
        with receiver(tmp_path, server.url, ALIPAY_PUBLIC_KEYS=f"2={two}") as (running, port):
            assert [await status_of(port, post) for post in (old, new)] == [401, 200]
            [refused] = running.find("notification.rejected")
            assert refused["reason"] == "key_version"


# 56: a key that cannot be used


@pytest.mark.parametrize("name", ["ALIPAY_PRIVATE_KEY", "ALIPAY_PUBLIC_KEYS"])
def test_a_key_file_that_cannot_be_read_is_one_line_and_exit_code_3(
    tmp_path: Path, name: str
) -> None:
    given = environ("redis://127.0.0.1:9", "p", NOBODY)
    del given[name]
    given[f"{name}_FILE"] = str(tmp_path)
    with process(tmp_path, given, *reconciler("worker")) as refused:
        assert refused.ended() == 3
    [_, fault] = refused.said.splitlines()
    assert fault.startswith(f"  - {name}")


def test_keys_that_are_too_weak_are_one_line_each_and_exit_code_3(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(65537, 1024)
    small = rsa.RSAPublicNumbers(3, public_key("alipay_v1").public_numbers().n).public_key()
    given = environ("redis://127.0.0.1:9", "p", NOBODY)
    given |= {"ALIPAY_PRIVATE_KEY": private_text(weak), "ALIPAY_PUBLIC_KEYS": public_text(small)}
    with process(tmp_path, given, *reconciler("worker")) as refused:
        assert refused.ended() == 3
    _, *faults = refused.said.splitlines()
    private, public = sorted(faults)
    assert "ALIPAY_PRIVATE_KEY: the private key has 1024 bits" in private
    assert "the public key has the exponent 3" in public


# 60: everything dies at once


async def test_when_everything_was_killed_at_once_nothing_acknowledged_is_lost_and_all_ends(
    tmp_path: Path,
) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url)
            with process(tmp_path, given, *reconciler("run")) as both:
                port = await asyncio.to_thread(port_of, both)
                async with reading(server.url) as redis:
                    for n in range(10):
                        await track(redis, f"order-{n}", "USD", 599)
                    await until(lambda: _asked(gateway.asked))
                burst = {f"late-{n}": notification(paid(f"late-{n}")).wire() for n in range(100)}
                sending = asyncio.gather(*(status_of(port, post) for post in burst.values()))
                await asyncio.sleep(0.05)
                both.signal(signal.SIGKILL)
                server.kill()
                statuses = await sending
            await asyncio.to_thread(server.start)
            gateway.answer = says("SUCCESS")
            with process(tmp_path, given, *reconciler("run")):
                async with reading(server.url) as redis:

                    async def told() -> bool:
                        found = [f["id"] for _, f in await redis.xrange(KEYS.outcomes)]
                        assert len(found) == len(set(found))
                        return len(found) == 10

                    await until(told, 40)
                await acknowledged_are_kept(server.url, list(zip(burst, statuses, strict=True)))
