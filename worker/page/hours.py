"""What was published over the last day, by hour and type; each entry of the stream is read once."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from redis.asyncio import Redis

from jobs.model import Ms
from jobs.schedule import HOUR
from worker.keys import Keys
from worker.replies import text_of
from worker.scripts import Scripts

HOURS = 24  #: the running one is the last
PAGE = 250  #: entries that a script looks at in one go: a few milliseconds of Redis' time
LOOK_SECONDS = 2.0  #: for one look; what is left then is counted at the next one

_LAST = 2**64 - 1  #: the highest number that an id can have within its millisecond

#: Every type that there is; what is none of these is counted as `other`.
TYPES = (
    "payment.succeeded",
    "payment.failed",
    "payment.cancelled",
    "payment.forgotten",
    "payment.unresolved",
    "payment.attention",
    "payment.cancelling",
    "payment.submitted",
    "command.rejected",
)


@dataclass(frozen=True, slots=True)
class Day:
    """Counts by the hour's start and by type; every hour is there, an empty one without types."""

    hours: Mapping[Ms, Mapping[str, int]]
    counted_to: Ms | None  #: None: to the end; else what was published later is not counted yet

    def total(self, type_: str) -> int:
        return sum(counts.get(type_, 0) for counts in self.hours.values())


class Hours:
    """Counts on from where the last look ended, so that a look costs what has happened since."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis, self._keys = redis, keys
        self._scripts = Scripts(redis)
        self._start_again()

    def _start_again(self) -> None:
        self._after = (0, 0)
        self._counts: dict[Ms, Counter[str]] = {}

    async def look(self) -> Day:
        """The last day as of now; it is not for two at once."""
        deadline = time.monotonic() + LOOK_SECONDS
        seconds, _ = await self._redis.time()
        first = seconds * 1000 // HOUR * HOUR - (HOURS - 1) * HOUR
        while more := await self._count_page(first):
            if time.monotonic() > deadline:
                break
        self._counts = {hour: found for hour, found in self._counts.items() if hour >= first}
        hours = range(first, first + HOURS * HOUR, HOUR)
        return Day(
            hours={hour: dict(self._counts.get(hour, {})) for hour in hours},
            counted_to=self._after[0] if more else None,
        )

    async def _count_page(self, first: Ms) -> bool:
        """Whether there may be more."""
        self._after = max(self._after, (first - 1, _LAST))
        args = [f"{self._after[0]}-{self._after[1]}", PAGE, *TYPES]
        _, there, last, flat = await self._scripts.run("hours", [self._keys.outcomes], args)
        if self._counts and not there:  # what was counted last is gone: it is another stream
            self._start_again()
            return True
        for hour, type_, count in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            self._counts.setdefault(int(hour), Counter())[text_of(type_)] += count
        self._after = max(self._after, _id(last))
        return bool(sum(flat[2::3]) == PAGE)


def _id(raw: bytes | str) -> tuple[int, int]:
    """A stream's id, or its absence, as numbers that sort."""
    ms, _, number = text_of(raw).partition("-")
    return int(ms or 0), int(number or 0)
