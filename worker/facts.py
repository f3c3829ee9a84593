"""What can be known of a Redis, by asking it and its sentinels and by trying."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from jobs.model import Ms
from jobs.schedule import SECOND
from worker import connect, rights
from worker.keys import Keys
from worker.replies import text_of
from worker.rights import Role
from worker.scripts import Scripts
from worker.settings import Settings
from worker.values import Persistence


class WaitAof(StrEnum):
    """What Redis answers when it is asked to confirm that a write is on disk."""

    WORKS = "works"
    OFF = "off"  #: it keeps nothing on disk
    DENIED = "denied"  #: our user may not ask
    UNKNOWN = "unknown"  #: before Redis 7.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of Redis; what is missing in `info` and `config` was not told."""

    info: Mapping[str, Any]
    config: Mapping[str, str]
    waitaof: WaitAof
    lacking: Sequence[str]  #: commands that our user needs and may not send
    scripts: str  #: what is wrong with our scripts on this server; empty if nothing
    clock_ahead: Ms  #: how far Redis' clock is ahead of ours
    canary: str | None  #: None where we may not see it, empty where there is none
    sentinel: bool = False  #: whether sentinels say where it is
    promotable: int | None = None  #: how many replicas they may make the primary, if they tell

    @property
    def run_id(self) -> str:
        """Another one after each start of the server."""
        return str(self.info.get("run_id", ""))


async def ask(
    redis: Redis, settings: Settings, role: Role, clock: Callable[[], float] = time.time
) -> Facts:
    """Everything that the probes judge. Connection failures are raised."""
    keys = Keys(settings.key_prefix)
    try:
        facts = await glance(redis, keys, clock)
        if role is Role.MERCHANT:
            return facts
        if settings.durability.persistence is Persistence.FSYNC:
            facts = replace(facts, waitaof=await _waitaof(redis))
        return replace(
            facts,
            config=await _config(redis, facts),
            lacking=await rights.lacking(redis, role.sends(keys, settings.durability)),
            scripts=await _scripts(redis),
            sentinel=connect.sentinels_of(redis) is not None,
            promotable=await _promotable(redis),
        )
    except RedisError as fault:
        if not connect.denied(fault):  # as early as on connecting: SELECT of the URL's database
            raise
        return replace(_NOTHING, lacking=[str(fault)])


async def glance(redis: Redis, keys: Keys, clock: Callable[[], float] = time.time) -> Facts:
    """What can change while Redis runs, in one round trip."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        pipe.info()
        pipe.get(keys.canary)
        before = clock()
        said = await pipe.execute(raise_on_error=False)
        after = clock()
    now, info, canary = map(_allowed, said)
    return replace(
        _NOTHING,
        info=info or {},
        clock_ahead=_ahead(now[0] + now[1] / 1e6, before, after) if now else 0,
        canary=None if isinstance(said[2], ResponseError) else text_of(canary or "", "replace"),
    )


#: What `glance` leaves out.
TRIED = ("config", "waitaof", "lacking", "scripts", "sentinel", "promotable")

#: What nobody asks about is taken to be well.
_NOTHING = Facts(
    info={},
    config={"appendfsync": "always"},
    waitaof=WaitAof.WORKS,
    lacking=(),
    scripts="",
    clock_ahead=0,
    canary=None,
)


def _allowed(answer: Any) -> Any:
    """The answer; None where Redis gives none to us. That it is still loading is raised."""
    if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
        raise answer
    return None if isinstance(answer, ResponseError) else answer


def _ahead(theirs: float, before: float, after: float) -> Ms:
    """How far outside of the time that the answer took; seconds in, milliseconds out."""
    return round((max(0, theirs - after) + min(0, theirs - before)) * SECOND)


async def _config(redis: Redis, facts: Facts) -> Mapping[str, str]:
    """Only what cannot be known without: managed servers and careful users have no CONFIG."""
    found: dict[Any, Any] = {}
    with contextlib.suppress(ResponseError):
        if "maxmemory_policy" not in facts.info:
            found |= await redis.config_get("maxmemory-policy")
        found |= await redis.config_get("appendfsync")
    return {text_of(name): text_of(value) for name, value in found.items()}


async def _waitaof(redis: Redis) -> WaitAof:
    try:
        await redis.execute_command("WAITAOF", 1, 0, connect.CONFIRM_MS)  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return WaitAof.DENIED
    except ResponseError as refusal:
        said = str(refusal).lower()
        if "appendonly" in said:
            return WaitAof.OFF
        if said.startswith("unknown command"):
            return WaitAof.UNKNOWN
        raise  # as a replica does that is not promoted yet: it is asked again
    return WaitAof.WORKS


async def _promotable(redis: Redis) -> int | None:
    sentinels = connect.sentinels_of(redis)
    if sentinels is None:
        return None
    with contextlib.suppress(RedisError, OSError):
        return await sentinels.promotable()
    return None


async def _scripts(redis: Redis) -> str:
    """Loads them, too: after a restart of Redis a receiver need not wait for it."""
    try:
        await Scripts(redis).load()
    except NoPermissionError:
        return ""  # told with the other rights
    except ResponseError as fault:
        return str(fault)
    return ""
