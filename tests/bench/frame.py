"""What every part gives: tables of medians over the rounds, and what must hold of their ratios."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.bench.measure import median

K = TypeVar("K")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of figures; a figure that was not taken is None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


@dataclass(frozen=True, slots=True)
class Promise:
    """A ratio or figure of this run beside what is wanted of it."""

    what: str
    value: float
    bound: float
    at_least: bool = False  #: else it must be at most the bound
    goal: float | None = None

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Part:
    """All that one question was answered with."""

    tables: Sequence[Table]
    promises: Sequence[Promise] = ()
    notes: Sequence[str] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)  #: each round, for who looks closer


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything: enough to mean something, or just enough to see that it works."""

    rounds: int = 3
    payments: int = 800  #: each is inquired three times
    notifications: int = 3000
    open_payments: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    seconds: float = 20.0  #: of a steady load
    rate: int = 100  #: notifications a second in it
    kills: int = 3


QUICK = Sizes(
    rounds=1,
    payments=100,
    notifications=400,
    open_payments=(50, 100),
    seconds=1.5,
    rate=20,
    kills=1,
)


def installed(package: str) -> bool:
    """Whether it is here: those of `.venv-bench` are not where the tests run."""
    return importlib.util.find_spec(package) is not None


def interleaved(
    rounds: int, whom: Sequence[K], measure: Callable[[K], R], say: Callable[[str], None]
) -> dict[K, list[R]]:
    """Each of them once a round, so that what disturbs the machine disturbs all of them. Every
    second round goes backwards: nobody always comes after the same one."""
    found: dict[K, list[R]] = {each: [] for each in whom}
    for number in range(rounds):
        for each in whom if number % 2 == 0 else reversed(whom):
            found[each].append(measure(each))
            say(f"round {number + 1} of {rounds}: {each}")
    return found


def middle(values: Sequence[R], figure: Callable[[R], float]) -> float:
    """The median of one figure."""
    return median([figure(value) for value in values])


def ratios(values: Sequence[R], others: Sequence[R], figure: Callable[[R], float]) -> float:
    """The median of the rounds' own ratios: what disturbs a round disturbs both."""
    return median([figure(a) / figure(b) for a, b in zip(values, others, strict=True)])
