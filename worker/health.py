"""Whether this process can do its work, as far as it knows without asking anybody."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from worker.scripts import Confirm
from worker.tasks import end
from worker.watch import Pulse

OK = "ok"


@dataclass(slots=True)
class Health:
    """Written by those who do the work, read by the admin server."""

    admitted: bool = False  #: Redis has passed the probes
    confirm: Confirm | None = None  #: what a write must wait for, once that is known
    redis_up: bool = False  #: it answered when it was last asked
    sweeps: bool = False  #: a worker's: that of a receiver has no sweep
    pulse: Pulse | None = None  #: of the sweep, while there is one
    stopping: bool = False

    @property
    def ready(self) -> bool:
        return all(found == OK for found in self.checks().values())

    def checks(self) -> dict[str, str]:
        """By name `ok`, or what is wrong."""
        found = {
            "redis": OK if self.redis_up else "does not answer",
            "probes": OK if self.admitted else "have not passed: the log says why",
            "process": "is stopping" if self.stopping else OK,
        }
        return found | ({"sweep": self._sweep()} if self.sweeps else {})

    def _sweep(self) -> str:
        if self.pulse is None:
            return "has not begun"
        if self.pulse.stalled:
            return f"has not come round for {self.pulse.silent_ms // 1000} s"
        return OK


@contextlib.asynccontextmanager
async def told_to_stop(health: Health, stopping: asyncio.Event) -> AsyncIterator[None]:
    """Who asks learns at once that a process is about to end: it drains for a while."""

    async def look() -> None:
        await stopping.wait()
        health.stopping = True

    looking = asyncio.ensure_future(look())
    try:
        yield
    finally:
        await end([looking])
