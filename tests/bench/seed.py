"""Payments as the command `payment.track` leaves them: it is carried out here, by its own code."""

import asyncio
from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

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


async def ended(redis: Redis, keys: Keys) -> dict[str, int]:
    """How many events of each type were published."""
    counts: dict[str, int] = {}
    for _, fields in await redis.xrange(keys.outcomes):
        type_ = fields[b"type"].decode()
        counts[type_] = counts.get(type_, 0) + 1
    return counts
