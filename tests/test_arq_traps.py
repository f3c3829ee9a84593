"""Sixteen ways to lose a payment with arq: each is there as arq comes, and loses none of ours.

A test shows first how a job of stock arq is lost, so that it tells when arq changes, and then how
a payment of ours, followed by the real worker, gets to its end all the same.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import signal
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import arq.worker
import pytest
from arq.connections import ArqRedis
from arq.jobs import Job
from arq.worker import Retry, Worker, func
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError, ResponseError, WatchError
from structlog.typing import EventDict

import worker.arq_jobs
import worker.main
import worker.queue
import worker.store
from jobs.follow import follow
from jobs.schedule import DAY
from jobs.tools import LEASE
from tests.keys import CLIENT_ID
from tests.servers import (
    ARQ_WORKER,
    Asked,
    ScriptedGateway,
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    receiving,
    reconciler,
    says,
    scripted_gateway,
    send,
    until,
)
from worker import client, connect, queue
from worker.connect import Unsafe
from worker.embedded import EmbeddedServer
from worker.keys import Keys
from worker.main import run_worker
from worker.queue import Batch, Jobs
from worker.settings import load
from worker.store import Store

KEY = f"{CLIENT_ID}:order-1"
MINUTE = 60_000
A_WHILE = 0.6  #: seconds: many polls of a worker
NO_SWEEP = {"SWEEP_SECONDS": "60"}  #: what saves the payment must be something else
SELDOM = {"RECONCILER_SCHEDULE": "0.2,60"}  #: asked about once, it is asked again when woken


#: A worker of arq that is cut off in the middle leaves its pipeline to the garbage collector.
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """What arq and redis-py leave open when they are cut off is not told in a later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# arq as it comes


class Stock:
    """arq with its defaults; only polls are quicker."""

    def __init__(self, url: str, prefix: str, **options: Any) -> None:
        self.queue = f"{prefix}:stock"
        self.job_id = f"{prefix}:stock-job"
        self.redis = ArqRedis(
            ConnectionPool.from_url(url, **options), default_queue_name=self.queue
        )

    async def enqueue(self, name: str = "job", **how: Any) -> Job | None:
        return await self.redis.enqueue_job(name, **{"_job_id": self.job_id} | how)

    @asynccontextmanager
    async def running(self, job: Any, **settings: Any) -> AsyncIterator["asyncio.Task[None]"]:
        stock = Worker(
            [func(job, name="job")],
            redis_pool=self.redis,
            handle_signals=False,
            poll_delay=0.02,
            **{"queue_name": self.queue} | settings,
        )
        task = asyncio.create_task(stock.async_run())
        try:
            yield task
        finally:
            with suppress(RedisError, OSError, asyncio.CancelledError):
                await stock.close()
            await asyncio.wait({task})

    async def close(self) -> None:
        await self.redis.aclose(close_connection_pool=True)

    async def is_lost(self) -> bool:
        """Neither queued, nor about to be, nor running."""
        kinds = ("job", "in-progress", "retry")
        left = await self.redis.exists(*(f"arq:{kind}:{self.job_id}" for kind in kinds))
        return not left and await self.redis.zscore(self.queue, self.job_id) is None


@pytest.fixture
async def stock(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Stock]:
    stock = Stock(redis_url, prefix)
    yield stock
    await stock.close()


class Counted:
    """A job that counts its runs and, once, waits until it is let go."""

    def __init__(self, *, waits: bool = False, raises: Exception | None = None) -> None:
        self.runs = 0
        self.started, self.go_on = asyncio.Event(), asyncio.Event()
        self._raises = raises
        if not waits:
            self.go_on.set()

    async def run(self, _: dict[str, Any]) -> None:
        self.runs += 1
        self.started.set()
        await self.go_on.wait()
        if self._raises:
            raise self._raises


# Our worker


