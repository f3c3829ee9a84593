"""(b) What an acknowledged notification costs the receiver, its durable write included.

Beside a bare aiohttp handler, which keeps nothing, and beside our own handler with the official
SDK's verifier in it. Each notification is of another payment, and that payment is followed.
"""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import Redis

from tests.bench import seed
from tests.bench.frame import Part, Promise, Sizes, Table, installed, interleaved, middle, ratios
from tests.bench.inquiry import KEYS, module, sampled
from tests.bench.load import connected, requests
from tests.bench.measure import Spent, percentile, resident_mib
from tests.bench.server import redis_server
from tests.keys import CLIENT_ID
from tests.servers import Process, environ, process, reconciler

NAMES = {
    "bare": "a bare aiohttp handler, which keeps nothing",
    "ours": "reconciler receiver",
    "sdk": "reconciler receiver with the official SDK's verifier",
}
WORDS = {
    "bare": module("bare_receiver"),
    "ours": reconciler("receiver"),
    "sdk": module("sdk_receiver", "receiver"),
}


@dataclass(frozen=True, slots=True)
class Run:
    spent: Spent
    p50: float  #: ms from when a notification is due to its ack, at half the load it can take
    p99: float
    rss: int
    kept: int  #: notifications in the inboxes of their payments


def received(who: str, count: int, samples: Path | None = None) -> Run:
    """As fast as it goes, then as many at half that rate. With `samples` it is told to end, and
    what it spent its CPU on is written there."""
    words = sampled(WORDS[who], samples) if samples else WORDS[who]
    names = seed.names(2 * count)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(on_disk=True))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        given = environ(server.url, KEYS.prefix, "http://127.0.0.1:9")
        asyncio.run(seed.track(given, names))
        running = stack.enter_context(process(Path(folder), given, *words))
        waiting = requests(names)
        spent, late = asyncio.run(_sent(running, who, waiting[:count], waiting[count:]))
        kept = _kept(server.url, names) if who != "bare" else 0
        rss = resident_mib(running.pid)
        if samples:
            running.signal(signal.SIGTERM)
            running.ended()
    return Run(spent, percentile(late, 50) * 1000, percentile(late, 99) * 1000, rss, kept)


async def _sent(
    running: Process, who: str, fast: Sequence[bytes], steady: Sequence[bytes]
) -> tuple[Spent, list[float]]:
    port = await asyncio.to_thread(port_of, running, who)
    async with connected(port) as load:
        spent = await load.as_fast_as_it_goes(fast, {"receiver": running.pid})
        await load.steadily(steady, spent.rate / 2)
        return spent, load.late


def port_of(running: Process, who: str) -> int:
    if who == "bare":
        return int(running.stdout_line())
    started = running.wait_for("receiver.started")
    return int(started["addresses"][0].rpartition(",")[2].strip(" )"))


def _kept(url: str, names: Sequence[str]) -> int:
    with Redis.from_url(url) as client, client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(KEYS.inbox(f"{CLIENT_ID}:{name}"))
        return sum(pipe.execute())


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    whom = [who for who in NAMES if who != "sdk" or installed("com")]
    runs = interleaved(sizes.rounds, whom, lambda who: received(who, sizes.notifications), say)
    for who, each in runs.items():
        for run in each:
            wanted = 0 if who == "bare" else 2 * sizes.notifications
            assert run.kept == wanted, f"{who}: {run.kept} of {wanted} were kept"
    return Part(
        tables=[
            Table(
                "(b) a notification, verified, on disk and acknowledged",
                ("", "CPU µs", "× bare", "a second", "p50 ms at half that", "p99 ms", "MiB"),
                [_row(who, each, runs["bare"]) for who, each in runs.items()],
            )
        ],
        promises=list(_promises(runs)),
        raw={who: [asdict(run) for run in each] for who, each in runs.items()},
    )


def _promises(runs: Mapping[str, Sequence[Run]]) -> Iterator[Promise]:
    yield Promise("(b) CPU ÷ the bare handler's", ratios(runs["ours"], runs["bare"], _each), 3.0)
    if "sdk" in runs:
        share = ratios(runs["sdk"], runs["ours"], _each)
        yield Promise("(b) CPU with the official SDK's verifier ÷ ours", share, 1.5, at_least=True)


def _each(run: Run) -> float:
    return run.spent.each("receiver")


def _row(who: str, runs: Sequence[Run], bare: Sequence[Run]) -> list[str | float | None]:
    figures: list[Callable[[Run], float]] = [
        lambda run: run.spent.rate,
        lambda run: run.p50,
        lambda run: run.p99,
        lambda run: run.rss,
    ]
    told = [middle(runs, figure) for figure in figures]
    return [NAMES[who], middle(runs, _each), ratios(runs, bare, _each), *told]
