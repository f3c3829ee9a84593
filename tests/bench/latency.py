"""(d) From a notification to its published outcome, with a healthy gateway and with one that hangs.

Receiver and worker are processes, Redis is on disk, and `rate` notifications come a second, each of
another payment. Half as many payments again are followed and never told of, so the worker has
inquiries to make, and where the gateway hangs, to wait for.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from tests.bench import gateway, seed
from tests.bench.frame import Part, Promise, Sizes, Table, interleaved, middle
from tests.bench.inquiry import KEYS
from tests.bench.load import connected, requests
from tests.bench.measure import PATIENCE_SECONDS, percentile
from tests.bench.receiver import port_of
from tests.bench.server import redis_server
from tests.servers import environ, process, reconciler

INQUIRED_EVERY = "20"  #: seconds
HANGS = 3600.0
_CHUNKS = 10
CASES = {"healthy": 0.0, "hanging": HANGS}  #: seconds that the gateway takes for an answer


@dataclass(frozen=True, slots=True)
class Run:
    p50: float  #: ms
    p99: float
    slowest: float
    told: int  #: payments whose success was published


def told(case: str, rate: int, seconds: float) -> Run:
    """So many notifications a second, to a worker whose gateway is well, or hangs."""
    count = int(rate * seconds)
    names = seed.names(count * 3 // 2)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(on_disk=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        given = gateway.answers(names, ("PROCESSING",))
        asked = stack.enter_context(gateway.running(given, delay=CASES[case]))
        settings = environ(server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE=INQUIRED_EVERY)
        settings |= {"SWEEP_SECONDS": "10", "GATEWAY_TIMEOUT_SECONDS": "10"}
        for number in range(_CHUNKS):  # so that first inquiries come all the while
            first = {"RECONCILER_SCHEDULE": f"{0.5 + seconds * number / _CHUNKS:.1f}"}
            asyncio.run(seed.track(settings | first, names[number::_CHUNKS]))
        worker = stack.enter_context(process(folder, settings, *reconciler("worker")))
        receiver = stack.enter_context(process(folder, settings, *reconciler("receiver")))
        worker.wait_for("worker.started")
        port = port_of(receiver, "ours")
        sent = asyncio.run(_sent(port, names[:count], rate))
        published = _published(server.url, count)
        assert asked.answered, "nobody asked the gateway anything"
    late = [published[name] - at for name, at in sent.items() if name in published]
    return Run(percentile(late, 50), percentile(late, 99), max(late), len(late))


async def _sent(port: int, names: Sequence[str], rate: float) -> dict[str, float]:
    """When each notification was due, in ms since 1970."""
    waiting = await asyncio.to_thread(requests, names)
    async with connected(port) as load:
        began = time.time() * 1000
        await load.steadily(waiting, rate)
    return {name: began + number * 1000 / rate for number, name in enumerate(names)}


def _published(url: str, count: int) -> dict[str, float]:
    """When Redis wrote the outcome of each payment, in ms since 1970."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    with Redis.from_url(url) as client:
        while int(client.xlen(KEYS.outcomes)) < count and time.monotonic() < give_up:
            time.sleep(0.1)
        return {
            fields[b"paymentRequestId"].decode(): float(id_.partition(b"-")[0])
            for id_, fields in client.xrange(KEYS.outcomes)
            if fields[b"type"] == b"payment.succeeded"
        }


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    runs = interleaved(
        sizes.rounds, list(CASES), lambda case: told(case, sizes.rate, sizes.seconds), say
    )
    count = int(sizes.rate * sizes.seconds)
    assert all(run.told == count for each in runs.values() for run in each), runs
    healthy, hanging = (middle(runs[case], lambda run: run.p99) for case in CASES)
    return Part(
        tables=[
            Table(
                f"(d) notification to published outcome, {sizes.rate} a second",
                ("the gateway is", "p50 ms", "p99 ms", "slowest ms"),
                [_row(case, each) for case, each in runs.items()],
            )
        ],
        promises=[
            Promise("(d) p99 ms", healthy, 50.0),
            Promise("(d) p99 with the gateway hanging ÷ healthy", hanging / healthy, 2.0),
        ],
        raw={case: [asdict(run) for run in each] for case, each in runs.items()},
    )


def _row(case: str, runs: Sequence[Run]) -> list[str | float | None]:
    figures: list[Callable[[Run], float]] = [
        lambda run: run.p50,
        lambda run: run.p99,
        lambda run: run.slowest,
    ]
    return [case, *(middle(runs, figure) for figure in figures)]
