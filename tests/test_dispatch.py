"""Jobs are run as arq would run them, many at once; none is lost, whatever becomes of it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.worker import Retry
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from jobs.tools import LEASE
from tests.servers import now_ms, until
from worker import connect, dispatch
from worker.commands import MAX_DELIVERIES
from worker.dispatch import Dispatcher, Run
from worker.keys import Keys
from worker.outage import Outage
from worker.queue import deserialize, serialize
from worker.store import Store


class Bench:
    """A queue, arq's own client to fill it, and a dispatcher whose jobs are counted."""

    def __init__(self, redis: Redis, url: str, prefix: str) -> None:
        self.redis, self.keys = redis, Keys(prefix)
        self.store = Store(redis, self.keys)
        self.arq = ArqRedis(
            connect.pool(url, tries=1),
            job_serializer=serialize,
            job_deserializer=deserialize,
            default_queue_name=self.keys.queue,
        )
        self.ran: list[tuple[Any, ...]] = []
        self.contexts: list[dict[str, Any]] = []
        self.raises: list[BaseException] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.most, self.timeout = 100, 20_000

    async def job(self, ctx: dict[str, Any], *args: Any, word: str = "") -> None:
        self.ran.append((*args, word) if word else args)
        self.contexts.append(ctx)
        if self.raises:
            raise self.raises.pop(0)
        await self.go_on.wait()

    async def one(self, ctx: dict[str, Any], data: str) -> None:
        await self.job(ctx, data)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Dispatcher]:
        functions: dict[str, Run] = {"follow_payment": self.job, "job": self.job, "one": self.one}
        dispatcher = Dispatcher(
            self.store,
            functions,
            {"shared": True},
            Outage("jobs"),
            most=self.most,
            timeout=self.timeout,
        )
        task = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            self.go_on.set()
            await dispatcher.drain(1)
            await task

    async def has_run(self, times: int) -> None:
        async def run() -> bool:
            return len(self.ran) >= times

        await until(run)

    async def is_empty(self) -> None:
        async def empty() -> bool:
            return not await self.redis.zcard(self.keys.queue)

        await until(empty)

    async def due(self, job_id: str) -> float:
        """The job's place in the queue; 0 where it has none."""
        return float(await self.redis.zscore(self.keys.queue, job_id) or 0)

    async def make_due(self, job_id: str) -> None:
        await self.redis.zadd(self.keys.queue, {job_id: 1})

    async def dead(self) -> list[dict[str, str]]:
        found = await self.redis.xrange(self.keys.dead)
        return [{k.decode(): v.decode("latin1") for k, v in entry.items()} for _, entry in found]


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with connect.client(redis_url) as client:
        bench = Bench(client, redis_url, prefix)
        yield bench
        await bench.store.end()
        await bench.arq.aclose(close_connection_pool=True)


# Jobs as arq enqueues them


async def test_a_job_of_arqs_own_client_is_run_once_with_what_arq_would_give_it(
    bench: Bench,
) -> None:
    before = datetime.now(UTC)
    job = await bench.arq.enqueue_job("job", 1, "two", word="three")
    assert job
    async with bench.running():
        await bench.is_empty()
    assert bench.ran == [(1, "two", "three")]
    [ctx] = bench.contexts
    assert (ctx["job_id"], ctx["job_try"], ctx["shared"]) == (job.job_id, 1, True)
    assert abs((ctx["enqueue_time"] - before).total_seconds()) < 5
    assert not await bench.redis.exists(f"arq:job:{job.job_id}", f"arq:retry:{job.job_id}")
    assert await bench.arq.enqueue_job("job", _job_id=job.job_id), "the id is free again"


async def test_a_deferred_job_waits_for_its_time(bench: Bench) -> None:
    await bench.arq.enqueue_job("job", "later", _defer_by=60)
    await bench.arq.enqueue_job("job", "now")
    async with bench.running():
        await bench.has_run(1)
        await asyncio.sleep(3 * dispatch.POLL_SECONDS)
    assert bench.ran == [("now",)]


async def test_an_open_payment_is_followed_by_its_key(bench: Bench) -> None:
    await bench.redis.zadd(bench.keys.open, {"c:1": 1})
    await bench.make_due(bench.keys.job("c:1"))
    async with bench.running():
        await bench.has_run(1)
    assert bench.ran == [("c:1",)]
    held = await bench.redis.zscore(bench.keys.queue, bench.keys.job("c:1"))
    assert held == pytest.approx(now_ms() + LEASE, abs=5000), "the claim decides, not the job"


async def test_the_job_of_a_payment_that_is_open_no_more_is_forgotten(bench: Bench) -> None:
    await bench.arq.enqueue_job("follow_payment", "c:1", _job_id=bench.keys.job("c:1"))
    async with bench.running():
        await bench.is_empty()
    assert bench.ran == []
    assert await bench.dead() == []


async def test_a_full_worker_takes_no_more_until_one_has_ended(bench: Bench) -> None:
    bench.most = 2
    bench.go_on.clear()
    for n in range(5):
        await bench.arq.enqueue_job("job", n)
    async with bench.running():
        await bench.has_run(2)
        await asyncio.sleep(3 * dispatch.POLL_SECONDS)
        assert len(bench.ran) == 2
        bench.go_on.set()
        await bench.is_empty()
    assert sorted(bench.ran) == [(n,) for n in range(5)]


