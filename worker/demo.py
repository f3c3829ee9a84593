"""`reconciler demo`: the main job in a minute, on this machine alone.

A real Valkey, a receiver and a worker, each its own process, and a gateway in a box that loses,
doubles and forges messages, hangs and lies. Most orders are the merchant's and are followed; some
are left to the worker, which pays them itself. Every payment's end is held against the gateway's
own ledger of the truth.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
from redis.asyncio import Redis

from jobs.model import FINAL
from jobs.outcome import rfc3339
from worker import client
from worker.embedded import NoServer, embedded_server
from worker.keys import Keys
from worker.mock_gateway.command import make_keys
from worker.mock_gateway.ledger import Truth, agrees
from worker.mock_gateway.scenarios import SCENARIOS, SUBMITTED, Scenario
from worker.settings import SETTINGS as KNOWN
from worker.views import look_up, table

CLIENT_ID = "SANDBOX_5X00000000000000"
CLOSING_SECONDS = 10  #: an order's whole life; the vendor's is 14 minutes
AT_ONCE = 15  #: new payments a second: what one worker follows at this density of inquiries
PATIENCE_SECONDS = 40  #: after the last payment was tracked
CURRENCY, VALUE = "USD", 599

ENDS = frozenset(FINAL)
PLAYED = SCENARIOS | SUBMITTED

#: What the worker is to pay, in the gateway's own words: docs.antom.com/ac/ams/ec.
ORDER = {
    "referenceOrderId": "basket-7",
    "orderDescription": "Wrist strap",
    "merchant": {
        "referenceMerchantId": "M1",
        "merchantName": "Corner shop",
        "merchantMCC": "5411",
        "store": {"referenceStoreId": "S1", "storeName": "Corner", "storeMCC": "5411"},
    },
    "env": {"userAgent": "Mozilla/5.0 AliApp(AP/10.3) AlipayClient/10.3"},
}

#: Everything happens within seconds, so every delay shrinks with the closing time.
SETTINGS = {
    "ALIPAY_CLIENT_ID": CLIENT_ID,
    "ALIPAY_CLOSING_TIME_SECONDS": str(CLOSING_SECONDS),
    "RECEIVER_HOST": "127.0.0.1",
    "GATEWAY_TIMEOUT_SECONDS": "1.5",
    "RECONCILER_SCHEDULE": "0.6,1,1,1.5,1.5,2",
    "PENDING_SCHEDULE": "1,2",
    "UNRESOLVED_SCHEDULE": "3,6",
    "CANCEL_SCHEDULE": "0.5,0.5,1,1,2",
    "CANCEL_QUIET_SECONDS": "2",
    "CANCEL_LIMIT_SECONDS": "20",
    "LAST_INQUIRY_GRACE_SECONDS": "15",
    "NOT_FOUND_SETTLE_SECONDS": "3",
    "AFTERCARE_SCHEDULE": "1,3,6,10",
    "SWEEP_SECONDS": "2",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One payment of the demo: how it ended here, and whether the gateway's ledger agrees."""

    id: str
    scenario: str
    expected: str
    status: str
    why: str
    learned_by: str
    pays: int  #: that reached the gateway
    requests: int  #: different ones among them: one at most, or it might be paid twice
    inquiries: int
    cancels: int
    seconds: float
    truth: str
    agrees: bool
    told: tuple[str, ...]  #: the names of the outcomes published

    @property
    def right(self) -> bool:
        """Ended as expected and as the ledger says, told exactly once, and never paid for twice."""
        ends = [name for name in self.told if name in ENDS]
        told = ends == [self.status] or (not ends and "unresolved.1" in self.told)
        once = self.requests <= 1 and self.told.count("submitted") <= 1
        return self.agrees and self.status == self.expected and told and once


