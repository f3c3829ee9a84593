"""Whether Redis can be reached, is safe, lets us do our work, and what waits in it."""

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from jobs.schedule import SECOND
from worker import connect, probes, rights
from worker.doctor.backlog import check_backlog
from worker.doctor.check import Check, failed, from_finding, ok, skipped, warning
from worker.doctor.values import redis_is_here
from worker.facts import Facts, ask, glance
from worker.keys import Keys
from worker.rights import Role
from worker.settings import Settings

PATIENCE_SECONDS = 15


async def check_redis(settings: Settings, roles: Sequence[Role]) -> list[Check]:
    if not settings.redis_url:
        return [skipped("redis", "not asked: REDIS_URL cannot be used")]
    redis = connect.client(settings.redis_url, tries=0)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _examine(redis, settings, roles)
    except (RedisError, OSError, TimeoutError) as fault:
        return [_unreachable(fault)]
    finally:
        await redis.aclose()


async def _examine(redis: Redis, settings: Settings, roles: Sequence[Role]) -> list[Check]:
    role = Role.WORKER if Role.WORKER in roles else roles[0]
    seen = await glance(redis, Keys(settings.key_prefix))
    if seen.info.get("role") == "slave":
        text = "it is a replica, which takes no writes"
        fix = "give the primary's address in REDIS_URL, or redis+sentinel:// to follow it"
        return [failed("redis", text, fix)]
    facts = await ask(redis, settings, role)
    return [
        ok("redis", "it answers"),
        *_login(settings, facts),
        *_probed(facts, settings),
        *[await _rights(redis, settings, each, roles) for each in roles],
        *(await check_backlog(redis, settings) if role is Role.WORKER else []),
    ]


def _unreachable(fault: BaseException) -> Check:
    said = str(fault).rstrip(".")
    for words, fix in _WHY_NOT.items():
        if any(word in said for word in words.split("|")):
            return failed("redis", f"it cannot be used: {said}", fix)
    if isinstance(fault, AuthenticationError):
        return failed("redis", f"it cannot be used: {said}", "see user and password in REDIS_URL")
    if isinstance(fault, TimeoutError) or "imeout" in said:
        return failed("redis", "it does not answer in time", "see whether it hangs, and firewalls")
    return failed("redis", f"it cannot be reached: {said}", "start it, or correct REDIS_URL")


_WHY_NOT = {
    "WRONGPASS|NOAUTH|AUTH failed|invalid username": "see user and password in REDIS_URL",
    "no permissions": "name a user in REDIS_URL that may, as in deploy/users.conf (a database other"
    " than 0 needs +select)",
    "Name or service|not known|nodename|name resolution": "see the host in REDIS_URL",
    "CERTIFICATE|certificate": "give Redis a certificate for its host that this machine trusts",
    "No such file": "see the path of the socket in REDIS_URL",
    "LOADING": "wait until it has loaded its data",
    "sentinel": "see the sentinels and the primary's name in REDIS_URL",
    "DB index": "name a database that there is in REDIS_URL",
}


def _login(settings: Settings, facts: Facts) -> list[Check]:
    """Passwords and payments on a wire that others may listen to."""
    url = settings.redis_url
    if redis_is_here(settings) or facts.lacking:
        return []
    if not url.startswith("rediss"):
        seen = "password and payments go to another machine unencrypted"
        return [warning("redis TLS", seen, "use rediss:// in REDIS_URL, or a network of its own")]
    return [ok("redis TLS", "encrypted")]


# What the processes probe at their start

_SEEN: dict[str, Callable[[Facts, Settings], str]] = {
    "version": lambda f, _: (
        f"{f.info.get('server_name', 'redis')}"
        f" {f.info.get('valkey_version') or f.info.get('redis_version')}"
    ),
    "cluster": lambda *_: "a single primary",
    "scripts": lambda *_: "our scripts are taken",
    "persistence": lambda _, s: f"as DURABILITY={s.durability.persistence} needs it",
    "eviction": lambda *_: "nothing is evicted (noeviction)",
    "replicas": lambda f, s: (
        f"{f.info.get('connected_slaves', 0)} connected, {s.durability.replicas} waited for"
    ),
    "clock": lambda f, _: f"Redis and we differ by {abs(f.clock_ahead) / SECOND:.1f} s",
    "memory": lambda f, _: (
        f"{probes.memory_share(f.info):.0%} of maxmemory is used"
        if f.info.get("maxmemory")
        else "there is no maxmemory"
    ),
    "state": lambda f, _: (
        f"a worker first wrote here on {f.canary[:10]}" if f.canary else "not shown to our user"
    ),
}


def _probed(facts: Facts, settings: Settings) -> list[Check]:
    """Each probe of Redis; rights are asked for role by role, keys without Redis."""
    found = {finding.what: finding for finding in probes.judge(facts, settings)}
    return [
        from_finding(found[what]) if what in found else ok(what, seen(facts, settings))
        for what, seen in _SEEN.items()
    ]


async def _rights(redis: Redis, settings: Settings, role: Role, roles: Sequence[Role]) -> Check:
    what = f"rights of the {role.value}"
    sent = role.sends(Keys(settings.key_prefix), settings.durability)
    try:
        lacking = await rights.lacking(redis, sent)
    except RedisError as fault:
        lacking = [str(fault)]
    if not lacking:
        return ok(what, f"all {len(sent)} commands may be sent")
    seen = f"our user may not send, or Redis does not know: {'; '.join(lacking)}"
    fix = "give the rights in deploy/users.conf"
    for other in (each for each in roles if each is not role):
        fix += f"; if this user is for the {other.value} alone: doctor --role {other.value}"
    return failed(what, seen, fix)
