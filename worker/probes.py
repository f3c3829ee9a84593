"""Judges Redis, the clocks and the keys: what is wrong, or cannot be known, refuses or warns."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm

from jobs.model import Ms
from jobs.schedule import MINUTE, SECOND
from worker import connect
from worker.facts import Facts, WaitAof
from worker.scripts import Confirm
from worker.settings import Account, Settings
from worker.signature import Reason, Signed, Untrusted, signature_header, verify
from worker.values import Durability, Persistence, RedisChecks

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

OLDEST = (7, 0)  #: ACLs with selectors, XAUTOCLAIM's answer, EXPIRE's flags: what we are tested on
CLOCK_MAY_DIFFER: Ms = MINUTE  #: a worker wakes payments by its own clock, Redis counts by its
FULL = 0.8  #: of maxmemory: the last fifth is the time there is to act


class Level(StrEnum):
    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or cannot be known to be right."""

    what: str
    level: Level
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}"


def probe_version(facts: Facts, _: Settings) -> Finding | None:
    said = str(facts.info.get("redis_version", ""))
    numbers = tuple(int(part) for part in said.split(".")[:2] if part.isdigit())
    if not numbers:
        return _unknown("version", "its version", "make sure that it is Redis 7.0 or later")
    if numbers >= OLDEST:
        return None
    return _wrong("version", f"Redis {said} is too old", "use Redis 7.0 or later, or Valkey")


def probe_cluster(facts: Facts, _: Settings) -> Finding | None:
    if not (facts.info.get("cluster_enabled") or facts.info.get("redis_mode") == "cluster"):
        return None
    return _wrong(
        "cluster",
        "this is a Redis Cluster, where no script can change a payment's keys together",
        "use a single primary, with Sentinel or not",
    )


def probe_eviction(facts: Facts, _: Settings) -> Finding | None:
    told = facts.info.get("maxmemory_policy") or facts.config.get("maxmemory-policy")
    if told is None:
        return _unknown("eviction", "what it does when full", "set `maxmemory-policy noeviction`")
    if told == "noeviction":
        return None
    message = f"Redis forgets payments when it is full (maxmemory-policy {told})"
    return _wrong("eviction", message, "set `maxmemory-policy noeviction`")


def probe_persistence(facts: Facts, settings: Settings) -> Finding | None:
    """Whether what is answered is on disk; with other promises this is not asked."""
    on_disk = facts.info.get("aof_enabled")
    if settings.durability.persistence is Persistence.REPLICA and on_disk == 0:
        message = "Redis keeps nothing on disk: replicas that restart together lose all"
        return Finding("persistence", Level.WARN, message, "set `appendonly yes`")
    if settings.durability.persistence is not Persistence.FSYNC:
        return None
    if facts.waitaof is WaitAof.OFF or on_disk == 0:
        remedy = (
            "set `appendonly yes` and `appendfsync always`, or DURABILITY=memory in development"
        )
        return _wrong("persistence", "Redis keeps nothing on disk", remedy)
    if facts.waitaof is WaitAof.DENIED:
        message = "our user may not ask whether a write is on disk"
        return _wrong("persistence", message, "give it +waitaof, see deploy/users.conf")
    if facts.waitaof is WaitAof.UNKNOWN and facts.sentinel:
        message = "this Redis knows no WAITAOF, and the next primary may write to disk later"
        return _wrong("persistence", message, "use Redis 7.2, or DURABILITY=replica:N")
    return _fsync_always(facts)


def _fsync_always(facts: Facts) -> Finding | None:
    """Every write is on disk before its answer, if Redis is set up so. An older one knows no other
    way; and where syncs come every second, WAITAOF answers before them on many versions.

    Source: github.com/redis/redis/pull/13793
    """
    told, remedy = facts.config.get("appendfsync"), "set `appendfsync always`"
    if told is None:
        return _unknown("persistence", "whether each write is on disk when answered", remedy)
    if told == "always":
        return None
    message = f"with appendfsync {told} a power cut takes what Redis has confirmed"
    return _wrong("persistence", message, remedy)


def probe_replicas(facts: Facts, settings: Settings) -> Finding | None:
    """Whether a failover would lose what was acknowledged, or stop it."""
    wanted = settings.durability.replicas
    there = facts.info.get("connected_slaves", wanted)
    promotable = there if facts.promotable is None else facts.promotable
    if settings.durability.persistence is Persistence.MEMORY:
        return None
    if there < wanted:
        message = f"{there} of {wanted} replicas are connected: no notification is acknowledged"
        return Finding("replicas", Level.WARN, message, "start the others, or set DURABILITY")
    if (facts.sentinel or promotable) and not wanted:
        message = "DURABILITY waits for no replica: a failover loses what was acknowledged"
        return Finding("replicas", Level.WARN, message, "set fsync+replica:N, N being all of them")
    if promotable > wanted:
        message = f"DURABILITY waits for {wanted} of {promotable} replicas, another may be promoted"
        remedy = f"wait for {promotable}, or give the others replica-priority 0"
        return Finding("replicas", Level.WARN, message, remedy)
    return None


def probe_rights(facts: Facts, _: Settings) -> Finding | None:
    if not facts.lacking:
        return None
    message = f"our user of Redis may not send, or Redis does not know: {'; '.join(facts.lacking)}"
    return _wrong("rights", message, "give the rights in deploy/users.conf")


