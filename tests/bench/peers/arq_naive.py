"""arq as its documentation shows it: all defaults, `Retry` for what is to be asked again."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from tests.bench.peers import job


async def inquire(ctx: dict[str, Any], key: str) -> None:
    again = await ctx["job"](key)
    if again is not None:
        raise Retry(defer=again)


async def enqueue(keys: Sequence[str], **tuned: Any) -> None:
    """A job for each; `tuned` are arguments of arq's own."""
    pool = await create_pool(RedisSettings.from_dsn(job.settings().redis_url), **tuned)
    for key in keys:
        await pool.enqueue_job("inquire", key, _job_id=key)
    await pool.aclose()


async def work(**tuned: Any) -> None:
    """The worker; `tuned` are arguments of arq's own."""
    async with AsyncExitStack() as stack:
        ctx = {"job": await stack.enter_async_context(job.opened())}
        redis = RedisSettings.from_dsn(job.settings().redis_url)
        await Worker([inquire], redis_settings=redis, ctx=ctx, **tuned).async_run()


if __name__ == "__main__":
    job.main(enqueue, work)
