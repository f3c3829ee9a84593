"""Connections to Redis, and what they can promise."""

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.logs import log
from worker.scripts import Confirm
from worker.values import Durability, Persistence

CONNECT_SECONDS = 2
SOCKET_SECONDS = 5  #: without it a Redis that hangs hangs us silently
CONFIRM_MS = 3000  #: how long Redis may take to confirm a write


class Unsafe(Exception):
    """Payments are not safe here; the message says all that is wrong, and what to change."""


def pool(url: str, tries: int) -> ConnectionPool:
    """Connections that time out, keep alive, and try again `tries` times with backoff.

    Repeating a script is safe: the second time each of ours changes nothing or says the same again.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "health_check_interval": 15,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), tries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
        "lib_name": None,  # a user of least privilege may not even say what it is
        "lib_version": None,
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
            if denied(fault):
                return  # an answer; what our user may not do is for the probes to say
            log.warning("worker.redis_waiting", fault=str(fault)[:200])
            waited = True
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5)
        else:
            if waited:
                log.info("worker.redis_back")
            return


def denied(fault: BaseException) -> bool:
    """Whether Redis does not let us; on connecting, redis-py says so in its own way."""
    return isinstance(fault, NoPermissionError) or isinstance(fault.__cause__, NoPermissionError)


def confirmation(durability: Durability) -> Confirm | None:
    """What a write must wait for where Redis knows `WAITAOF` (7.2 and later)."""
    match durability.persistence:
        case Persistence.FSYNC:
            return Confirm(("WAITAOF", 1, 0, CONFIRM_MS), 1)
        case Persistence.REPLICA:
            return Confirm(("WAIT", durability.replicas, CONFIRM_MS), durability.replicas)
        case Persistence.MEMORY:
            return None
