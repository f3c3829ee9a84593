"""For the merchant's own Python code: outcomes from the stream, each handled once.

    async for outcome in outcomes(redis, "shop", "web-1"):
        await book(outcome)

Whoever asks for the next outcome has handled the last one: only then is it acknowledged. What ends
the loop, an exception or the process, leaves the outcome at hand to the next start under the same
consumer name, or to another consumer of the group after `claim_after`.

An outcome comes at least once. Which were handled is kept in a `Memory`: by default in Redis, under
keys of ours. Between the end of the loop's body and that note a crash still lets an outcome come
twice: who must rule that out keeps a memory of his own, written in the transaction that books it.

Leave the loop by `break` only before an outcome is handled: what is at hand then comes again.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from jobs.model import Ms
from jobs.schedule import DAY
from worker.groups import make_group
from worker.keys import Keys
from worker.replies import text_of

CLAIM_AFTER = 60.0  #: seconds
BLOCK: Ms = 1000  #: below every client's timeout; then it is looked for what others left
AGAIN_SECONDS = 1.0  #: while Redis is away
#: Longer than outcomes and records are kept: what is older comes no more.
REMEMBERED_FOR: Ms = 40 * DAY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One event of the stream `reconciler:v1:outcomes`."""

    id: str  #: the same however often it comes
    type: str  #: `payment.succeeded`, ..., `command.rejected`
    client_id: str
    payment_request_id: str  #: empty where a rejected command named none
    data: Mapping[str, Any]  #: of the CloudEvent: `status`, `advice`, `paymentAmount`, ...
    entry_id: str = field(compare=False)  #: in the stream

    @property
    def seq(self) -> int | None:
        """Rises with each event of a payment; a rejected command has none."""
        return self.data.get("seq")


class Memory(Protocol):
    """What a group of consumers has handled."""

    async def handled(self, outcome: Outcome) -> bool:
        """Whether its id was handled before, or a later `seq` of its payment."""
        ...

    async def remember(self, outcome: Outcome) -> None:
        """It is handled now. May be called twice for one."""
        ...


async def outcomes(
    redis: Redis,
    group: str,
    consumer: str,
    *,
    prefix: str = "reconciler",
    memory: Memory | None = None,
    claim_after: float = CLAIM_AFTER,
) -> AsyncGenerator[Outcome, None]:
    """The outcomes of a consumer group, for ever, each new one once and in the stream's order.

    `consumer` is a name that no other running process has, and that this one has again after its
    restart. `claim_after` (seconds) must be longer than the loop's body takes: what a consumer has
    held for longer is given to another. The group is made if there is none, at the stream's
    beginning. While Redis is away it is waited for; that we may not do something is raised.
    """
    source = _Source(redis, Keys(prefix).outcomes, group, consumer, round(claim_after * 1000))
    known = memory or RedisMemory(redis, group, prefix)
    async for outcome in source.read():
        if not await _lasting(known.handled, outcome):
            yield outcome
            await _lasting(known.remember, outcome)
        await _lasting(source.acknowledge, outcome.entry_id)


# Memory


class RedisMemory:
    """In Redis, under `reconciler:v1:handled:<group>:...`: shared by all consumers of the group."""

    def __init__(
        self, redis: Redis, group: str, prefix: str = "reconciler", keep: Ms = REMEMBERED_FOR
    ) -> None:
        self._redis, self._keys, self._group, self._keep = redis, Keys(prefix), group, keep

    async def handled(self, outcome: Outcome) -> bool:
        names = ["seq", f"id:{outcome.id}"]
        seq, seen = await self._redis.hmget(self._key(outcome), names)  # type: ignore[misc]
        return seen is not None or _is_old(outcome, seq)

    async def remember(self, outcome: Outcome) -> None:
        key = self._key(outcome)
        seq = {} if outcome.seq is None else {"seq": str(outcome.seq)}
        await self._redis.hset(key, mapping={f"id:{outcome.id}": "1"} | seq)  # type: ignore[misc]
        await self._redis.pexpire(key, self._keep)

    def _key(self, outcome: Outcome) -> str:
        about = f"{outcome.client_id}:{outcome.payment_request_id}"
        return self._keys.handled(self._group, outcome.id if outcome.seq is None else about)


