"""Thousands of open payments whose closing times pass while the gateway is away, and its return.

The hour of the outage is compressed: what matters is that all are overdue and in line by its end.
The rate limit, the two workers, the server and the clock are real.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from jobs.model import Ms, Payment
from jobs.schedule import SECOND
from tests.keys import CLIENT_ID
from tests.servers import OtherServer, environ, now_ms, process, reconciler
from tests.stress.gateway import Moody, moody_gateway
from tests.stress.stage import FAST, KEYS, PREFIX, fill, payment, stage
from worker.requests import api_path

WAITING = KEYS.waiting(CLIENT_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    payments: int = 50_000
    rate: int = 250  #: calls a second, by the setting
    outage: Ms = 120 * SECOND  #: within it all are due, and all closing times pass
    mood: str = "error"  #: or hang
    unpaid: float = 0.0  #: a share of them is not paid, and cancelled once that is answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    payments: int
    lined_up: float  #: seconds until all waited
    asked_while_away: int
    last_asked: float  #: seconds from the gateway's return until the last one was first asked about
    allowed: float  #: seconds: open / rate, and a tenth; cancels are calls, too
    out_of_order: float  #: seconds: the most that anybody was asked after one who closes later
    fastest: float  #: calls a second, in the fastest second
    too_early: int  #: cancels before an answered inquiry
    ended: int


def measure(sizes: Sizes) -> Found:
    with stage() as (server, folder):
        return asyncio.run(_measure(server, folder, sizes))


async def _measure(server: OtherServer, folder: Path, sizes: Sizes) -> Found:
    async with moody_gateway() as gateway, Redis.from_url(server.url) as redis:
        gateway.mood = sizes.mood
        gateway.status = lambda name: "PROCESSING" if _unpaid(name, sizes) else "SUCCESS"
        payments = list(_payments(sizes))
        await fill(redis, payments)
        given = environ(server.url, PREFIX, gateway.url, **FAST)
        given |= {"ALIPAY_RATE_LIMIT": str(sizes.rate), "RECONCILER_SCHEDULE": "5,10,30"}
        given |= {"LAST_INQUIRY_GRACE_SECONDS": "900", "AFTERCARE_SCHEDULE": "86400"}
        with (
            process(folder, given, *reconciler("worker")),
            process(folder, given, *reconciler("worker")),
        ):
            began = time.monotonic()
            await _wait(redis, len(payments), began + sizes.outage / SECOND)
            lined_up, away = time.monotonic() - began, len(gateway.calls)
            await _make_answers(gateway, payments)
            gateway.mood, back = "well", time.monotonic()
            await _until_ended(redis, len(payments), 300 + 3 * len(payments) / sizes.rate)
            return _found(sizes, payments, gateway.calls, back, lined_up, away)


def _payments(sizes: Sizes) -> Iterator[Payment]:
    now, chance = now_ms(), random.Random(1)
    for n in range(sizes.payments):
        closes_in = chance.randrange(-sizes.outage // 10, sizes.outage * 9 // 10)
        yield payment(f"order-{n}", now, closes_in, chance.randrange(sizes.outage * 9 // 10))


def _unpaid(name: str, sizes: Sizes) -> bool:
    return random.Random(name).random() < sizes.unpaid


async def _wait(redis: Redis, count: int, outage_ends: float) -> None:
    """Until the outage ends, and all but those that a probe may be about stand in line."""
    while time.monotonic() < outage_ends or await redis.zcard(WAITING) < count - 2:
        await asyncio.sleep(0.2)


async def _make_answers(gateway: Moody, payments: list[Payment]) -> None:
    """Signed before the return, in the order of asking; an answer is fresh for five minutes."""
    path = api_path(CLIENT_ID, "inquiryPayment")
    begin = time.monotonic()
    for each in sorted(payments, key=lambda payment: payment.closing_time):
        name = each.payment_request_id
        if time.monotonic() - begin > 60:
            return
        gateway.made[name] = gateway.make(path, name)
        await asyncio.sleep(0)


async def _until_ended(redis: Redis, count: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while await _ended(redis) < count:
        assert time.monotonic() < deadline, f"only {await _ended(redis)} of {count} have ended"
        await asyncio.sleep(0.5)


async def _ended(redis: Redis) -> int:
    """All that wait for nothing but aftercare are final."""
    soon = now_ms() + 20 * 60 * SECOND
    left: int = await redis.zcount(KEYS.open, "-inf", soon)
    told: int = await redis.xlen(KEYS.outcomes)
    return 0 if left else told


def _found(
    sizes: Sizes,
    payments: list[Payment],
    calls: list[tuple[float, str, str, bool]],
    back: float,
    lined_up: float,
    away: int,
) -> Found:
    first: dict[str, float] = {}
    too_early, cancels = 0, 0
    for at, call, name, well in calls:
        if call == "cancel":
            too_early += name not in first
            cancels += 1
        elif well:
            first.setdefault(name, at - back)
    last = max(first.values())
    order = sorted(payments, key=lambda payment: payment.closing_time, reverse=True)
    return Found(
        payments=len(payments),
        lined_up=round(lined_up, 1),
        asked_while_away=away,
        last_asked=round(last, 2),
        allowed=round((len(payments) + cancels) / sizes.rate * 1.1, 2),
        out_of_order=round(_out_of_order([first[each.payment_request_id] for each in order]), 2),
        fastest=_fastest([at for at, *_, well in calls if well]),
        too_early=too_early,
        ended=len(first),
    )


def _out_of_order(times: list[float]) -> float:
    """`times` of asking, of those who close last first: how much later than any before it."""
    worst, earliest = 0.0, times[0]
    for at in times:
        earliest = min(earliest, at)
        worst = max(worst, at - earliest)
    return worst


def _fastest(times: list[float]) -> float:
    """The most calls within one second."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return float(most)


def told(sizes: Sizes, found: Found) -> str:
    facts: dict[str, Any] = {name: getattr(found, name) for name in Found.__slots__}
    rows = [f"  {name.replace('_', ' '):20}{value:>12}" for name, value in facts.items()]
    return "\n".join([f"{sizes}", *rows])
