"""Notices that the process stood still: a frozen machine, too little CPU, a bug that blocks it.

Nothing wrong comes of it, since leases run out and writes are fenced; but it explains what does.
"""

import asyncio
import time

from worker.logs import log

EVERY_SECONDS = 1.0
STALLED_SECONDS = 3.0  #: a fifth of a lease; a busy machine or a large collection take less


async def watch() -> None:
    """Log each time that worker or receiver did not run for `STALLED_SECONDS` or longer."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(EVERY_SECONDS)
        late = time.monotonic() - before - EVERY_SECONDS
        if late >= STALLED_SECONDS:
            log.warning("process.stalled", seconds=round(late, 1))
