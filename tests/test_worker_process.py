"""The worker as users start it: a real process, against a gateway that is one too in every way.

A payment tracked by XADD ends whatever happens to the process that follows it.
"""

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis

from jobs.model import Money
from jobs.tools import LEASE
from tests.keys import CLIENT_ID
from tests.servers import (
    ARQ_WORKER,
    Asked,
    Process,
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    send,
    until,
)
from worker import connect, queue
from worker.client import track
from worker.keys import Keys
from worker.main import DRAIN_SECONDS
from worker.mock_gateway import RunningMock

WORKERS = {"arq": ARQ_WORKER, "reconciler": reconciler("worker")}
EITHER = pytest.mark.parametrize("words", WORKERS.values(), ids=WORKERS)


@dataclass
class Shop:
    """The merchant: makes orders, has them followed, reads how they end."""

    redis: Redis
    keys: Keys

    async def buy(self, mock: RunningMock, *names: str) -> None:
        for name in names:
            mock.ledger.create(name, Money("USD", 599), now_ms())
            await track(self.redis, name, "USD", 599, expires_in=1, prefix=self.keys.prefix)

    async def told(self) -> list[str]:
        return [fields["id"] for _, fields in await self.redis.xrange(self.keys.outcomes)]

    async def is_told(self, *ends: str) -> None:
        """Wait until these are all the outcomes there are."""
        wanted = {f"{CLIENT_ID}:{end}" for end in ends}

        async def all_told() -> bool:
            return set(await self.told()) == wanted

        await until(all_told)

    async def in_hand(self) -> int:
        """How many jobs some worker holds: they stand in the queue at the end of a lease."""
        leases = (now_ms() + 5_000, now_ms() + LEASE)
        return int(await self.redis.zcount(self.keys.queue, *leases))


@pytest.fixture
def shop(redis: Redis, prefix: str) -> Shop:
    return Shop(redis, Keys(prefix))


async def ended(running: Process) -> int:
    return await asyncio.to_thread(running.ended)


async def line(running: Process, event: str, **facts: Any) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.to_thread(running.wait_for, event, **facts)
    return found


def slowly(seconds: float) -> Callable[[Asked], Awaitable[Any]]:
    """A gateway that takes its time to say that nobody has paid yet."""

    async def answer(asked: Asked) -> Any:
        await asyncio.sleep(seconds)
        return await says("PROCESSING")(asked)

    return answer


