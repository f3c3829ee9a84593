"""What the gauges say about Redis: asked every so often, never because somebody looks.

Those who look see the last answer. How much stands in Redis is the same for all workers, so who
adds the gauges of several workers up counts everything several times.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.model import Ms, Status
from jobs.schedule import SECOND
from worker.census import OPEN, Census, census
from worker.commands import GROUP
from worker.groups import read_groups
from worker.health import Health
from worker.keys import Keys
from worker.logs import log
from worker.probes import memory_share
from worker.replies import ms_of, text_of
from worker.store import Store

#: By gauge, and by the values of its labels.
Reading = Mapping[str, Mapping[tuple[str, ...], float]]

PING_EVERY: Ms = 3 * SECOND
READ_EVERY: Ms = 15 * SECOND
#: To ask takes Redis' time: with very many open payments it is done more rarely, so that it takes
#: no more than this part of it.
REST = 30


class Readings:
    """Asks Redis again and again, and remembers what it said last."""

    def __init__(self, redis: Redis, health: Health, ask: Callable[[], Awaitable[Reading]]) -> None:
        self._redis, self._health, self._ask = redis, health, ask
        self._next = time.monotonic()
        self.last: Reading = {}
        self.up = False  #: whether `last` is what Redis says

    async def run(self) -> None:
        """For ever. That Redis is away is for those to say who need it."""
        while True:
            await self._ping()
            at_work = self._health.redis_up and self._health.admitted
            if at_work and time.monotonic() >= self._next:
                await self._read()
            await asyncio.sleep(PING_EVERY / SECOND)

    async def _ping(self) -> None:
        try:
            await self._redis.ping()
            self._health.redis_up = True
        except (RedisError, OSError):
            self._health.redis_up = self.up = False

    async def _read(self) -> None:
        began = time.monotonic()
        try:
            self.last, self.up = await self._ask(), True
        except (RedisError, OSError) as fault:
            self.up = False
            log.warning("metrics.stale", fault=str(fault)[:200])
        except Exception:
            self.up = False
            log.exception("metrics.failed")
        took = time.monotonic() - began
        self._next = began + max(READ_EVERY / SECOND, REST * took)


async def read_for_receiver(redis: Redis, keys: Keys) -> Reading:
    """What the receiver's Redis user may see."""
    return _common(await redis.info("memory"), await redis.get(keys.swept), await redis.time())


async def read_for_worker(redis: Redis, keys: Keys, accounts: Collection[str]) -> Reading:
    """Everything: payments, outcomes, commands, what lies aside."""
    accounts = tuple(accounts)  # as they are now: the settings may be read anew meanwhile
    found = await census(redis, keys)
    async with redis.pipeline(transaction=False) as pipe:
        pipe.info("memory")
        pipe.get(keys.swept)
        pipe.time()
        pipe.xlen(keys.dead)
        pipe.xlen(keys.quarantine)
        pipe.zcard(keys.parked)
        pipe.xlen(keys.dead_deliveries)
        for client_id in accounts:
            pipe.hget(keys.brake, client_id)
        memory, swept, now, dead, quarantined, parked, undelivered, *misses = await pipe.execute()
    lanes, oldest = await Store(redis, keys).waiting()
    return {
        **_common(memory, swept, now),
        **_payments(found),
        **await _outcomes(redis, keys, ms_of(now)),
        "commands_waiting": {(): await _commands_waiting(redis, keys)},
        "commands_dead": {(): dead},
        "quarantined": {(): quarantined},
        "parked": {(): parked},
        "deliveries_waiting": {(): lanes},
        "delivery_oldest_age_seconds": {(): _seconds(oldest or 0)},
        "deliveries_dead": {(): undelivered},
        "cancel_brake_misses": {
            (client_id,): _number(count) for client_id, count in zip(accounts, misses, strict=True)
        },
    }


def _common(memory: Mapping[str, Any], swept: Any, now: tuple[int, int]) -> Reading:
    found: dict[str, Mapping[tuple[str, ...], float]] = {
        "redis_memory_used_ratio": {(): memory_share(memory)}
    }
    if at := _number(swept):  # no sweep yet: no age
        found["last_sweep_age_seconds"] = {(): _seconds(ms_of(now) - at)}
    return found


def _payments(found: Census) -> Reading:
    aged = {status: found.oldest_at(status) for status in OPEN}
    refunds = {state.value: count for state, count in found.by_aftercare.items()}
    return {
        "payments_open": {(status.value,): found.by_status[status] for status in OPEN},
        "payments_aftercare": {(state,): count for state, count in refunds.items()},
        "payments_overdue": {(): found.overdue},
        "payments_unreadable": {(): found.unreadable + found.missing},
        "oldest_open_age_seconds": {
            (status.value,): 0 if at is None else _seconds(found.at - at)
            for status, at in aged.items()
        },
        "attention_open": {
            ("unresolved",): found.by_status[Status.UNRESOLVED],
            ("refund_required",): refunds["refund_required"],
        },
    }


async def _outcomes(redis: Redis, keys: Keys, now: Ms) -> Reading:
    entries: dict[tuple[str, ...], float] = {}
    ages: dict[tuple[str, ...], float] = {}
    for group in await read_groups(redis, keys.outcomes, since=True):
        entries[(group.name,)] = group.at_least or float(group.since is not None)
        ages[(group.name,)] = 0 if group.since is None else _seconds(now - group.since)
    return {"outcome_lag_entries": entries, "outcome_lag_seconds": ages}


async def _commands_waiting(redis: Redis, keys: Keys) -> float:
    groups = await read_groups(redis, keys.commands)
    return sum(group.at_least for group in groups if group.name == GROUP)


def _seconds(length: Ms) -> float:
    return max(0, length) / 1000


def _number(raw: Any) -> int:
    text = text_of(raw or "", "replace")
    return int(text) if text.isascii() and text.isdigit() else 0
