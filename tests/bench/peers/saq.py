"""SAQ: what is to be asked again is a new job at its time, which SAQ takes in whole seconds."""

import math
import time
from collections.abc import Sequence
from typing import Any

from saq import Queue, Worker

from tests.bench.peers import job

_KEEP_NOTHING = -1


async def _enqueue(queue: Queue, key: str, at: float) -> None:
    await queue.enqueue("inquire", key_=key, ttl=_KEEP_NOTHING, scheduled=math.ceil(at))


def _queue() -> Queue:
    return Queue.from_url(job.settings().redis_url, name=job.QUEUE)


async def enqueue(keys: Sequence[str]) -> None:
    queue = _queue()
    await queue.connect()
    for key in keys:
        await _enqueue(queue, key, 0)
    await queue.disconnect()


async def work() -> None:
    queue = _queue()
    async with job.opened() as run:

        async def inquire(ctx: Any, key_: str) -> None:
            again = await run(key_)
            if again is not None:
                await _enqueue(queue, key_, time.time() + again)

        functions = [("inquire", inquire)]
        await Worker(queue, functions, concurrency=job.AT_ONCE).start()


if __name__ == "__main__":
    job.main(enqueue, work)
