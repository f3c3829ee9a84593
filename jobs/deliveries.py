"""What becomes of one attempt to deliver something over HTTP: decided here, done by the worker.

The schedule is that of github.com/standard-webhooks/standard-webhooks: at once, then nine more
tries over about three days.
"""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from jobs.model import Ms
from jobs.schedule import DAY, seconds, spread

#: Delays between two tries; when they are used up, the delivery is dead.
LADDER = seconds(5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
#: The longest that an endpoint may ask us to wait: one that says a year means never.
MOST_PATIENT: Ms = DAY

_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one try went: the status that was answered, or why there was none."""

    status: int = 0  #: 0: no answer
    fault: str = ""  #: a word, where there was none: timeout, not_connected, refused_address, ...
    retry_after: Ms | None = None  #: as the answer asks

    @property
    def why(self) -> str:
        """What was wrong with it, in a word; empty if nothing."""
        if self.status == 0:
            return self.fault
        return "" if 200 <= self.status < 300 else f"http_{self.status}"


class Fate(StrEnum):
    DELIVERED = "delivered"  #: it is taken: the next one of its lane may go
    AGAIN = "again"  #: another try, after a delay
    DEAD = "dead"  #: no more tries: a person must look; the next one of its lane may go
    GONE = "gone"  #: nobody is there any more: so it is with all that wait in its lane


@dataclass(frozen=True, slots=True)
class Next:
    """What to do with a delivery now."""

    fate: Fate
    delay: Ms = 0


def next_try(tries: int, attempt: Attempt, name: str) -> Next:
    """What follows the try number `tries`, the first being 1; `name` gives each its own jitter."""
    if not attempt.why:
        return Next(Fate.DELIVERED)
    if attempt.status == HTTPStatus.GONE:
        return Next(Fate.GONE)
    if tries > len(LADDER):
        return Next(Fate.DEAD)
    delay = spread(LADDER[tries - 1], name, tries)
    if attempt.status in _BUSY and attempt.retry_after is not None:
        delay = max(delay, min(attempt.retry_after, MOST_PATIENT))
    return Next(Fate.AGAIN, delay)
