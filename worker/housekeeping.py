"""What is kept, and for how long. Nothing is deleted that somebody may still have to read."""

from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Ms
from jobs.schedule import DAY, HOUR
from worker.commands import GROUP
from worker.logs import log
from worker.replies import text_of
from worker.store import Store

PARKED_FOR: Ms = 72 * HOUR  #: the gateway resends for 24 h; a merchant's outage may take a weekend
OUTCOMES_AT_LEAST: Ms = 7 * DAY
CONSUMER_GONE: Ms = DAY
ODD_BYTES = 64 * 1024 * 1024  #: what is set aside: enough to study, not to fill Redis


async def keep_house(redis: Redis, store: Store, retention: Ms) -> None:
    """Trim every stream and empty the parking; one pass, safe to run in several workers."""
    keys, now = store.keys, store.now()
    for key, work in (
        (keys.parked, partial(_unpark, redis, store, now - PARKED_FOR)),
        (keys.commands, partial(_trim_commands, redis, keys.commands, now)),
        (keys.outcomes, partial(_trim_outcomes, redis, keys.outcomes, now, retention)),
        (keys.quarantine, partial(_trim_odd, redis, keys.quarantine, now - retention)),
        (keys.dead, partial(_trim_odd, redis, keys.dead, now - retention)),
        (keys.dead_deliveries, partial(_trim_odd, redis, keys.dead_deliveries, now - retention)),
        (keys.commands, partial(_dismiss_consumers, redis, keys.commands, GROUP)),
    ):
        try:
            await work()
        except ResponseError as fault:  # one key that is not as it should be stops no other
            log.warning("retention.skipped", key=key, fault=str(fault)[:200])
    log.debug("retention.completed")


async def _trim_commands(redis: Redis, stream: str, now: Ms) -> None:
    # Without a group they were written before the first worker came: nobody has seen them.
    await _trim(redis, stream, await oldest_needed(redis, stream, now, ungrouped=0))


async def _trim_outcomes(redis: Redis, stream: str, now: Ms, retention: Ms) -> None:
    needed = await oldest_needed(redis, stream, now, ungrouped=now)
    await _trim(redis, stream, max(min(needed, now - OUTCOMES_AT_LEAST), now - retention))


async def _trim_odd(redis: Redis, stream: str, before: Ms) -> None:
    await _trim(redis, stream, before)
    await _shrink(redis, stream, ODD_BYTES)


async def oldest_needed(redis: Redis, stream: str, now: Ms, *, ungrouped: Ms) -> Ms:
    """The time of the oldest entry that a consumer group has not acknowledged; `now` if none.

    `ungrouped` is the answer for a stream that has no group yet.
    """
    groups = await _groups(redis, stream)
    needed = now if groups else ungrouped
    for group in groups:
        pending = await redis.xpending(stream, group["name"])
        first = pending["min"] if pending["pending"] else group["last-delivered-id"]
        needed = min(needed, _ms_of(first))
    return needed


async def _groups(redis: Redis, stream: str) -> list[dict[str, Any]]:
    """The consumer groups of a stream; none if there is no stream."""
    if not await redis.exists(stream):
        return []
    groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    return groups


async def _dismiss_consumers(redis: Redis, stream: str, group: str) -> None:
    """Every start of a worker makes a consumer: those long gone, with nothing in hand, are removed.

    A living one asks every second, so one idle for a day cannot be given anything meanwhile.
    """
    known = [text_of(found["name"]) for found in await _groups(redis, stream)]
    for consumer in await redis.xinfo_consumers(stream, group) if group in known else []:
        if consumer["idle"] > CONSUMER_GONE and not consumer["pending"]:
            await redis.xgroup_delconsumer(stream, group, consumer["name"])


async def _unpark(redis: Redis, store: Store, before: Ms) -> None:
    """Notifications of payments that nobody tracked in time go to quarantine."""
    moved = 0
    for raw in await redis.zrangebyscore(store.keys.parked, "-inf", before, start=0, num=1000):
        try:
            moved += await store.unpark(text_of(raw), before)
        except (UnicodeDecodeError, ResponseError) as fault:
            if isinstance(fault, ResponseError) and "WRONGTYPE" not in str(fault):
                raise
            await redis.zrem(store.keys.parked, raw)  # no id of ours, or its inbox is no list
            member = text_of(raw, "replace")[:200]
            log.warning("retention.skipped", key=store.keys.parked, fault=f"{member!r} is no id")
    if moved:
        log.error("notification.never_tracked", count=moved)


async def _trim(redis: Redis, stream: str, before: Ms) -> None:
    await redis.xtrim(stream, minid=f"{before}-0", approximate=False)


async def _shrink(redis: Redis, stream: str, limit: int) -> None:
    """Drop the oldest part of a stream that has grown beyond `limit` bytes."""
    size = await redis.memory_usage(stream, samples=100) or 0
    if size > limit:
        length = await redis.xlen(stream)
        await redis.xtrim(stream, maxlen=length * limit // size, approximate=False)


def _ms_of(entry_id: Any) -> Ms:
    return int(text_of(entry_id).partition("-")[0])
