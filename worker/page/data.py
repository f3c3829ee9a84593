"""What the pages show, as read from Redis: bounded, and the same for all who look at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Aftercare, Ms, Payment, Status
from worker import records
from worker.census import Census, Waiting, census
from worker.keys import Keys
from worker.page import machinery
from worker.page.hours import Day, Hours
from worker.page.machinery import Machinery
from worker.replies import now_of
from worker.views import look_up

LISTED = 20  #: payments in a list
KEEP_SECONDS = 5.0
#: What took long to read is kept so much longer: however many look, and however often, they take no
#: more than this part of Redis' time.
REST = 20
PATIENCE_SECONDS = 10.0  #: for all that one page needs of Redis

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Odd:
    """A payment whose record cannot be read: it is listed, and left alone."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a page that Redis does not let us see."""

    why: str


Listed: TypeAlias = Payment | Odd


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What an operator asks first."""

    now: Ms
    census: Census | Fault
    attention: Sequence[Listed]  #: the oldest that a person must look at
    oldest: Sequence[Listed]  #: the oldest that wait for the gateway
    odd: Sequence[Listed]  #: some of those whose record cannot be read
    day: Day | Fault
    machinery: Machinery

    @property
    def several_accounts(self) -> bool:
        """Whether the listed payments are of more than one, so that each must say of which."""
        listed = (*self.attention, *self.oldest, *self.odd)
        return len({one.key.partition(":")[0] for one in listed}) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OnePayment:
    """Everything about one payment."""

    now: Ms
    key: str
    payment: Listed
    record: dict[str, str]
    timeline: list[dict[str, Any]]
    unread: int  #: notifications received and not applied yet


WAITING = (Status.PENDING, Status.CANCELLING)


def _needs_a_person(one: Waiting) -> bool:
    return one.status is Status.UNRESOLVED or one.aftercare is Aftercare.REFUND_REQUIRED


async def read_overview(redis: Redis, keys: Keys, hours: Hours, clients: Sequence[str]) -> Overview:
    counted = await _or_fault(census(redis, keys, LISTED))
    listed = () if isinstance(counted, Fault) else counted.oldest
    attention = [one.key for one in listed if _needs_a_person(one)][:LISTED]
    waiting = [one.key for one in listed if one.status in WAITING][:LISTED]
    odd = () if isinstance(counted, Fault) else counted.odd
    return Overview(
        now=await now_of(redis),
        census=counted,
        attention=await read_records(redis, keys, attention),
        oldest=await read_records(redis, keys, waiting),
        odd=await read_records(redis, keys, odd),
        day=await _or_fault(hours.look()),
        machinery=await machinery.look(redis, keys, clients),
    )


async def read_payment(redis: Redis, keys: Keys, key: str) -> OnePayment | None:
    """One payment; None if it is not tracked."""
    client_id, _, request_id = key.partition(":")
    now, found = await now_of(redis), await read_records(redis, keys, [key])
    if not found:
        return None
    try:
        seen = await look_up(redis, keys.prefix, client_id, request_id)
        unread = int(await redis.llen(keys.inbox(key)))  # type: ignore[misc]
    except ResponseError as fault:  # a key of another type
        seen, unread, found = {"payment": {}, "timeline": []}, 0, [Odd(key, said(fault))]
    if seen is None:
        return None
    return OnePayment(
        now=now,
        key=key,
        payment=found[0],
        record=seen["payment"],
        timeline=seen["timeline"],
        unread=unread,
    )


async def tracked(redis: Redis, keys: Keys, candidates: Sequence[str]) -> list[str]:
    """Those of the keys that name a payment."""
    async with redis.pipeline(transaction=False) as pipe:
        for key in candidates:
            pipe.exists(keys.payment(key))
        there = await pipe.execute()
    return [key for key, is_there in zip(candidates, there, strict=True) if is_there]


async def read_records(redis: Redis, keys: Keys, names: Iterable[str]) -> list[Listed]:
    """The payments of these names; those gone meanwhile are left out."""
    names = list(names)
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hgetall(keys.payment(name))
        answers = await pipe.execute(raise_on_error=False)
    return [_listed(name, found) for name, found in zip(names, answers, strict=True) if found]


def _listed(key: str, found: dict[Any, Any] | Exception) -> Listed:
    if isinstance(found, ResponseError):
        return Odd(key, said(found))
    if isinstance(found, Exception):
        raise found
    try:
        return records.read(key, list(chain.from_iterable(found.items())))
    except records.UnknownSchema as fault:
        return Odd(key, str(fault))


def said(fault: Exception) -> str:
    """What Redis said, as far as it is shown."""
    return str(fault)[:200]


async def _or_fault(work: Awaitable[T]) -> T | Fault:
    try:
        return await work
    except ResponseError as fault:
        return Fault(said(fault))


class Shared(Generic[T]):
    """Made once for all who ask at once, and kept for some seconds; a failure is not kept."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None
        self._stale_at = 0.0

    async def get(self) -> T:
        if self._making is None or (self._making.done() and time.monotonic() > self._stale_at):
            self._making = asyncio.create_task(self._timed())
            self._making.add_done_callback(_heard)
        return await asyncio.shield(self._making)  # who hangs up ends it for nobody else

    async def _timed(self) -> T:
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            made = await self._make()
        took = time.monotonic() - began
        self._stale_at = time.monotonic() + max(KEEP_SECONDS, REST * took)
        return made


def _heard(task: "asyncio.Task[Any]") -> None:
    """A failure that nobody waits for any more is not one to complain about."""
    if not task.cancelled():
        task.exception()
