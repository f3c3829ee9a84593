"""What repeats is written a few times and then counted, so that an outage drowns nothing.

Which events repeat, and what tells their repeats apart, is declared in `worker.events`. What
happens once is never left out, however much of it there is.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.events import EVENTS, Entry

WINDOW_SECONDS = 10.0
#: Reasons of one event that are told apart in one window: there may be as many as a stranger likes.
MAX_REASONS = 16
OTHER = "other"
NAMES = ("client_id", "payment_request_id", "peer", "task", "key")  #: whom a line is about
MAX_SHOWN = 100  #: characters of a reason


@dataclass(slots=True)
class Count:
    """The lines of one event and level that were not written in this window."""

    reasons: Counter[str] = field(default_factory=Counter)
    example: Mapping[str, Any] = field(default_factory=dict)


class Condenser:
    """Lets lines pass, or counts them; `say(level, facts)` is called once a window and event."""

    def __init__(self, say: Callable[[str, dict[str, Any]], None]) -> None:
        self._say = say
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._passed: dict[str, Counter[str]] = {}
        self._counted: dict[tuple[str, str], Count] = {}
        self._timer: threading.Timer | None = None

    def passes(self, line: Mapping[str, Any]) -> bool:
        """Whether this line is to be written. `event` and `level` are in it."""
        entry = EVENTS.get(line["event"])
        if entry is None or not _repeats(entry, line):
            return True
        with self._lock:
            if not self._counted and time.monotonic() - self._began >= WINDOW_SECONDS:
                self._begin()
            passed = self._passed.setdefault(line["event"], Counter())
            reason = _reason(entry, line)
            reason = reason if reason in passed or len(passed) < MAX_REASONS else OTHER
            passed[reason] += 1
            if passed[reason] <= entry.burst:
                return True
            self._count(line, reason)
            return False

    def _count(self, line: Mapping[str, Any], reason: str) -> None:
        if self._timer is None:  # also where nothing more is logged, the count is told in time
            left = self._began + WINDOW_SECONDS - time.monotonic()
            self._timer = threading.Timer(max(0.0, left), self.tell)
            self._timer.daemon = True
            self._timer.start()
        count = self._counted.setdefault((line["event"], line["level"]), Count())
        count.reasons[reason] += 1
        count.example = {name: line[name] for name in NAMES if line.get(name)}

    def tell(self) -> None:
        """End this window: say what was counted in it."""
        with self._lock:
            counted, seconds = self._counted, round(time.monotonic() - self._began, 1)
            if self._timer is not None:
                self._timer.cancel()
            self._begin()
        for (event, level), count in counted.items():
            facts: dict[str, Any] = {"condensed": event, "count": count.reasons.total()}
            facts |= {"reasons": dict(count.reasons), "example": count.example}
            self._say(level, facts | {"seconds": seconds})


def _repeats(entry: Entry, line: Mapping[str, Any]) -> bool:
    if entry.only is not None and line.get(entry.only[0]) != entry.only[1]:
        return False
    return entry.burst > 0


def _reason(entry: Entry, line: Mapping[str, Any]) -> str:
    return str(line.get(entry.reason, ""))[:MAX_SHOWN] if entry.reason else ""