async def test_what_hangs_is_given_up_and_comes_back_with_its_lease(bench: Bench) -> None:
    bench.go_on.clear()
    bench.timeout = 50
    job = await bench.arq.enqueue_job("job")
    assert job
    async with bench.running() as dispatcher:
        await bench.has_run(1)

        async def given_up() -> bool:
            return not dispatcher._in_hand

        await until(given_up)
        assert await bench.redis.exists(f"arq:job:{job.job_id}")
        await bench.make_due(job.job_id)
        bench.go_on.set()
        await bench.is_empty()
    assert [ctx["job_try"] for ctx in bench.contexts] == [1, 2]


# Jobs that fail


async def test_a_job_that_asks_for_it_is_run_again_later(bench: Bench) -> None:
    bench.raises = [Retry(defer=60)]
    job = await bench.arq.enqueue_job("job")
    assert job
    async with bench.running():
        await bench.has_run(1)

        async def put_off() -> bool:
            return abs(await bench.due(job.job_id) - now_ms() - 60_000) < 5000

        await until(put_off)
    assert await bench.redis.exists(f"arq:job:{job.job_id}")


async def test_a_job_that_breaks_is_tried_again_and_buried_when_there_is_no_hope(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    bench.raises = [RuntimeError("a bug"), RuntimeError("a bug")]
    job = await bench.arq.enqueue_job("job")
    assert job
    async with bench.running():
        await bench.has_run(1)

        async def put_off() -> bool:
            return now_ms() < await bench.due(job.job_id) < now_ms() + dispatch.PUT_OFF + 1000

        await until(put_off)
        await bench.redis.set(f"arq:retry:{job.job_id}", MAX_DELIVERIES - 1)
        await bench.make_due(job.job_id)
        await bench.is_empty()
    [dead] = await bench.dead()
    assert (dead["type"], dead["deliveries"]) == ("job", str(MAX_DELIVERIES))
    assert [line["event"] for line in log_lines] == ["job.failed", "job.failed", "command.dead"]


async def test_a_job_that_redis_fails_is_left_to_its_lease(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    bench.raises = [RedisConnectionError("away")]
    job = await bench.arq.enqueue_job("job")
    assert job
    async with bench.running():
        await bench.has_run(1)
        await bench.make_due(job.job_id)
        await bench.is_empty()
    assert [line["event"] for line in log_lines] == ["worker.redis_waiting"]


UNFIT: dict[str, bytes] = {
    "an unknown function": serialize({"f": "renamed", "a": [], "k": {}, "t": None, "et": 1}),
    "arguments that do not fit": serialize({"f": "one", "a": [], "k": {}, "t": None, "et": 1}),
    "no function": serialize({"a": [], "k": {}, "t": None, "et": 1}),
    "another serializer": b"\x80\x04\x95pickled",
    "no payload": b"",
}


@pytest.mark.parametrize("payload", UNFIT.values(), ids=UNFIT)
async def test_a_job_that_cannot_be_run_is_kept_among_the_dead_and_answered(
    bench: Bench, log_lines: list[EventDict], payload: bytes
) -> None:
    await bench.redis.set("arq:job:odd", payload)
    await bench.make_due("odd")
    async with bench.running():
        await bench.is_empty()
    [dead] = await bench.dead()
    assert dead["data"].encode("latin1") == payload
    assert dead["origin_id"] == "odd"
    assert dead["error"].startswith("malformed: ")
    [[_, answer]] = await bench.redis.xrange(bench.keys.outcomes)
    said = json.loads(answer[b"data"])
    assert (said["type"], said["data"]["commandId"]) == ("command.rejected", "odd")
    assert [line["event"] for line in log_lines] == ["command.dead"]
    assert bench.ran == []
    await bench.redis.delete("arq:job:odd", "arq:retry:odd")


async def test_a_job_of_a_newer_version_is_left_to_a_newer_worker(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    await bench.redis.set("arq:job:new", b'{"v":2,"f":"job","a":[],"k":{},"t":null,"et":1}')
    await bench.make_due("new")
    async with bench.running():

        async def put_off() -> bool:
            return (await bench.redis.zscore(bench.keys.queue, "new") or 0) > now_ms()

        await until(put_off)
    assert await bench.redis.exists("arq:job:new")
    assert await bench.dead() == []
    assert [line["event"] for line in log_lines] == ["record.unreadable"]
    await bench.redis.delete("arq:job:new", "arq:retry:new")


# Redis, and the end


async def test_a_redis_that_refuses_is_waited_for(
    bench: Bench, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "AGAIN_SECONDS", 0.01)
    await bench.redis.set(bench.keys.queue, "no sorted set")
    async with bench.running():

        async def told() -> bool:
            return bool(log_lines)

        await until(told)
        await bench.redis.delete(bench.keys.queue)
        await bench.arq.enqueue_job("job")
        await bench.has_run(1)
    assert {line["event"] for line in log_lines} == {"worker.redis_waiting"}


async def test_asked_to_stop_it_takes_no_more_and_waits_for_what_it_has_in_hand(
    bench: Bench,
) -> None:
    bench.go_on.clear()
    await bench.arq.enqueue_job("job", "first")
    async with bench.running() as dispatcher:
        await bench.has_run(1)
        draining = asyncio.create_task(dispatcher.drain(10))
        await bench.arq.enqueue_job("job", "second")
        await asyncio.sleep(3 * dispatch.POLL_SECONDS)
        assert not draining.done()
        bench.go_on.set()
        await draining
    assert bench.ran == [("first",)]
    assert await bench.redis.zcard(bench.keys.queue) == 1


async def test_what_does_not_end_in_time_is_cancelled(bench: Bench) -> None:
    bench.go_on.clear()
    await bench.arq.enqueue_job("job")
    async with bench.running() as dispatcher:
        await bench.has_run(1)
        await dispatcher.drain(0.05)
        assert not dispatcher._in_hand
