"""Every setting of the reconciler: its name, default, meaning, and the checks it must pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobs.model import Ms, OnTimeout
from jobs.schedule import CancelWindow
from worker import secrecy, values
from worker.accounts import Table, read_accounts, toml_name
from worker.endpoints import AllowedHosts, allowed_hosts
from worker.environment import (
    EVERYTHING,
    BadSettings,
    Environment,
    Need,
    Setting,
    SourceFile,
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

__all__ = ["SETTINGS", "Account", "BadSettings", "Need", "Setting", "Settings", "Source", "load"]


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
    callback_secrets: tuple[bytes, ...] = setting(
        "CALLBACK_SECRETS",
        values.webhook_secrets,
        "",
        "What signs callbacks: whsec_ and the base64 of 24 to 64 random bytes. While you change it,"
        " the new one and the old one, separated by a comma or a newline.",
        secret=True,
        need=Need.GATEWAY,
    )
    callback_allowed_hosts: AllowedHosts = setting(
        "CALLBACK_ALLOWED_HOSTS",
        allowed_hosts,
        "",
        "Where a payment's callbackUrl may lead, separated by commas: shop.example.com,"
        " *.example.com, shop.example.com:8443; https alone. Addresses inside are refused, but for"
        " those named here, as 10.1.2.3 or 10.1.0.0/16, beside the name that leads there. Plain"
        " http goes only to this machine: http://localhost:8000, so with its port.",
        need=Need.GATEWAY,
    )
    notify_forward_url: str | None = setting(
        "NOTIFY_FORWARD_URL",
        values.optional(values.forward_url),
        "",
        "Where each verified notification is passed on unchanged: your own receiver, as in"
        " http://shop.internal/notify.",
        need=Need.NOTIFICATIONS | Need.GATEWAY,
    )

    @property
    def sandbox(self) -> bool:
        """The gateway keeps test accounts under paths of their own, by this prefix."""
        return self.client_id.startswith("SANDBOX_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process was told. All durations are in milliseconds.

    What is by client id is changed in place by `renew`, while a process runs: hold on to the
    mapping, not to what was once found in it.
    """

    #: By client id; empty where the process was loaded without `Need.GATEWAY`.
    accounts: dict[str, Account] = field(repr=False)
    #: By client id and version; empty where the process believes nobody.
    public_keys: "dict[str, Mapping[int, RSAPublicKey]]" = field(repr=False)
    #: By client id: where verified notifications are passed on to.
    forward_urls: dict[str, str] = field(repr=False)
    #: By client id, of every account: its own values of fields in `OWN`.
    own: dict[str, Mapping[str, Any]] = field(repr=False)
    #: What the accounts were read from.
    files: tuple[SourceFile, ...] = field(repr=False)

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
    accounts_file: Path | None = setting(
        "ALIPAY_ACCOUNTS_FILE",
        values.optional(values.existing_file),
        "",
        "A TOML file with several accounts, in place of all the ALIPAY_ settings of one: see"
        " deploy/accounts.example.toml.",
    )
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
        " of HTTP Basic. With one, the worker takes commands over HTTP as well.",
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
        "5,3,3,3,3,3,3,3,4,4,5,5,6,6,8,8,10,10,12,12,15,15,20,20,30",
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
    rate_limit: int = setting(
        "ALIPAY_RATE_LIMIT",
        integer(0, 100_000),
        "0",
        "How many calls a second the gateway allows this account, of all processes together; 0:"
        " nothing is known of a limit. Where it says that we are too fast, calls become fewer.",
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

    @property
    def client_ids(self) -> tuple[str, ...]:
        """All accounts, also where a process knows no keys of theirs."""
        return tuple(self.own)

    def of(self, client_id: str) -> "Settings":
        """These settings as they are for one account.

        ON_TIMEOUT=report of the deployment is stronger than an account's: the emergency brake.
        """
        own = dict(self.own.get(client_id, {}))
        if self.on_timeout is OnTimeout.REPORT:
            own.pop("on_timeout", None)
        return replace(self, client_id=client_id, **own)

    def renew(self, new: "Settings") -> None:
        """Have the accounts of `new` from here on, for all who hold these settings."""
        for name in ("accounts", "public_keys", "forward_urls", "own"):
            held = getattr(self, name)
            held.clear()
            held.update(getattr(new, name))


#: What an account in a file may have of its own, by the name of the field.
OWN = (
    "notify_url",
    "notify_path",
    "notify_signed_paths",
    "on_timeout",
    "schedule",
    "pending_schedule",
    "unresolved_schedule",
    "aftercare_schedule",
    "last_inquiry_grace",
    "gateway_timeout",
    "rate_limit",
    "cancel_schedule",
    "cancel_limit",
    "cancel_quiet",
    "cancel_brake",
    "not_found_settle",
    "unresolved_watch",
)

#: Every variable there is.
SETTINGS = (*declared(Settings).values(), *declared(Account).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a process finds its settings, to be read now and again."""

    environ: Mapping[str, str]
    dotenv: Path | None = None  #: a file that may be absent
    overrides: Mapping[str, str] | None = None  #: command-line flags, by the variable's name
    need: Need = EVERYTHING

    def load(self) -> Settings:
        """The settings; else `BadSettings` with all faults at once."""
        settings, faults = self.survey()
        if faults:
            raise BadSettings(faults)
        return settings

    def survey(self) -> tuple[Settings, list[str]]:
        """All that can be read, and all that is wrong.

        What cannot be read has its default; what has none is empty, and so is an account without
        it.
        """
        environment = Environment(self.environ, self.dotenv, self.overrides)
        entries, in_file = _entries(environment)
        common = environment.read(entries, self.need)
        tables = (_of_file if in_file else _of_environment)(environment, common, self.need)
        environment.look_for_misspelt((Settings, Account), self.need)
        environment.faults += _contradictions(common, tables)
        environment.faults += _open_to_others(common, self.need)
        settings = _settings(common, tables, self.need, environment.files)
        return settings, [secrecy.mask(fault) for fault in environment.faults]


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
    return Source(environ=environ, dotenv=dotenv, overrides=overrides, need=need).load()


# One account, or several


def _entries(environment: Environment) -> tuple[dict[str, Setting], bool]:
    """The settings of the deployment, and whether a file has the accounts: then the environment
    has none."""
    entries = declared(Settings)
    in_file = bool(environment.given(entries["accounts_file"]))
    if in_file:
        del entries["client_id"]
    return entries, in_file


def _of_environment(
    environment: Environment, common: Mapping[str, Any], need: Need
) -> Sequence[Table]:
    """The one account that the environment has."""
    fields = environment.read(declared(Account), need)
    return [Table(client_id=common.get("client_id", ""), fields=fields)]


def _of_file(environment: Environment, common: dict[str, Any], need: Need) -> Sequence[Table]:
    """Those of the file; one that a flag names is `common`'s."""
    client_id = declared(Settings)["client_id"]
    for entry in (client_id, *declared(Account).values()):
        for name in environment.given(entry, by_flag=False) if entry.need & need else ():
            environment.faults.append(
                f"{name} and ALIPAY_ACCOUNTS_FILE are both set: keep one; in the file, each account"
                f" has its {toml_name(name)}"
            )
    path = common.get("accounts_file")
    if path is None:  # told already
        return []
    fields = {"client_id": client_id} | declared(Account)
    found = read_accounts(path, fields, {n: declared(Settings)[n] for n in OWN}, SETTINGS, need)
    environment.faults += found.faults
    environment.files += found.files
    common["client_id"] = _chosen(environment, path, [table.client_id for table in found.tables])
    return found.tables


def _chosen(environment: Environment, path: Path, client_ids: Sequence[str]) -> str:
    """The account that a flag names, or the only one; else none."""
    flag = environment.layers[0].get("ALIPAY_CLIENT_ID")
    if flag and flag not in client_ids:
        listed = ", ".join(filter(None, client_ids))
        environment.faults.append(
            f"--client-id {flag}: {path.name} has no such account: give one of {listed}"
        )
    return flag or (client_ids[0] if len(client_ids) == 1 else "")


def _settings(
    common: Mapping[str, Any], tables: Sequence[Table], need: Need, files: Sequence[SourceFile]
) -> Settings:
    tables = [table for table in tables if table.client_id]
    known = {t.client_id: defaults(Account) | t.fields | {"client_id": t.client_id} for t in tables}
    whole = [
        fields
        for fields in known.values()
        if need & Need.GATEWAY and declared(Account).keys() <= fields.keys()
    ]
    return Settings(
        accounts={fields["client_id"]: Account(**fields) for fields in whole},
        public_keys={id_: f["public_keys"] for id_, f in known.items() if "public_keys" in f},
        forward_urls={id_: url for id_, f in known.items() if (url := f.get("notify_forward_url"))},
        own={table.client_id: table.own for table in tables},
        files=tuple(files),
        **{"client_id": "", "redis_url": "", **defaults(Settings), **common},
    )


# What does not go together


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


def _contradictions(common: Mapping[str, Any], tables: Sequence[Table]) -> Iterator[str]:
    """What is wrong with settings that are well formed each for itself."""
    tls = [common[name] for name in ("tls_cert_file", "tls_key_file") if name in common]
    if tls.count(None) == 1 and len(tls) == 2:
        yield "TLS_CERT_FILE and TLS_KEY_FILE belong together: set both or none"
    shared = list(_of_account(common))
    yield from shared
    for table in tables:
        for fault in _of_account({**common, **table.own, **table.fields}):
            if fault not in shared:
                yield table.told(fault)


def _of_account(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _at_odds(found)
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


def _at_odds(found: Mapping[str, Any]) -> Iterator[str]:
    """The same of what is sent to the merchant's own systems."""
    names = ("callback_secrets", "callback_allowed_hosts")
    if len({bool(found[name]) for name in names if name in found}) == 2:
        yield "CALLBACK_SECRETS and CALLBACK_ALLOWED_HOSTS belong together: set both or none"
    if found.get("notify_forward_url") and found["notify_forward_url"] == found.get("notify_url"):
        yield "NOTIFY_FORWARD_URL: this is our own ALIPAY_NOTIFY_URL; give that of your system"
