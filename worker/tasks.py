"""Tasks that run beside the work, and how they are ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from jobs.model import Ms
from worker import connect
from worker.logs import log
from worker.outage import Outage
from worker.watch import Pulse

#: redis-py sends with `asyncio.wait_for`, which up to Python 3.11 swallows a cancel that comes as
#: the send ends (github.com/python/cpython/issues/86296): what must end is cancelled once more.
CANCEL_AGAIN_SECONDS = 0.5


async def end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel until they end: a first cancel may be lost, see `CANCEL_AGAIN_SECONDS`."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


async def every(
    delay: Ms, work: Callable[[], Awaitable[Any]], event: str, pulse: Pulse | None = None
) -> None:
    """Do `work` again and again; a failure is a line in the log, not the end."""
    outage = Outage(event.partition(".")[0])
    while True:
        try:
            await work()
        except (RedisError, OSError) as fault:
            outage.waits(fault)
        except connect.Unsafe:
            raise
        except Exception:
            log.exception(event)
        else:
            outage.answers()
            if pulse:
                pulse.beat()
        await asyncio.sleep(delay / 1000)
