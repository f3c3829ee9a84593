"""Who watches the watchmen: the sweep mends every lost wake-up, so its own end must be noticed.

The worker looks whether its sweep still comes round. The receiver, another process on perhaps
another machine, looks whether any worker's does.
"""

import time

from redis.asyncio import Redis

from jobs.model import Ms
from jobs.schedule import MINUTE
from worker.keys import Keys
from worker.logs import log
from worker.replies import now_of, text_of

#: A sweep that has not come round for so long, beyond its pause, hangs or fails.
STALLED_AFTER: Ms = MINUTE
#: So long without a sweep in Redis no worker can be running: deploys and restarts are shorter.
ABANDONED_AFTER: Ms = 5 * MINUTE
WATCH_EVERY: Ms = MINUTE


class Pulse:
    """When something that runs again and again last came round, by this process's own clock."""

    def __init__(self, pause: Ms) -> None:
        self.pause = pause
        self.beat()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def silent_ms(self) -> Ms:
        return round((time.monotonic() - self._last) * 1000)

    @property
    def stalled(self) -> bool:
        return self.silent_ms > self.pause + STALLED_AFTER


def check_sweep(pulse: Pulse) -> None:
    """Say that our sweep hangs or fails, every time somebody looks."""
    if pulse.stalled:
        log.error("sweep.stalled", silent_ms=pulse.silent_ms)


class Lookout:
    """The receiver's view of the workers: does any of them sweep?"""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._up = Pulse(0)  # never beaten again: a worker is given time to start

    async def look(self) -> None:
        """Say that no worker has swept for long."""
        now = await now_of(self._redis)
        swept = await self._redis.get(self._keys.swept)
        silent = now - int(text_of(swept or 0))
        if min(silent, self._up.silent_ms) > ABANDONED_AFTER:
            log.error("sweep.missing", silent_ms=silent if swept else None)
