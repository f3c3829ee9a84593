"""Every choice of a run comes from a tape: a seed writes one, a recording plays it again.

0 is the boring choice everywhere (no fault, no delay, first come first served), so that a recording
is made simpler by writing zeros over it.
"""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Tape:
    """Numbers drawn from a seed, or from a recording; beyond a recording's end all is boring."""

    def __init__(self, seed: int | None = None, recording: Sequence[int] | None = None) -> None:
        self._random = random.Random(seed)
        self._recording = recording
        self.drawn: list[int] = []

    def draw(self, n: int) -> int:
        """One of 0 .. n - 1."""
        if n <= 1:
            return 0
        at = len(self.drawn)
        if self._recording is None:
            value = int(self._random.random() * n)
        else:
            value = min(self._recording[at], n - 1) if at < len(self._recording) else 0
        self.drawn.append(value)
        return value

    def chance(self, permille: int) -> bool:
        """Whether something odd happens; what never happens costs no choice."""
        return permille > 0 and self.draw(1000) >= 1000 - permille

    def among(self, *options: T) -> T:
        return options[self.draw(len(options))]

    def between(self, low: int, high: int) -> int:
        return low + self.draw(high - low + 1)


def shrink(
    recording: Sequence[int], fails: Callable[[Sequence[int]], bool], runs: int
) -> list[int]:
    """A recording that still fails, with as many zeros as `runs` tries can write over it."""
    best = _trimmed(recording)
    length = max(1, len(best) // 2)
    while length >= 1 and runs > 0:
        at = 0
        while at < len(best) and runs > 0:
            if any(best[at : at + length]):
                candidate = [*best[:at], *([0] * len(best[at : at + length])), *best[at + length :]]
                runs -= 1
                if fails(candidate):
                    best = _trimmed(candidate)
            at += length
        length //= 2
    return best


def _trimmed(recording: Sequence[int]) -> list[int]:
    end = len(recording)
    while end and recording[end - 1] == 0:
        end -= 1
    return list(recording[:end])
