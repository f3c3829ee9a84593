"""How long a merchant waits for an outcome, from the notification on: while the gateway answers
inquiries, and while it hangs. Both in one run, in turns; what counts is the ratio.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from jobs.model import Payment
from jobs.schedule import HOUR, SECOND
from tests.servers import (
    OtherServer,
    environ,
    notification,
    now_ms,
    paid,
    process,
    reconciler,
    send,
)
from tests.stress.gateway import Moody, moody_gateway
from tests.stress.stage import FAST, KEYS, PREFIX, fill, payment, stage

DELAY = 5  #: seconds between inquiries of one payment, as at its beginning
SETTLE = 2.0  #: seconds after the gateway changes until the first notification is sent


@dataclass(frozen=True, slots=True)
class Latency:
    """Of the notifications of one mood, milliseconds."""

    mood: str
    p50: float
    p99: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int = 3  #: of each mood
    rate: int = 50  #: notifications a second
    seconds: int = 15
    others: int = 500  #: payments that are only asked about

    @property
    def count(self) -> int:
        return self.rate * self.seconds


def measure(sizes: Sizes) -> list[Latency]:
    with stage() as (server, folder):
        return asyncio.run(_measure(server, folder, sizes))


async def _measure(server: OtherServer, folder: Path, sizes: Sizes) -> list[Latency]:
    async with moody_gateway() as gateway, Redis.from_url(server.url) as redis:
        given = environ(server.url, PREFIX, gateway.url, **FAST)
        given |= {"RECONCILER_SCHEDULE": str(DELAY), "GATEWAY_TIMEOUT_SECONDS": "10"}
        with (
            process(folder, given, *reconciler("receiver")) as receiver,
            process(folder, given, *reconciler("worker")) as worker,
        ):
            started = await asyncio.to_thread(receiver.wait_for, "receiver.started", 60)
            await asyncio.to_thread(worker.wait_for, "worker.started", 60)
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            await fill(redis, _payments("other", sizes.others))
            return [
                await _one(redis, gateway, port, sizes, number, mood)
                for number in range(sizes.rounds)
                for mood in ("well", "hang")
            ]


def _payments(kind: str, count: int) -> Sequence[Payment]:
    now = now_ms()
    due = random.Random(kind)
    return [payment(f"{kind}-{n}", now, HOUR, due.randrange(DELAY * SECOND)) for n in range(count)]


async def _one(
    redis: Redis, gateway: Moody, port: int, sizes: Sizes, number: int, mood: str
) -> Latency:
    """The hole opens while payments are in the midst of being asked about."""
    kind = f"{mood}{number}"
    await fill(redis, _payments(kind, sizes.count))
    await asyncio.sleep(DELAY)
    gateway.mood = mood
    last = await redis.xinfo_stream(KEYS.outcomes) if await redis.exists(KEYS.outcomes) else None
    begin = last["last-generated-id"] if last else "0"
    reading = asyncio.create_task(_read(redis, begin, kind, sizes.count))
    sent = await _send(port, kind, sizes)
    told = await asyncio.wait_for(reading, 60)
    gateway.mood = "well"
    await asyncio.sleep(SETTLE + DELAY)  # the breaker closes, and who waited is asked for
    waits = sorted((told[name] - at) * SECOND for name, at in sent.items())
    return Latency(mood, statistics.median(waits), waits[int(len(waits) * 0.99)], len(waits))


async def _send(port: int, kind: str, sizes: Sizes) -> dict[str, float]:
    """When each was sent; the posts are signed before."""
    names = [f"{kind}-{n}" for n in range(sizes.count)]
    wires = {name: notification(paid(name, paymentId=f"2026{name}")).wire() for name in names}
    sent, tasks, begin = dict[str, float](), [], time.monotonic()
    for n, name in enumerate(names):
        await asyncio.sleep(max(begin + n / sizes.rate - time.monotonic(), 0))
        sent[name] = time.monotonic()
        tasks.append(asyncio.create_task(send(port, wires[name])))
    await asyncio.gather(*tasks)
    return sent


async def _read(redis: Redis, last: str | bytes, kind: str, count: int) -> dict[str, float]:
    told: dict[str, float] = {}
    while len(told) < count:
        for _, entries in await redis.xread({KEYS.outcomes: last}, block=1000, count=500):
            last = entries[-1][0]
            for _, fields in entries:
                name = fields[b"paymentRequestId"].decode()
                if name.startswith(f"{kind}-"):
                    told[name] = time.monotonic()
    return told


def told(found: Sequence[Latency]) -> str:
    rows = [f"{'gateway':10}{'p50 ms':>10}{'p99 ms':>10}{'notifications':>16}"]
    rows += [f"{one.mood:10}{one.p50:10.1f}{one.p99:10.1f}{one.count:16}" for one in found]
    rows.append(f"median p99 while it hangs is {ratio(found):.2f} x that while it is well")
    return "\n".join(rows)


def ratio(found: Sequence[Latency]) -> float:
    p99 = {
        mood: statistics.median(one.p99 for one in found if one.mood == mood)
        for mood in ("well", "hang")
    }
    return p99["hang"] / p99["well"]
