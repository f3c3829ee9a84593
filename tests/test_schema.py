"""A record that another version wrote is left alone, loudly, and nothing is lost."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.worker import Retry
from redis.asyncio import Redis
from structlog.typing import EventDict

import worker.arq_jobs
from jobs.commands import carry_out
from jobs.model import SCHEMA
from jobs.sweep import sweep
from tests.fakes import CLIENT, KEY, REQUEST, Bench, open_bench, track
from worker.commands import GROUP, CommandStream
from worker.envelope import encode_data
from worker.groups import make_group
from worker.records import OtherVersions

CANCEL = {"paymentRequestId": REQUEST, "clientId": CLIENT}


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        assert await carry_out(track(await bench.now()), bench.worker.tools)
        await bench.redis.hset(bench.keys.payment(KEY), "schema", "99")  # type: ignore[misc]
        yield bench


def unreadable(lines: list[EventDict]) -> int:
    return [line["event"] for line in lines].count("record.unreadable")


async def test_its_job_leaves_it_as_it_is(bench: Bench, log_lines: list[EventDict]) -> None:
    """Not even a lease is taken: a worker that can read it would have to wait."""
    await bench.redis.zadd(bench.keys.open, {KEY: 1})
    before = await bench.redis.hgetall(bench.keys.payment(KEY))  # type: ignore[misc]
    ctx = {"tools": bench.worker.tools, "other_versions": OtherVersions()}
    await worker.arq_jobs.follow_payment(ctx, KEY)
    await worker.arq_jobs.follow_payment(ctx, KEY)
    assert unreadable(log_lines) == 1
    assert await bench.redis.hgetall(bench.keys.payment(KEY)) == before  # type: ignore[misc]
    assert await bench.redis.zscore(bench.keys.open, KEY) == 1


async def test_the_sweep_wakes_it_for_a_worker_that_can_read_it(bench: Bench) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: 1})
    await bench.redis.delete(bench.keys.queue)
    assert await sweep(bench.worker.tools) == 1
    await bench.redis.hset(bench.keys.payment(KEY), "schema", str(SCHEMA))  # type: ignore[misc]
    assert await bench.worker.store.claim(KEY)


async def test_a_command_about_it_waits_in_the_stream_for_the_other_version(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    keys, store = bench.keys, bench.worker.store
    stream = CommandStream(bench.redis, store, keys, bench.worker.tools, "us")
    await make_group(bench.redis, keys.commands, GROUP)
    fields: dict[Any, Any] = {"type": "payment.cancel", "data": encode_data(CANCEL)}
    await bench.redis.xadd(keys.commands, fields)
    assert await stream.read() == 1
    await stream._handle("0-1", fields)  # taken up again and again
    await stream._handle("0-1", fields)
    assert (await bench.redis.xpending(keys.commands, GROUP))["pending"] == 1
    assert unreadable(log_lines) == 2, "once for each command"


async def test_a_command_about_it_that_came_as_a_job_is_tried_again(
    bench: Bench, log_lines: list[EventDict]
) -> None:
    ctx = {"tools": bench.worker.tools, "store": bench.worker.store, "job_id": "a"}
    ctx |= {"other_versions": OtherVersions()}
    with pytest.raises(Retry):
        await worker.arq_jobs.command_job("payment.cancel")(
            ctx | {"enqueue_time": datetime.now(UTC)}, CANCEL
        )
    assert unreadable(log_lines) == 1
