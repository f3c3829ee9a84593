"""(a) What an inquiry costs the worker: beside the floor, and beside other queues doing the same.

Each contestant is a process of its own. All of them ask the same gateway about the same number of
payments, each of which is paid at the third inquiry; they keep the same records, write the same
log and verify by the same code. Each round has every contestant once, in turn.
"""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from tests.bench import gateway, seed
from tests.bench.measure import Spent, between
from tests.bench.server import redis_server
from tests.servers import ROOT, bare, environ, process, reconciler
from worker.keys import Keys

KEYS = Keys("bench")
STATUSES = ("PROCESSING", "PROCESSING", "SUCCESS")  #: what an inquiry is answered, one by one
DELAYS = "0.2"  #: between the inquiries about a payment: there is always one due

PEERS = {
    "arq_tuned": "stock arq, tuned",
    "arq_naive": "stock arq, as documented",
    "saq": "SAQ",
    "taskiq": "taskiq, Redis streams",
    "streaq": "streaq",
}


def module(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.bench.peers.{name}", *words)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who follows payments: how it is started, and what must be queued for it before."""

    name: str
    what: str
    words: tuple[str, ...]
    enqueue: tuple[str, ...] = ()
    keeps_records: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant in one round."""

    spent: Spent
    ended: int  #: payments whose end was published
    checked: int  #: requests whose signatures were verified


def contestants(payments: int) -> list[Contestant]:
    return [
        Contestant(
            "floor",
            "sign, exchange, verify: nothing else",
            module("floor", str(payments), str(len(STATUSES))),
            keeps_records=False,
        ),
        Contestant("ours", "reconciler worker", reconciler("worker")),
        *(Contestant(n, what, module(n, "work"), module(n, "enqueue")) for n, what in PEERS.items()),
    ]


def follow(who: Contestant, payments: int, delay: float = 0.0, workers: int = 1) -> Run:
    """Have it follow so many payments to their end; counted is the middle of it."""
    with redis_server() as server, tempfile.TemporaryDirectory(prefix="bench-") as name:
        names, total = seed.names(payments), payments * len(STATUSES)
        with gateway.running(gateway.answers(names, STATUSES), delay=delay) as asked:
            given = environ(server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE=DELAYS)
            given |= {"SWEEP_SECONDS": "10"}
            if who.keeps_records:
                asyncio.run(seed.track(given, names))
            if who.enqueue:
                subprocess.run(who.enqueue, cwd=ROOT, env={**bare(), **given}, check=True)
            with process(Path(name), given, *who.words) as worker:
                pids = {"worker": worker.pid, "redis": server.pid or 0, "gateway": asked.pid}
                spent = between(total // 10, total * 9 // 10, lambda: asked.answered, pids)
                ended = asyncio.run(_ended(server.url, payments)) if who.keeps_records else 0
        return Run(spent, ended, asked.checked)


async def _ended(url: str, payments: int) -> int:
    """Wait until each payment's end is published."""
    async with Redis.from_url(url) as redis:
        for _ in range(600):
            if await redis.xlen(KEYS.outcomes) >= payments:
                break
            await asyncio.sleep(0.1)
        return (await seed.ended(redis, KEYS)).get("payment.succeeded", 0)
