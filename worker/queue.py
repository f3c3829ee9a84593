"""arq's queue: jobs in it are JSON with a version, never pickle, and its time is Redis'."""

import json
from typing import Any

from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from jobs.schedule import DAY
from worker.scripts import Scripts

VERSION = 1


def serialize(job: dict[str, Any]) -> bytes:
    """arq's job or result as JSON; what JSON cannot hold is a bug of the caller."""
    return json.dumps({"v": VERSION, **job}, separators=(",", ":"), default=str).encode()


def deserialize(raw: bytes) -> dict[str, Any]:
    """The job; ValueError if it is of another version, or no JSON at all."""
    job = json.loads(raw)
    if not isinstance(job, dict) or job.get("v", VERSION) != VERSION:
        raise ValueError("not a job of this version")
    return job


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

    async def zrangebyscore(self, name: str, **asked: Any) -> list[bytes]:  # type: ignore[override]
        """The ids of jobs to start. arq's worker calls this, to poll, and nobody else does.

        arq asks for scores up to `max`, the time (ms) by its own clock.
        """
        args = [asked["max"], asked["start"], asked["num"]]
        _, ids = await self._scripts.run("due", [name], args)
        return [id_ for id_ in ids if _is_text(id_)]


def _is_text(id_: bytes) -> bool:
    """A worker that meets an id which it cannot decode ends, and so does each one after it."""
    try:
        id_.decode()
    except UnicodeDecodeError:
        return False
    return True