class Shop:
    """A merchant with one payment, the gateway that it is paid at, and the worker between them."""

    def __init__(self, url: str, prefix: str, gateway: ScriptedGateway) -> None:
        self.url, self.keys, self.gateway = url, Keys(prefix), gateway
        self.redis = connect.client(url, tries=5)
        self.job_id = self.keys.job(KEY)
        gateway.answer = says("PROCESSING")

    @asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator["asyncio.Task[None]"]:
        """Our worker as the command line runs it."""
        stopping = asyncio.Event()
        given = load(environ(self.url, self.keys.prefix, self.gateway.url, **settings))
        task = asyncio.create_task(run_worker(given, stopping))
        try:
            yield task
        finally:
            stopping.set()
            await asyncio.wait({task})
        task.result()

    async def track(self) -> None:
        await client.track(
            self.redis, "order-1", "USD", 599, expires_in=3600, prefix=self.keys.prefix
        )

    async def is_asked(self, times: int = 1) -> None:
        """Wait until the gateway has been asked, and what it said is written down."""

        async def asked() -> bool:
            attempts = await self.redis.hget(self.keys.payment(KEY), "attempts")  # type: ignore[misc]
            return int(attempts or 0) >= times

        await until(asked)

    async def rests(self) -> None:
        """Wait until it has been asked about once and its next wake-up is queued."""
        await self.is_asked()

        async def idle() -> bool:
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hget(self.keys.payment(KEY), "nextInquiryAt")
                pipe.zscore(self.keys.queue, self.job_id)
                planned, at = await pipe.execute()
            return bool(at == float(planned or 0))

        await until(idle)

    async def is_in_progress(self) -> None:
        async def begun() -> bool:
            at = await self.redis.zscore(self.keys.queue, self.job_id) or 0
            return bool(self.gateway.asked) and at > now_ms()

        await until(begun)

    @property
    def payload(self) -> str:
        return f"arq:job:{self.job_id}"

    async def make_due(self) -> None:
        at = now_ms() - 1000
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(self.keys.payment(KEY), "nextInquiryAt", str(at))
            pipe.zadd(self.keys.open, {KEY: at})
            pipe.zadd(self.keys.queue, {self.job_id: at}, xx=True)
            await pipe.execute()

    async def is_notified(self) -> None:
        """The gateway says that it is paid, and is acknowledged."""
        async with receiving(Store(self.redis, self.keys)) as port:
            reply = await send(port, notification(paid("order-1")).wire())
            assert reply and reply.status == 200

    async def ends(self, seconds: float = 8) -> None:
        """Wait until the merchant is told that the payment succeeded, and nothing else."""

        async def told() -> list[str]:
            entries = await self.redis.xrange(self.keys.outcomes)
            return [fields[b"id"].decode() for _, fields in entries]

        assert await until(told, seconds) == [f"{KEY}:succeeded"]


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@pytest.fixture
async def shop(
    redis: Redis, redis_url: str, prefix: str, gateway: ScriptedGateway
) -> AsyncIterator[Shop]:
    shop = Shop(redis_url, prefix, gateway)
    yield shop
    await shop.redis.aclose()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    with own_server() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases, timeouts and restarts within a second."""
    monkeypatch.setattr(worker.store, "LEASE", 600)
    monkeypatch.setattr(worker.queue, "LEASE", 600)
    monkeypatch.setattr(worker.main, "JOB_TIMEOUT", 400)
    monkeypatch.setattr(worker.main, "RESTART_SECONDS", 0.05)


async def never(_: Asked) -> Any:
    await asyncio.Event().wait()


class Held:
    """An answer that is held back until it is let go."""

    def __init__(self, payment_status: str) -> None:
        self.go_on = asyncio.Event()
        self._says = says(payment_status)

    async def __call__(self, asked: Asked) -> Any:
        await self.go_on.wait()
        return await self._says(asked)


class Cutter:
    """A line to Redis that is cut when a client sends `word`, for the next `times` times."""

    def __init__(self, word: bytes) -> None:
        self.word, self.times = word, 0
        self.url = ""

    async def join(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while chunk := await near.read(65_536):
            if self.times > 0 and self.word in chunk:
                self.times -= 1
                return
            back.write(chunk)


@asynccontextmanager
async def cut_at(word: bytes, url: str) -> AsyncIterator[Cutter]:
    cutter = Cutter(word)
    where = ConnectionPool.from_url(url).connection_kwargs
    writers: list[asyncio.StreamWriter] = []

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "path" in where:
            return await asyncio.open_unix_connection(where["path"])
        return await asyncio.open_connection(where["host"], where["port"])

    async def back_to(far: asyncio.StreamReader, client_: asyncio.StreamWriter) -> None:
        while chunk := await far.read(65_536):
            client_.write(chunk)

    async def connected(near: asyncio.StreamReader, client_: asyncio.StreamWriter) -> None:
        far, back = await dial()
        writers.extend((client_, back))
        answers = asyncio.create_task(back_to(far, client_))
        with suppress(OSError):
            await cutter.join(near, back)
        answers.cancel()
        client_.close()
        back.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    cutter.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        for writer in writers:
            writer.close()
        listening.close()
        await asyncio.sleep(0.05)  # the tasks of what was cut end


def named(lines: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == event]


async def logged(lines: list[EventDict], event: str, count: int = 1) -> None:
    async def found() -> bool:
        return len(named(lines, event)) >= count

    await until(found)


# The sixteen


async def test_01_a_wake_up_whose_connection_is_cut_is_repeated_or_refused_but_never_taken_for_a_duplicate(  # noqa: E501
    shop: Shop, prefix: str, log_lines: list[EventDict]
) -> None:
    async with cut_at(b"EXEC", shop.url) as line:
        stock = Stock(line.url, prefix)
        line.times = 1
        assert await stock.enqueue() is None, "as if it were there already"
        assert await stock.is_lost()
        await stock.close()

    async with shop.worker(**SELDOM):
        await shop.track()
        await shop.rests()
    post = notification(paid("order-1")).wire()
    async with cut_at(b"EVALSHA", shop.url) as line:
        redis = connect.client(line.url, tries=1)
        async with receiving(Store(redis, shop.keys)) as port:
            line.times = 10
            refused = await send(port, post)
            assert refused and refused.status == 503, "so that the gateway sends it again"
            assert await shop.redis.llen(shop.keys.inbox(KEY)) == 0  # type: ignore[misc]
            line.times = 1
            taken = await send(port, post)
            assert taken and taken.status == 200
        await redis.aclose()
    assert await shop.redis.exists(shop.payload)
    assert (await shop.redis.zscore(shop.keys.queue, shop.job_id) or 0) <= now_ms()
    async with shop.worker(**SELDOM, **NO_SWEEP):
        await shop.ends()


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), None], ids=["exception", "job_timeout"])
async def test_02_a_job_that_fails_or_takes_too_long_is_run_again(
    stock: Stock, shop: Shop, quick: None, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    job = Counted(waits=fault is None, raises=fault)
    await stock.enqueue()
    async with stock.running(job.run, job_timeout=0.1):
        await until(stock.is_lost)
        assert job.runs == 1

    if fault:
        faults = [fault, fault]

        async def failing(*args: Any) -> None:
            if faults:
                raise faults.pop()
            await follow(*args)

        monkeypatch.setattr(worker.arq_jobs, "follow", failing)
        shop.gateway.answer = says("SUCCESS")
    else:
        shop.gateway.answer = never
    async with shop.worker(**NO_SWEEP, GATEWAY_TIMEOUT_SECONDS="12"):
        await shop.track()
        if not fault:
            await until_asked(shop, 2)
            shop.gateway.answer = says("SUCCESS")
        await shop.ends()


async def until_asked(shop: Shop, times: int) -> None:
    async def asked() -> bool:
        return len(shop.gateway.asked) >= times

    await until(asked)


async def test_03_crashes_and_deploys_are_not_counted_against_a_payment(
    stock: Stock, shop: Shop, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Counted(waits=True)
    await stock.enqueue()
    for _ in range(5):
        async with stock.running(job.run):
            await asyncio.wait_for(job.started.wait(), 5)
        job.started.clear()
    assert not await stock.is_lost()
    async with stock.running(job.run):
        await until(stock.is_lost)
    assert job.runs == 5, "the sixth time it is deleted unseen"

    monkeypatch.setattr(worker.main, "DRAIN_SECONDS", 0)
    monkeypatch.setattr(worker.main, "JOB_TIMEOUT", 20_000)
    shop.gateway.answer = never
    await shop.track()
    for times in range(1, 7):
        async with shop.worker(**NO_SWEEP, GATEWAY_TIMEOUT_SECONDS="12"):
            await until_asked(shop, times)
    await shop.redis.set(f"arq:retry:{shop.job_id}", 1000, ex=60)
    shop.gateway.answer = says("SUCCESS")
    async with shop.worker(**NO_SWEEP):
        await shop.ends()


async def test_04_a_redis_that_keeps_nothing_is_refused_and_one_that_keeps_all_loses_nothing(
    server: EmbeddedServer, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    stock = Stock(server.url, "p")
    await stock.redis.config_set("appendonly", "no")
    await stock.enqueue(_defer_by=60)
    assert not await stock.is_lost()
    server.kill()
    server.start()
    await stock.redis.connection_pool.disconnect()
    assert await stock.is_lost()

    shop = Shop(server.url, "p", gateway)
    await shop.redis.config_set("appendonly", "no")
    with pytest.raises(Unsafe, match="appendonly yes"):
        async with shop.worker() as refused:
            await asyncio.wait({refused}, timeout=10)
    await shop.redis.config_set("appendonly", "yes")
    async with shop.worker():
        await shop.track()
        await shop.is_asked()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        gateway.answer = says("SUCCESS")
        await shop.ends()
    await shop.redis.aclose()
    await stock.close()


async def test_05_however_long_a_payment_is_followed_its_job_does_not_expire(
    stock: Stock, shop: Shop
) -> None:
    runs = []

    async def job(_: dict[str, Any]) -> None:
        runs.append(await stock.redis.pttl(f"arq:job:{stock.job_id}"))
        raise Retry(defer=0.1)

    await stock.enqueue()
    async with stock.running(job, max_tries=100):
        await until_run(runs, 3)
        assert DAY > runs[0] > runs[1] > runs[2], "never renewed"
        await stock.redis.pexpire(f"arq:job:{stock.job_id}", 1)  # a day has gone by
        await until(stock.is_lost)

    async with shop.worker():
        await shop.track()
        for times in (1, 2, 3):
            await shop.is_asked(times)
            await shop.redis.pexpire(shop.payload, 3 * DAY, lt=True)  # time goes by
        await shop.is_asked(5)

        async def renewed() -> bool:
            return int(await shop.redis.pttl(shop.payload)) > 29 * DAY

        await until(renewed)
        await shop.redis.delete(shop.payload)
        shop.gateway.answer = says("SUCCESS")
        await shop.ends()


async def until_run(runs: list[Any], times: int) -> None:
    async def run() -> bool:
        return len(runs) >= times

    await until(run)


UNREADABLE = {
    "of a newer version": b'{"v":2,"f":"follow_payment","a":["a:b"],"k":{},"t":null,"et":1}',
    "of a function that was renamed": b'{"v":1,"f":"follow","a":["a:b"],"k":{},"t":null,"et":1}',
    "of another serializer": pickle.dumps({"f": "follow_payment"}),
    "without what arq needs": b'{"v":1}',
    "cut off": b'{"v":1,"f":"follow_pay',
    "empty": b"",
}


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
async def test_06_a_job_that_arq_cannot_read_and_deletes_is_queued_again(
    stock: Stock, shop: Shop, payload: bytes
) -> None:
    await stock.enqueue("renamed")
    async with stock.running(Counted().run):
        await until(stock.is_lost)

    async with shop.worker(**SELDOM):
        await shop.track()
        await shop.rests()
        shop.gateway.answer = says("SUCCESS")
        await shop.redis.set(shop.payload, payload)
        await shop.make_due()
        await shop.ends()


async def test_07_the_late_end_of_a_run_costs_no_newer_wake_up(stock: Stock, shop: Shop) -> None:
    job = Counted(waits=True)
    await stock.enqueue()
    async with stock.running(job.run):
        await job.started.wait()
        await stock.redis.delete(f"arq:job:{stock.job_id}")  # as a worker that took over
        await stock.redis.zrem(stock.queue, stock.job_id)
        assert await stock.enqueue(_defer_by=60), "a newer job"
        job.go_on.set()
        await until(stock.is_lost)

    held = shop.gateway.answer = Held("PROCESSING")
    async with shop.worker(**SELDOM, **NO_SWEEP):
        await shop.track()
        await shop.is_in_progress()
        await shop.is_notified()  # which queues it anew
        held.go_on.set()
        await shop.ends()
    assert len(shop.gateway.asked) == 1


async def test_08_a_payment_is_woken_whenever_there_is_news(stock: Stock, shop: Shop) -> None:
    job = Counted(waits=True)
    await stock.enqueue()
    async with stock.running(job.run):
        await job.started.wait()
        assert await stock.enqueue() is None, "a wake-up while it runs is lost"
        job.go_on.set()
        await until(lambda: stock.redis.exists(f"arq:result:{stock.job_id}"))
        assert await stock.enqueue() is None, "and so is one after"
        assert await stock.redis.ttl(f"arq:result:{stock.job_id}") > 3500

    async with shop.worker(**SELDOM, **NO_SWEEP):
        await shop.track()
        await shop.rests()
        results = await shop.redis.keys(f"arq:result:{shop.keys.prefix}*")
        assert [name for name in results if b"stock" not in name] == []
        await shop.is_notified()
        await shop.ends()


async def until_gone(shop: Shop, name: str) -> None:
    async def gone() -> bool:
        return not await shop.redis.exists(name)

    await until(gone)


async def test_09_of_what_an_eviction_takes_nothing_is_a_payment(
    server: EmbeddedServer, gateway: ScriptedGateway
) -> None:
    """The policy must be noeviction; but what if an operator changes it?"""
    stock, shop = Stock(server.url, "p"), Shop(server.url, "p", gateway)
    async with shop.worker(**SELDOM):
        await shop.track()
        await shop.rests()
    await stock.enqueue(_defer_by=60)
    await shop.redis.config_set("maxmemory-policy", "volatile-ttl")
    used = (await shop.redis.info("memory"))["used_memory"]
    await shop.redis.config_set("maxmemory", used + 200_000)
    with pytest.raises(ResponseError, match="maxmemory"):
        for n in range(1000):
            await shop.redis.set(f"junk-{n}", b"x" * 10_000)
    assert not await stock.redis.exists(f"arq:job:{stock.job_id}")
    assert not await shop.redis.exists(shop.payload)
    await shop.redis.config_set("maxmemory", 0)
    await shop.redis.config_set("maxmemory-policy", "noeviction")
    async with stock.running(Counted().run):
        await stock.redis.zadd(stock.queue, {stock.job_id: 1})
        await until(stock.is_lost)

    assert await shop.redis.pttl(shop.keys.payment(KEY)) == -1
    await shop.make_due()
    gateway.answer = says("SUCCESS")
    async with shop.worker():
        await shop.ends()
    await shop.redis.aclose()
    await stock.close()


# Trap 10: what ends arq's worker ends a round of ours, and the next one begins.


Noticed = Callable[[], Awaitable[bool]]
Trouble = Callable[[EmbeddedServer, Redis, Noticed], Awaitable[None]]


async def restarts(server: EmbeddedServer, _: Redis, noticed: Noticed) -> None:
    await asyncio.to_thread(server.stop)
    await until(noticed)
    await asyncio.to_thread(server.start)


async def is_full(_: EmbeddedServer, redis: Redis, noticed: Noticed) -> None:
    await redis.config_set("maxmemory", 1)
    await until(noticed)
    await redis.config_set("maxmemory", 0)


async def drops_connections(_: EmbeddedServer, redis: Redis, noticed: Noticed) -> None:
    async def dropped() -> bool:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal")  # type: ignore[no-untyped-call]
        return await noticed()

    await until(dropped)


@pytest.mark.parametrize("trouble", [restarts, is_full, drops_connections])
async def test_10a_whatever_redis_does_our_process_goes_on(
    server: EmbeddedServer,
    gateway: ScriptedGateway,
    trouble: Trouble,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[EventDict],
) -> None:
    stock, shop = Stock(server.url, "p"), Shop(server.url, "p", gateway)
    job = Counted(waits=True)
    await stock.enqueue()
    async with stock.running(job.run) as stock_worker:

        async def died() -> bool:
            job.go_on.set()
            return stock_worker.done()

        await job.started.wait()
        await trouble(server, shop.redis, died)
        assert isinstance(stock_worker.exception(), RedisError)

    monkeypatch.setattr(worker.main, "REDIS_TRIES", 0)  # no patience: each fault ends a round
    monkeypatch.setattr(worker.main, "JOB_TIMEOUT", 20_000)
    held = gateway.answer = Held("PROCESSING")
    async with shop.worker() as ours:

        async def waits() -> bool:
            held.go_on.set()
            return bool(named(log_lines, "worker.redis_waiting"))

        await shop.track()
        await shop.is_in_progress()
        await trouble(server, shop.redis, waits)
        gateway.answer = says("SUCCESS")
        await shop.ends()
        assert not ours.done()
    await shop.redis.aclose()
    await stock.close()


async def test_10b_a_connection_lost_in_the_middle_ends_no_worker_of_ours(
    shop: Shop, prefix: str, quick: None, log_lines: list[EventDict]
) -> None:
    """With all the patience in the world: redis-py does not repeat what follows a WATCH."""
    command = b"$6\r\nZSCORE\r\n"  # not the word, which is in our scripts, too
    async with cut_at(command, shop.url) as line:
        patient = connect.pool(line.url, worker.main.REDIS_TRIES).connection_kwargs
        stock = Stock(line.url, prefix, retry=patient["retry"], retry_on_error=[OSError])
        await stock.enqueue()
        line.times = 1
        async with stock.running(Counted().run) as stock_worker:
            await asyncio.wait({stock_worker}, timeout=10)
            assert isinstance(stock_worker.exception(), WatchError)
        await stock.close()

    async with cut_at(b"EVALSHA", shop.url) as line:
        ours = Shop(line.url, prefix, shop.gateway)
        shop.gateway.answer = says("SUCCESS")

        async def started() -> bool:
            return bool(named(log_lines, "worker.started"))

        async with ours.worker() as task:
            await until(started)
            line.times = 10
            await shop.track()
            await shop.ends()
            assert not task.done()
        assert line.times == 0
        assert len(named(log_lines, "worker.started")) == 1
        await ours.redis.aclose()


async def test_10c_a_bug_around_a_job_costs_no_process_and_no_payment(
    stock: Stock, shop: Shop, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    await stock.enqueue()
    async with stock.running(Counted().run, on_job_start=broken) as stock_worker:
        await asyncio.wait({stock_worker}, timeout=10)
        assert isinstance(stock_worker.exception(), RuntimeError)

    take, faults = Jobs.take, [RuntimeError("a bug")]

    async def taken(*args: Any) -> Batch:
        if faults:
            raise faults.pop()
        return await take(*args)

    monkeypatch.setattr(Jobs, "take", taken)
    async with shop.worker() as ours:
        await shop.track()
        await shop.is_asked(2)
        shop.gateway.answer = says("SUCCESS")
        await shop.ends()
        assert not ours.done()
    assert named(log_lines, "job.failed")
    assert len(named(log_lines, "worker.started")) == 1


async def test_11_what_dead_workers_had_in_hand_hides_nobody_behind_it(
    stock: Stock, shop: Shop, prefix: str
) -> None:
    @asynccontextmanager
    async def dead(name: str, count: int) -> AsyncIterator[None]:
        ids = [f"{prefix}:dead-{n}" for n in range(count)]
        held = [f"arq:in-progress:{id_}" for id_ in ids]
        await shop.redis.zadd(name, dict.fromkeys(ids, 1))
        await shop.redis.mset(dict.fromkeys(held, b"1"))
        yield
        await shop.redis.delete(*held)
        await shop.redis.zrem(name, *ids)

    job = Counted()
    async with stock.running(job.run):
        async with dead(stock.queue, 120):
            await stock.enqueue()
            await asyncio.sleep(A_WHILE)
            assert job.runs == 0
        await until_run_of(job)

    shop.gateway.answer = says("SUCCESS")
    async with dead(shop.keys.queue, 1000), shop.worker(**NO_SWEEP):
        await shop.track()
        await shop.ends()


async def until_run_of(job: Counted) -> None:
    await asyncio.wait_for(job.started.wait(), 10)


async def test_12_a_payment_in_a_killed_workers_hands_is_taken_up_when_its_lease_is_over(
    stock: Stock, shop: Shop, tmp_path: Path
) -> None:
    job, other = Counted(waits=True), Counted()
    await stock.enqueue()
    async with stock.running(job.run):
        await job.started.wait()
        assert await stock.redis.pttl(f"arq:in-progress:{stock.job_id}") > 300_000
        async with stock.running(other.run):
            await asyncio.sleep(A_WHILE)
            assert other.runs == 0, "had the first one died, for five minutes nobody would know"

    shop.gateway.answer = never
    given = environ(shop.url, shop.keys.prefix, shop.gateway.url, GATEWAY_TIMEOUT_SECONDS="12")
    with process(tmp_path, given, *reconciler("worker")) as killed:
        await shop.track()
        await shop.is_in_progress()
        killed.signal(signal.SIGKILL)
        assert await asyncio.to_thread(killed.ended) == -signal.SIGKILL
    lease = await shop.redis.zscore(shop.keys.open, KEY) or 0
    assert 0 < lease - now_ms() <= LEASE
    assert await shop.redis.zscore(shop.keys.queue, shop.job_id) == lease
    await shop.make_due()  # it is over
    shop.gateway.answer = says("SUCCESS")
    async with shop.worker(**NO_SWEEP):
        await shop.ends(10)


async def test_13_a_redis_that_hangs_is_noticed_and_waited_for(
    server: EmbeddedServer,
    gateway: ScriptedGateway,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    log_lines: list[EventDict],
) -> None:
    @contextlib.contextmanager
    def hanging() -> Any:
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(server.pid, signal.SIGCONT)

    stock = Stock(server.url, "p")
    job = Counted()
    async with stock.running(job.run) as stock_worker:
        await asyncio.sleep(0.1)
        with hanging():
            caplog.clear()
            await asyncio.sleep(2)
            assert not stock_worker.done()
            said = [r for r in caplog.records if r.name.startswith("arq")]
            assert said == [], "it hangs, too, and says nothing"
        await stock.enqueue()
        await until_run_of(job)

    monkeypatch.setattr(connect, "SOCKET_SECONDS", 0.3)
    shop = Shop(server.url, "p", gateway)
    async with shop.worker():
        await shop.track()
        await shop.is_asked()
        with hanging():
            await logged(log_lines, "worker.redis_waiting")
        gateway.answer = says("SUCCESS")
        await shop.ends()
    await shop.redis.aclose()
    await stock.close()


@pytest.mark.parametrize("ahead", [MINUTE, -MINUTE], ids=["ahead", "behind"])
async def test_14_a_worker_whose_clock_is_a_minute_off_asks_when_redis_says_that_it_is_time(
    stock: Stock, shop: Shop, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    await stock.enqueue(_defer_by=30 if ahead > 0 else 0)
    monkeypatch.setattr(arq.worker, "timestamp_ms", lambda: now_ms() + ahead)
    job = Counted()
    async with stock.running(job.run):
        await asyncio.sleep(A_WHILE)
        assert job.runs == (ahead > 0), "thirty seconds early, or a minute late"

    wake_ups: list[int] = []

    async def counted(*args: Any) -> None:
        wake_ups.append(now_ms())
        await follow(*args)

    monkeypatch.setattr(worker.arq_jobs, "follow", counted)
    async with shop.worker(**NO_SWEEP, RECONCILER_SCHEDULE="2"):
        await shop.track()
        await shop.is_asked()
        shop.gateway.answer = says("SUCCESS")
        await shop.ends(10)
    assert len(shop.gateway.asked) == 2
    assert len(wake_ups) <= 4, "not woken again and again until it is time"


LIBFAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.mark.skipif(LIBFAKETIME is None, reason="needs libfaketime: apt-get install faketime")
@pytest.mark.parametrize(
    ("words", "ahead"),
    [(reconciler("worker"), "+55s"), (ARQ_WORKER, "-55s")],
    ids=["reconciler, ahead", "arq, behind"],
)
async def test_14_in_a_process_too(
    shop: Shop, tmp_path: Path, words: tuple[str, ...], ahead: str
) -> None:
    clock = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": ahead, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    patience = {"RECONCILER_SCHEDULE": "1"} | NO_SWEEP
    given = environ(shop.url, shop.keys.prefix, shop.gateway.url, **patience)
    with process(tmp_path, given | clock, *words) as running:
        started = await asyncio.to_thread(running.wait_for, "worker.started")
        at = datetime.fromisoformat(started["timestamp"])
        assert abs(at - datetime.now(UTC)) > timedelta(seconds=50)
        await shop.track()
        await shop.is_asked(2)
        shop.gateway.answer = says("SUCCESS")
        await shop.ends(10)
        running.signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.ended) == 0


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


async def test_15_what_is_planted_in_the_queue_is_not_run(
    stock: Stock, shop: Shop, tmp_path: Path
) -> None:
    async def plant(redis: Redis, job_id: str, name: str, bomb: Path) -> None:
        await redis.set(f"arq:job:{job_id}", pickle.dumps(Bomb(bomb)), ex=60)
        await redis.zadd(name, {job_id: now_ms() - 1})

    bomb = tmp_path / "stock"
    await plant(stock.redis, stock.job_id, stock.queue, bomb)
    async with stock.running(Counted().run):
        await until(stock.is_lost)
    assert bomb.exists()

    bomb = tmp_path / "ours"
    async with shop.worker(**SELDOM):
        await shop.track()
        await shop.rests()
        await plant(shop.redis, f"{shop.keys.prefix}:stranger", shop.keys.queue, bomb)
        await plant(shop.redis, shop.job_id, shop.keys.queue, bomb)
        await until_gone(shop, f"arq:job:{shop.keys.prefix}:stranger")
        assert await shop.redis.xlen(shop.keys.dead) == 1
        await shop.redis.delete(shop.keys.outcomes)  # which answer what cannot be read
        shop.gateway.answer = says("SUCCESS")
        await shop.make_due()
        await shop.ends()
    assert not bomb.exists()


async def test_16_an_abort_neither_ends_a_payment_nor_lies_in_wait_for_it(
    stock: Stock, shop: Shop
) -> None:
    async def abort(redis: ArqRedis, job_id: str, name: str) -> None:
        job = Job(job_id, redis, name, _deserializer=queue.deserialize)
        with suppress(TimeoutError):
            await job.abort(timeout=0.01)

    job = Counted()
    await abort(stock.redis, stock.job_id, stock.queue)
    assert await stock.redis.ttl("arq:abort") == -1, "it never expires"
    await stock.enqueue()
    async with stock.running(job.run, allow_abort_jobs=True):
        await until(stock.is_lost)
    assert job.runs == 0

    ours = queue.Queue(connect.pool(shop.url, 1), shop.keys.queue)
    try:
        await abort(ours, shop.job_id, shop.keys.queue)
        async with shop.worker(**SELDOM, **NO_SWEEP):
            await shop.track()
            await shop.rests()
            await abort(ours, shop.job_id, shop.keys.queue)  # which queues it for now
            await asyncio.sleep(A_WHILE)
            assert len(shop.gateway.asked) == 1, "it was not time"
            await shop.is_notified()
            await shop.ends()
    finally:
        await ours.zrem("arq:abort", shop.job_id)
        await ours.aclose(close_connection_pool=True)


# And whatever else


async def flushed(shop: Shop) -> None:
    names = await shop.redis.keys(f"arq:*{shop.keys.prefix}*")
    await shop.redis.delete(shop.keys.queue, *names)


async def moved_away(shop: Shop) -> None:
    await shop.redis.rename(shop.keys.queue, f"{shop.keys.queue}:old")


async def no_payload(shop: Shop) -> None:
    await shop.redis.delete(shop.payload)
    await shop.redis.rpush(shop.payload, "a list")  # type: ignore[misc]


async def no_number(shop: Shop) -> None:
    await shop.redis.set(f"arq:retry:{shop.job_id}", "five")


async def too_many_tries(shop: Shop) -> None:
    await shop.redis.set(f"arq:retry:{shop.job_id}", 2**62)


async def held_by_nobody(shop: Shop) -> None:
    await shop.redis.set(f"arq:in-progress:{shop.job_id}", "1")


async def put_off(shop: Shop) -> None:
    await shop.redis.zadd(shop.keys.queue, {shop.job_id: now_ms() + MINUTE})


async def no_text(shop: Shop) -> None:
    await shop.redis.zadd(shop.keys.queue, {b"\xff\xfe": 1})


@pytest.mark.parametrize(
    "vandal",
    [
        flushed,
        moved_away,
        no_payload,
        no_number,
        too_many_tries,
        held_by_nobody,
        put_off,
        no_text,
    ],
)
async def test_whatever_becomes_of_arqs_keys_a_payment_that_is_due_is_asked_about(
    shop: Shop, quick: None, vandal: Callable[[Shop], Awaitable[None]]
) -> None:
    async with shop.worker(**SELDOM) as ours:
        await shop.track()
        await shop.rests()
        shop.gateway.answer = says("SUCCESS")
        await shop.make_due()
        await vandal(shop)
        await shop.ends()
        assert not ours.done()
