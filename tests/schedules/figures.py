"""What schedules cost and bring on one workload, and which is better than which.

*Dominated* means: another schedule makes as few inquiries or fewer, and knows as soon or sooner.
It is judged twice. **On the whole**: an end that a schedule never learns is learned from the next
day's settlement file, 24 hours later, and a schedule that cancels buyers who would have paid is
not better than one that does not. **On the peer's own ground**: only payments whose own end the
peer has learned are counted, so that giving up, or cancelling, costs it nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from jobs.model import Ms
from jobs.schedule import DAY, SECOND, Policy
from tests.schedules.peers import peers
from tests.schedules.watching import Seen, listed, ours
from tests.schedules.workloads import Buyers, Fate, Notices, fates

OURS = "ours"
NEVER: Ms = DAY  #: the settlement file of the next day tells
ENOUGH = 0.05  #: a peer that sees fewer of the payments to their end has no ground to compare on


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A schedule on some payments. A lag: seconds from an end at the gateway until it is known."""

    inquiries: float  #: a payment, until its end is known
    later: float  #: a payment, after it
    mean: float
    p95: float
    never: float  #: share whose end is never known
    cut_off: float  #: share cancelled before its own end


@dataclass(frozen=True, slots=True)
class Duel:
    """Ours beside a peer on the same payments."""

    share: float  #: of all payments
    ours: Figures
    theirs: Figures

    @property
    def margin(self) -> float:
        """By how much we are better where we are best: 1.05 is 5 %; 1 or less is dominated."""
        fewer = _ratio(self.theirs.inquiries, self.ours.inquiries)
        return max(fewer, _ratio(self.theirs.mean, self.ours.mean))

    @property
    def margin_p95(self) -> float:
        """The same by the 95th percentile of the lag instead of its mean."""
        fewer = _ratio(self.theirs.inquiries, self.ours.inquiries)
        return max(fewer, _ratio(self.theirs.p95, self.ours.p95))

    @property
    def dominated(self) -> bool:
        return self.margin <= 1 and self.theirs.cut_off <= self.ours.cut_off

    @property
    def dominated_by_p95(self) -> bool:
        return self.margin_p95 <= 1 and self.theirs.cut_off <= self.ours.cut_off


@dataclass(frozen=True, slots=True)
class Result:
    """One workload: every schedule's figures, and ours beside each peer."""

    buyers: Buyers
    notices: Notices
    figures: Mapping[str, Figures]
    whole: Mapping[str, Duel]
    own_ground: Mapping[str, Duel]

    @property
    def dominated_by(self) -> list[str]:
        return sorted({name for name, duel in self._duels if duel.dominated})

    @property
    def dominated_by_p95(self) -> list[str]:
        return sorted({name for name, duel in self._duels if duel.dominated_by_p95})

    @property
    def _duels(self) -> tuple[tuple[str, Duel], ...]:
        return (*self.whole.items(), *self.own_ground.items())

    @property
    def nearest(self) -> tuple[str, Duel]:
        """The peer that comes nearest to being better than ours, on its own ground."""
        return min(self.own_ground.items(), key=lambda item: item[1].margin)

    @property
    def front(self) -> set[str]:
        """The schedules that no other dominates."""
        return {
            name
            for name, mine in self.figures.items()
            if not any(_better(other, mine) for other in self.figures.values())
        }


def measure(buyers: Buyers, notices: Notices, count: int, policy: Policy | None = None) -> Result:
    """Every schedule on the first `count` payments of one workload."""
    payments = fates(buyers, notices, count)
    policy = policy or Policy()
    mine = [ours(fate, policy) for fate in payments]
    theirs = {
        name: [listed(fate, peer.asks(fate.key), peer.cuts_off) for fate in payments]
        for name, peer in peers().items()
    }
    compare = partial(duel, payments, mine)
    return Result(
        buyers,
        notices,
        {OURS: figures(payments, mine)}
        | {name: figures(payments, seen) for name, seen in theirs.items()},
        {name: compare(seen, range(count)) for name, seen in theirs.items()},
        {
            name: compare(seen, ground)
            for name, seen in theirs.items()
            if len(ground := own_ground(seen)) >= ENOUGH * count
        },
    )


def own_ground(seen: Sequence[Seen]) -> list[int]:
    """Which payments were seen to their own end."""
    return [number for number, one in enumerate(seen) if one.known is not None]


def duel(
    payments: Sequence[Fate], mine: Sequence[Seen], theirs: Sequence[Seen], ground: Iterable[int]
) -> Duel:
    """Both schedules on the payments with these numbers."""
    numbers = list(ground)

    def on_ground(seen: Sequence[Seen]) -> Figures:
        return figures([payments[n] for n in numbers], [seen[n] for n in numbers])

    return Duel(len(numbers) / len(payments), on_ground(mine), on_ground(theirs))


def figures(payments: Sequence[Fate], seen: Sequence[Seen]) -> Figures:
    """The averages over these payments."""
    lags = sorted(
        (NEVER if one.known is None else one.known - fate.ends) / SECOND
        for fate, one in zip(payments, seen, strict=True)
    )
    return Figures(
        inquiries=_mean(one.inquiries for one in seen),
        later=_mean(one.later for one in seen),
        mean=_mean(lags),
        p95=lags[math.ceil(0.95 * len(lags)) - 1],
        never=_mean(one.known is None and not one.cut_off for one in seen),
        cut_off=_mean(one.cut_off for one in seen),
    )


def _mean(values: Iterable[float]) -> float:
    listed_ = list(values)
    return sum(listed_) / len(listed_)


def _ratio(theirs: float, mine: float) -> float:
    return theirs / mine if mine else math.inf if theirs else 1.0


def _better(one: Figures, other: Figures) -> bool:
    """Whether one is nowhere worse than the other, and somewhere better."""
    ones = (one.inquiries, one.mean, one.cut_off)
    others = (other.inquiries, other.mean, other.cut_off)
    return ones != others and all(a <= b for a, b in zip(ones, others, strict=True))
