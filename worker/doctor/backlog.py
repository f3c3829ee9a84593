"""What waits in Redis, and whether anybody takes it."""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Ms
from jobs.schedule import DAY, HOUR, MINUTE, SECOND
from worker.commands import GROUP
from worker.doctor.check import Check, failed, ok, skipped, warning
from worker.keys import Keys
from worker.replies import now_of, text_of
from worker.settings import Settings
from worker.store import Store

SWEEPS_MISSED = 6  #: in a row, before we say that no worker runs
WAITING_LONG: Ms = MINUTE  #: for a command, which a worker takes up within a second
UNDELIVERED_LONG: Ms = HOUR  #: for a callback, or a notification that is passed on
LAG_LONG: Ms = DAY  #: for an outcome
LOOKED_AT = 500  #: open payments, at either end


async def check_backlog(redis: Redis, settings: Settings) -> list[Check]:
    keys, checks = Keys(settings.key_prefix), []
    now = await now_of(redis)
    looks: dict[str, Callable[[], Awaitable[list[Check]]]] = {
        "sweep": lambda: _sweep(redis, keys, settings, now),
        "commands": lambda: _commands(redis, keys, now),
        "outcomes": lambda: _outcomes(redis, keys, settings, now),
        "set aside": lambda: _set_aside(redis, keys),
        "deliveries": lambda: _deliveries(redis, keys),
        "accounts": lambda: _accounts(redis, keys, settings),
    }
    for what, look in looks.items():
        try:
            checks += await look()
        except ResponseError as fault:  # no right to look, or a key of another type
            checks.append(skipped(what, f"Redis does not show it: {fault}"))
    return checks


async def _sweep(redis: Redis, keys: Keys, settings: Settings, now: Ms) -> list[Check]:
    at = text_of(await redis.get(keys.swept) or "", "replace")
    if not at.isdigit():
        return [ok("sweep", "no worker has run here yet")]
    age = now - int(at)
    if age > max(SWEEPS_MISSED * settings.sweep_every, WAITING_LONG):
        seen = f"no worker has looked after open payments for {_length(age)}"
        return [warning("sweep", seen, "start `reconciler worker`; see its log if it runs")]
    return [ok("sweep", f"a worker looked after open payments {_length(age)} ago")]


async def _commands(redis: Redis, keys: Keys, now: Ms) -> list[Check]:
    group = next((g for g in await _groups(redis, keys.commands) if g["name"] == GROUP), None)
    if group is None:
        return [ok("commands", "none has been written yet")]
    waiting, oldest = _behind(group, now)
    if waiting and (oldest is None or oldest > WAITING_LONG):
        since = "none was ever read" if oldest is None else f"the oldest for {_length(oldest)}"
        seen = f"{waiting} commands wait, {since}: no worker reads them"
        return [failed("commands", seen, "start `reconciler worker`; see its log if it runs")]
    return [ok("commands", f"{waiting} wait")]


async def _outcomes(redis: Redis, keys: Keys, settings: Settings, now: Ms) -> list[Check]:
    groups = await _groups(redis, keys.outcomes)
    names = [group["name"] for group in groups]
    if not groups and not settings.outcome_groups:
        seen = "no consumer group reads the outcomes: an end may be trimmed before you learn it"
        fix = "name the group of your system in OUTCOME_GROUPS; the worker makes it"
        return [warning("outcomes", seen, fix)]
    checks = [_lag(group, now) for group in groups]
    new = [name for name in settings.outcome_groups if name not in names]
    if new:
        checks.append(ok("outcomes", f"{', '.join(new)}: the worker will make it"))
    return checks


def _lag(group: dict[str, Any], now: Ms) -> Check:
    waiting, oldest = _behind(group, now)
    name = group["name"]
    fix = "start what reads them, XACK what is done, or XGROUP DESTROY a group that nobody uses"
    if waiting and oldest is None:
        seen = f"group {name} has never read an outcome, and {waiting} wait"
        return warning("outcomes", seen, fix)
    if oldest is not None and oldest > LAG_LONG:
        seen = f"group {name} has not acknowledged {waiting} outcomes, the oldest {_length(oldest)}"
        return failed("outcomes", f"{seen} old", fix)
    return ok("outcomes", f"group {name}: {waiting} wait")


async def _groups(redis: Redis, stream: str) -> list[dict[str, Any]]:
    """The consumer groups of a stream, with when the oldest entry in hand was written."""
    if not await redis.exists(stream):
        return []
    groups = []
    for group in await redis.xinfo_groups(stream):
        pending = await redis.xpending(stream, group["name"])
        first = pending["min"] if pending["pending"] else group["last-delivered-id"]
        groups.append({**group, "name": text_of(group["name"], "replace"), "first": first})
    return groups


def _behind(group: dict[str, Any], now: Ms) -> tuple[int, Ms | None]:
    """How many entries a group has not acknowledged, and how old the oldest is, at most; None: it
    has never read one."""
    waiting = group["pending"] + (group.get("lag") or 0)
    at = int(text_of(group["first"]).partition("-")[0])
    if not waiting:
        return 0, 0
    return waiting, now - at if at else None


async def _set_aside(redis: Redis, keys: Keys) -> list[Check]:
    checks = []
    for what, stream, word in (
        ("dead commands", keys.dead, "commands"),
        ("quarantine", keys.quarantine, "quarantine"),
        ("dead deliveries", keys.dead_deliveries, "callbacks"),
    ):
        count = await redis.xlen(stream)
        if count:
            fix = f"see `reconciler replay {word} --all --dry-run`"
            if word == "callbacks":
                fix += ", and `replay forwards`"
            checks.append(warning(what, f"{count} lie there", fix))
        else:
            checks.append(ok(what, "none"))
    return checks


async def _deliveries(redis: Redis, keys: Keys) -> list[Check]:
    lanes, oldest = await Store(redis, keys).waiting()
    if oldest is not None and oldest > UNDELIVERED_LONG:
        seen = f"{lanes} endpoints or payments wait for what is sent, the oldest {_length(oldest)}"
        fix = "see delivery.failed in the worker's log; mend the endpoint, or start a worker"
        return [warning("deliveries", f"{seen} old", fix)]
    return [ok("deliveries", f"{lanes} wait")]


async def _accounts(redis: Redis, keys: Keys, settings: Settings) -> list[Check]:
    """Whose payments are open: of accounts that are not ours, and of two worlds in one place."""
    some = await redis.zrange(keys.open, 0, LOOKED_AT - 1)
    some += await redis.zrange(keys.open, -LOOKED_AT, -1)
    found = {text_of(raw, "replace").partition(":")[0] for raw in some}
    ours = set(settings.client_ids)
    strangers = sorted(found - ours)
    if len({id_.startswith("SANDBOX_") for id_ in found | ours}) > 1:
        seen = f"payments of sandbox and production are open side by side ({', '.join(strangers)})"
        return [failed("accounts", seen, "give each world a RECONCILER_KEY_PREFIX of its own")]
    if strangers:
        seen = (
            f"open payments of {', '.join(strangers)}, which has no settings here, are not followed"
        )
        return [failed("accounts", seen, "run a worker with the settings of that account")]
    whose = "this account" if len(ours) < 2 else "these accounts"
    return [ok("accounts", f"every open payment is of {whose}")]


def _length(ms: Ms) -> str:
    for unit, name in ((DAY, "d"), (60 * MINUTE, "h"), (MINUTE, "min")):
        if ms >= unit:
            return f"{ms // unit} {name}"
    return f"{max(ms, 0) // SECOND} s"
