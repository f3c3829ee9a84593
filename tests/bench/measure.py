"""What is measured in the same way everywhere: CPU of a process, medians, ratios."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TICKS = os.sysconf("SC_CLK_TCK")  #: in which Linux counts CPU time
PATIENCE_SECONDS = 120  #: what takes longer has failed


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, with all its threads, in user and kernel mode.

    To the nanosecond where the kernel tells it, for threads that still run: ours do. Else in ticks.
    """
    try:
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except FileNotFoundError:  # a thread has just ended
        return cpu_seconds(pid)
    if threads and (used := sum(int(text.split()[0]) for text in threads)):
        return used / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 20


@dataclass(frozen=True, slots=True)
class Spent:
    """How much was done in how long, and the CPU that each process of interest took for it."""

    count: int
    seconds: float
    cpu: dict[str, float]  #: seconds, by the process's name

    @property
    def rate(self) -> float:
        """A second."""
        return self.count / self.seconds

    def each(self, name: str = "worker") -> float:
        """Microseconds of CPU for one."""
        return self.cpu[name] / self.count * 1e6


class Held(Protocol):
    """Work that stands still at some count until it is released."""

    @property
    def answered(self) -> int: ...
    def release(self) -> None: ...


def between(first: int, last: int, work: Held, pids: dict[str, int], pause: float = 0.005) -> Spent:
    """What was spent from when the work reached `first`, where it is held, until it reached `last`:
    neither the start of a process is in it nor the tail in which it runs out of work."""

    def count() -> int:
        return work.answered

    start = _reached(first, count, pause)
    meter = Meter(pids)
    work.release()
    if start >= last:
        raise ValueError(f"{start} were done before it was looked: give it more than {last}")
    return meter.read(_reached(last, count, pause) - start)


class Meter:
    """What is spent from when it is made until it is read."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._pids, self._began = pids, time.monotonic()

    def read(self, count: int) -> Spent:
        seconds = time.monotonic() - self._began
        cpu = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        return Spent(count, seconds, cpu)


def _reached(wanted: int, count: Callable[[], int], pause: float) -> int:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (now := count()) < wanted:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{now} of {wanted} were done in {PATIENCE_SECONDS} s")
        time.sleep(pause)
    return now


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
