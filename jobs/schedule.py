"""When to ask next: delays that stretch, spread by jitter, and never miss the closing time.

Everything here is a function of its arguments. The jitter is drawn from the payment's own name, so
that payments of one second drift apart and yet each schedule can be computed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from jobs.model import Ms

SECOND: Ms = 1000
MINUTE: Ms = 60 * SECOND
HOUR: Ms = 60 * MINUTE
DAY: Ms = 24 * HOUR

#: The inquiry "before the transaction closing time" that the vendor asks for comes this early: time
#: for one more answer, and late enough to catch most buyers.
JUST_BEFORE: Ms = 3 * SECOND

#: A question without an answer is repeated after a quarter of the time that it has been asked
#: for, or a bit later each time while none can leave, within these bounds: soon at first, and never
#: so rarely that an end is learned late.
RETRY_PART = 4
RETRY_STEP: Ms = 250
RETRY_LEAST: Ms = 2 * SECOND
RETRY_MOST: Ms = MINUTE

#: Jitter moves a delay by up to a quarter either way.
SPREAD = 0.25


#: The cancel window's end is approached in steps of a quarter of what is left of it.
WINDOW_PART = 4


@dataclass(frozen=True, slots=True)
class CancelWindow:
    """How long the gateway cancels a payment: until a time of day, some days after the day of its
    creation, or for a length of time. A clock, not a lock: the gateway alone decides.
    """

    days: int = 1
    time: Ms = 15 * MINUTE  #: of that day
    zone: Ms = 8 * HOUR  #: ahead of UTC, in which a day is counted
    length: Ms | None = None  #: from the creation on; then the other three do not matter

    def end(self, created_at: Ms) -> Ms:
        """The moment from which on a cancel is expected to be refused."""
        if self.length is not None:
            return created_at + self.length
        midnight = (created_at + self.zone) // DAY * DAY - self.zone
        return midnight + self.days * DAY + self.time


def seconds(*delays: float) -> tuple[Ms, ...]:
    """Delays in milliseconds from delays in seconds."""
    return tuple(round(delay * SECOND) for delay in delays)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The patience of one account: every delay and limit that `decide` knows."""

    #: In store the vendor advises to wait 5 s and then to ask every 3 s; later every seventh of the
    #: age. docs/schedule.md shows what that costs and brings beside other schedules.
    inquiry_delays: Sequence[Ms] = seconds(
        *(5, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 8, 8, 10, 10, 12, 12, 15, 15, 20, 20, 30)
    )
    confirming_delays: Sequence[Ms] = seconds(60, 300, 900, 3600)
    cancel_delays: Sequence[Ms] = seconds(2, 3, 5, 10, 30, 60, 120, 300, 600)
    aftercare_delays: Sequence[Ms] = seconds(60, 600, 3600, 86400)
    unresolved_delays: Sequence[Ms] = seconds(600, 3600, 6 * 3600)

    closing: Ms = 840 * SECOND  #: the contract's closing time, where none was given
    confirming: Ms = 7 * DAY  #: how long a bank may take to confirm
    last_inquiry_grace: Ms = 900 * SECOND  #: of unanswered last inquiries before a blind cancel
    cancel_quiet: Ms = 120 * SECOND  #: how long an unanswered cancel may still be on its way
    cancel_limit: Ms = DAY
    cancel_window: CancelWindow | None = CancelWindow()  #: None: nothing is known of one
    not_found_settle: Ms = 600 * SECOND
    unresolved_watch: Ms = 30 * DAY
    freshness: Ms = 5 * MINUTE  #: age at which a message stops being evidence

    report: bool = False  #: never cancel, whatever a payment says: the emergency brake
    braked: bool = False  #: this account's payments are not found at all: do not close a shop


def delay_of(delays: Sequence[Ms], tries: int) -> Ms:
    """The delay after `tries` tries; the last one repeats."""
    return delays[min(tries, len(delays) - 1)]


def cancel_delay(delays: Sequence[Ms], tries: int, left: Ms | None) -> Ms:
    """The delay after `tries` cancels, with so much `left` of the cancel window.

    The nearer its end, the sooner the next one; past it, and where none is known, by schedule.
    """
    delay = delay_of(delays, tries)
    if left is None or left <= 0:
        return delay
    return min(delay, max(left // WINDOW_PART, RETRY_LEAST))


def retry_delay(tried_for: Ms, unanswered: int) -> Ms:
    """The delay before a question is repeated, asked `unanswered` times over `tried_for`."""
    stretched = max(tried_for // RETRY_PART, unanswered * RETRY_STEP)
    return min(max(stretched, RETRY_LEAST), RETRY_MOST)


def spread(delay: Ms, key: str, tries: int) -> Ms:
    """`delay` moved by the payment's own jitter."""
    fraction = crc32(f"{key}/{tries}".encode()) / 2**32
    return round(delay * (1 - SPREAD + 2 * SPREAD * fraction))


def next_inquiry(delays: Sequence[Ms], tries: int, key: str, now: Ms, closing_time: Ms) -> Ms:
    """When to inquire next, in Redis time.

    However long the delay, one inquiry comes just before the closing time and one right at it:
    only an inquiry sent at the closing time or later may end in a timeout.
    """
    at = now + spread(delay_of(delays, tries), key, tries)
    if now < closing_time - JUST_BEFORE < at:
        return closing_time - JUST_BEFORE
    if now < closing_time < at:
        return closing_time
    return at
