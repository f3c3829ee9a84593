"""arq's queue: jobs in it are JSON with a version, never pickle, and its time is Redis'."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline

from jobs.model import Ms
from jobs.schedule import DAY
from jobs.tools import LEASE
from worker.connect import DiscreetPipeline
from worker.logs import log
from worker.replies import text_of
from worker.store import Store
from worker.times import MAX_TIME

VERSION = 1


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result as JSON; what JSON cannot hold is a bug of the caller."""
    return json.dumps({"v": VERSION, **job}, separators=(",", ":"), default=str).encode()


class NewerVersion(ValueError):
    """A job that a later version of this software has written."""


def deserialize(raw: bytes) -> dict[str, Any]:
    """The job; ValueError if it is of another version, or no JSON at all."""
    try:
        job = json.loads(raw)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(job, dict):
        raise ValueError("not a job of this version")
    version = job.get("v", VERSION)
    if version != VERSION:
        newer = type(version) is int and version > VERSION
        raise (NewerVersion if newer else ValueError)("not a job of this version")
    for name, fits in _SHAPE.items():
        if name in job and not fits(job[name]):
            raise ValueError(f"not a job: {name} is not what arq writes there")
    return job


def _number(most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


#: What arq writes, and we take for granted.
_SHAPE: Mapping[str, Callable[[Any], bool]] = {
    "f": lambda value: isinstance(value, str),
    "a": lambda value: isinstance(value, list),
    "k": lambda value: isinstance(value, dict),
    "t": lambda value: value is None or _number(2**31 - 1)(value),
    "et": _number(MAX_TIME),
}


class Queue(ArqRedis):
    """arq's connection, as it must be for payments."""

    def __init__(self, pool: ConnectionPool, name: str) -> None:
        super().__init__(
            pool,
            job_serializer=serialize,
            job_deserializer=deserialize,
            default_queue_name=name,
            expires_extra_ms=30 * DAY,
        )

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return DiscreetPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )

    async def zrangebyscore(self, *_: Any, **__: Any) -> list[bytes]:
        """Nothing. arq's worker calls this, to poll: its jobs are for `worker.dispatch` to run."""
        return []


# What is due


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that we hold until its lease is over, and that is no open payment's."""

    id: str
    payload: bytes  #: empty if there is none
    tries: int  #: this one is counted
    score: str  #: by which we hold it


@dataclass(frozen=True, slots=True)
class Batch:
    payments: Sequence[str]  #: keys of open payments that seem to be due
    jobs: Sequence[HeldJob]

    def __len__(self) -> int:
        return len(self.payments) + len(self.jobs)


class Jobs:
    """The jobs in arq's queue, as they are taken up and ended."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, most: int) -> Batch:
        """Up to `most` jobs that are due, the earliest first, held for the length of a lease."""
        k = self._store.keys
        args = [k.prefix, LEASE, most]
        _, score, payments, others = await self._store.run("take", [k.queue, k.open], args)
        jobs = []
        for id_, payload, tries in others:
            if not _is_text(id_):
                await self._store.redis.zrem(k.queue, id_)
                log.warning("retention.skipped", key=k.queue, fault="an id is no text")
                continue
            raw = payload if isinstance(payload, bytes) else payload.encode()
            jobs.append(HeldJob(text_of(id_), raw, int(tries), text_of(score)))
        return Batch([text_of(key, "replace") for key in payments], jobs)

    async def finish(self, job: HeldJob) -> bool:
        """Forget a job; False if another has it now."""
        return await self._end(job, "")

    async def put_off(self, job: HeldJob, delay: Ms) -> bool:
        return await self._end(job, str(delay))

    async def bury(self, job: HeldJob, entry: Mapping[Any, Any]) -> bool:
        """Forget a job, and keep it as a dead command."""
        return await self._end(job, "", *(part for field in entry.items() for part in field))

    async def _end(self, job: HeldJob, delay: str, *dead: Any) -> bool:
        k = self._store.keys
        args = [job.id, job.score, delay, *dead]
        _, held = await self._store.run("finish", [k.queue, k.dead], args, safe=bool(dead))
        return bool(held)


def _is_text(id_: bytes | str) -> bool:
    try:
        text_of(id_)
    except UnicodeDecodeError:
        return False
    return True
