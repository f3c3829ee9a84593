"""Whether a call may leave now: one account's breaker, its pace, and who goes first.

All processes of a deployment share a `Gate` per account. Here is what becomes of it, as values:
state in, state out. What may not leave waits in line, the oldest closing time first, and nothing of
that is written into a payment's record: no try is counted and no patience is spent.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp
from typing import TypeAlias

from jobs.model import Act, Ms, Payment, Status
from jobs.news import Answer, Silence
from jobs.schedule import MINUTE, SECOND, spread

CALLS = (Act.INQUIRE, Act.CANCEL, Act.PAY)  #: what needs leave

# The breaker

IN_A_ROW = 5  #: faults without one answer between them, after which the gateway is away
MANY = 10  #: faults within two windows, if they are half of all calls or more, say the same
WINDOW: Ms = 10 * SECOND  #: calls and faults are counted in these
#: Delays between probes: soon at first, and never so rarely that a return is learned late.
PROBE_DELAYS: tuple[Ms, ...] = (1 * SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND)
#: Longer than any call: a probe that died with its worker is replaced.
PROBE_LEASE: Ms = 15 * SECOND

# The pace

#: The gateway's word for "too fast", which comes as U: the same request again, but slower.
TOO_FAST = "REQUEST_TRAFFIC_EXCEED_LIMIT"
TOO_OFTEN = 0.1  #: of the calls within two windows: fewer are asked again each by itself
SLOW_ONCE: Ms = 2 * SECOND  #: calls that were under way when we slowed down say nothing new
RECOVERY: Ms = MINUTE  #: in which the pace rises by as much as it was before it fell
LEAST = 2.0  #: calls a second: slower than that it would not be learned that more is allowed

# The bulkhead

#: An account may have so many calls in flight for each place that is free: one account leaves a
#: quarter of all places to mail and to other accounts, several that hang still leave some.
CALLS_PER_FREE_PLACE = 3

# Repeats

REPEAT_SHARE = 0.1  #: of the ordinary calls: so much more may repeats put on a gateway
REPEATS_PER_SECOND = 0.2  #: besides, for each process: a lone payment is asked for all the same
REPEATS_SAVED = 10.0  #: repeats that may come at once, or as many as ordinary calls in a second
MEMORY: Ms = 10 * MINUTE  #: over which the mean of the ordinary calls is taken

_CLASS = 10**13  #: above any closing time in milliseconds


class Verdict(StrEnum):
    """What an answer says of the gateway, whatever it says of the payment."""

    GOOD = "good"  #: it is there
    BUSY = "busy"  #: it is there, and we are too fast
    BAD = "bad"  #: it seems to be away
    NEITHER = "neither"


Counts: TypeAlias = tuple[int, int, int]  #: good, busy, bad


def verdict(answer: Answer) -> Verdict:
    """A business answer of any kind is a good one; what cannot be believed is neither."""
    if isinstance(answer, Silence):
        return _silence(answer.why)
    return Verdict.BUSY if answer.code == TOO_FAST else Verdict.GOOD


def _silence(why: str) -> Verdict:
    if why == "http_429":
        return Verdict.BUSY
    away = why in ("timeout", "not_connected", "connection_lost") or why.startswith("http_5")
    return Verdict.BAD if away else Verdict.NEITHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What all processes know of one account's line to the gateway. At rest it is `Gate()`."""

    # The breaker
    opened_at: Ms | None = None  #: None: closed
    in_a_row: int = 0  #: faults since the last answer
    window: Ms = 0  #: when the window began in which `bad` faults were counted
    bad: int = 0
    bad_before: int = 0  #: in the window before it
    probing: bool = False  #: whether a probe is out
    probes: int = 0  #: that were not answered
    probe_at: Ms = 0  #: no probe before; while one is out: no other before

    # The pace, while the gateway finds us too fast
    busy_window: Ms = 0  #: when the window began in which `busy` such answers were counted
    busy: int = 0
    busy_before: int = 0  #: in the window before it
    slowed_at: Ms | None = None
    slowed_to: float = 0.0  #: calls a second at that time
    ceiling: float = 0.0  #: calls a second before it

    @property
    def open(self) -> bool:
        return self.opened_at is not None


def hear(gate: Gate, heard: Counts, calls: int, now: Ms, limit: float) -> Gate:
    """What becomes of the gate when a process tells what it heard since it last did.

    `calls` were answered, or not, in this window and the last one, by all processes together;
    `limit` is the most calls a second by the settings, 0: none.
    """
    good, busy, bad = heard
    if busy:
        gate = _found_too_fast(gate, busy, calls, now, limit)
    if gate.open:
        return _heard_while_open(gate, good + busy, bad, now)
    gate = replace(gate, in_a_row=0 if good + busy else gate.in_a_row + bad)
    if not bad:
        return gate
    gate = _counted(gate, bad, now)
    faults = gate.bad + gate.bad_before
    if gate.in_a_row >= IN_A_ROW or (faults >= MANY and 2 * faults >= calls):
        return replace(gate, opened_at=now, probing=False, probes=0, probe_at=now + PROBE_DELAYS[0])
    return gate


