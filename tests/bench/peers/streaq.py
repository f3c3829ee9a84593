"""streaq: `StreaqRetry` for what is to be asked again."""

import json
from collections.abc import Sequence
from datetime import timedelta

from streaq import StreaqRetry, Worker

from tests.bench.peers import job


async def _run(keys: Sequence[str], run: job.Job | None) -> None:
    worker = Worker(
        redis_url=job.settings().redis_url,
        queue_name=job.QUEUE,
        concurrency=job.AT_ONCE,
        serializer=lambda data: json.dumps(data).encode(),
        deserializer=json.loads,
    )

    async def inquire(key: str) -> None:
        assert run
        again = await run(key)
        if again is not None:
            raise StreaqRetry(delay=timedelta(seconds=again))

    task = worker.task(max_tries=None, ttl=0, silent=True, name="inquire")(inquire)
    if run is None:
        async with worker:
            await worker.enqueue_many([task.enqueue(key) for key in keys])
    else:
        await worker.run_async()


async def enqueue(keys: Sequence[str]) -> None:
    await _run(keys, None)


async def work() -> None:
    async with job.opened() as run:
        await _run((), run)


if __name__ == "__main__":
    job.main(enqueue, work)
