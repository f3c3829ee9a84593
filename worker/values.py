"""How the text of a setting becomes a value: each function returns it, or says what to give.

The messages never repeat the text: some of it is secret.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from jobs.model import Ms
from jobs.schedule import CancelWindow

if TYPE_CHECKING:  # loading it takes longer than a whole `reconciler --help`
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

SECOND: Ms = 1000
DAY: Ms = 86_400 * SECOND

MIN_DELAY: Ms = 10  #: a schedule denser than this only burns the gateway's rate limit
MAX_DELAYS = 100  #: a schedule longer than this is a mistake


class Persistence(StrEnum):
    """Where an event must stand before it is acknowledged."""

    FSYNC = "fsync"  #: on Redis' disk
    REPLICA = "replica"  #: in the memory of some replicas
    MEMORY = "memory"  #: in Redis' memory: for development


@dataclass(frozen=True, slots=True)
class Durability:
    persistence: Persistence
    replicas: int = 0  #: how many must have it; with fsync: on their disks, as on the primary's


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """What a `redis+sentinel://` URL says."""

    sentinels: tuple[tuple[str, int], ...]  #: hosts and ports
    name: str  #: of the primary, as the sentinels know it
    url: str = field(repr=False)  #: of a primary at any address: its scheme, password, database
    username: str | None = None  #: for the sentinels themselves
    password: str | None = field(default=None, repr=False)


class RedisChecks(StrEnum):
    REFUSE = "refuse"  #: a Redis that is known to be unsafe is not used
    WARN = "warn"  #: it is, after a warning: where somebody else manages it


class LogFormat(StrEnum):
    AUTO = "auto"  #: console on a terminal, else JSON
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def matching(pattern: str, hint: str) -> Callable[[str], str]:
    """Text of which `pattern` matches the whole."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(hint)
        return text

    return parse


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """None for a setting left empty."""
    return lambda text: parse(text) if text else None


def choice(kind: type[E]) -> Callable[[str], E]:
    def parse(text: str) -> E:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"give one of {', '.join(kind)}") from None

    return parse


def yes_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("give true or false")
    return text == "true"


def integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not least <= int(text) <= most:
            raise ValueError(f"give a whole number from {least} to {most}")
        return int(text)

    return parse


def duration(unit: Ms, least: str, most: str) -> Callable[[str], Ms]:
    """A length of time in `unit`s, decimals allowed, as whole milliseconds."""

    def parse(text: str) -> Ms:
        decimal = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text)
        if not decimal or not Decimal(least) <= Decimal(text) <= Decimal(most):
            raise ValueError(f"give a number from {least} to {most}, with at most three decimals")
        return int(Decimal(text) * unit)

    return parse


def seconds(least: str, most: str) -> Callable[[str], Ms]:
    return duration(SECOND, least, most)


_one_delay = seconds(str(Decimal(MIN_DELAY) / SECOND), "2592000")


def schedule(text: str) -> tuple[Ms, ...]:
    """Delays one after the other; the last one repeats."""
    delays = text.split(",")
    if len(delays) > MAX_DELAYS:
        raise ValueError(f"give at most {MAX_DELAYS} delays; the last one repeats by itself")
    try:
        return tuple(_one_delay(delay.strip()) for delay in delays)
    except ValueError as error:
        raise ValueError(f"give delays in seconds, separated by commas: each, {error}") from None


_TIME = "([01][0-9]|2[0-3]):([0-5][0-9])"
_UNTIL = re.compile(rf"T\+([0-9]{{1,2}})@{_TIME}([+-]){_TIME}")
_LASTING = re.compile(r"([1-9][0-9]{0,6})([shd])")
_LENGTHS = {"s": SECOND, "h": 3600 * SECOND, "d": DAY}
_LONGEST_WINDOW: Ms = 365 * DAY


def cancel_window(text: str) -> CancelWindow | None:
    """`T+1@00:15+08:00`: until that time, so many days after the payment's day; or a length."""
    if text == "none":
        return None
    if lasting := _LASTING.fullmatch(text):
        length = int(lasting[1]) * _LENGTHS[lasting[2]]
        _require(length <= _LONGEST_WINDOW, "give a window of at most 365d")
        return CancelWindow(length=length)
    until = _UNTIL.fullmatch(text)
    if not until:
        raise ValueError("give T+1@00:15+08:00 (days after, time, offset), 7d, 24h, 900s or none")
    days, hours, minutes, sign, *zone = until.groups()
    ahead = _minutes(*zone) if sign == "+" else -_minutes(*zone)
    return CancelWindow(days=int(days), time=_minutes(hours, minutes), zone=ahead)


