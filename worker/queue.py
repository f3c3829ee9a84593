"""arq's queue: jobs in it are JSON with a version, never pickle, and its time is Redis'."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline

from jobs.schedule import DAY
from worker.connect import DiscreetPipeline
from worker.logs import log
from worker.scripts import Scripts
from worker.times import MAX_TIME

VERSION = 1


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result as JSON; what JSON cannot hold is a bug of the caller."""
    return json.dumps({"v": VERSION, **job}, separators=(",", ":"), default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """The job; ValueError if it is of another version, or no JSON at all."""
    job = json.loads(raw)
    if not isinstance(job, dict) or job.get("v", VERSION) != VERSION:
        raise ValueError("not a job of this version")
    for name, fits in _SHAPE.items():
        if name in job and not fits(job[name]):
            raise ValueError(f"not a job: {name} is not what arq writes there")
    return job


def _number(most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


#: What arq takes for granted: a worker that meets anything else ends, and so does each after it.
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
        self._scripts = Scripts(self)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return DiscreetPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )

    async def zrangebyscore(self, name: str, **asked: Any) -> list[bytes]:  # type: ignore[override]
        """The ids of jobs to start. arq's worker calls this, to poll, and nobody else does.

        arq asks for scores up to `max`, the time (ms) by its own clock.
        """
        args = [asked["max"], asked["start"], asked["num"]]
        _, ids = await self._scripts.run("due", [name], args)
        if junk := [id_ for id_ in ids if not _is_text(id_)]:
            await self.zrem(name, *junk)  # or enough of it would hide every job behind it
            log.warning("retention.skipped", key=name, fault=f"{len(junk)} ids are no text")
        return [id_ for id_ in ids if _is_text(id_)]


def _is_text(id_: bytes) -> bool:
    """A worker that meets an id which it cannot decode ends, and so does each one after it."""
    try:
        id_.decode()
    except UnicodeDecodeError:
        return False
    return True
