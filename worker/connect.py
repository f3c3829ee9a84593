"""Connections to Redis, and what they can promise."""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.logs import log
from worker.replies import text_of
from worker.scripts import Confirm
from worker.values import Durability, Persistence

CONNECT_SECONDS = 2
SOCKET_SECONDS = 5  #: without it a Redis that hangs hangs us silently
CONFIRM_MS = 3000  #: how long Redis may take to confirm a write


class Unsafe(Exception):
    """Redis cannot keep what `DURABILITY` promises; the message says what to change."""


def pool(url: str, tries: int) -> ConnectionPool:
    """Connections that time out, keep alive, and try again `tries` times with backoff.

    Repeating a script is safe: the second time each of ours changes nothing or says the same again.
    There are no health checks: what is dead is found by the try itself, and in redis-py 5.3 a check
    that fails connects, checks while it connects, and so on, for minutes.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), tries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    if url.startswith("rediss:"):
        options["ssl_check_hostname"] = True
    return ConnectionPool.from_url(url, **options)


def client(url: str, tries: int = 2) -> Redis:
    """A Redis client; nothing is connected yet."""
    return Redis.from_pool(pool(url, tries))


async def wait_for(redis: Redis) -> None:
    """Return when Redis answers; until then, say that we wait."""
    delay, waited = 0.5, False
    while True:
        try:
            await redis.ping()
        except (RedisError, OSError) as fault:
            log.warning("worker.redis_waiting", fault=str(fault)[:200])
            waited = True
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5)
        else:
            if waited:
                log.info("worker.redis_back")
            return


def confirmation(durability: Durability) -> Confirm | None:
    """What a write must wait for where Redis knows `WAITAOF` (7.2 and later)."""
    match durability.persistence:
        case Persistence.FSYNC:
            return Confirm(("WAITAOF", 1, 0, CONFIRM_MS), 1)
        case Persistence.REPLICA:
            return Confirm(("WAIT", durability.replicas, CONFIRM_MS), durability.replicas)
        case Persistence.MEMORY:
            return None


async def check_durability(redis: Redis, durability: Durability) -> Confirm | None:
    """What a write must wait for on this server; `Unsafe` if it cannot be had."""
    confirm = confirmation(durability)
    if durability.persistence is not Persistence.FSYNC:
        return confirm
    try:
        await redis.execute_command("WAITAOF", 1, 0, CONFIRM_MS)  # type: ignore[no-untyped-call]
    except ResponseError as refusal:
        if "appendonly" in str(refusal):
            raise Unsafe(
                "Redis keeps nothing on disk: set `appendonly yes` (and `appendfsync always`),"
                " or DURABILITY=memory for development"
            ) from None
        await _require_fsync_always(redis)
        return None
    return confirm


async def _require_fsync_always(redis: Redis) -> None:
    """An older Redis: every write is safe before its answer, if it is set up so."""
    try:
        found = await redis.config_get("append*")
    except ResponseError:
        raise Unsafe(
            "Redis knows no WAITAOF and lets us not see its configuration: use Redis 7.2 or later"
        ) from None
    have = {text_of(name): text_of(value) for name, value in found.items()}
    if (have.get("appendonly"), have.get("appendfsync")) != ("yes", "always"):
        raise Unsafe(
            "this Redis knows no WAITAOF: set `appendonly yes` and `appendfsync always`,"
            " or use Redis 7.2 or later"
        )
