"""What one machine carries: `python -m tests.sizing`, or `make sizing`.

Memory that a payment takes in Redis, and what a receiver and a worker do in a second, as processes
with the durability that is the default. Load, mock gateway and Redis share the machine with them:
a figure is what is left for us, and only ratios of one run say much.
"""

import argparse
import asyncio
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis as plain_redis
from redis.asyncio import Redis

from jobs.model import Money, Payment, Status, Via
from tests.failover import posts, streaming
from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import (
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    put,
    reconciler,
    until,
)
from worker.client import track
from worker.keys import Keys
from worker.mock_gateway import MockConfig, start

KEYS = Keys("sizing")
LIFE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Speed:
    """How much was done in how long, and what the process took."""

    what: str
    count: int
    seconds: float
    cpu_seconds: float
    rss_mib: int

    def __str__(self) -> str:
        rate, cpu = self.count / self.seconds, self.cpu_seconds / self.count * 1000
        return f"{self.what:<34}{rate:>8,.0f} a second{cpu:>8.2f} CPU ms each{self.rss_mib:>6} MiB"


def spent(pid: int) -> tuple[float, int]:
    """CPU seconds and MiB of a process, as Linux counts them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100, int(fields[21]) * 4096 >> 20


async def timed(what: str, count: int, pid: int, work: Callable[[], Awaitable[object]]) -> Speed:
    begun, before = time.monotonic(), spent(pid)[0]
    await work()
    seconds, (after, rss) = time.monotonic() - begun, spent(pid)
    return Speed(what, count, seconds, after - before, rss)


# Memory


def payment(number: int) -> Payment:
    now = now_ms()
    return Payment(
        client_id=CLIENT_ID,
        payment_request_id=f"order-{number:012}",
        amount=Money("USD", 599),
        tracked_at=now,
        closing_time=now + LIFE_SECONDS * 1000,
        payment_id=f"20261124190741040001001880{number:08}",
        result_code="SUCCESS",
        attempts=7,
        tries=7,
        found=True,
        asked_at=now,
        tried_at=now,
        next_at=now + 30_000,
        updated_at=now,
        version=7,
    )


def entry(source: str, what: str, detail: str = "") -> dict[str, object]:
    return {"at": now_ms(), "source": source, "what": what, "detail": detail}


OPEN = (entry("command", "payment.track", "USD 599"), entry("inquiry", "not_yet", "SUCCESS"))
ENDED = (*OPEN, entry("notification", "paid", "SUCCESS"), entry("status", "succeeded"))


Write = Callable[["plain_redis.client.Pipeline", int], object]


def taken(write: Write, count: int) -> float:
    """Bytes that one of so many takes, in a server of their own."""
    with own_server() as server, plain_redis.Redis.from_url(server.url) as client:
        before = _used(client)
        for first in range(0, count, 1000):
            pipe = client.pipeline(transaction=False)
            for number in range(first, first + 1000):
                write(pipe, number)
            pipe.execute()
        return (_used(client) - before) / count


def _used(client: plain_redis.Redis) -> int:
    found: Any = client.info("memory")
    return int(found["used_memory"])


def memory(count: int) -> dict[str, float]:
    """Bytes that each of these takes in Redis."""

    def ended(pipe: "plain_redis.client.Pipeline", number: int) -> None:
        done = replace(payment(number), status=Status.SUCCEEDED, via=Via.NOTIFICATION)
        put(pipe, KEYS, replace(done, final_at=now_ms(), told=("succeeded",)), *ENDED)
        pipe.zrem(KEYS.open, done.key)

    def event(pipe: "plain_redis.client.Pipeline", number: int) -> None:
        id_ = f"{CLIENT_ID}:order-{number:012}:succeeded"
        fields: dict[Any, Any] = {
            "id": id_,
            "type": "payment.succeeded",
            "clientId": CLIENT_ID,
            "data": "x" * 900,
        }
        pipe.xadd(KEYS.outcomes, fields)

    def parked(pipe: "plain_redis.client.Pipeline", number: int) -> None:
        key = f"{CLIENT_ID}:order-{number:012}"
        pipe.rpush(KEYS.inbox(key), notification(paid(f"order-{number:012}")).body)
        pipe.zadd(KEYS.parked, {key: now_ms()})

    wanted: dict[str, Write] = {
        "an open payment": lambda pipe, n: put(pipe, KEYS, payment(n), *OPEN),
        "a payment that ended, 35 days": ended,
        "an outcome, at least 7 days": event,
        "a parked notification, 72 hours": parked,
    }
    return {what: taken(write, count) for what, write in wanted.items()}


# Speed


async def received(folder: Path, url: str, count: int) -> Speed:
    """Notifications that a receiver verifies, keeps on disk and acknowledges."""
    given = environ(url, KEYS.prefix, "http://127.0.0.1:9")
    traffic = await asyncio.to_thread(posts, "bench", count)
    with process(folder, given, *reconciler("receiver")) as receiver:
        started = await asyncio.to_thread(receiver.wait_for, "receiver.started")
        port = int(started["addresses"][0].rpartition(",")[2].strip(" )"))
        async with streaming(port) as stream:
            waiting = list(traffic.items())

            async def in_turn() -> None:
                while waiting:
                    await stream.send(*waiting.pop())

            async def send() -> None:
                await asyncio.gather(*(in_turn() for _ in range(64)))

            speed = await timed("notifications acknowledged", count, receiver.pid, send)
            assert stream.answers == {200: count}, stream.answers
    return speed


async def followed(folder: Path, url: str, payments: int, seconds: float) -> Speed:
    """Inquiries that a worker makes while more payments are due than it can ask about."""
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        merchant_public_keys={1: public_key("merchant_v1")},
    )
    mock, client = await start(config), Redis.from_url(url)
    given = environ(url, KEYS.prefix, mock.url, RECONCILER_SCHEDULE="0.2", LOG_CONDENSED="false")
    try:
        for number in range(payments):
            name = f"never_paid-{number}"
            mock.ledger.create(name, Money("USD", 599), now_ms(), life=LIFE_SECONDS * 1000)
            await track(client, name, "USD", 599, expires_in=LIFE_SECONDS, prefix=KEYS.prefix)
        with process(folder, given, *reconciler("worker")) as worker:

            def asked() -> int:
                return worker.said.count('"inquiry.completed"')

            await until(lambda: asyncio.to_thread(lambda: asked() >= payments), 120)
            before = asked()
            speed = await timed(
                "inquiries answered and written", 1, worker.pid, lambda: asyncio.sleep(seconds)
            )
            return replace(speed, count=asked() - before)
    finally:
        await client.aclose()
        await mock.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sizing", description=__doc__)
    parser.add_argument("--payments", type=int, default=500)
    parser.add_argument("--notifications", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sizing-")))
        server = stack.enter_context(own_server())
        client = stack.enter_context(plain_redis.Redis.from_url(server.url))
        print(f"{platform.machine()}, Python {platform.python_version()}")
        for what, size in memory(20_000).items():
            print(f"{what:<34}{size:>8,.0f} bytes")
        print(asyncio.run(received(folder, server.url, args.notifications)))
        client.flushall(asynchronous=False)
        print(asyncio.run(followed(folder, server.url, args.payments, args.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
