"""No process of ours begins before its Redis has passed the probes, or goes on with one that fails.

A canary key, written by the first worker, tells a database that holds ours from an empty one.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker import connect, probes
from worker.connect import Unsafe
from worker.facts import TRIED, Facts, ask, glance
from worker.keys import Keys
from worker.logs import log
from worker.outage import Outage
from worker.probes import Finding, Level
from worker.replies import text_of
from worker.rights import Role
from worker.scripts import Confirm
from worker.settings import Settings
from worker.store import Store
from worker.tasks import every

AGAIN_SECONDS = 1  #: a Redis that goes away while it is looked at is waited for


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a process remembers of the Redis that it uses."""

    facts: Facts
    confirm: Confirm | None  #: what a write must wait for
    canary: str = ""  #: as it was when first seen
    told: frozenset[str] = frozenset()  #: what is wrong and stands in the log already


async def admit(
    redis: Redis, settings: Settings, role: Role, known: Admitted | None = None
) -> Admitted:
    """Wait for Redis and probe it; `Unsafe` if something is known to be wrong.

    `known` is what the process remembers from before Redis went away.
    """
    outage = Outage("probes")
    while True:
        await connect.wait_for(redis)
        try:
            admitted = await _admit(redis, settings, role, known)
        except (RedisError, OSError) as fault:
            outage.waits(fault)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            outage.answers()
            return admitted


async def watch(redis: Redis, settings: Settings, role: Role, known: Admitted) -> Admitted:
    """Look at a Redis in use; the same again, or `Unsafe`, if it was started anew or replaced.

    Of the same Redis, what has gone wrong meanwhile is an alarm, told once.
    """
    seen = await glance(redis, Keys(settings.key_prefix))
    if seen.run_id != known.facts.run_id:
        return await _admit(redis, settings, role, known)
    facts = replace(seen, **{name: getattr(known.facts, name) for name in TRIED})
    found = probes.judge(facts, settings)
    _tell((f for f in found if f.what not in known.told | {"state"}), role)
    told = frozenset(finding.what for finding in found)
    return _with_canary(replace(known, told=told), seen.canary, known, role)


async def keep_watching(store: Store, settings: Settings, role: Role, known: Admitted) -> None:
    """Look at Redis again and again; `Unsafe` if another one took its place and is."""

    async def looked() -> None:
        nonlocal known
        known = await watch(store.redis, settings, role, known)
        store.confirm = known.confirm

    await every(settings.sweep_every, looked, "probe.failed")


async def _admit(redis: Redis, settings: Settings, role: Role, known: Admitted | None) -> Admitted:
    facts = await ask(redis, settings, role)
    found = probes.judge(facts, settings)
    _tell(found, role)
    refuse(found)
    if not any(finding.what != "state" for finding in found):
        log.info("probes.passed", role=role.value, **_seen(facts))
    canary = facts.canary
    if role is Role.WORKER and canary == "" and not (known and known.canary):
        canary = await _first_write(redis, Keys(settings.key_prefix))
    told = frozenset(finding.what for finding in found)
    confirm = probes.confirmation(facts, settings.durability)
    admitted = Admitted(facts=facts, confirm=confirm, canary=canary or "", told=told)
    return _with_canary(admitted, canary, known, role) if known else admitted


def refuse(found: Iterable[Finding]) -> None:
    """Raise `Unsafe` with all that refuses, and what to do about each."""
    wrong = [f"  - {finding}" for finding in found if finding.level is Level.REFUSE]
    if wrong:
        raise Unsafe("\n".join(["payments would not be safe here:", *wrong]))


def _tell(found: Iterable[Finding], role: Role) -> None:
    for finding in found:
        if finding.what == "state":
            log.warning("store.empty", role=role.value)
        facts = {"probe": finding.what, "message": finding.message, "remedy": finding.remedy}
        if finding.level is Level.REFUSE:
            log.error("probe.alarmed", role=role.value, **facts)
        elif finding.what != "state":
            log.warning("probe.warned", role=role.value, **facts)


def _seen(facts: Facts) -> dict[str, object]:
    version = facts.info.get("valkey_version") or facts.info.get("redis_version")
    server = facts.info.get("server_name", "redis")
    return {"server": f"{server} {version}", "clock_ahead_ms": facts.clock_ahead}


async def warn_if_nearly_full(redis: Redis) -> None:
    info = await redis.info("memory")
    if (share := probes.memory_share(info)) >= probes.FULL:
        log.warning("redis.nearly_full", percent=round(share * 100))


# The canary


async def _first_write(redis: Redis, keys: Keys) -> str:
    """The canary; written now unless another worker was first."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    await redis.set(keys.canary, now, nx=True)
    return text_of(await redis.get(keys.canary), "replace")


def _with_canary(admitted: Admitted, canary: str | None, known: Admitted, role: Role) -> Admitted:
    """Say once that a canary that was seen before is gone, or is another one."""
    if canary is None:
        return replace(admitted, canary=known.canary)
    lost = bool(known.canary) and canary != known.canary
    if lost and "lost" not in known.told:
        log.error("store.lost", role=role.value, since=known.canary)
    told = admitted.told | ({"lost"} if lost else frozenset())
    return replace(admitted, canary=known.canary or canary, told=told)
