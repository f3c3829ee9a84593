"""(e) A worker is killed with payments in hand, and another one starts at once.

What it had in hand is its for the length of a lease; all else the next worker takes up as soon as
it runs.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from jobs.tools import LEASE
from tests.bench import gateway, seed
from tests.bench.frame import Part, Sizes, Table, middle
from tests.bench.inquiry import KEYS, STATUSES
from tests.bench.measure import PATIENCE_SECONDS
from tests.bench.server import redis_server
from tests.servers import environ, now_ms, process, reconciler, wait_until

PAYMENTS = 200
ANSWER_SECONDS = 0.3  #: that the gateway takes, so that payments are in hand


@dataclass(frozen=True, slots=True)
class Run:
    in_hand: int
    started: float  #: seconds from the kill until another worker runs
    first: float  #: until it has its first answer
    again: float  #: until all that was in hand has been asked about again
    lost: int  #: payments that never ended


def killed() -> Run:
    names = seed.names(PAYMENTS)
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(on_disk=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        given = gateway.answers(names, STATUSES)
        asked = stack.enter_context(gateway.running(given, delay=ANSWER_SECONDS))
        settings = environ(server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE="0.5")
        settings |= {"SWEEP_SECONDS": "10"}
        asyncio.run(seed.track(settings, names))
        client = stack.enter_context(Redis.from_url(server.url))
        with process(folder, settings, *reconciler("worker")):
            wait_until(lambda: asked.answered >= PAYMENTS // 2, PATIENCE_SECONDS)
        at, began, before = now_ms(), time.monotonic(), asked.answered
        held = _in_hand(client, at)
        worker = stack.enter_context(process(folder, settings, *reconciler("worker")))
        worker.wait_for("worker.started")
        started = time.monotonic() - began
        wait_until(lambda: asked.answered > before, PATIENCE_SECONDS)
        first = time.monotonic() - began
        wait_until(lambda: not _untouched(client, held, at), PATIENCE_SECONDS)
        again = time.monotonic() - began
        ended = asyncio.run(seed.all_ended(server.url, KEYS, PAYMENTS))
    return Run(len(held), started, first, again, PAYMENTS - ended)


def _in_hand(client: Redis, at: int) -> list[str]:
    """Payments that a worker holds: their lease ends later than any is due."""
    due = at + LEASE // 2
    found: Any = client.zrangebyscore(KEYS.open, due, at + 2 * LEASE)
    return [key.decode() for key in found]


def _untouched(client: Redis, keys: Sequence[str], at: int) -> list[str]:
    """Those whose record nobody has written since."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hget(KEYS.payment(key), "updatedAt")
        found = pipe.execute()
    return [key for key, when in zip(keys, found, strict=True) if int(when) < at]


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    runs = []
    for number in range(sizes.kills):
        runs.append(killed())
        say(f"kill {number + 1} of {sizes.kills}")
    assert all(run.lost == 0 for run in runs), runs
    figures: list[Callable[[Run], float]] = [
        lambda run: run.in_hand,
        lambda run: run.started,
        lambda run: run.first,
        lambda run: run.again,
        lambda run: run.lost,
    ]
    return Part(
        tables=[
            Table(
                "(e) after a kill -9 of the worker, in seconds",
                ("", "in hand", "started", "first answer", "all in hand again", "lost"),
                [["another one starts at once", *(middle(runs, each) for each in figures)]],
            )
        ],
        notes=[f"A lease lasts {LEASE // 1000} s: what a dead worker holds nobody takes before."],
        raw={"kills": [asdict(run) for run in runs]},
    )