def _minutes(hours: str, minutes: str) -> Ms:
    return (int(hours) * 60 + int(minutes)) * 60 * SECOND


def listed(parse: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """Values separated by commas, none twice."""

    def parse_all(text: str) -> tuple[T, ...]:
        values = tuple(parse(part.strip()) for part in text.split(",")) if text else ()
        if len(set(values)) < len(values):
            raise ValueError("name each one once")
        return values

    return parse_all


def durability(text: str) -> Durability:
    mode = re.fullmatch(r"(fsync|memory|(?:fsync\+)?replica)(?::([1-9]))?", text)
    if not mode or ("replica" in mode[1]) != bool(mode[2]):
        hint = "give fsync, replica:N or fsync+replica:N (N replicas, 1 to 9), or memory"
        raise ValueError(hint)
    return Durability(Persistence(mode[1].partition("+")[0]), int(mode[2] or 0))


def existing_file(text: str) -> Path:
    path = Path(text)
    try:
        _require(path.is_file(), "no such file, or no right to see it: give the path of a file")
    except OSError:  # a key itself, say: no name is that long
        raise ValueError("this is no path: give the path of a file") from None
    return path


def redis_url(text: str) -> str:
    hint = (
        "give redis://host:port/db, rediss:// for TLS, redis+sentinel://host,host/name/db, or"
        " unix:///path/of/socket"
    )
    through_sentinel = sentinel_url(text)
    url = _split(through_sentinel.url if through_sentinel else text, hint)
    if url.scheme == "unix":
        _require(url.path, hint)
    else:
        _require(url.scheme in {"redis", "rediss"} and url.hostname, hint)
        _require(re.fullmatch(r"/?[0-9]*", url.path), f"{hint}; a database is a number")
    weakened = {"ssl_cert_reqs", "ssl_check_hostname"} & parse_qs(url.query).keys()
    _require(not weakened, "leave out ssl_cert_reqs and ssl_check_hostname: always checked")
    return text


_SENTINEL_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://((?P<login>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)"
    r"(/(?P<name>[^/?#]*))?(/(?P<db>[^/?#]*))?(\?(?P<query>[^#]*))?"
)
_SENTINEL = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
SENTINEL_PORT = 26379


def sentinel_url(text: str) -> SentinelUrl | None:
    """The parts of `redis+sentinel://[user:password@]host:port,host:port/name/db`.

    None for a URL of another scheme. User and password are the primary's; those of the sentinels
    stand in the query: `sentinel_username`, `sentinel_password`.
    """
    if not text.startswith(("redis+sentinel:", "rediss+sentinel:")):
        return None
    hint = (
        "give redis+sentinel://host:port,host:port/name/db: the sentinels, and the primary's name"
    )
    parts = _SENTINEL_URL.fullmatch(text)
    if not parts:
        raise ValueError(hint)
    _require(parts["hosts"], hint)
    _require(parts["name"], f"{hint}, by which the sentinels know it")
    _require(
        re.fullmatch(r"[A-Za-z0-9._-]+", parts["name"]), "a primary's name has A-Z a-z 0-9 . _ -"
    )
    _require(re.fullmatch(r"[0-9]*", parts["db"] or ""), f"{hint}; a database is a number")
    query = {name: values[0] for name, values in parse_qs(parts["query"] or "").items()}
    username, password = query.pop("sentinel_username", None), query.pop("sentinel_password", None)
    login = f"{parts['login']}@" if parts["login"] else ""
    return SentinelUrl(
        sentinels=_sentinels(parts["hosts"]),
        name=parts["name"],
        url=f"{parts['scheme']}://{login}primary/{parts['db'] or ''}?{urlencode(query)}",
        username=username,
        password=password,
    )


def _sentinels(text: str) -> tuple[tuple[str, int], ...]:
    found = []
    for part in text.split(","):
        address = _SENTINEL.fullmatch(part)
        if not address or not 0 < int(address[2] or SENTINEL_PORT) < 65536:
            raise ValueError("give every sentinel as host or host:port, separated by commas")
        found.append((address[1].strip("[]"), int(address[2] or SENTINEL_PORT)))
    _require(len(set(found)) == len(found), "name each sentinel once")
    return tuple(found)


