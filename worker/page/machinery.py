"""How the machinery stands: the sweep, what waits, what was put aside, who reads, memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Ms
from worker.commands import GROUP
from worker.groups import Group, read_groups
from worker.keys import Keys
from worker.probes import memory_share
from worker.replies import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """None is what cannot be told: a key of another type, or a right that our user lacks."""

    swept: Ms | None
    commands: int | None
    dead: int | None
    quarantined: int | None
    parked: int | None
    groups: tuple[Group, ...] | None
    memory_used: int | None  #: bytes
    memory_limit: int | None  #: bytes; 0 where there is none
    memory_share: float
    #: By client id: payments in a row that reached closing time and were never found.
    misses: Mapping[str, int]


async def look(redis: Redis, keys: Keys, clients: Sequence[str]) -> Machinery:
    """A few short commands, whatever there is."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get(keys.swept)
        pipe.xlen(keys.dead)
        pipe.xlen(keys.quarantine)
        pipe.zcard(keys.parked)
        pipe.info("memory")
        for client_id in clients:
            pipe.hget(keys.brake, client_id)
        answers = await pipe.execute(raise_on_error=False)
    swept, dead, quarantined, parked, info, *misses = map(_known, answers)
    info = info or {}
    return Machinery(
        swept=_number(swept),
        commands=await _waiting_commands(redis, keys.commands),
        dead=dead,
        quarantined=quarantined,
        parked=parked,
        groups=await _groups(redis, keys.outcomes, since=True),
        memory_used=info.get("used_memory"),
        memory_limit=info.get("maxmemory"),
        memory_share=memory_share(info),
        misses={client: _number(n) or 0 for client, n in zip(clients, misses, strict=True)},
    )


def _known(answer: Any) -> Any:
    """The answer, if Redis gave one; a connection that fails is a failure of it all."""
    if isinstance(answer, ResponseError):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _number(raw: Any) -> int | None:
    text = text_of(raw or "", "replace")
    return int(text) if text.isascii() and text.isdigit() else None


async def _waiting_commands(redis: Redis, stream: str) -> int | None:
    """Commands that nobody has carried out yet."""
    groups = await _groups(redis, stream)
    if groups is None:
        return None
    ours = [group for group in groups if group.name == GROUP]
    return ours[0].waiting if ours else 0


async def _groups(redis: Redis, stream: str, *, since: bool = False) -> tuple[Group, ...] | None:
    try:
        return await read_groups(redis, stream, since=since)
    except ResponseError:
        return None