def _is_old(outcome: Outcome, last: Any) -> bool:
    """Whether something later is known of its payment: a word that was overtaken says nothing."""
    return outcome.seq is not None and last is not None and outcome.seq <= int(last)


# The stream


class _Source:
    """A consumer's place in its group."""

    def __init__(self, redis: Redis, stream: str, group: str, consumer: str, claim: Ms) -> None:
        self._redis, self._stream = redis, stream
        self._group, self._consumer, self._claim = group, consumer, claim
        self._own: str | None = "0"  #: where to go on in what we held when we began; None: read

    async def read(self) -> AsyncIterator[Outcome]:
        """One at a time, so that none waits in our hands for another's body until it is claimed."""
        while True:
            for raw_id, fields in await _lasting(self._next):
                entry_id = text_of(raw_id)
                outcome = _read(entry_id, fields or {})
                if outcome is not None:
                    yield outcome
                else:
                    logger.error("no outcome in %s of %s: passed over", entry_id, self._stream)
                    await _lasting(self.acknowledge, entry_id)

    async def acknowledge(self, entry_id: str) -> None:
        await self._redis.xack(self._stream, self._group, entry_id)

    async def _next(self) -> list[Any]:
        """What we held when we began, then what others left, then what is new."""
        try:
            return await self._held() or await self._left() or await self._new()
        except ResponseError as fault:
            if not str(fault).startswith("NOGROUP"):
                raise
        await make_group(self._redis, self._stream, self._group)
        return []

    async def _held(self) -> list[Any]:
        if self._own is None:
            return []
        found = await self._entries(self._own)
        self._own = text_of(found[-1][0]) if found else None
        return found

    async def _left(self) -> list[Any]:
        group = (self._stream, self._group, self._consumer)
        found: list[Any] = (await self._redis.xautoclaim(*group, self._claim, "0", count=1))[1]
        return found

    async def _new(self) -> list[Any]:
        return await self._entries(">", block=BLOCK)

    async def _entries(self, after: str, block: Ms | None = None) -> list[Any]:
        streams: dict[Any, Any] = {self._stream: after}
        found = await self._redis.xreadgroup(
            self._group, self._consumer, streams, count=1, block=block
        )
        return list(found[0][1]) if found else []


def _read(entry_id: str, raw: Mapping[Any, Any]) -> Outcome | None:
    """None where it is none of ours, or was trimmed meanwhile."""
    try:
        fields = {text_of(name): text_of(value) for name, value in raw.items()}
        data = json.loads(fields["data"])["data"]
        if not isinstance(data, dict) or not isinstance(data.get("seq", 0), int):
            return None
        return Outcome(
            id=fields["id"],
            type=fields["type"],
            client_id=fields["clientId"],
            payment_request_id=fields["paymentRequestId"],
            data=data,
            entry_id=entry_id,
        )
    except (KeyError, TypeError, ValueError):
        return None


# Redis is away

#: A start, a failover, a Redis that is full: it passes. What Redis says otherwise does not.
PASSING = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    MasterDownError,
    OutOfMemoryError,
    OSError,
)
Answer = TypeVar("Answer")


async def _lasting(ask: Callable[..., Awaitable[Answer]], *args: Any) -> Answer:
    """The answer, however long Redis is away; whatever else it refuses is raised."""
    while True:
        try:
            return await ask(*args)
        except PASSING as fault:
            if isinstance(fault.__cause__, AuthenticationError | NoPermissionError):
                raise  # on connecting; redis-py says it so
            logger.warning("Redis does not answer, waiting: %s", fault)
            await asyncio.sleep(AGAIN_SECONDS)
