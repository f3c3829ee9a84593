"""Connections to Redis, and what they can promise."""

import asyncio
from typing import Any

from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.logs import log
from worker.replies import text_of
from worker.scripts import Confirm
from worker.sentinel import SENTINEL_SECONDS, PrimaryConnection, PrimaryTlsConnection, Sentinels
from worker.values import Durability, Persistence, SentinelUrl, sentinel_url

CONNECT_SECONDS = 2
SOCKET_SECONDS = 5  #: without it a Redis that hangs hangs us silently
CONFIRM_MS = 3000  #: how long Redis may take to confirm a write


class Unsafe(Exception):
    """Redis cannot keep what `DURABILITY` promises; the message says what to change."""


class Pool(ConnectionPool):
    """Opens connections side by side. redis-py's own opens one after the other: those who wait for
    a Redis that does not answer would wait for each other as well."""

    async def get_connection(self, *_: Any, **__: Any) -> Connection:
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection  # type: ignore[no-any-return]


def pool(url: str, tries: int) -> ConnectionPool:
    """Connections that time out, keep alive, and try again `tries` times with backoff.

    Repeating a script is safe: the second time each of ours changes nothing or says the same again.
    """
    through_sentinel = sentinel_url(url)
    if through_sentinel:
        url = through_sentinel.url
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "health_check_interval": 15,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), tries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    if url.startswith("rediss:"):
        options["ssl_check_hostname"] = True
    if through_sentinel:
        return _through_sentinel(through_sentinel, options)
    return Pool.from_url(url, **options)


def _through_sentinel(where: SentinelUrl, options: dict[str, Any]) -> ConnectionPool:
    """The sentinels are asked by the same means as the primary, TLS and its checks included."""
    options |= parse_url(where.url)
    kind = PrimaryTlsConnection if options.pop("connection_class", None) else PrimaryConnection
    options |= {"host": "", "port": 0}  # the sentinels know
    same = {name: value for name, value in options.items() if name.startswith("ssl_")}
    sentinels = Sentinels(
        where,
        {
            "username": where.username,
            "password": where.password,
            "socket_timeout": SENTINEL_SECONDS,
            "socket_connect_timeout": SENTINEL_SECONDS,
            "ssl": kind is PrimaryTlsConnection,
            **same,
        },
    )
    return Pool(connection_class=kind, sentinels=sentinels, **options)


def sentinels_of(redis: Redis) -> Sentinels | None:
    """The sentinels that say where this Redis is, if there are any."""
    found: Sentinels | None = redis.connection_pool.connection_kwargs.get("sentinels")
    return found


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
    replicas = durability.replicas
    match durability.persistence:
        case Persistence.FSYNC:
            return Confirm(("WAITAOF", 1, replicas, CONFIRM_MS), 1, replicas)
        case Persistence.REPLICA:
            return Confirm(("WAIT", replicas, CONFIRM_MS), replicas)
        case Persistence.MEMORY:
            return None


async def check_durability(redis: Redis, durability: Durability) -> Confirm | None:
    """What a write must wait for on this server; `Unsafe` if it cannot be had."""
    confirm = confirmation(durability)
    if durability.persistence is Persistence.FSYNC:
        confirm = await _on_disk(redis, durability.replicas)
    if durability.persistence is not Persistence.MEMORY and (why := await _gap(redis, durability)):
        log.warning("failover.unprotected", why=why)
    return confirm


async def _on_disk(redis: Redis, replicas: int) -> Confirm | None:
    try:
        await redis.execute_command("WAITAOF", 1, 0, CONFIRM_MS)  # type: ignore[no-untyped-call]
    except ResponseError as refusal:
        if "appendonly" in str(refusal):
            raise Unsafe(
                "Redis keeps nothing on disk: set `appendonly yes` (and `appendfsync always`),"
                " or DURABILITY=memory for development"
            ) from None
        await _require_fsync_always(redis)
        return Confirm(("WAIT", replicas, CONFIRM_MS), replicas) if replicas else None
    return confirmation(Durability(Persistence.FSYNC, replicas))


async def _require_fsync_always(redis: Redis) -> None:
    """An older Redis: every write is safe before its answer, if it is set up so."""
    if sentinels_of(redis):
        raise Unsafe(  # the next primary may be set up otherwise, and nobody would look
            "this Redis knows no WAITAOF, and the next primary may write to disk later: use Redis"
            " 7.2, or DURABILITY=replica:N"
        )
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


async def _gap(redis: Redis, durability: Durability) -> str:
    """What a failover would lose, or stop, and what to set; empty if nothing, or nobody knows."""
    sentinels, wanted = sentinels_of(redis), durability.replicas
    try:
        connected = int((await redis.info("replication"))["connected_slaves"])
        promotable = await sentinels.promotable() if sentinels else connected
    except (RedisError, OSError):
        return ""
    if connected < wanted:
        return f"{connected} of {wanted} replicas are connected: no notification is acknowledged"
    if (sentinels or promotable) and not wanted:
        return "DURABILITY waits for no replica: set fsync+replica:N, N being all of them"
    if promotable > wanted:
        return (
            f"DURABILITY waits for {wanted} of {promotable} replicas, another may be promoted:"
            f" wait for {promotable}, or give the others replica-priority 0"
        )
    return ""
