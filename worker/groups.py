"""The consumer groups of a stream: what each has not acknowledged, and since when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Ms
from worker.replies import text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Entries that it has not acknowledged, delivered or not."""

    name: str
    waiting: int | None  #: None: Redis cannot tell
    at_least: int = field(default=0, compare=False)  #: as far as Redis can tell
    since: Ms | None = None  #: when the oldest of them was written, where that was asked


async def make_group(redis: Redis, stream: str, group: str) -> None:
    """A consumer group that starts at the stream's beginning; nothing if it is there."""
    try:
        await redis.xgroup_create(stream, group, "0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


async def read_groups(redis: Redis, stream: str, *, since: bool = False) -> tuple[Group, ...]:
    """Every group of a stream; none where there is no stream. ResponseError as Redis gives it.

    `since` asks for the oldest entries, too, which needs the right to read the stream.
    """
    found = await redis.xinfo_groups(stream) if await redis.exists(stream) else ()
    groups = []
    for group in found:
        pending, lag = int(group["pending"]), group.get("lag")
        groups.append(
            Group(
                name=text_of(group["name"], "replace"),
                waiting=None if lag is None else pending + int(lag),
                at_least=pending + int(lag or 0),
                since=await _oldest(redis, stream, group) if since else None,
            )
        )
    return tuple(groups)


async def _oldest(redis: Redis, stream: str, group: Mapping[str, Any]) -> Ms | None:
    """None where there is none, or the last one was acknowledged between our questions."""
    entry_id = None
    if group["pending"]:
        entry_id = (await redis.xpending(stream, group["name"]))["min"]
    elif group.get("lag") != 0:
        given = text_of(group["last-delivered-id"])
        first = await redis.xrange(stream, f"({given}", "+", count=1)
        entry_id = first[0][0] if first else None
    return int(text_of(entry_id).partition("-")[0]) if entry_id else None
