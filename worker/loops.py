"""The event loop that a process runs on: uvloop's where it is installed, for a tenth less CPU."""

import asyncio
from collections.abc import Callable

from worker.logs import log

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def fastest() -> LoopFactory | None:
    """How to make the loop; None: as asyncio does."""
    try:
        import uvloop
    except ImportError:
        return None
    log.info("process.on_uvloop", version=uvloop.__version__)
    made: LoopFactory = uvloop.new_event_loop
    return made
