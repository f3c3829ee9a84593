"""taskiq on Redis streams: what is to be asked again is scheduled.

Its scheduler, a process of its own otherwise, runs in the worker's, so that both are counted.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from taskiq import TaskiqScheduler
from taskiq.api import run_receiver_task, run_scheduler_task
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from tests.bench.peers import job

_SECOND = timedelta(seconds=1)


def _made() -> tuple[RedisStreamBroker, ListRedisScheduleSource]:
    url = job.settings().redis_url
    broker = RedisStreamBroker(url, queue_name=job.QUEUE, consumer_id="0")
    return broker, ListRedisScheduleSource(url, prefix=job.QUEUE)


def _task(broker: RedisStreamBroker, source: ListRedisScheduleSource, run: job.Job | None) -> Any:
    async def inquire(key: str) -> None:
        assert run
        again = await run(key)
        if again is not None:
            at = datetime.now(UTC) + timedelta(seconds=again)
            await task.schedule_by_time(source, at, key)

    task = broker.task("inquire")(inquire)
    return task


async def enqueue(keys: Sequence[str]) -> None:
    broker, source = _made()
    task = _task(broker, source, None)
    await broker.startup()
    for key in keys:
        await task.kiq(key)
    await broker.shutdown()


async def work() -> None:
    broker, source = _made()
    async with job.opened() as run:
        _task(broker, source, run)
        scheduler = TaskiqScheduler(broker, [source])
        await asyncio.gather(
            run_receiver_task(broker, max_async_tasks=job.AT_ONCE, run_startup=True),
            run_scheduler_task(scheduler, interval=_SECOND, loop_interval=_SECOND),
        )


if __name__ == "__main__":
    job.main(enqueue, work)