def probe_scripts(facts: Facts, _: Settings) -> Finding | None:
    if not facts.scripts:
        return None
    message = f"Redis does not take our scripts ({facts.scripts})"
    return _wrong("scripts", message, "use Redis 7.0 or later, or Valkey, with its Lua")


def probe_clock(facts: Facts, _: Settings) -> Finding | None:
    seconds = facts.clock_ahead / SECOND
    if abs(facts.clock_ahead) <= CLOCK_MAY_DIFFER:
        return None
    message = f"our clock and that of Redis differ by {abs(seconds):.0f} s"
    return _wrong("clock", message, "set both by NTP")


def probe_memory(facts: Facts, _: Settings) -> Finding | None:
    if (share := memory_share(facts.info)) < FULL:
        return None
    message = f"Redis is {share:.0%} full; when it is full it takes no writes"
    return Finding("memory", Level.WARN, message, "give it more memory, or raise `maxmemory`")


def memory_share(info: Mapping[str, Any]) -> float:
    """How much of maxmemory is used, as Redis counts it; 0 where there is no limit."""
    used = info.get("used_memory", 0) - info.get("mem_not_counted_for_evict", 0)
    limit = info.get("maxmemory", 0)
    return float(used / limit) if limit else 0.0


def probe_state(facts: Facts, settings: Settings) -> Finding | None:
    if facts.canary != "":
        return None
    level = Level.REFUSE if settings.require_state else Level.WARN
    message = "Redis holds nothing of ours: a first start, another database, or data was lost"
    remedy = "check REDIS_URL and the data; REQUIRE_STATE=true refuses this, false allows it"
    return Finding("state", level, message, remedy)


def probe_keys(_: Facts, settings: Settings) -> Finding | None:
    return try_keys(settings)


def try_keys(settings: Settings) -> Finding | None:
    """Whether our keys sign and the gateway's refuse what they did not sign."""
    ours = [
        f"ALIPAY_PRIVATE_KEY of {client_id}"
        for client_id, account in settings.accounts.items()
        if not _signs(settings.notify_path, account)
    ]
    theirs = [
        f"version {version} in ALIPAY_PUBLIC_KEYS of {client_id}"
        for client_id, keys in settings.public_keys.items()
        for version, key in keys.items()
        if not _refuses(settings.notify_path, client_id, version, key)
    ]
    if not ours and not theirs:
        return None
    message = f"not usable on this machine: {', '.join(ours + theirs)}"
    return Finding(
        "keys", Level.REFUSE, message, "make or copy the key anew; check OpenSSL's policy"
    )


def _signs(path: str, account: Account) -> bool:
    """Whether a sample that our key signed is verified by its own public half."""
    sample = Signed(path, account.client_id, _SAMPLE_TIME, _SAMPLE_BODY)
    try:
        header = signature_header(sample, account.private_key, account.key_version)
        keys = {account.key_version: account.private_key.public_key()}
        verify(sample, header, client_id=account.client_id, keys=keys)
    except (Untrusted, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _refuses(path: str, client_id: str, version: int, key: "RSAPublicKey") -> bool:
    """Whether a signature that nobody made is refused for the reason that it does not match."""
    sample = Signed(path, client_id, _SAMPLE_TIME, _SAMPLE_BODY)
    nothing = base64.b64encode(bytes((key.key_size + 7) // 8)).decode()
    header = f"algorithm=RSA256,keyVersion={version},signature={nothing}"
    try:
        verify(sample, header, client_id=client_id, keys={version: key})
    except Untrusted as doubt:
        return doubt.reason is Reason.SIG_MISMATCH
    except (ValueError, UnsupportedAlgorithm):
        pass
    return False


_SAMPLE_TIME, _SAMPLE_BODY = "2026-01-01T00:00:00Z", b'{"sample":true}'


def _wrong(what: str, message: str, remedy: str) -> Finding:
    return Finding(what, Level.REFUSE, message, remedy)


def _unknown(what: str, thing: str, remedy: str) -> Finding:
    return Finding(what, Level.WARN, f"Redis does not tell {thing}", remedy)


#: In the order in which they are told.
PROBES: Sequence[Callable[[Facts, Settings], Finding | None]] = (
    probe_version,
    probe_cluster,
    probe_rights,
    probe_scripts,
    probe_persistence,
    probe_eviction,
    probe_replicas,
    probe_clock,
    probe_memory,
    probe_keys,
    probe_state,
)

#: What is ours to mend, whoever manages Redis.
OURS = ("keys", "state")


def judge(facts: Facts, settings: Settings) -> list[Finding]:
    """All that is wrong or cannot be known; REDIS_CHECKS=warn refuses nothing about Redis."""
    found = [finding for probe in PROBES if (finding := probe(facts, settings))]
    if settings.redis_checks is RedisChecks.WARN:
        return [f if f.what in OURS else replace(f, level=Level.WARN) for f in found]
    return found


def confirmation(facts: Facts, durability: Durability) -> Confirm | None:
    """What a write must wait for on this server."""
    if facts.waitaof is WaitAof.WORKS:
        return connect.confirmation(durability)
    if durability.replicas:  # of the disk, the probes have seen what there is to see
        return connect.confirmation(replace(durability, persistence=Persistence.REPLICA))
    return None
