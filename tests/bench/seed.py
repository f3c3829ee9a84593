"""Payments as the command `payment.track` leaves them: it is carried out here, by its own code."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from tests.bench.measure import PATIENCE_SECONDS
from tests.servers import now_ms
from worker.commands import execute
from worker.envelope import encode_data
from worker.keys import Keys
from worker.logs import configure
from worker.settings import Need, Settings, load
from worker.tools import open_tools
from worker.values import LogFormat, LogLevel

LIFE_SECONDS = 3600
_AT_ONCE = 64


def settings_of(environ: Mapping[str, str]) -> Settings:
    return load(environ, need=Need.GATEWAY)


def names(count: int) -> list[str]:
    return [f"bench-{number:07}" for number in range(count)]


async def track(
    environ: Mapping[str, str], payments: Sequence[str], life: int = LIFE_SECONDS
) -> None:
    """Have these followed from now on. Nobody needs to run for it."""
    configure(LogFormat.JSON, LogLevel.ERROR)
    async with open_tools(settings_of(environ)) as (tools, _):
        turns = asyncio.Semaphore(_AT_ONCE)

        async def one(name: str) -> None:
            said = {
                "paymentRequestId": name,
                "paymentAmount": {"currency": "USD", "value": "599"},
                "expiresIn": life,
            }
            async with turns:
                id_ = f"{now_ms()}-0"
                assert await execute("payment.track", encode_data(said), id_, now_ms(), tools)

        await asyncio.gather(*map(one, payments))


async def all_ended(url: str, keys: Keys, count: int) -> int:
    """How many payments were told to be paid, once there is an event for each or none comes."""
    async with Redis.from_url(url) as redis:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while await redis.xlen(keys.outcomes) < count and time.monotonic() < give_up:
            await asyncio.sleep(0.1)
        events = await redis.xrange(keys.outcomes)
    return sum(fields[b"type"] == b"payment.succeeded" for _, fields in events)
