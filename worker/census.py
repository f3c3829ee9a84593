"""How many payments are open, how they stand, and which wait longest: counted page by page.

Redis does nothing else while a script runs, so no page is large.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any

from redis.asyncio import Redis

from jobs.model import SCHEMA, Aftercare, Ms, Status
from jobs.stuck import STUCK_AFTER
from worker.keys import Keys
from worker.replies import text_of
from worker.scripts import Scripts

PAGE = 500  #: payments that a script looks at in one go
LISTED = 20  #: of the oldest, in each status


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One payment that waits, and since when."""

    key: str  #: `<client-id>:<paymentRequestId>`
    status: Status
    aftercare: Aftercare
    tracked_at: Ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Every payment with a next action, or with a person to wait for."""

    at: Ms  #: Redis time
    #: `pending`, `cancelling` and `unresolved` are always there. The final ones are in aftercare.
    by_status: Mapping[Status, int] = field(default_factory=dict)
    #: `watching`, `cancelling` and `refund_required` are always there.
    by_aftercare: Mapping[Aftercare, int] = field(default_factory=dict)
    overdue: int = 0  #: pending or cancelling, ten minutes and more after their closing time
    missing: int = 0  #: without a record
    unreadable: int = 0  #: records of another version, or damaged
    oldest: tuple[Waiting, ...] = ()  #: the oldest of each status and aftercare, oldest first

    def oldest_at(self, status: Status) -> Ms | None:
        """When the oldest payment of this status was tracked; None if there is none."""
        return next((one.tracked_at for one in self.oldest if one.status is status), None)


OPEN = (Status.PENDING, Status.CANCELLING, Status.UNRESOLVED)
CARED_FOR = (Aftercare.WATCHING, Aftercare.CANCELLING, Aftercare.REFUND_REQUIRED)


async def census(redis: Redis, keys: Keys, listed: int = LISTED) -> Census:
    """Count what is open; payments that come or go meanwhile may be in it or not.

    Those there all the time are counted once, but for the rare moment in which Redis makes the
    table of the set larger or smaller: then some are counted twice.
    """
    scripts, cursor, tally = Scripts(redis), "0", _Tally()
    while True:
        args = [keys.payment(""), cursor, PAGE, STUCK_AFTER, listed]
        at, after, overdue, counts, old = await scripts.run("census", [keys.open], args)
        tally.take(overdue, counts, old, listed)
        cursor = text_of(after)
        if cursor == "0":
            return tally.census(int(at))


class _Tally:
    """What the pages so far have said."""

    def __init__(self) -> None:
        self.statuses: Counter[Status] = Counter(dict.fromkeys(OPEN, 0))
        self.aftercares: Counter[Aftercare] = Counter(dict.fromkeys(CARED_FOR, 0))
        self.overdue = self.missing = self.unreadable = 0
        self.oldest: dict[tuple[Status, Aftercare], list[Waiting]] = {}

    def take(self, overdue: int, counts: Iterable[Any], old: Iterable[Any], listed: int) -> None:
        self.overdue += int(overdue)
        for status, aftercare, schema, count in counts:
            self._count(status, aftercare, text_of(schema, "replace"), int(count))
        for status, aftercare, id_, at in old:
            if group := _group(status, aftercare):
                one = Waiting(
                    key=text_of(id_, "replace"),
                    status=group[0],
                    aftercare=group[1],
                    tracked_at=int(at),
                )
                seen = {*self.oldest.get(group, ()), one}
                self.oldest[group] = nsmallest(listed, seen, key=_age)

    def _count(self, status: bytes | str, aftercare: bytes | str, schema: str, count: int) -> None:
        group = _group(status, aftercare)
        if not (status or aftercare or schema):
            self.missing += count
        elif group is None or schema != str(SCHEMA):
            self.unreadable += count
        if group is not None:
            self.statuses[group[0]] += count
            self.aftercares[group[1]] += count

    def census(self, at: Ms) -> Census:
        oldest = sorted((one for group in self.oldest.values() for one in group), key=_age)
        del self.aftercares[Aftercare.NONE]
        return Census(
            at=at,
            by_status=self.statuses,
            by_aftercare=self.aftercares,
            overdue=self.overdue,
            missing=self.missing,
            unreadable=self.unreadable,
            oldest=tuple(oldest),
        )


def _age(one: Waiting) -> tuple[Ms, str]:
    return one.tracked_at, one.key


def _group(status: bytes | str, aftercare: bytes | str) -> tuple[Status, Aftercare] | None:
    """How a payment stands, in our words; None if it says so in others."""
    try:
        return Status(text_of(status)), Aftercare(text_of(aftercare) or Aftercare.NONE)
    except ValueError:
        return None
