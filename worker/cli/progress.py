"""How far a long command is: a bar on a terminal, a line now and then in a log."""

import sys
import time
from typing import TextIO

EVERY = 10_000  #: payments between two lines where nobody watches a bar
WIDTH = 30
REDRAW_SECONDS = 0.1


class Progress:
    """To be closed, so that what is printed next begins a line of its own."""

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self._what, self._total, self._done = what, total, 0
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._drawn = -1.0

    def advance(self, count: int) -> None:
        before, self._done = self._done, self._done + count
        if self._terminal:
            self._draw()
        elif before // EVERY < self._done // EVERY:
            print(f"reconciler: {self._words()}", file=self._stream, flush=True)

    def close(self) -> None:
        if self._terminal and self._done:
            self._drawn = -1.0
            self._draw()
            self._end_line()

    def note(self, text: str) -> None:
        """A line of its own about why it takes so long."""
        if self._terminal and self._drawn >= 0:
            self._end_line()
        print(f"reconciler: {text}", file=self._stream, flush=True)

    def _end_line(self) -> None:
        print(file=self._stream)
        self._drawn = -1.0

    def _draw(self) -> None:
        now = time.monotonic()
        if self._drawn < 0 or now > self._drawn + REDRAW_SECONDS:
            self._drawn = now
            bar = bar_of(self._done, self._total)
            print(f"\r[{bar}] {self._words()}\x1b[K", end="", file=self._stream, flush=True)

    def _words(self) -> str:
        taken = time.monotonic() - self._began
        return words_of(self._what, self._done, self._total, taken)


def bar_of(done: int, total: int) -> str:
    filled = WIDTH * done // max(total, 1)
    return "#" * filled + "." * (WIDTH - filled)


def words_of(what: str, done: int, total: int, seconds: float) -> str:
    """`4,000 of 10,000 written, 800 a second, 8 s to go`"""
    rate = done / seconds if seconds else 0
    left = f", {rate:,.0f} a second, {(total - done) / rate:,.0f} s to go" if rate else ""
    return f"{done:,} of {total:,} {what}{left}"
