"""Values that are allowed, each for itself, and together or here are seldom meant."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from jobs.model import Ms, OnTimeout
from jobs.schedule import DAY, MINUTE
from worker.doctor.check import Check, Verdict, ok
from worker.settings import Account, Settings
from worker.values import LogLevel, Persistence, RedisChecks, loopback, sentinel_url


@dataclass(frozen=True, slots=True)
class Rule:
    """A value that is allowed, and seldom meant."""

    applies: Callable[[Settings], bool]
    verdict: Verdict
    seen: str
    fix: str


def _account(settings: Settings) -> Account | None:
    return settings.accounts.get(settings.client_id)


def _closing(settings: Settings, least: Callable[[Settings], Ms]) -> bool:
    account = _account(settings)
    return account is not None and account.closing_time < least(settings)


def _first_answer(settings: Settings) -> Ms:
    return settings.schedule[0] + settings.gateway_timeout


def redis_is_here(settings: Settings) -> bool:
    """Whether Redis runs on this machine: then nobody listens in, and it dies with us."""
    if settings.redis_url.startswith("unix:"):
        return True
    through = sentinel_url(settings.redis_url) if "+sentinel:" in settings.redis_url else None
    hosts = (
        [h for h, _ in through.sentinels] if through else [urlsplit(settings.redis_url).hostname]
    )
    return all(loopback(host) for host in hosts)


def _production(settings: Settings) -> bool:
    return bool(settings.client_id) and not settings.client_id.startswith("SANDBOX_")


def _gateway_is_here(settings: Settings) -> bool:
    account = _account(settings)
    return account is not None and loopback(urlsplit(account.gateway_url).hostname)


def _notify_is_here(settings: Settings) -> bool:
    return settings.notify_url is not None and loopback(urlsplit(settings.notify_url).hostname)


_W, _F = Verdict.WARNING, Verdict.FAILED
_MEMORY = Persistence.MEMORY

RULES = (
    Rule(
        lambda s: _production(s) and _gateway_is_here(s),
        _F,
        "a production client id, and a gateway on this machine",
        "set ALIPAY_GATEWAY_URL to the gateway of your region, or use a SANDBOX_ client id",
    ),
    Rule(
        lambda s: bool(_account(s)) and not _gateway_is_here(s) and _notify_is_here(s),
        _F,
        "ALIPAY_NOTIFY_URL is on this machine: the gateway cannot reach it",
        "set it to the https:// URL under which the internet reaches the receiver",
    ),
    Rule(
        lambda s: s.durability.persistence is _MEMORY and not redis_is_here(s),
        _F,
        "DURABILITY=memory with a Redis on another machine: a restart there loses what was"
        " acknowledged",
        "set DURABILITY=fsync",
    ),
    Rule(
        lambda s: s.durability.persistence is _MEMORY and redis_is_here(s),
        _W,
        "DURABILITY=memory: a restart of Redis loses what was acknowledged",
        "set DURABILITY=fsync, unless this is for development",
    ),
    Rule(
        lambda s: s.redis_checks is RedisChecks.WARN,
        _W,
        "REDIS_CHECKS=warn: an unsafe Redis is used all the same",
        "set REDIS_CHECKS=refuse once its checks are all well",
    ),
    Rule(
        lambda s: s.on_timeout is OnTimeout.REPORT,
        _W,
        "ON_TIMEOUT=report: no payment is ever cancelled, only reported",
        "set ON_TIMEOUT=cancel once the reports are what you expect",
    ),
    Rule(
        lambda s: _closing(s, _first_answer),
        _F,
        "ALIPAY_CLOSING_TIME_SECONDS is shorter than the first inquiry may take",
        "set it as your contract says, and above the first of RECONCILER_SCHEDULE plus"
        " GATEWAY_TIMEOUT_SECONDS",
    ),
    Rule(
        lambda s: _closing(s, lambda _: MINUTE) and not _closing(s, _first_answer),
        _W,
        "ALIPAY_CLOSING_TIME_SECONDS is under a minute: buyers are cut off while they pay",
        "set it as your contract says; 840 is usual",
    ),
    Rule(
        lambda s: s.cancel_quiet < s.gateway_timeout,
        _F,
        "CANCEL_QUIET_SECONDS is shorter than GATEWAY_TIMEOUT_SECONDS: an answer may be believed"
        " while a cancel is on its way",
        "set CANCEL_QUIET_SECONDS=120",
    ),
    Rule(
        lambda s: s.cancel_limit < 10 * MINUTE,
        _W,
        "CANCEL_LIMIT_SECONDS is under ten minutes: a short outage leaves payments to a person",
        "set CANCEL_LIMIT_SECONDS=86400",
    ),
    Rule(
        lambda s: s.last_inquiry_grace < MINUTE,
        _W,
        "LAST_INQUIRY_GRACE_SECONDS is under a minute: a short outage cancels payments that may be"
        " paid",
        "set LAST_INQUIRY_GRACE_SECONDS=900",
    ),
    Rule(
        lambda s: s.not_found_settle < MINUTE,
        _W,
        "NOT_FOUND_SETTLE_SECONDS is under a minute: an order that comes late counts as never made",
        "set NOT_FOUND_SETTLE_SECONDS=600",
    ),
    Rule(
        lambda s: s.cancel_brake == 0,
        _W,
        "CANCEL_BRAKE=0: with a wrong client id every payment of the shop would be cancelled",
        "set CANCEL_BRAKE=20",
    ),
    Rule(
        lambda s: s.log_level in (LogLevel.WARNING, LogLevel.ERROR),
        _W,
        "LOG_LEVEL hides how payments end",
        "set LOG_LEVEL=info",
    ),
    Rule(
        lambda s: s.retention < 7 * DAY,
        _W,
        "RETENTION_DAYS is under a week: who asks later what happened finds nothing",
        "set RETENTION_DAYS=35",
    ),
)


def check_values(settings: Settings) -> Iterator[Check]:
    """Values that are seldom meant, and which world we are in."""
    if settings.client_id:
        world = "production" if _production(settings) else "the gateway's sandbox"
        yield ok("world", f"{settings.client_id} is an account of {world}")
    found = [
        Check(what="values", verdict=rule.verdict, seen=rule.seen, fix=rule.fix)
        for rule in RULES
        if rule.applies(settings)
    ]
    yield from found or [ok("values", "none that is seldom meant")]