def demo(payments: int, seed: int, as_json: bool) -> int:
    """Run it; 0 if every payment ended as the gateway's ledger and its scenario say."""
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
            redis_url = stack.enter_context(embedded_server())
            world = stack.enter_context(_processes(folder, redis_url, seed))
            lines, seconds = asyncio.run(_follow(world, max(payments, 2 * len(PLAYED)), as_json))
            _show(lines, seconds, as_json)
            if all(line.right for line in lines):
                return 0
            _keep_logs(folder)
            return 1
    except (NoServer, NotStarted) as fault:
        print(f"reconciler: {fault}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM  # as shells say it; Ctrl-C ends as a KeyboardInterrupt


# The processes


class NotStarted(Exception):
    """A process of the demo did not start."""


@dataclass(frozen=True, slots=True)
class World:
    redis_url: str
    gateway_url: str
    processes: Mapping[str, "subprocess.Popen[bytes]"]


@contextlib.contextmanager
def _processes(folder: Path, redis_url: str, seed: int) -> Iterator[World]:
    """Mock gateway, receiver and worker; they end with the `with`, whatever happens in it."""
    make_keys(folder / "keys")
    receiver, gateway = _free_port(), _free_port()
    url = f"http://127.0.0.1:{gateway}"
    environ = {
        **_clean_environment(),
        **SETTINGS,
        "REDIS_URL": redis_url,
        "RECEIVER_PORT": str(receiver),
        "RECEIVER_ADMIN_PORT": "0",  # a reconciler of yours may be running
        "WORKER_ADMIN_PORT": "0",
        "ALIPAY_GATEWAY_URL": url,
        "ALIPAY_NOTIFY_URL": f"http://127.0.0.1:{receiver}/notify",
        "ALIPAY_PRIVATE_KEY_FILE": str(folder / "keys" / "merchant.key"),
        "ALIPAY_PUBLIC_KEYS_FILE": str(folder / "keys" / "gateway.pub"),
    }
    mock = ["mock-gateway", "--keys", str(folder / "keys"), "--port", str(gateway)]
    mock += ["--notify-url", f"http://127.0.0.1:{receiver}/notify", "--time-scale", "0.05"]
    mock += ["--closing-seconds", str(CLOSING_SECONDS), "--seed", str(seed)]
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, words in (("gateway", mock), ("receiver", ["receiver"]), ("worker", ["worker"])):
            processes[name] = _start(folder, name, words, environ)
        yield World(redis_url, url, processes)
    finally:
        _end(processes.values())


def _start(
    folder: Path, name: str, words: Sequence[str], environ: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "worker.cli", "--env-file", os.devnull, *words]
    with (folder / f"{name}.log").open("wb") as log:
        # A session of its own, so that Ctrl-C reaches us alone and we end them in order.
        return subprocess.Popen(
            command, env=dict(environ), stdout=log, stderr=log, start_new_session=True
        )


def _end(processes: Iterable["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _clean_environment() -> dict[str, str]:
    """Ours, without any setting of a real deployment."""
    ours = {entry.name for entry in KNOWN} | {f"{entry.name}_FILE" for entry in KNOWN}
    return {name: value for name, value in os.environ.items() if name not in ours}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# The merchant


async def _follow(world: World, count: int, quiet: bool) -> tuple[list[Line], float]:
    """Make the orders, have them followed, and wait until every one has ended."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    redis = Redis.from_url(world.redis_url)
    async with aiohttp.ClientSession(world.gateway_url) as gateway:
        try:
            await _until_up(world, gateway)
            started = time.monotonic()
            ids = _ids(count)
            await asyncio.gather(*(_buy(redis, gateway, i, id_) for i, id_ in enumerate(ids)))
            lines = await _until_ended(redis, gateway, ids, quiet)
            return lines, time.monotonic() - started
        finally:
            await redis.aclose()


def _ids(count: int) -> list[str]:
    names = list(PLAYED)
    return [f"{names[n % len(names)]}-{n // len(names) + 1}" for n in range(count)]


async def _buy(redis: Redis, gateway: aiohttp.ClientSession, n: int, id_: str) -> None:
    """What a merchant does: have an order made at the gateway, and have it followed; or leave both
    to the worker."""
    await asyncio.sleep(n / AT_ONCE)
    closing_time = rfc3339(round(time.time() * 1000) + CLOSING_SECONDS * 1000)
    if _scenario(id_).name in SUBMITTED:
        await client.submit(redis, id_, CURRENCY, VALUE, ORDER, expiry_time=closing_time)
        return
    order = {"paymentRequestId": id_, "amount": {"currency": CURRENCY, "value": str(VALUE)}}
    async with gateway.post("/mock/orders", json=order) as reply:
        reply.raise_for_status()
    if id_.startswith("notification_before_track"):
        await asyncio.sleep(1.5)
    await client.track(redis, id_, CURRENCY, VALUE, expiry_time=closing_time)


def _scenario(id_: str) -> Scenario:
    return PLAYED[id_.partition("-")[0]]


async def _until_up(world: World, gateway: aiohttp.ClientSession) -> None:
    """Return when the gateway answers; the receiver and the worker may take their time."""
    for _ in range(100):
        for name, process in world.processes.items():
            if process.poll() is not None:
                raise NotStarted(f"the demo's {name} ended at once, exit code {process.returncode}")
        with contextlib.suppress(aiohttp.ClientError):
            async with gateway.get("/mock/scenarios"):
                return
        await asyncio.sleep(0.1)
    raise NotStarted("the demo's gateway did not answer")


async def _until_ended(
    redis: Redis, gateway: aiohttp.ClientSession, ids: Sequence[str], quiet: bool
) -> list[Line]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        lines = await _compare(redis, gateway, ids)
        ended = sum(line.right for line in lines)
        if not quiet:
            _progress(ended, lines)
        if ended == len(lines) or time.monotonic() > deadline:
            return lines
        await asyncio.sleep(0.5)


async def _compare(redis: Redis, gateway: aiohttp.ClientSession, ids: Sequence[str]) -> list[Line]:
    ledger = [Truth.from_json(row) for row in await _get(gateway, "ledger")]
    truths = {truth.payment_request_id: truth for truth in ledger}
    pays: dict[str, list[str]] = defaultdict(list)
    for moment in await _get(gateway, "journal"):
        if moment["what"] == "pay":
            pays[moment["paymentRequestId"]].append(moment["detail"])
    told = await _told(redis)
    return [
        await _line(redis, truths.get(id_, Truth(payment_request_id=id_)), pays[id_], told[id_])
        for id_ in ids
    ]


async def _get(gateway: aiohttp.ClientSession, what: str) -> list[dict[str, Any]]:
    async with gateway.get(f"/mock/{what}") as reply:
        rows: list[dict[str, Any]] = await reply.json()
        return rows


async def _told(redis: Redis) -> dict[str, list[str]]:
    """What the merchant was told, by payment: the last part of each CloudEvents id, in order."""
    told: dict[str, list[str]] = defaultdict(list)
    for _, fields in await redis.xrange(Keys().outcomes):
        names = fields[b"id"].decode().split(":", 2)
        told[fields[b"paymentRequestId"].decode()].append(names[-1])
    return told


async def _line(redis: Redis, truth: Truth, pays: Sequence[str], told: Sequence[str]) -> Line:
    """`pays`: what each request to pay said, by its digest."""
    id_ = truth.payment_request_id
    found = await look_up(redis, "reconciler", CLIENT_ID, id_)
    record = found["payment"] if found else {"status": "untracked"}
    status, scenario = record["status"], _scenario(id_)
    marks = " ".join(json.loads(record.get("marks", "[]")))
    return Line(
        id=id_,
        scenario=scenario.name,
        expected=scenario.expects.value,
        status=status,
        why=record.get("reason") or marks or record.get("cause", ""),
        learned_by=record.get("via", ""),
        pays=len(pays),
        requests=len(set(pays)),
        inquiries=int(record.get("attempts", 0)),
        cancels=int(record.get("cancelAttempts", 0)),
        seconds=_seconds(record),
        truth=truth.status,
        agrees=agrees(status, truth) and truth.settled,
        told=tuple(told),
    )


# What is shown


def _progress(ended: int, lines: Sequence[Line]) -> None:
    if not sys.stderr.isatty():
        return
    width = 30
    filled = "#" * (width * ended // len(lines))
    print(
        f"\r[{filled:{width}}] {ended} of {len(lines)} ended", end="", file=sys.stderr, flush=True
    )
    if ended == len(lines):
        print(file=sys.stderr)


def _show(lines: Sequence[Line], seconds: float, as_json: bool) -> None:
    wrong = [line for line in lines if not line.right]
    if as_json:
        rows = [_as_row(line) | _judged(line) for line in lines]
        print(json.dumps({"payments": rows, "wrong": len(wrong), "seconds": round(seconds, 1)}))
        return
    print(table([_as_row(line) for line in lines]))
    for line in wrong:
        told = ", ".join(line.told) or "nothing"
        twice = f"; it was asked to pay by {line.requests} requests" if line.requests > 1 else ""
        print(
            f"WRONG: {line.id} is {line.status}, expected {line.expected};"
            f" the gateway's truth is {line.truth}; the merchant was told {told}{twice}"
        )
    agreed = len(lines) - len(wrong)
    print(
        f"\n{agreed} of {len(lines)} payments ended as the gateway's ledger says,"
        f" each told once, in {seconds:.0f} s"
    )


def _as_row(line: Line) -> dict[str, Any]:
    return {
        "payment": line.id,
        "ended": line.status,
        "because": line.why,
        "learned by": line.learned_by,
        "pays": line.pays,
        "inquiries": line.inquiries,
        "cancels": line.cancels,
        "seconds": line.seconds,
        "gateway": line.truth,
        "agree": "yes" if line.agrees else "NO",
    }


def _judged(line: Line) -> dict[str, Any]:
    return {"scenario": line.scenario, "expected": line.expected, "right": line.right}


def _seconds(record: Mapping[str, str]) -> float:
    """How long it took to end, or to be given to a person."""
    ended = record.get("finalAt") or record.get("phaseSince")
    if ended is None:
        return 0.0
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(record["trackedAt"])
    return round(took.total_seconds(), 1)


def _keep_logs(folder: Path) -> None:
    kept = Path(tempfile.mkdtemp(prefix="reconciler-demo-logs-"))
    for log in folder.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())
    print(f"logs of the processes: {kept}", file=sys.stderr)
