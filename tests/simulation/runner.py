"""Many seeds, one report; and one seed, looked at closely."""

import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.oracles import RARE
from tests.simulation.tape import Tape, shrink
from tests.simulation.world import Shape, World, submitting

CHUNK = 50  #: seeds handed to a process at once


@dataclass(slots=True)
class Report:
    """What a number of runs came to."""

    seeds: int = 0
    steps: int = 0
    virtual_ms: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: "Report") -> None:
        self.seeds += other.seeds
        self.steps += other.steps
        self.virtual_ms += other.virtual_ms
        self.injected.update(other.injected)
        self.reached.update(other.reached)
        self.violations += other.violations

    @property
    def missing(self) -> list[str]:
        """Rare states that no run has reached."""
        return [name for name in RARE if not self.reached[name]]


def one(seed: int, shape: Shape | None = None) -> World:
    """The run of one seed, over."""
    world = World(Tape(seed), shape=shape)
    world.run()
    return world


def shape_of(seed: int) -> Shape | None:
    """In every fourth world of a campaign the worker makes the orders itself."""
    return submitting if seed % 4 == 3 else None


def many(seeds: Sequence[int]) -> Report:
    report = Report()
    for seed in seeds:
        world = one(seed, shape_of(seed))
        report.seeds += 1
        report.steps += world.loop.steps
        report.virtual_ms += world.lasted
        report.injected += world.injected
        report.reached += world.oracle.reached
        if world.oracle.violation is not None:
            report.violations.append((seed, str(world.oracle.violation)))
    gc.collect()
    return report


def campaign(
    first: int, count: int, processes: int, progress: Callable[[Report], None] = lambda _: None
) -> Report:
    """All seeds from `first` on, on several processes."""
    total, began = Report(), time.monotonic()
    for report in _reports(first, count, processes):
        total.add(report)
        total.seconds = time.monotonic() - began
        progress(total)
    return total


def _reports(first: int, count: int, processes: int) -> Iterator[Report]:
    end = first + count
    chunks = [range(at, min(at + CHUNK, end)) for at in range(first, end, CHUNK)]
    if processes == 1:
        yield from map(many, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(many, chunks)


def shrunk(seed: int, shape: Shape | None = None, runs: int = 300) -> World | None:
    """The same violation with fewer surprising choices, traced; None if the seed fails nowhere."""
    first = one(seed, shape)
    if first.oracle.violation is None:
        return None
    rule = str(first.oracle.violation).partition(":")[0]

    def fails(recording: Sequence[int]) -> bool:
        world = World(Tape(recording=recording), shape=shape)
        world.run()
        return str(world.oracle.violation).partition(":")[0] == rule

    recording = shrink(first.tape.drawn, fails, runs)
    world = World(Tape(recording=recording), trace=True, shape=shape)
    world.run()
    return world
