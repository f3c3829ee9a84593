"""The event loop that a process runs on: uvloop's where it is installed, for a tenth less CPU."""

import asyncio
import importlib
import importlib.util
from collections.abc import Callable

from worker.logs import log

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def fastest() -> LoopFactory | None:
    """How to make the loop; None: as asyncio does."""
    if importlib.util.find_spec("uvloop") is None:
        return None
    uvloop = importlib.import_module("uvloop")
    log.info("process.on_uvloop", version=uvloop.__version__)
    made: LoopFactory = uvloop.new_event_loop
    return made