def gateway_url(text: str) -> str:
    """Scheme and host alone: the paths of the API are ours to know."""
    url = _safe_url(text)
    bare = url.path in {"", "/"} and not text.endswith(("?", "#"))
    _require(bare and not url.query, "give scheme and host alone, without a path")
    return f"{url.scheme}://{url.netloc}"


def notify_url(text: str) -> str:
    """No query: docs.antom.com/ac/ams/digital_signature is silent on how one would be signed."""
    url = _safe_url(text)
    _require(not url.query and len(text) <= 2048, "give a URL of 2048 characters, without a query")
    return text


def _safe_url(text: str) -> SplitResult:
    hint = "give an https:// URL; http:// is for this machine alone (localhost, 127.0.0.1)"
    url = _split(text, hint)
    _require(url.hostname and text.isascii() and text.isprintable() and " " not in text, hint)
    _require(url.scheme == "https" or (url.scheme == "http" and loopback(url.hostname)), hint)
    _require("@" not in url.netloc and not url.fragment, "leave out user, password and fragment")
    return url


def _split(text: str, hint: str) -> SplitResult:
    try:
        url = urlsplit(text)
        _ = url.port  # raises if it is no port
    except ValueError:
        raise ValueError(hint) from None
    return url


def loopback(host: str | None) -> bool:
    """Whether a host is this machine, by its name or its address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _require(condition: object, hint: str) -> None:
    if not condition:
        raise ValueError(hint)


def forward_url(text: str) -> str:
    """Of the merchant's own system, perhaps on a network of its own: http:// will do there."""
    hint = "give the http:// or https:// URL of your own system"
    url = _split(text, hint)
    plain = text.isascii() and text.isprintable() and " " not in text and len(text) <= 2048
    _require(url.scheme in ("http", "https") and url.hostname and plain, hint)
    _require("@" not in url.netloc and not url.fragment, "leave out user, password and fragment")
    return text


SECRET_BYTES = range(24, 65)  #: of a webhook secret: github.com/standard-webhooks


def webhook_secrets(text: str) -> tuple[bytes, ...]:
    """`whsec_<base64>`, several separated by commas or newlines: each signs every callback."""
    secrets = tuple(map(_webhook_secret, filter(None, re.split(r"[,\s]+", text))))
    _require(len(set(secrets)) == len(secrets), "give each secret once")
    _require(len(secrets) <= 4, "give at most 4 secrets: the new one, and the old one for a while")
    return secrets


def _webhook_secret(text: str) -> bytes:
    try:
        secret = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        secret = b""
    if not text.startswith("whsec_") or len(secret) not in SECRET_BYTES:
        raise ValueError("give whsec_ and the base64 of 24 to 64 random bytes")
    return secret


def private_key(text: str) -> "RSAPrivateKey":
    from worker.signature import load_private_key

    return load_private_key(text)


# A pair begins with its version: digits and one `=` right before a key. The `=` that pad a key's
# base64 stand before a comma, a line's end or the end, so they are never taken for it.
_PAIR = re.compile(r"(?:^|[,\n])[ \t]*([0-9]{1,9})[ \t]*=(?=[A-Za-z0-9+/]|\s*-----BEGIN)")


def public_keys(text: str) -> "Mapping[int, RSAPublicKey]":
    """`VERSION=KEY` pairs separated by commas or newlines; a lone KEY is version 1."""
    from worker.signature import BadKey, load_public_key

    before, *pairs = _PAIR.split(text.strip().replace("\\n", "\n"))
    if not pairs:
        return {1: load_public_key(before.strip(" \t\r\n,"))}
    _require(not before.strip(), "begin every key with VERSION=")
    keys: dict[int, RSAPublicKey] = {}
    for version, key in _by_two(pairs):
        _require(version not in keys, f"version {version} is given twice: keep one of them")
        try:
            keys[version] = load_public_key(key.strip(" \t\r\n,"))
        except BadKey as error:
            raise ValueError(f"version {version}: {error}") from None
    return keys


def _by_two(parts: list[str]) -> Iterable[tuple[int, str]]:
    return zip(map(int, parts[::2]), parts[1::2], strict=True)
