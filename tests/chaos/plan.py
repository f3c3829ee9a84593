"""What goes wrong, and when: drawn from a seed, so that a run can be tried again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

WORKERS = ("worker-1", "worker-2")
REDIS_WIRES = ("redis-receiver", "redis-worker-1", "redis-worker-2", "redis-merchant")
HTTP_WIRES = ("gateway-worker-1", "gateway-worker-2", "notify", "callback")
WIRES = REDIS_WIRES + HTTP_WIRES

#: Longer than a lease (15 s): who was frozen so long wakes up to find its payments taken.
LONG_FREEZE = (15.5, 18.0)
#: A cancel that is held back for longer than CANCEL_QUIET_SECONDS would break a promise that the
#: product makes on that condition: what is held on its way to the gateway is held for less.
HELD_AT_MOST = 2.0


class Kind(StrEnum):
    KILL = "SIGKILL"
    TERMINATE = "SIGTERM"
    FREEZE = "SIGSTOP"
    POWER_CUT = "power cut"
    CUT = "cut"  #: connections end at once
    LOSE_REQUEST = "request lost"  #: the connection ends under the next request
    LOSE_REPLY = "reply lost"  #: the next request is passed on, the connection ends at its answer
    DELAY = "delay"
    SWALLOW = "swallow"  #: nothing passes, and nobody is told
    REFUSE = "refuse"
    FILL = "out of memory"
    FLUSH_JOBS = "arq keys flushed"
    FLUSH_SCRIPTS = "scripts flushed"
    DROP_CLIENTS = "clients killed"
    REWRITE = "log rewritten"


#: What ends a process.
KILLS = frozenset({Kind.KILL, Kind.TERMINATE, Kind.POWER_CUT})
#: What befalls a wire.
SPOILS = (Kind.CUT, Kind.LOSE_REQUEST, Kind.LOSE_REPLY, Kind.DELAY, Kind.SWALLOW, Kind.REFUSE)


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    target: str
    seconds: float = 0  #: how long it lasts, or how long the target stays down


@dataclass(frozen=True, slots=True)
class Row:
    """Faults of one kind: how often per second, against whom, and for how long."""

    rate: float
    kind: Kind
    targets: tuple[str, ...]
    seconds: tuple[float, float] = (0, 0)


_ROWS = (
    Row(0.36, Kind.KILL, ("receiver",)),
    Row(0.08, Kind.TERMINATE, ("receiver",)),
    Row(0.26, Kind.KILL, WORKERS),
    Row(0.08, Kind.TERMINATE, WORKERS),
    Row(0.18, Kind.POWER_CUT, ("server",), (0, 0.4)),
    Row(0.08, Kind.KILL, ("server",), (0, 0.4)),
    Row(0.02, Kind.TERMINATE, ("server",), (1, 4)),
    Row(0.08, Kind.FREEZE, (*WORKERS, "receiver"), (0.1, 3)),
    Row(0.012, Kind.FREEZE, (*WORKERS, "receiver"), LONG_FREEZE),
    Row(0.03, Kind.FREEZE, ("server",), (0.1, 6)),
    Row(0.03, Kind.FREEZE, ("gateway",), (0.1, HELD_AT_MOST)),
    Row(0.20, Kind.CUT, WIRES),
    Row(0.20, Kind.LOSE_REQUEST, WIRES),
    Row(0.60, Kind.LOSE_REPLY, WIRES),
    Row(0.04, Kind.DELAY, WIRES, (0.5, 3)),
    Row(0.03, Kind.SWALLOW, REDIS_WIRES, (0.5, 7)),
    Row(0.02, Kind.SWALLOW, HTTP_WIRES, (0.5, HELD_AT_MOST)),
    Row(0.04, Kind.REFUSE, WIRES, (0.5, 3)),
    Row(0.03, Kind.FILL, ("server",), (0.5, 3)),
    Row(0.04, Kind.FLUSH_JOBS, ("server",)),
    Row(0.04, Kind.FLUSH_SCRIPTS, ("server",)),
    Row(0.04, Kind.DROP_CLIENTS, ("server",)),
    Row(0.02, Kind.REWRITE, ("server",)),
)


def draw(rng: random.Random, pace: float = 1) -> Iterator[tuple[float, Fault]]:
    """For ever: how many seconds to wait, and then what goes wrong; `pace` times as often."""
    rates = [row.rate for row in _ROWS]
    while True:
        (row,) = rng.choices(_ROWS, rates)
        fault = Fault(row.kind, rng.choice(row.targets), rng.uniform(*row.seconds))
        yield rng.expovariate(pace * sum(rates)), fault
