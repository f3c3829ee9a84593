"""Every setting of the reconciler: its name, default, meaning, and the checks it must pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobs.model import Ms, OnTimeout
from jobs.schedule import CancelWindow
from worker import secrecy, values
from worker.environment import (
    EVERYTHING,
    BadSettings,
    Environment,
    Need,
    Setting,
    declared,
    defaults,
    setting,
)
from worker.values import (
    DAY,
    Durability,
    LogFormat,
    LogLevel,
    RedisChecks,
    duration,
    integer,
    seconds,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

__all__ = ["SETTINGS", "Account", "BadSettings", "Need", "Setting", "Settings", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One contract with the gateway: how we call it, and whose signature we believe."""

    client_id: str
    gateway_url: str = setting(
        "ALIPAY_GATEWAY_URL",
        values.gateway_url,
        None,
        "The gateway of your region, as in https://open-sea-global.alipay.com.",
        need=Need.GATEWAY,
    )
    private_key: "RSAPrivateKey" = setting(
        "ALIPAY_PRIVATE_KEY",
        values.private_key,
        None,
        "Your RSA private key: base64 without armour, or PEM. The worker alone needs it.",
        secret=True,
        need=Need.GATEWAY,
    )
    key_version: int = setting(
        "ALIPAY_KEY_VERSION",
        integer(0, 999_999_999),
        "1",
        "The version that the gateway's dashboard shows for your key.",
        need=Need.GATEWAY,
    )
    public_keys: "Mapping[int, RSAPublicKey]" = setting(
        "ALIPAY_PUBLIC_KEYS",
        values.public_keys,
        None,
        "The gateway's public keys from its dashboard: VERSION=KEY pairs separated by commas or"
        " newlines; a lone KEY is version 1.",
        secret=True,  # it is none, but a private key pasted here by mistake is
        need=Need.NOTIFICATIONS | Need.GATEWAY,
    )
    agent_token: str | None = setting(
        "ALIPAY_AGENT_TOKEN",
        values.optional(values.matching(r"[!-~]{1,1024}", "give printable ASCII without blanks")),
        "",
        "The token of an agent that acts for a merchant; else empty.",
        secret=True,
        need=Need.GATEWAY,
    )
    closing_time: Ms = setting(
        "ALIPAY_CLOSING_TIME_SECONDS",
        seconds("0.1", "2592000"),
        "840",
        "How long a buyer may take to pay, by your contract, where a payment does not say.",
    )
    pending_closing_time: Ms = setting(
        "ALIPAY_PENDING_CLOSING_TIME_SECONDS",
        seconds("0.1", "2592000"),
        "604800",
        "How long a bank may take to confirm a payment that the buyer has made.",
    )
    cancel_window: CancelWindow | None = setting(
        "ALIPAY_CANCEL_WINDOW",
        values.cancel_window,
        "T+1@00:15+08:00",
        "Until when the gateway cancels, by your contract: T+1@00:15+08:00 is until 00:15 at UTC+8"
        " on the day after the payment's; 7d, 24h or 900s after its creation; or none.",
    )

    @property
    def sandbox(self) -> bool:
        """The gateway keeps test accounts under paths of their own, by this prefix."""
        return self.client_id.startswith("SANDBOX_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told. All durations are in milliseconds."""

    #: By client id; empty where the process was loaded without `Need.GATEWAY`.
    accounts: Mapping[str, Account] = field(repr=False)
    #: By client id and version; empty where the process believes nobody.
    public_keys: "Mapping[str, Mapping[int, RSAPublicKey]]" = field(repr=False)

    # Redis
    redis_url: str = setting(
        "REDIS_URL",
        values.redis_url,
        None,
        "Redis 7 or Valkey: redis://host:port/db, rediss:// for TLS, unix:///path/of/socket, or"
        " redis+sentinel://host:port,host:port/name/db.",
        secret=True,
    )
    key_prefix: str = setting(
        "RECONCILER_KEY_PREFIX",
        values.matching(r"[a-z0-9_-]{1,32}", "give 1 to 32 of a-z, 0-9, _ and -"),
        "reconciler",
        "What our keys in Redis begin with.",
    )
    durability: Durability = setting(
        "DURABILITY",
        values.durability,
        "fsync",
        "When an event is safe enough to be acknowledged: fsync (on disk), replica:N (N replicas"
        " have it), fsync+replica:N (on their disks too), or memory (development).",
    )
    redis_checks: RedisChecks = setting(
        "REDIS_CHECKS",
        values.choice(RedisChecks),
        "refuse",
        "What to do about a Redis that is known to be unsafe: refuse it, or only warn, where it is"
        " managed by somebody else.",
    )
    require_state: bool = setting(
        "REQUIRE_STATE",
        values.yes_no,
        "false",
        "Whether to refuse a Redis that holds nothing of ours: true, once a worker has run.",
    )

    # The account
    client_id: str = setting(
        "ALIPAY_CLIENT_ID",
        values.matching(r"[A-Za-z0-9_]{1,64}", "give the client id of the gateway's dashboard"),
        None,
        "Your client id; SANDBOX_ in front selects the gateway's test system.",
    )

    # Notifications
    notify_url: str | None = setting(
        "ALIPAY_NOTIFY_URL",
        values.optional(values.notify_url),
        "",
        "Where the gateway reaches the receiver from outside, as in https://pay.example.com/notify.",
    )
    notify_path: str = setting(
        "ALIPAY_NOTIFY_PATH",
        values.matching(r"/[!-\"$->@-~]{0,254}", "give a path that begins with /, without a query"),
        "/notify",
        "The path on which the receiver listens.",
    )
    notify_signed_paths: tuple[str, ...] = setting(
        "ALIPAY_NOTIFY_SIGNED_PATH",
        values.listed(values.matching(r"/[!-\"$-~]{0,254}", "give paths that begin with /")),
        "",
        "The paths that the gateway called and signed, separated by commas, where a proxy or your"
        " own system hands notifications on under another path.",
    )
    receiver_host: str = setting(
        "RECEIVER_HOST",
        values.matching(r"[A-Za-z0-9.:_-]{1,253}", "give a host name or an IP address"),
        "0.0.0.0",
        "The address on which the receiver listens.",
    )
    receiver_port: int = setting(
        "RECEIVER_PORT",
        integer(0, 65535),
        "8080",
        "The port on which the receiver listens; 0 takes any free one.",
    )
    tls_cert_file: Path | None = setting(
        "TLS_CERT_FILE",
        values.optional(values.existing_file),
        "",
        "The receiver's certificate chain (PEM), if it is to speak TLS itself.",
        need=Need.NOTIFICATIONS,
    )
    tls_key_file: Path | None = setting(
        "TLS_KEY_FILE",
        values.optional(values.existing_file),
        "",
        "The key of that certificate (PEM).",
        need=Need.NOTIFICATIONS,
    )

    # The admin port
    receiver_admin_port: int = setting(
        "RECEIVER_ADMIN_PORT",
        integer(0, 65535),
        "9101",
        "The receiver's port for /healthz, /readyz and /metrics; 0: none.",
        need=Need.NOTIFICATIONS,
    )
    worker_admin_port: int = setting(
        "WORKER_ADMIN_PORT",
        integer(0, 65535),
        "9102",
        "The same of the worker; 0: none.",
        need=Need.GATEWAY,
    )
    admin_host: str = setting(
        "ADMIN_HOST",
        values.matching(r"[A-Za-z0-9.:_-]{1,253}", "give a host name or an IP address"),
        "127.0.0.1",
        "The address of both; any but this machine's own needs an ADMIN_TOKEN.",
        need=Need.NOTIFICATIONS | Need.GATEWAY,
    )
    admin_token: str | None = setting(
        "ADMIN_TOKEN",
        values.optional(
            values.matching(r"[!-~]{16,256}", "give 16 to 256 printable ASCII without blanks")
        ),
        "",
        "Who reads more than /healthz and /readyz shows it: as a bearer token, or as the password"
        " of HTTP Basic.",
        secret=True,
        need=Need.NOTIFICATIONS | Need.GATEWAY,
    )
    admin_allowed_hosts: tuple[str, ...] = setting(
        "ADMIN_ALLOWED_HOSTS",
        values.listed(values.matching(r"[a-z0-9._-]{1,253}", "give host names in small letters")),
        "",
        "Names under which the admin port is reached, separated by commas; localhost and addresses"
        " always may be.",
        need=Need.NOTIFICATIONS | Need.GATEWAY,
    )

    # Following payments
    on_timeout: OnTimeout = setting(
        "ON_TIMEOUT",
        values.choice(OnTimeout),
        "cancel",
        "What to do when a payment's time is up: cancel it, or only report it and never cancel.",
    )
    schedule: tuple[Ms, ...] = setting(
        "RECONCILER_SCHEDULE",
        values.schedule,
        "2,3,3,3,3,3,3,3,5,5,5,10,10,15,20,30",
        "Delays in seconds between inquiries; the last one repeats.",
    )
    pending_schedule: tuple[Ms, ...] = setting(
        "PENDING_SCHEDULE",
        values.schedule,
        "60,300,900,3600",
        "The same while a bank confirms a payment.",
    )
    unresolved_schedule: tuple[Ms, ...] = setting(
        "UNRESOLVED_SCHEDULE",
        values.schedule,
        "600,3600,21600",
        "The same for a payment that a person must look at.",
    )
    aftercare_schedule: tuple[Ms, ...] = setting(
        "AFTERCARE_SCHEDULE",
        values.schedule,
        "60,600,3600,86400",
        "When to ask once more after a payment failed or was cancelled: is money taken after all?",
    )
    last_inquiry_grace: Ms = setting(
        "LAST_INQUIRY_GRACE_SECONDS",
        seconds("0.1", "86400"),
        "900",
        "How long the last inquiry is repeated without an answer before a cancel is sent blindly.",
    )
    gateway_timeout: Ms = setting(
        "GATEWAY_TIMEOUT_SECONDS",
        seconds("0.1", "12"),  # a worker's lease on a payment is 15 s
        "10",
        "How long to wait for an answer of the gateway; at most 12.",
    )
    sweep_every: Ms = setting(
        "SWEEP_SECONDS",
        seconds("0.1", "300"),
        "10",
        "How often to look for payments whose job was lost.",
    )

    # Cancelling
    cancel_schedule: tuple[Ms, ...] = setting(
        "CANCEL_SCHEDULE",
        values.schedule,
        "2,3,5,10,30,60,120,300,600",
        "Delays in seconds between cancels without an answer; the last one repeats.",
    )
    cancel_limit: Ms = setting(
        "CANCEL_LIMIT_SECONDS",
        seconds("0.1", "2592000"),
        "86400",
        "How long a cancel is repeated before a person must look.",
    )
    cancel_quiet: Ms = setting(
        "CANCEL_QUIET_SECONDS",
        seconds("0.1", "3600"),
        "120",
        "How long a cancel without an answer may still be on its way.",
    )
    cancel_brake: int = setting(
        "CANCEL_BRAKE",
        integer(0, 1000),
        "20",
        "Stop cancelling if this many payments in a row were never found; 0 never stops.",
    )
    not_found_settle: Ms = setting(
        "NOT_FOUND_SETTLE_SECONDS",
        seconds("0.1", "86400"),
        "600",
        "How long after its closing time a payment must stay unknown to the gateway to count as"
        " never made.",
    )

    # Keeping and telling
    unresolved_watch: Ms = setting(
        "UNRESOLVED_WATCH_DAYS",
        duration(DAY, "0.001", "365"),
        "30",
        "How long an unresolved payment is asked for.",
    )
    retention: Ms = setting(
        "RETENTION_DAYS",
        duration(DAY, "0.001", "3650"),
        "35",
        "How long records are kept after the end.",
    )
    outcome_groups: tuple[str, ...] = setting(
        "OUTCOME_GROUPS",
        values.listed(
            values.matching(r"[A-Za-z0-9_.:-]{1,64}", "give names of A-Z, a-z, 0-9, _ . : and -")
        ),
        "",
        "Consumer groups to make on the stream of outcomes, separated by commas.",
    )

    # Logs
    log_format: LogFormat = setting(
        "LOG_FORMAT",
        values.choice(LogFormat),
        "auto",
        "json, console, or auto: console on a terminal, else json.",
    )
    log_level: LogLevel = setting(
        "LOG_LEVEL",
        values.choice(LogLevel),
        "info",
        "debug, info, warning or error.",
    )
    log_condensed: bool = setting(
        "LOG_CONDENSED",
        values.yes_no,
        "true",
        "Lines that repeat are written 50 times in ten seconds, then counted. false: all of them.",
    )


#: Every variable there is.
SETTINGS = (*declared(Settings).values(), *declared(Account).values())


def load(
    environ: Mapping[str, str],
    dotenv: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    need: Need = EVERYTHING,
) -> Settings:
    """The settings of a process that has this `need`; else `BadSettings` with all faults at once.

    `dotenv` is a file that may be absent; `overrides` are command-line flags by variable name.
    """
    settings, faults = survey(environ, dotenv, overrides, need=need)
    if faults:
        raise BadSettings(faults)
    return settings


def survey(
    environ: Mapping[str, str],
    dotenv: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    need: Need = EVERYTHING,
) -> tuple[Settings, list[str]]:
    """All that can be read, and all that is wrong.

    What cannot be read has its default; what has none is empty, and so is an account without it.
    """
    environment = Environment(environ, dotenv, overrides)
    common = environment.read(Settings, need)
    account = environment.read(Account, need)
    environment.look_for_misspelt((Settings, Account), need)
    environment.faults += _contradictions(common | account)
    environment.faults += _open_to_others(common, need)
    common = {"client_id": "", "redis_url": ""} | defaults(Settings) | common
    account = defaults(Account) | account
    client_id = common["client_id"]
    believed = {client_id: account["public_keys"]} if "public_keys" in account else {}
    whole = bool(need & Need.GATEWAY and declared(Account).keys() <= account.keys() and client_id)
    accounts = {client_id: Account(client_id=client_id, **account)} if whole else {}
    settings = Settings(accounts=accounts, public_keys=believed, **common)
    return settings, [secrecy.mask(fault) for fault in environment.faults]


def _open_to_others(found: Mapping[str, Any], need: Need) -> Iterator[str]:
    """An admin port of this process that others than this machine reach without a token."""
    ports = {Need.NOTIFICATIONS: "receiver_admin_port", Need.GATEWAY: "worker_admin_port"}
    opened = any(found.get(port) for role, port in ports.items() if role & need)
    host, token = found.get("admin_host", "localhost"), found.get("admin_token", "set wrongly")
    if opened and token is None and not values.loopback(host):
        yield (
            f"ADMIN_HOST={host}: others reach it there, so set ADMIN_TOKEN (16 characters or"
            " more), or leave ADMIN_HOST at 127.0.0.1, or set the admin ports to 0"
        )


def _contradictions(found: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with settings that are well formed each for itself."""
    tls = [found[name] for name in ("tls_cert_file", "tls_key_file") if name in found]
    if tls.count(None) == 1 and len(tls) == 2:
        yield "TLS_CERT_FILE and TLS_KEY_FILE belong together: set both or none"
    if found.get("retention", 0) < sum(found.get("aftercare_schedule", ())):
        yield "RETENTION_DAYS: shorter than AFTERCARE_SCHEDULE takes; keep records longer"
    if found.get("notify_url"):
        called = urlsplit(found["notify_url"]).path or "/"
        believed = found.get("notify_signed_paths") or (found.get("notify_path", called),)
        if called not in believed:
            yield (
                f"ALIPAY_NOTIFY_URL: the gateway signs {called}, the receiver believes only"
                f" {' and '.join(believed)}: set ALIPAY_NOTIFY_PATH or ALIPAY_NOTIFY_SIGNED_PATH"
            )
    if "private_key" in found:
        ours = found["private_key"].public_key().public_numbers()
        for version, key in found.get("public_keys", {}).items():
            if key.public_numbers() == ours:
                yield (
                    f"ALIPAY_PUBLIC_KEYS: version {version} is the public half of your own"
                    " ALIPAY_PRIVATE_KEY: give the gateway's key, which its dashboard shows"
                )
