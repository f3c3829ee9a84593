"""Payments by the thousand, written as a worker would have left them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis.asyncio import Redis

from jobs.model import Money, Ms, Payment
from tests.keys import CLIENT_ID
from tests.servers import OtherServer, own_server, put
from worker.keys import Keys

PREFIX = "stress"
KEYS = Keys(PREFIX)
AT_ONCE = 500
FAST = {"DURABILITY": "memory", "REDIS_CHECKS": "warn", "CANCEL_BRAKE": "0"}


@contextmanager
def stage() -> Iterator[tuple[OtherServer, Path]]:
    with (
        own_server("--appendonly", "no") as server,
        TemporaryDirectory(prefix="stress-") as folder,
    ):
        yield server, Path(folder)


def payment(name: str, now: Ms, closes_in: Ms, due_in: Ms) -> Payment:
    """A payment that has been followed for a minute."""
    return Payment(
        client_id=CLIENT_ID,
        payment_request_id=name,
        payment_id=f"2026{name}",
        amount=Money("USD", 599),
        tracked_at=now - 60_000,
        closing_time=now + closes_in,
        next_at=now + due_in,
        found=True,
        version=now,
    )


async def fill(redis: Redis, payments: Iterable[Payment]) -> None:
    """Write them, with their place in the open set; the sweep gives them their jobs."""
    batch: list[Payment] = []
    for each in payments:
        batch.append(each)
        if len(batch) == AT_ONCE:
            await _write(redis, batch)
            batch = []
    await _write(redis, batch)


async def _write(redis: Redis, payments: list[Payment]) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for each in payments:
            put(pipe, KEYS, each)
        await pipe.execute()