def _heard_while_open(gate: Gate, answers: int, bad: int, now: Ms) -> Gate:
    """Any answer closes it. Of faults only a probe's count: the others left before it opened."""
    if answers:
        pace = {name: getattr(gate, name) for name in ("slowed_at", "slowed_to", "ceiling")}
        return Gate(**pace)
    if not bad or not gate.probing:
        return gate
    probes = gate.probes + 1
    delay = PROBE_DELAYS[min(probes, len(PROBE_DELAYS) - 1)]
    at = now + spread(delay, str(gate.opened_at), probes)
    return replace(gate, probing=False, probes=probes, probe_at=at)


def _counted(gate: Gate, bad: int, now: Ms) -> Gate:
    window, count, before = _count((gate.window, gate.bad, gate.bad_before), bad, now)
    return replace(gate, window=window, bad=count, bad_before=before)


def _count(was: tuple[Ms, int, int], more: int, now: Ms) -> tuple[Ms, int, int]:
    """This window, what was counted in it, and in the one before."""
    window, count, before = was
    this = now // WINDOW * WINDOW
    if this <= window:
        return window, count + more, before
    return this, more, count if this - window == WINDOW else 0


def probe(gate: Gate, now: Ms) -> Gate | None:
    """The gate with a probe out; None if none may leave now."""
    if not gate.open or now < gate.probe_at:
        return None
    return replace(gate, probing=True, probe_at=now + PROBE_LEASE)


def _found_too_fast(gate: Gate, busy: int, calls: int, now: Ms, limit: float) -> Gate:
    """A few such answers among many good ones say nothing of our pace."""
    window, count, before = _count((gate.busy_window, gate.busy, gate.busy_before), busy, now)
    if count + before >= TOO_OFTEN * calls:
        return _slowed(replace(gate, busy_window=window, busy=0, busy_before=0), calls, now, limit)
    return replace(gate, busy_window=window, busy=count, busy_before=before)


def _slowed(gate: Gate, calls: int, now: Ms, limit: float) -> Gate:
    """Half the pace. Where none is set, it is half of what was asked lately."""
    if gate.slowed_at is not None and now - gate.slowed_at < SLOW_ONCE:
        return gate
    asked = max(calls * SECOND / (2 * WINDOW), LEAST)  # the second window is not over: a bit less
    was = pace(gate, now, limit)
    least = min(LEAST, limit or LEAST)
    ceiling = gate.ceiling if was and was != limit else limit or asked
    return replace(gate, slowed_at=now, slowed_to=max((was or asked) / 2, least), ceiling=ceiling)


def pace(gate: Gate, now: Ms, limit: float) -> float:
    """How many calls a second may leave; 0: as many as there are.

    After a fall it rises steadily; where none is set it is free again at twice what it was.
    """
    if gate.slowed_at is None:
        return limit
    risen = gate.slowed_to + gate.ceiling * max(now - gate.slowed_at, 0) / RECOVERY
    if limit:
        return min(risen, limit)
    return risen if risen < 2 * gate.ceiling else 0.0


# Who goes first


def rank(payment: Payment, act: Act, repeat: bool) -> float:
    """A place in line: the smallest goes first.

    Cancels and pays, then payments that are pending, then those that are only watched, each by
    closing time; at last repeats for which nothing is left.
    """
    if repeat:
        place = FIRST_REPEAT // _CLASS
    elif act is not Act.INQUIRE or payment.status is Status.CANCELLING:
        place = 0
    else:
        place = 1 if payment.status is Status.PENDING else 2
    return float(place * _CLASS + payment.closing_time)


FIRST_REPEAT = 3 * _CLASS  #: from this rank on it is a repeat for which nothing is left


def repeats(payment: Payment, now: Ms) -> bool:
    """Whether a call is asked once more only because the last one got no answer.

    Before the closing time the schedule asks again in any case: that is no more load.
    """
    scheduled = payment.status is Status.PENDING and now < payment.closing_time
    return payment.unanswered > 0 and not scheduled


def room(places: int, mine: int, all_: int) -> int:
    """How many more calls an account with `mine` of `all_` calls in flight may have.

    The more accounts hang, the fewer places each may take: some always stay free. Each call that
    is added is one more of `mine`, and one free place less.
    """
    over = CALLS_PER_FREE_PLACE * (places - all_) - mine
    return max(-(-over // (CALLS_PER_FREE_PLACE + 1)), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many repeats one process may send, so that with them it never asks much more than it
    ordinarily does: a share of the ordinary calls, and what these leave of their own mean.

    Right after an outage that share would last for hours; but when the ordinary calls are through,
    repeats put no more on the gateway than those did.
    """

    saved: float = REPEATS_SAVED
    ordinary: int = 0  #: calls since `at`
    mean: float = 0.0  #: ordinary calls a second, over the last ten minutes or so
    at: Ms = 0

    def by(self, now: Ms) -> "Budget":
        """What it is at `now`; it is reckoned once a second."""
        if now - self.at < SECOND:
            return self
        past = (now - self.at) / SECOND if self.at else 1.0
        share = exp(-past * SECOND / MEMORY)
        earned = max(self.mean * past - self.ordinary, 0.0) + past * REPEATS_PER_SECOND
        mean = self.mean * share + self.ordinary / past * (1 - share)
        most = max(REPEATS_SAVED, mean)
        return Budget(saved=min(self.saved + earned, most), mean=mean, at=now)

    def sent(self, repeat: bool) -> "Budget":
        """After a call has left."""
        if repeat:
            return replace(self, saved=self.saved - 1)
        return replace(self, saved=self.saved + REPEAT_SHARE, ordinary=self.ordinary + 1)

    @property
    def left(self) -> int:
        return max(int(self.saved), 0)
