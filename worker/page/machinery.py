"""How the machinery stands: the sweep, what waits, what was put aside, who reads, memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Ms
from worker.commands import GROUP
from worker.keys import Keys
from worker.probes import memory_share
from worker.replies import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group: what it has not acknowledged."""

    name: str
    waiting: int | None  #: entries, delivered or not; None: Redis cannot tell
    since: Ms | None  #: when the oldest of them was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """None is what cannot be told: a key of another type, or a right that our user lacks."""

    swept: Ms | None
    commands: Group | None
    dead: int | None
    quarantined: int | None
    parked: int | None
    groups: tuple[Group, ...] | None
    memory_used: int | None  #: bytes
    memory_limit: int | None  #: bytes; 0 where there is none
    memory_share: float


async def look(redis: Redis, keys: Keys) -> Machinery:
    """A few short commands, whatever there is."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get(keys.swept)
        pipe.xlen(keys.dead)
        pipe.xlen(keys.quarantine)
        pipe.zcard(keys.parked)
        pipe.info("memory")
        answers = await pipe.execute(raise_on_error=False)
    swept, dead, quarantined, parked, info = (_known(answer) for answer in answers)
    info = info or {}
    of_commands = await _groups(redis, keys.commands) or ()
    return Machinery(
        swept=int(text_of(swept)) if swept and text_of(swept, "replace").isdecimal() else None,
        commands=next((group for group in of_commands if group.name == GROUP), None),
        dead=dead,
        quarantined=quarantined,
        parked=parked,
        groups=await _groups(redis, keys.outcomes),
        memory_used=info.get("used_memory"),
        memory_limit=info.get("maxmemory"),
        memory_share=memory_share(info),
    )


def _known(answer: Any) -> Any:
    """The answer, if Redis gave one; a connection that fails is a failure of it all."""
    if isinstance(answer, ResponseError):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer


async def _groups(redis: Redis, stream: str) -> tuple[Group, ...] | None:
    try:
        if not await redis.exists(stream):
            return ()
        return tuple([await _group(redis, stream, f) for f in await redis.xinfo_groups(stream)])
    except ResponseError:
        return None


async def _group(redis: Redis, stream: str, found: Mapping[str, Any]) -> Group:
    lag, pending = found.get("lag"), int(found["pending"])
    since = None
    if pending:
        since = (await redis.xpending(stream, found["name"]))["min"]
    elif lag != 0:
        first = await redis.xrange(stream, f"({text_of(found['last-delivered-id'])}", count=1)
        since = first[0][0] if first else None
    return Group(
        name=text_of(found["name"], "replace"),
        waiting=None if lag is None else int(lag) + pending,
        since=None if since is None else int(text_of(since).partition("-")[0]),
    )
