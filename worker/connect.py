"""Connections to Redis, and what they can promise."""

import asyncio
from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.typing import EncodableT

from worker.outage import Outage
from worker.scripts import Confirm
from worker.sentinel import SENTINEL_SECONDS, PrimaryConnection, PrimaryTlsConnection, Sentinels
from worker.values import Durability, Persistence, SentinelUrl, sentinel_url

CONNECT_SECONDS = 2
SOCKET_SECONDS = 5  #: without it a Redis that hangs hangs us silently
CONFIRM_MS = 3000  #: how long Redis may take to confirm a write


class DiscreetPipeline(Pipeline):
    """redis-py's own errors quote the command with its arguments: a body, a merchant's note."""

    def annotate_exception(self, exception: Exception, number: int, command: object) -> None:
        pass


class Discreet(Redis):
    """A client whose errors say what Redis said, and no more."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return DiscreetPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class Unsafe(Exception):
    """Payments are not safe here; the message says all that is wrong, and what to change."""


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


class _Packing(AbstractConnection):
    """Packs commands in C, as redis-py's own connections of asyncio do not."""

    def pack_commands(self, commands: Iterable[Iterable[EncodableT]]) -> list[bytes]:
        return [b"".join(map(self._packed, commands))]

    def _packed(self, command: Iterable[EncodableT]) -> bytes:
        words: Any = tuple(command)
        if " " in words[0]:  # a command of two words
            return b"".join(self.pack_command(*words))
        packed: bytes = hiredis.pack_command(words)
        return packed


def _packing(made: ConnectionPool) -> ConnectionPool:
    kind = made.connection_class
    made.connection_class = type(f"Packing{kind.__name__}", (_Packing, kind), {})
    return made


def pool(url: str, tries: int) -> ConnectionPool:
    """Connections that time out, keep alive, and try again `tries` times with backoff.

    Repeating a script is safe: the second time each of ours changes nothing or says the same again.
    There are no health checks: what is dead is found by the try itself, and in redis-py 5.3 a check
    that fails connects, checks while it connects, and so on, for minutes.
    """
    through_sentinel = sentinel_url(url)
    if through_sentinel:
        url = through_sentinel.url
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=1, base=0.05), tries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError, OSError],
        "lib_name": None,  # a user of least privilege may not even say what it is
        "lib_version": None,
    }
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    if url.startswith("rediss:"):
        options["ssl_check_hostname"] = True
    if through_sentinel:
        return _through_sentinel(through_sentinel, options)
    return _packing(Pool.from_url(url, **options))


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
    return _packing(Pool(connection_class=kind, sentinels=sentinels, **options))


def sentinels_of(redis: Redis) -> Sentinels | None:
    """The sentinels that say where this Redis is, if there are any."""
    found: Sentinels | None = redis.connection_pool.connection_kwargs.get("sentinels")
    return found


def client(url: str, tries: int = 2) -> Redis:
    """A Redis client; nothing is connected yet."""
    return Discreet.from_pool(pool(url, tries))


async def wait_for(redis: Redis) -> None:
    """Return when Redis answers; until then, say that we wait."""
    delay, outage = 0.5, Outage("start")
    while True:
        try:
            await redis.ping()
        except (RedisError, OSError) as fault:
            if denied(fault):
                return  # an answer; what our user may not do is for the probes to say
            outage.waits(fault)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5)
        else:
            outage.answers()
            return


def denied(fault: BaseException) -> bool:
    """Whether Redis does not let us; on connecting, redis-py says so in its own way."""
    return isinstance(fault, NoPermissionError) or isinstance(fault.__cause__, NoPermissionError)


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
