"""(f) One worker process and two, and what one Redis would carry.

Workers share nothing but Redis: what a worker and Redis spend on an inquiry says how far it goes.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import gateway, seed
from tests.bench.frame import Part, Sizes, Table, interleaved, middle
from tests.bench.inquiry import DELAYS, KEYS, STATUSES
from tests.bench.measure import Spent, between
from tests.bench.server import redis_server
from tests.servers import environ, process, reconciler

WORKERS = (1, 2)
HOSTS = (10, 100)
CORES = 2  #: of a worker host: a process on each
BUSY = 0.7  #: of a core, of workers and of Redis, is used and no more


@dataclass(frozen=True, slots=True)
class Run:
    spent: Spent
    shares: list[float]  #: of the workers' CPU


def followed(workers: int, payments: int) -> Run:
    names, total = seed.names(payments), payments * len(STATUSES)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        line = gateway.running(gateway.answers(names, STATUSES), hold_at=total // 5)
        asked = stack.enter_context(line)
        given = environ(server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE=DELAYS)
        given |= {"SWEEP_SECONDS": "10"}
        asyncio.run(seed.track(given, names))
        pids = {"redis": server.pid or 0}
        for number in range(workers):
            worker = stack.enter_context(process(folder, given, *reconciler("worker")))
            pids[f"worker {number}"] = worker.pid
        spent = between(total // 5, total * 9 // 10, asked, pids)
        ended = asyncio.run(seed.all_ended(server.url, KEYS, payments))
        assert ended == payments, f"{ended} of {payments} ended"
    each = [cpu for name, cpu in spent.cpu.items() if name != "redis"]
    return Run(spent, [cpu / (sum(each) or 1) for cpu in each])


def worker_cpu(run: Run) -> float:
    """Microseconds of all workers for an inquiry."""
    return sum(run.spent.each(name) for name in run.spent.cpu if name != "redis")


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    runs = interleaved(
        sizes.rounds, WORKERS, lambda workers: followed(workers, sizes.payments), say
    )
    cost = middle(runs[1], worker_cpu)
    redis = middle(runs[2], lambda run: run.spent.each("redis"))
    return Part(
        tables=[
            Table(
                "(f) worker processes on this machine, which Redis and the gateway share",
                ("workers", "a second", "worker CPU µs", "Redis CPU µs", "least busy worker, %"),
                [_row(workers, each) for workers, each in runs.items()],
            ),
            Table(
                f"(f) calculated: hosts of {CORES} cores, all {BUSY:.0%} busy",
                ("worker hosts", "they could ask, a second", "one Redis lets them, a second"),
                [_calculated(hosts, cost, redis) for hosts in (1, *HOSTS)],
            ),
        ],
        notes=[_limit(cost, redis)],
        raw={str(workers): [asdict(run) for run in each] for workers, each in runs.items()},
    )


def _row(workers: int, runs: Sequence[Run]) -> list[str | float | None]:
    figures: list[Callable[[Run], float]] = [
        lambda run: run.spent.rate,
        worker_cpu,
        lambda run: run.spent.each("redis"),
        lambda run: 100 * min(run.shares),
    ]
    return [str(workers), *(middle(runs, figure) for figure in figures)]


def _calculated(hosts: int, cost: float, redis: float) -> list[str | float | None]:
    could, lets = hosts * CORES * BUSY * 1e6 / cost, BUSY * 1e6 / redis
    return [str(hosts), could, min(could, lets)]


def _limit(cost: float, redis: float) -> str:
    return (
        f"One Redis core carries {BUSY * 1e6 / redis:,.0f} inquiries a second, as many as"
        f" {cost / redis:.0f} worker cores ask. Beyond that payments are spread over several"
        " deployments, each with its own Redis: by account, as accounts share nothing."
    )
