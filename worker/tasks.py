"""Tasks that run beside the work, and how they are ended."""

import asyncio
from collections.abc import Sequence
from typing import Any

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
