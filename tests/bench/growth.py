"""(c) How cost grows with what is open: a thousand payments, ..., a million.

The servers are filled once and stay up; then each round measures all of them in turn. Measured are
other payments, which are due, among those that lie there.
"""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from jobs.stuck import report_stuck
from jobs.sweep import sweep
from tests.bench import gateway, seed
from tests.bench.fill import fill, original
from tests.bench.frame import Part, Promise, Sizes, Table, interleaved, middle, ratios
from tests.bench.inquiry import DELAYS, KEYS, STATUSES
from tests.bench.measure import between, percentile
from tests.bench.server import TcpServer, redis_server
from tests.servers import bare, environ, process, reconciler
from worker.tools import open_tools

MOST_BYTES = 2048
_LATER = 40  #: payments by which it is seen how soon one is taken up
_NO_REWRITES = ("--auto-aof-rewrite-percentage", "0")


@dataclass(frozen=True, slots=True)
class Run:
    cpu: float  #: µs of the worker for an inquiry
    redis: float  #: and of Redis
    late: float  #: ms after its time that a payment was taken up: median
    sweep: float  #: ms
    watch: float  #: ms that the search for stuck payments takes
    pending: float  #: seconds of `reconciler pending`


@dataclass
class Filled:
    """A server with so many payments open."""

    server: TcpServer
    count: int
    bytes_each: float
    rounds: int = 0

    def measure(self, payments: int) -> Run:
        self.rounds += 1
        names = [f"round{self.rounds}-{number:06}" for number in range(payments)]
        total = payments * len(STATUSES)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            line = gateway.running(gateway.answers(names, STATUSES), hold_at=total // 10)
            asked = stack.enter_context(line)
            given = environ(self.server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE=DELAYS)
            given |= {"SWEEP_SECONDS": "10"}
            swept, watched = asyncio.run(_rounds(given))
            pending = _pending(folder, given)
            asyncio.run(seed.track(given, names))
            with process(folder, given, *reconciler("worker")) as worker:
                pids = {"worker": worker.pid, "redis": self.server.pid or 0}
                spent = between(total // 10, total * 9 // 10, asked, pids)
                _all_ended(self.server.url, payments)
            late = _late(folder, given, names)
        return Run(spent.each(), spent.each("redis"), late, swept, watched, pending)


def _all_ended(url: str, count: int) -> None:
    ended = asyncio.run(seed.all_ended(url, KEYS, count))
    assert ended == count, f"{ended} of {count} ended"
    with Redis.from_url(url) as client:
        client.delete(KEYS.outcomes)


async def _rounds(given: Mapping[str, str]) -> tuple[float, float]:
    """Milliseconds of a sweep and of a search for stuck payments."""
    async with open_tools(seed.settings_of(given)) as (tools, _):
        await sweep(tools)  # the scripts are sent once
        began = time.monotonic()
        await sweep(tools)
        swept = time.monotonic()
        await report_stuck(tools)
        return (swept - began) * 1000, (time.monotonic() - swept) * 1000


def _pending(folder: Path, given: Mapping[str, str]) -> float:
    """Seconds that an operator waits for the list, which shows the first thousand."""
    began = time.monotonic()
    done = subprocess.run(
        reconciler("pending"), cwd=folder, env={**bare(), **given}, capture_output=True, check=True
    )
    assert b"copied-" in done.stdout, done.stderr
    return time.monotonic() - began


def _late(folder: Path, given: Mapping[str, str], names: Sequence[str]) -> float:
    """How long after its time a payment is taken up, by a worker that has little to do: ms."""
    names = [name.replace("round", "later") for name in names[:_LATER]]
    with (
        gateway.running(gateway.answers(names, STATUSES)) as asked,
        process(
            folder,
            {**given, "ALIPAY_GATEWAY_URL": asked.url, "LOG_LEVEL": "debug"},
            *reconciler("worker"),
        ) as worker,
    ):
        worker.wait_for("worker.started")
        for name in names:
            asyncio.run(seed.track(given, [name]))
        _all_ended(given["REDIS_URL"], len(names))
        return percentile([line["late_ms"] for line in worker.find("payment.woken")], 50)


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    copied = original()
    with ExitStack() as stack:
        filled = {}
        for count in sizes.open_payments:
            server = stack.enter_context(redis_server(*_NO_REWRITES))
            filled[count] = Filled(server, count, fill(server, copied, count))
            say(f"{count:,} open payments are there, {filled[count].bytes_each:,.0f} bytes each")
        payments = sizes.payments // 2
        runs = interleaved(
            sizes.rounds, list(filled), lambda count: filled[count].measure(payments), say
        )
        sizes_of = {count: each.bytes_each for count, each in filled.items()}
    least, most = min(runs), max(runs)
    return Part(
        tables=[
            Table(
                "(c) with so many payments open",
                (
                    "open",
                    "bytes of Redis each",
                    "worker CPU µs an inquiry",
                    "Redis CPU µs",
                    "taken up after ms",
                    "sweep ms",
                    "search for stuck ones ms",
                    "`reconciler pending` s",
                ),
                [_row(count, sizes_of[count], each) for count, each in runs.items()],
            )
        ],
        promises=[
            Promise("(c) bytes of Redis for an open payment", sizes_of[most], MOST_BYTES),
            Promise(
                f"(c) CPU of an inquiry at {most:,} open ÷ at {least:,}",
                ratios(runs[most], runs[least], lambda run: run.cpu),
                1.15,
            ),
            Promise(
                f"(c) start latency at {most:,} open ÷ at {least:,}",
                ratios(runs[most], runs[least], lambda run: run.late),
                1.15,
            ),
        ],
        raw={str(count): [asdict(run) for run in each] for count, each in runs.items()},
    )


def _row(count: int, bytes_each: float, runs: Sequence[Run]) -> list[str | float | None]:
    figures: list[Callable[[Run], float]] = [
        lambda run: run.cpu,
        lambda run: run.redis,
        lambda run: run.late,
        lambda run: run.sweep,
        lambda run: run.watch,
        lambda run: run.pending,
    ]
    return [f"{count:,}", bytes_each, *(middle(runs, figure) for figure in figures)]
