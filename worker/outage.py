"""Redis is away: whoever needs it says so, says how long it lasts, and says when it is back."""

import time
from typing import ClassVar

from worker.logs import log

#: Longer than a failover or a restart takes: a person must look. Said again at this pace.
LONG_SECONDS = 300.0


class Outage:
    """Since when one task of this process has had no answer from Redis, if it has none."""

    #: Of all tasks together: one of them is enough to say that it lasts.
    _told_at: ClassVar[float] = -LONG_SECONDS

    def __init__(self, task: str) -> None:
        self.task = task
        self._since: float | None = None

    def waits(self, fault: Exception) -> None:
        """Redis did not answer, or refused."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        said = {"task": self.task, "fault": str(fault)[:200], "away_ms": self._away_ms(now)}
        log.warning("worker.redis_waiting", **said)
        if now - max(self._since, Outage._told_at) >= LONG_SECONDS:
            Outage._told_at = now
            log.error("redis.away", **said)

    def answers(self) -> None:
        """It answered; nothing is said if it always did."""
        if self._since is not None:
            away_ms = self._away_ms(time.monotonic())
            self._since = None
            log.info("worker.redis_back", task=self.task, away_ms=away_ms)

    def _away_ms(self, now: float) -> int:
        return round((now - (self._since or now)) * 1000)
