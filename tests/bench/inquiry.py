"""(a) What an inquiry costs the worker: beside the floor, and beside other queues doing the same.

Each contestant is a process of its own. All of them ask the same gateway about the same number of
payments, each of which is paid at the third inquiry; they keep the same records, write the same
log and verify by the same code. Each round has every contestant once, in turn.
"""

import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import gateway, seed
from tests.bench.frame import (
    Part,
    Promise,
    Sizes,
    Table,
    installed,
    interleaved,
    middle,
    ratios,
)
from tests.bench.measure import Spent, between
from tests.bench.server import redis_server
from tests.keys import private_key
from tests.servers import ROOT, bare, environ, process, reconciler
from worker.keys import Keys
from worker.signature import signature_header

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


def sampled(words: Sequence[str], file: Path) -> tuple[str, ...]:
    """The same module, with what it spends its CPU on written to `file` at its end."""
    python, flag, *rest = words
    return (python, flag, "tests.bench.sampler", str(file), *rest)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who follows payments: how it is started, and what must be queued for it before."""

    name: str
    what: str
    words: tuple[str, ...]
    enqueue: tuple[str, ...] = ()
    keeps_records: bool = True
    ends_well: bool = False  #: told to end, and waited for


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
        *(
            Contestant(n, what, module(n, "work"), module(n, "enqueue"))
            for n, what in PEERS.items()
            if installed(n.partition("_")[0])
        ),
    ]


def follow(who: Contestant, payments: int, delay: float = 0.0) -> Run:
    """Have it follow so many payments to their end; counted is the middle of it."""
    with redis_server() as server, tempfile.TemporaryDirectory(prefix="bench-") as name:
        names, total = seed.names(payments), payments * len(STATUSES)
        with gateway.running(
            gateway.answers(names, STATUSES), delay=delay, hold_at=total // 10
        ) as asked:
            given = environ(server.url, KEYS.prefix, asked.url, RECONCILER_SCHEDULE=DELAYS)
            given |= {"SWEEP_SECONDS": "10"}
            if who.keeps_records:
                asyncio.run(seed.track(given, names))
            if who.enqueue:
                subprocess.run(who.enqueue, cwd=ROOT, env={**bare(), **given}, check=True)
            with process(Path(name), given, *who.words) as worker:
                pids = {"worker": worker.pid, "redis": server.pid or 0, "gateway": asked.pid}
                spent = between(total // 10, total * 9 // 10, asked, pids)
                ended = 0
                if who.keeps_records:
                    ended = asyncio.run(seed.all_ended(server.url, KEYS, payments))
                if who.ends_well:
                    worker.signal(signal.SIGTERM)
                    worker.ended()
        return Run(spent, ended, asked.checked)


def measure(sizes: Sizes, say: Callable[[str], None]) -> Part:
    everyone = {who.name: who for who in contestants(sizes.payments)}
    runs = interleaved(
        sizes.rounds, list(everyone), lambda name: follow(everyone[name], sizes.payments), say
    )
    for name, each in runs.items():
        _check(everyone[name], each, sizes.payments)
    floor, ours, tuned = runs["floor"], runs["ours"], runs["arq_tuned"]
    signing = signatures_a_second()
    return Part(
        tables=[
            Table(
                "(a) an inquiry",
                ("", "CPU µs", "× the floor", "beyond the floor, µs", "Redis CPU µs", "a second"),
                [_row(everyone[name], each, floor) for name, each in runs.items()],
            )
        ],
        promises=[
            Promise("(a) CPU beyond the floor ÷ the floor", _beyond(ours, floor), 0.5, goal=0.25),
            Promise(
                "(a) CPU beyond the floor: tuned arq ÷ ours",
                _beyond(tuned, floor) / _beyond(ours, floor),
                2.0,
                at_least=True,
            ),
            Promise(
                "(a) inquiries a second ÷ signatures a second of one core",
                middle(ours, lambda run: run.spent.rate) / signing,
                0.85,
                at_least=True,
            ),
        ],
        notes=[f"One core makes {signing:,.0f} RSA-2048 signatures a second, alone."],
        raw={name: [asdict(run) for run in each] for name, each in runs.items()},
    )


def _check(who: Contestant, runs: Sequence[Run], payments: int) -> None:
    for run in runs:
        assert run.checked > 0, f"{who.name}: no request was looked at"
        assert not who.keeps_records or run.ended == payments, f"{who.name}: {run.ended} ended"


def _each(run: Run) -> float:
    return run.spent.each()


def _beyond(runs: Sequence[Run], floor: Sequence[Run]) -> float:
    return ratios(runs, floor, _each) - 1


def _row(who: Contestant, runs: Sequence[Run], floor: Sequence[Run]) -> list[str | float | None]:
    cost, least = middle(runs, _each), middle(floor, _each)
    redis = middle(runs, lambda run: run.spent.each("redis")) if who.keeps_records else None
    rate = middle(runs, lambda run: run.spent.rate)
    return [who.what, cost, ratios(runs, floor, _each), cost - least, redis, rate]


def signatures_a_second(seconds: float = 1.0) -> float:
    """What one core does alone, by its CPU time: the most that can be asked for."""
    message = gateway.question("bench-0000000")
    began, made = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds:
        signature_header(message, private_key("merchant_v1"), 1)
        made += 1
    return made / spent