@EITHER
async def test_payments_tracked_by_xadd_are_followed_to_their_ends(
    shop: Shop, mock: RunningMock, redis_url: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    given = environ(redis_url, shop.keys.prefix, mock.url)
    with process(tmp_path, given, *words) as worker:
        await shop.buy(mock, "paid-1", "failed-1", "closed_by_gateway-1")
        ends = ["paid-1:succeeded", "failed-1:failed", "closed_by_gateway-1:cancelled"]
        await shop.is_told(*ends, "failed-1:cancelling.1")
        final = await line(worker, "payment.final", payment_request_id="paid-1")
        assert (final["status"], final["via"]) == ("succeeded", "inquiry")
        worker.signal(signal.SIGTERM)
        assert await ended(worker) == 0
        assert worker.find("worker.stopped")
        said = [entry for entry in worker.lines if entry["event"] != "store.empty"]
        assert {entry["level"] for entry in said} == {"info"}


async def test_a_job_that_nobody_knows_is_kept_under_arqs_command_line_too(
    shop: Shop, mock: RunningMock, redis_url: str, tmp_path: Path
) -> None:
    with process(tmp_path, environ(redis_url, shop.keys.prefix, mock.url), *ARQ_WORKER) as worker:
        stock = ArqRedis(
            connection_pool=connect.pool(redis_url, tries=1), job_serializer=queue.serialize
        )
        await stock.enqueue_job("no_such_job", _queue_name=shop.keys.queue)
        await stock.connection_pool.disconnect()
        warning = await line(worker, "command.dead")
        assert "no_such_job" in warning["message"]
    assert await shop.redis.xlen(shop.keys.dead) == 1


@pytest.mark.parametrize(
    ("words", "number"),
    [
        pytest.param(ARQ_WORKER, signal.SIGTERM, id="arq, SIGTERM"),
        pytest.param(reconciler("worker"), signal.SIGTERM, id="reconciler, SIGTERM"),
        pytest.param(reconciler("worker"), signal.SIGINT, id="reconciler, Ctrl-C"),
    ],
)
async def test_a_worker_asked_to_stop_ends_what_it_has_in_hand_and_leaves_the_rest_to_others(
    shop: Shop, redis_url: str, tmp_path: Path, words: tuple[str, ...], number: signal.Signals
) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = slowly(0.5)
        given = environ(redis_url, shop.keys.prefix, gateway.url)
        with process(tmp_path, given, *words) as worker:
            for n in range(3):
                await track(
                    shop.redis, f"order-{n}", "USD", 599, expires_in=60, prefix=shop.keys.prefix
                )
            await until(shop.in_hand)
            started = time.monotonic()
            worker.signal(number)
            assert await ended(worker) == 0
            assert time.monotonic() - started < DRAIN_SECONDS
    assert await shop.in_hand() == 0
    assert await shop.redis.zcard(shop.keys.open) == 3
    assert await shop.redis.zcard(shop.keys.queue) == 3  # woken again by whoever runs next
    answered = {entry["payment_request_id"] for entry in worker.find("inquiry.completed")}
    assert answered == {_name(asked) for asked in gateway.asked}


def _name(asked: Asked) -> str:
    return asked.body.decode().split('"')[3]


async def test_a_second_signal_does_not_wait(shop: Shop, redis_url: str, tmp_path: Path) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = slowly(60)
        given = environ(redis_url, shop.keys.prefix, gateway.url, GATEWAY_TIMEOUT_SECONDS="12")
        with process(tmp_path, given, *reconciler("worker")) as worker:
            await track(shop.redis, "order-1", "USD", 599, prefix=shop.keys.prefix)
            await until(shop.in_hand)
            worker.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert worker.running
            worker.signal(signal.SIGTERM)
            assert await ended(worker) == -signal.SIGTERM


async def test_what_a_killed_worker_had_in_hand_is_ended_by_the_next(
    shop: Shop, redis_url: str, tmp_path: Path
) -> None:
    words = reconciler("worker")
    async with scripted_gateway() as gateway:
        gateway.answer = slowly(60)
        given = environ(redis_url, shop.keys.prefix, gateway.url, GATEWAY_TIMEOUT_SECONDS="12")
        with process(tmp_path, given, *words) as worker:
            await track(shop.redis, "order-1", "USD", 599, prefix=shop.keys.prefix)
            await until(shop.in_hand)
            worker.signal(signal.SIGKILL)
            assert await ended(worker) == -signal.SIGKILL
        assert await shop.in_hand()
        key = f"{CLIENT_ID}:order-1"
        await shop.redis.zadd(shop.keys.open, {key: now_ms() - 1000})  # the lease is over
        await shop.redis.zadd(shop.keys.queue, {shop.keys.job(key): now_ms() - 1000})
        gateway.answer = says("SUCCESS")
        with process(tmp_path, given, *words):
            await shop.is_told("order-1:succeeded")


async def test_a_redis_that_restarts_is_waited_for_and_the_payment_still_ends(
    mock: RunningMock, tmp_path: Path
) -> None:
    with own_server() as server:
        redis = connect.client(server.url, tries=5)
        shop = Shop(redis, Keys())
        with process(
            tmp_path, environ(server.url, "reconciler", mock.url), *reconciler("worker")
        ) as worker:
            await shop.buy(mock, "paid-1", "never_paid-1")
            await line(worker, "inquiry.completed")
            await asyncio.to_thread(server.stop)
            await line(worker, "worker.redis_waiting")
            await asyncio.to_thread(server.start)
            await until(lambda: ends(redis, shop.keys, 2))
            assert worker.running
            assert {entry["level"] for entry in worker.lines} <= {"info", "warning"}
            worker.signal(signal.SIGTERM)
            assert await ended(worker) == 0
        await redis.aclose()


async def ends(redis: Redis, keys: Keys, count: int) -> bool:
    """Whether so many payments have ended."""
    names: list[str] = [fields[b"id"].decode() for _, fields in await redis.xrange(keys.outcomes)]
    return sum(name.endswith((":succeeded", ":cancelled")) for name in names) == count


async def test_run_receives_and_follows_in_one_process(
    shop: Shop, redis_url: str, tmp_path: Path
) -> None:
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        given = environ(redis_url, shop.keys.prefix, gateway.url)
        with process(tmp_path, given, *reconciler("run")) as both:
            started = await line(both, "receiver.started")
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            await track(shop.redis, "order-1", "USD", 599, prefix=shop.keys.prefix)
            await line(both, "inquiry.completed")
            reply = await send(port, notification(paid("order-1")).wire())
            assert reply and reply.status == 200
            await shop.is_told("order-1:succeeded")
            final = await line(both, "payment.final")
            assert final["via"] == "notification"
            both.signal(signal.SIGTERM)
            assert await ended(both) == 0
            assert both.find("receiver.stopped") and both.find("worker.stopped")


async def test_a_notification_that_comes_during_a_slow_inquiry_is_applied_at_once(
    shop: Shop, redis_url: str, tmp_path: Path
) -> None:
    """The same worker then has the payment in hand twice, which is no fault."""
    async with scripted_gateway() as gateway:
        gateway.answer = slowly(4)
        given = environ(redis_url, shop.keys.prefix, gateway.url, GATEWAY_TIMEOUT_SECONDS="6")

        async def asked() -> list[Asked]:
            return gateway.asked

        with process(tmp_path, given, *reconciler("run")) as both:
            started = await line(both, "receiver.started")
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            await track(shop.redis, "order-1", "USD", 599, prefix=shop.keys.prefix)
            await until(asked)
            reply = await send(port, notification(paid("order-1")).wire())
            assert reply and reply.status == 200
            await shop.is_told("order-1:succeeded")
            assert both.find("inquiry.completed") == []
            await line(both, "inquiry.completed")
            both.signal(signal.SIGTERM)
            assert await ended(both) == 0
            assert {entry["level"] for entry in both.lines} == {"info", "warning"}


async def test_the_receiver_holds_no_key_that_can_sign(
    shop: Shop, redis_url: str, tmp_path: Path
) -> None:
    given = environ(redis_url, shop.keys.prefix, "")
    del given["ALIPAY_PRIVATE_KEY"]
    with process(tmp_path, given, *reconciler("receiver")) as receiver:
        started = await line(receiver, "receiver.started")
        port = int(started["addresses"][0].split(",")[1].strip(" )"))
        reply = await send(port, notification(paid("order-1")).wire())
        assert reply and reply.status == 200
        receiver.signal(signal.SIGTERM)
        assert await ended(receiver) == 0


async def test_nothing_secret_is_in_what_a_process_says(
    shop: Shop, mock: RunningMock, redis_url: str, tmp_path: Path
) -> None:
    token = "agent-token-4711"
    given = environ(redis_url, shop.keys.prefix, mock.url, ALIPAY_AGENT_TOKEN=token)
    with process(tmp_path, given | {"LOG_LEVEL": "debug"}, *reconciler("run")) as both:
        started = await line(both, "receiver.started")
        port = int(started["addresses"][0].split(",")[1].strip(" )"))
        genuine = notification(paid("paid-1"))
        await send(port, genuine.wire())
        await send(port, genuine.having(Client_Id="SANDBOX_OTHER").wire())
        await send(port, genuine.wire().replace(b"Signature:", b"Signature :"))
        await shop.buy(mock, "paid-1")
        await shop.is_told("paid-1:succeeded")
        both.signal(signal.SIGTERM)
        assert await ended(both) == 0
        assert both.find("http.malformed")
    for secret in (token, given["ALIPAY_PRIVATE_KEY"], dict(genuine.headers)["Signature"][-40:]):
        assert secret not in both.said
    assert "paymentAmount" not in both.said


# What keeps a process from running


@pytest.mark.parametrize(
    "words",
    [reconciler("worker"), reconciler("receiver"), ARQ_WORKER],
    ids=["worker", "receiver", "arq"],
)
def test_bad_settings_are_all_told_at_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    given = environ("http://nowhere", "Not A Prefix", "https://gateway.example/path")
    given |= {"ALIPAY_PUBLIC_KEYS": "nonsense", "RECONCILER_SCHEDULE": "soon", "LOG_LEVEL": "loud"}
    with process(tmp_path, given, *words) as refused:
        assert refused.ended() == 3
        assert refused.stdout() == ""
    first, *faults = refused.said.splitlines()
    assert first == "reconciler: the settings cannot be used:"
    wrong = ["REDIS_URL", "RECONCILER_KEY_PREFIX", "ALIPAY_PUBLIC_KEYS", "RECONCILER_SCHEDULE"]
    wrong += ["LOG_LEVEL"] + (["ALIPAY_GATEWAY_URL"] if words[-1] != "receiver" else [])
    assert len(faults) == len(wrong)
    for name in wrong:
        assert any(fault.startswith(f"  - {name}") for fault in faults), name
    assert "Traceback" not in refused.said


def test_a_port_that_is_taken_is_told_in_a_line(tmp_path: Path, redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = environ(redis_url, "p", "http://127.0.0.1:9", RECEIVER_PORT=port)
        with process(tmp_path, given, *reconciler("receiver")) as refused:
            assert refused.ended() == 1
    assert "address already in use" in refused.said
    assert "Traceback" not in refused.said
