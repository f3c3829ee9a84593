"""What the knobs do: delays times something, and delays that grow with a payment's age."""

from collections.abc import Mapping
from typing import TypeAlias

from jobs.model import Ms
from jobs.schedule import SECOND, Policy
from tests.schedules.figures import Figures, figures
from tests.schedules.watching import ours
from tests.schedules.workloads import BUYERS, NOTICES, Buyers, Notices, fates

#: By workload and by setting of the knob.
Table: TypeAlias = Mapping[str, Mapping[str, Figures]]

DEFAULT: tuple[Ms, ...] = tuple(Policy().inquiry_delays)
FACTORS = (0.25, 0.5, 1, 2, 4)
PARTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
LEAST, MOST = 3.0, 60.0  #: seconds


def growing(first: float, part: float) -> tuple[Ms, ...]:
    """Delays of a `part` of the payment's age, `LEAST` to `MOST` seconds, in handy numbers."""
    delays, age = [first], first
    while delays[-1] < MOST and len(delays) < 100:
        delays.append(_round(min(MOST, max(LEAST, part * age))))
        age += delays[-1]
    return tuple(round(delay * SECOND) for delay in delays)


def _round(delay: float) -> float:
    return (
        round(delay * 2) / 2 if delay < 6 else round(delay) if delay < 20 else round(delay / 5) * 5
    )


def scaled(count: int) -> Table:
    """Every delay of the default times a factor."""
    choices = {
        f"delays x {factor:g}": tuple(round(delay * factor) for delay in DEFAULT)
        for factor in FACTORS
    }
    return _tried(choices, count)


def by_age(count: int) -> Table:
    """First inquiry as by default, then a part of the payment's age."""
    first = DEFAULT[0] / SECOND
    return _tried({f"{part:.0%} of the age": growing(first, part) for part in PARTS}, count)


def _tried(choices: Mapping[str, tuple[Ms, ...]], count: int) -> Table:
    nothing = NOTICES[-1]
    return {
        f"{buyers.name}, {nothing.name}": {
            name: _one(buyers, nothing, delays, count) for name, delays in choices.items()
        }
        for buyers in BUYERS[:3]
    }


def _one(buyers: Buyers, notices: Notices, delays: tuple[Ms, ...], count: int) -> Figures:
    payments, policy = fates(buyers, notices, count), Policy(inquiry_delays=delays)
    return figures(payments, [ours(fate, policy) for fate in payments])
