"""Settings are read from four places, checked all at once, and never repeat a secret."""

import base64
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from jobs.model import OnTimeout
from jobs.schedule import CancelWindow
from tests.keys import key_text, public_key
from worker.environment import declared
from worker.settings import SETTINGS, BadSettings, Need, Settings, load
from worker.signature import private_text
from worker.values import Durability, LogLevel, Persistence, RedisChecks

PRIVATE = key_text("merchant_v1", "private_pkcs8_b64")
PUBLIC = key_text("alipay_v1", "public_x509_b64")
PUBLIC_2 = key_text("alipay_v2", "public_x509_b64")

COMPLETE = {
    "REDIS_URL": "redis://user:red-secret@127.0.0.1:6379/0",
    "ALIPAY_CLIENT_ID": "SANDBOX_5X00000000000000",
    "ALIPAY_GATEWAY_URL": "https://open-sea-global.alipay.com",
    "ALIPAY_PRIVATE_KEY": PRIVATE,
    "ALIPAY_PUBLIC_KEYS": PUBLIC,
}
LATEST = (23 * 60 + 59) * 60_000  #: 23:59

CALLBACKS = {
    "CALLBACK_SECRETS": "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
    "CALLBACK_ALLOWED_HOSTS": "shop.example.com",
}


def settings(**changes: str) -> Settings:
    return load(COMPLETE | changes)


def faults(environ: Mapping[str, str], **how: Any) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        load(environ, **how)
    return caught.value.faults


def pem(version: str = "alipay_v1") -> str:
    return (
        public_key(version)
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


# Where a setting comes from


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("RECEIVER_PORT=1\nCANCEL_BRAKE=1\nRECONCILER_KEY_PREFIX=file\n")
    environ = COMPLETE | {"RECEIVER_PORT": "2", "CANCEL_BRAKE": "2"}
    found = load(environ, dotenv, {"RECEIVER_PORT": "3"})
    assert found.receiver_port == 3
    assert found.cancel_brake == 2
    assert found.key_prefix == "file"
    assert found.sweep_every == 10_000


def test_what_is_empty_counts_as_not_set(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("RECEIVER_PORT=1\n")
    assert load(COMPLETE | {"RECEIVER_PORT": "  "}, dotenv).receiver_port == 1


def test_a_file_that_is_absent_is_no_fault(tmp_path: Path) -> None:
    assert load(COMPLETE, tmp_path / "absent").receiver_port == 8080


def test_a_file_may_hold_a_key_in_quotes_and_is_taken_literally(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f'ALIPAY_PUBLIC_KEYS="{pem()}"\nALIPAY_AGENT_TOKEN="a$HOME"\nexport X\n')
    without = {k: v for k, v in COMPLETE.items() if k != "ALIPAY_PUBLIC_KEYS"}
    [account] = load(without, dotenv).accounts.values()
    assert account.public_keys[1].public_numbers() == public_key("alipay_v1").public_numbers()
    assert account.agent_token == "a$HOME"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"RECEIVER_PORT=1\n='red-secret\n", ".env, line 2, cannot be read: write NAME=value"),
        (b"\xff\xfe", ".env cannot be read: it is not text"),
    ],
)
def test_a_broken_file_is_a_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    assert faults(COMPLETE, dotenv=tmp_path / ".env") == [f"{tmp_path}/{fault}"]


def test_a_directory_in_place_of_the_file_is_a_fault(tmp_path: Path) -> None:
    assert faults(COMPLETE, dotenv=tmp_path) == [f"{tmp_path} cannot be read: Is a directory"]


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.secret])
def test_every_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    with_callbacks = COMPLETE | CALLBACKS
    secret.write_text(with_callbacks.get(name, "a-token-of-20-signs!") + "\n")
    environ = {k: v for k, v in with_callbacks.items() if k != name}
    direct = load(with_callbacks | {name: secret.read_text()})
    by_file = load(environ | {name + "_FILE": str(secret)})
    assert (by_file.redis_url, by_file.admin_token) == (direct.redis_url, direct.admin_token)
    [ours], [theirs] = by_file.accounts.values(), direct.accounts.values()
    assert ours.agent_token == theirs.agent_token
    assert ours.callback_secrets == theirs.callback_secrets == (b"0" * 24,)
    assert private_text(ours.private_key) == private_text(theirs.private_key)
    assert ours.public_keys[1].public_numbers() == theirs.public_keys[1].public_numbers()


def test_a_secret_that_cannot_be_read_or_is_given_twice_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff")
    environ = COMPLETE | {
        "REDIS_URL": "",
        "REDIS_URL_FILE": str(tmp_path / "absent"),
        "ALIPAY_PRIVATE_KEY_FILE": "/x",
        "ALIPAY_PUBLIC_KEYS": "",
        "ALIPAY_PUBLIC_KEYS_FILE": str(tmp_path / "empty"),
        "ALIPAY_AGENT_TOKEN_FILE": str(tmp_path / "binary"),
    }
    hint = "give the path of a file that holds the secret"
    assert sorted(faults(environ)) == [
        f"ALIPAY_AGENT_TOKEN_FILE: the file cannot be read (it is not text): {hint}",
        "ALIPAY_PRIVATE_KEY and ALIPAY_PRIVATE_KEY_FILE are both set: keep one",
        "ALIPAY_PUBLIC_KEYS_FILE: the file is empty",
        f"REDIS_URL_FILE: the file cannot be read (No such file or directory): {hint}",
    ]


def test_a_file_in_the_environment_wins_over_a_value_in_dotenv(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ALIPAY_AGENT_TOKEN=weak\n")
    (tmp_path / "token").write_text("strong")
    environ = COMPLETE | {"ALIPAY_AGENT_TOKEN_FILE": str(tmp_path / "token")}
    [account] = load(environ, tmp_path / ".env").accounts.values()
    assert account.agent_token == "strong"


# What a process needs


def test_all_faults_are_told_together() -> None:
    said = faults({"RECEIVER_PORT": "x", "LOG_LEVEL": "loud", "ALIPAY_PRIVATE_KEY": "AAAA"})
    assert [fault.split(" ")[0].split("=")[0].rstrip(":") for fault in said] == [
        "REDIS_URL",
        "ALIPAY_CLIENT_ID",
        "RECEIVER_PORT",
        "LOG_LEVEL",
        "ALIPAY_GATEWAY_URL",
        "ALIPAY_PRIVATE_KEY",
        "ALIPAY_PUBLIC_KEYS",
    ]


def test_a_missing_setting_is_explained() -> None:
    assert faults({k: v for k, v in COMPLETE.items() if k != "REDIS_URL"}) == [
        "REDIS_URL is not set. Redis 7 or Valkey: redis://host:port/db, rediss:// for TLS,"
        " unix:///path/of/socket, or redis+sentinel://host:port,host:port/name/db."
    ]


@pytest.mark.parametrize(
    ("need", "names"),
    [
        (Need.COMMANDS, {"REDIS_URL", "ALIPAY_CLIENT_ID"}),
        (Need.NOTIFICATIONS, {"REDIS_URL", "ALIPAY_CLIENT_ID", "ALIPAY_PUBLIC_KEYS"}),
        (Need.GATEWAY, set(COMPLETE)),
        (Need.NOTIFICATIONS | Need.GATEWAY, set(COMPLETE)),
    ],
)
def test_a_process_is_asked_only_for_what_it_needs(need: Need, names: set[str]) -> None:
    load({name: COMPLETE[name] for name in names}, need=need)
    assert len(faults({}, need=need)) == len(names)


def test_the_receiver_believes_the_gateway_and_holds_no_private_key() -> None:
    found = load(COMPLETE, need=Need.NOTIFICATIONS)
    assert list(found.public_keys) == ["SANDBOX_5X00000000000000"]
    assert not found.accounts


def test_what_a_process_does_not_need_is_not_even_read() -> None:
    environ = COMPLETE | {"ALIPAY_PRIVATE_KEY_FILE": "/x", "TLS_CERT_FILE": "/x"}
    found = load(environ, need=Need.COMMANDS)
    assert (found.accounts, found.public_keys, found.tls_cert_file) == ({}, {}, None)


# What a value may be


def test_every_default_is_a_good_value() -> None:
    for setting in SETTINGS:
        if setting.default is not None:
            setting.parse(setting.default)


def test_a_complete_environment_gives_one_account() -> None:
    found = settings(ALIPAY_KEY_VERSION="2", ALIPAY_CLOSING_TIME_SECONDS="0.25")
    account = found.accounts["SANDBOX_5X00000000000000"]
    assert account.client_id == found.client_id == "SANDBOX_5X00000000000000"
    assert account.gateway_url == "https://open-sea-global.alipay.com"
    assert account.key_version == 2
    assert account.closing_time == 250
    assert account.pending_closing_time == 604_800_000
    assert private_text(account.private_key) == PRIVATE
    assert account.sandbox
    assert not settings(ALIPAY_CLIENT_ID="T_111222333").accounts["T_111222333"].sandbox


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("RECONCILER_SCHEDULE", "0.2, 3,10.125", (200, 3000, 10_125)),
        ("GATEWAY_TIMEOUT_SECONDS", "12", 12_000),
        ("RETENTION_DAYS", "35", 35 * 86_400_000),
        ("RETENTION_DAYS", "1.5", 129_600_000),
        ("ON_TIMEOUT", "report", OnTimeout.REPORT),
        ("REDIS_CHECKS", "warn", RedisChecks.WARN),
        ("REQUIRE_STATE", "true", True),
        ("REQUIRE_STATE", "false", False),
        ("DURABILITY", "fsync", Durability(Persistence.FSYNC)),
        ("DURABILITY", "replica:2", Durability(Persistence.REPLICA, 2)),
        ("DURABILITY", "memory", Durability(Persistence.MEMORY)),
        ("OUTCOME_GROUPS", "shop, books", ("shop", "books")),
        ("OUTCOME_GROUPS", "", ()),
        ("ALIPAY_NOTIFY_SIGNED_PATH", "/a,/b?c=d", ("/a", "/b?c=d")),
        ("ALIPAY_NOTIFY_URL", "https://a.example.com/notify", "https://a.example.com/notify"),
        ("ALIPAY_NOTIFY_URL", "", None),
        ("ALIPAY_AGENT_TOKEN", "", None),
        ("ALIPAY_GATEWAY_URL", "https://open-na.alipay.com/", "https://open-na.alipay.com"),
        ("ALIPAY_GATEWAY_URL", "http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("ALIPAY_GATEWAY_URL", "http://[::1]:9000", "http://[::1]:9000"),
        ("ALIPAY_GATEWAY_URL", "http://localhost", "http://localhost"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("REDIS_URL", "rediss://:pw@r.example.com:6380/2", "rediss://:pw@r.example.com:6380/2"),
        ("LOG_LEVEL", "error", LogLevel.ERROR),
        ("CANCEL_BRAKE", "0", 0),
        (
            "NOTIFY_FORWARD_URL",
            "http://shop.internal:8080/n?a=1",
            "http://shop.internal:8080/n?a=1",
        ),
        ("NOTIFY_FORWARD_URL", "", None),
        ("RECEIVER_PORT", "0", 0),
        ("RECEIVER_HOST", "::1", "::1"),
        ("WORKER_ADMIN_PORT", "0", 0),
        ("ADMIN_HOST", "::1", "::1"),
        ("ADMIN_TOKEN", "a-token-of-20-signs!", "a-token-of-20-signs!"),
        ("ADMIN_TOKEN", "", None),
        ("ADMIN_ALLOWED_HOSTS", "worker, worker.svc", ("worker", "worker.svc")),
        ("ALIPAY_CANCEL_WINDOW", "", CancelWindow()),
        ("ALIPAY_CANCEL_WINDOW", "T+0@23:59-03:30", CancelWindow(0, LATEST, -12_600_000)),
        ("ALIPAY_CANCEL_WINDOW", "7d", CancelWindow(length=7 * 86_400_000)),
        ("ALIPAY_CANCEL_WINDOW", "24h", CancelWindow(length=86_400_000)),
        ("ALIPAY_CANCEL_WINDOW", "900s", CancelWindow(length=900_000)),
        ("ALIPAY_CANCEL_WINDOW", "none", None),
    ],
)
def test_a_good_value_is_taken(name: str, text: str, value: object) -> None:
    assert read(name, text) == value


def read(name: str, text: str) -> object:
    found = settings(**{name: text})
    [account] = found.accounts.values()
    for holder in (found, account):
        for attribute, setting in declared(type(holder)).items():
            if setting.name == name:
                return getattr(holder, attribute)
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("RECONCILER_SCHEDULE", "2;3", "each, give a number from 0.01 to 2592000"),
        ("RECONCILER_SCHEDULE", "2,,3", "each, give a number"),
        ("RECONCILER_SCHEDULE", "0", "each, give a number"),
        ("RECONCILER_SCHEDULE", "1," * 100 + "1", "at most 100 delays"),
        ("CANCEL_QUIET_SECONDS", "-1", "give a number from 0.1 to 3600"),
        ("CANCEL_QUIET_SECONDS", "1e3", "give a number"),
        ("CANCEL_QUIET_SECONDS", "nan", "give a number"),
        ("CANCEL_QUIET_SECONDS", "1.0001", "at most three decimals"),
        ("CANCEL_QUIET_SECONDS", "\u0661", "give a number"),
        ("GATEWAY_TIMEOUT_SECONDS", "12.001", "give a number from 0.1 to 12"),
        ("RECEIVER_PORT", "65536", "give a whole number from 0 to 65535"),
        ("RECEIVER_HOST", "a b", "give a host name"),
        ("CANCEL_BRAKE", "1.5", "give a whole number"),
        ("ON_TIMEOUT", "Cancel", "give one of cancel, report"),
        ("REDIS_CHECKS", "off", "give one of refuse, warn"),
        ("REQUIRE_STATE", "yes", "give true or false"),
        ("LOG_FORMAT", "xml", "give one of auto, json, console"),
        ("DURABILITY", "replica:0", "give fsync, replica:N"),
        ("DURABILITY", "replica", "give fsync, replica:N"),
        ("RECONCILER_KEY_PREFIX", "a:b", "give 1 to 32 of a-z"),
        ("RECONCILER_KEY_PREFIX", "x" * 33, "give 1 to 32 of a-z"),
        ("ALIPAY_CLIENT_ID", "a:b", "give the client id"),
        ("ALIPAY_CLIENT_ID", "x" * 65, "give the client id"),
        ("ALIPAY_GATEWAY_URL", "open-na.alipay.com", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "http://open-na.alipay.com", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "http://10.0.0.1", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "http://127.0.0.1.example.com", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "https://", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "https://h:99999", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "https://[::1", "give an https:// URL"),
        ("ALIPAY_GATEWAY_URL", "https://h/ams/api", "scheme and host alone"),
        ("ALIPAY_GATEWAY_URL", "https://h?", "scheme and host alone"),
        ("ALIPAY_GATEWAY_URL", "https://h?a=1", "scheme and host alone"),
        ("ALIPAY_GATEWAY_URL", "https://u:p@h", "leave out user"),
        ("ALIPAY_NOTIFY_URL", "https://h/n?a=1", "without a query"),
        ("ALIPAY_NOTIFY_URL", "https://h/" + "n" * 2048, "2048 characters"),
        ("ALIPAY_NOTIFY_PATH", "notify", "give a path that begins with /"),
        ("ALIPAY_NOTIFY_PATH", "/notify?a=1", "give a path that begins with /"),
        ("ALIPAY_NOTIFY_SIGNED_PATH", "/a,b", "give paths that begin with /"),
        ("ALIPAY_NOTIFY_SIGNED_PATH", "/a,/a", "name each one once"),
        ("OUTCOME_GROUPS", "a b", "give names of"),
        ("OUTCOME_GROUPS", "a,", "give names of"),
        ("TLS_CERT_FILE", "/nowhere", "no such file"),
        ("RECEIVER_ADMIN_PORT", "65536", "give a whole number from 0 to 65535"),
        ("ADMIN_HOST", "a b", "give a host name"),
        ("ADMIN_ALLOWED_HOSTS", "Worker", "give host names in small letters"),
        ("ADMIN_ALLOWED_HOSTS", "worker:9102", "give host names in small letters"),
        ("ADMIN_ALLOWED_HOSTS", "*", "give host names in small letters"),
        ("ALIPAY_CANCEL_WINDOW", "T+1@24:00+08:00", "give T+1@00:15+08:00"),
        ("ALIPAY_CANCEL_WINDOW", "T+1@00:15", "give T+1@00:15+08:00"),
        ("ALIPAY_CANCEL_WINDOW", "7", "give T+1@00:15+08:00"),
        ("ALIPAY_CANCEL_WINDOW", "0d", "give T+1@00:15+08:00"),
        ("ALIPAY_CANCEL_WINDOW", "366d", "give a window of at most 365d"),
        ("NOTIFY_FORWARD_URL", "shop.internal/notify", "give the http:// or https:// URL"),
        ("NOTIFY_FORWARD_URL", "ftp://shop.internal/notify", "give the http:// or https:// URL"),
        ("NOTIFY_FORWARD_URL", "http:///notify", "give the http:// or https:// URL"),
        ("NOTIFY_FORWARD_URL", "http://a/b c", "give the http:// or https:// URL"),
        ("NOTIFY_FORWARD_URL", "http://u:p@shop/notify", "leave out user, password"),
        ("NOTIFY_FORWARD_URL", "http://shop/notify#x", "leave out user, password"),
        ("CALLBACK_ALLOWED_HOSTS", "http://shop.example.com", "give hosts as shop.example.com"),
        ("CALLBACK_ALLOWED_HOSTS", "shop.example.com/hook", "give a network as"),
        ("CALLBACK_ALLOWED_HOSTS", "10.1.2.3/16", "give a network as"),
    ],
)
def test_a_bad_value_is_named_with_what_to_give(name: str, text: str, hint: str) -> None:
    [fault] = faults(COMPLETE | {name: text})
    assert fault.startswith(f"{name}=")
    assert hint in fault
    assert len(fault) < 250


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("REDIS_URL", "http://red-secret@h", "give redis://host:port/db"),
        ("REDIS_URL", "redis://:red-secret@", "give redis://host:port/db"),
        ("REDIS_URL", "redis://:red-secret@h:0x1/0", "give redis://host:port/db"),
        ("REDIS_URL", "redis://:red-secret@h/main", "a database is a number"),
        ("REDIS_URL", "rediss://:red-secret@h?ssl_cert_reqs=none", "leave out ssl_cert_reqs"),
        ("REDIS_URL", "unix://", "unix:///path/of/socket"),
        ("ALIPAY_PRIVATE_KEY", "red-secret", "neither base64 nor PEM"),
        ("ALIPAY_PRIVATE_KEY", PUBLIC, "not a private key"),
        ("ALIPAY_PUBLIC_KEYS", PRIVATE, "not a public key"),
        ("ALIPAY_PUBLIC_KEYS", f"{PUBLIC},2={PUBLIC_2}", "begin every key with VERSION="),
        ("ALIPAY_PUBLIC_KEYS", f"2={PUBLIC},2={PUBLIC_2}", "version 2 is given twice"),
        ("ALIPAY_PUBLIC_KEYS", f"1={PUBLIC},2=red-secret", "version 2: "),
        ("ALIPAY_AGENT_TOKEN", "red secret", "without blanks"),
        ("ADMIN_TOKEN", "red-secret", "give 16 to 256 printable ASCII"),
        ("ADMIN_TOKEN", "red-secret with blanks", "without blanks"),
        ("ADMIN_TOKEN", "red-secret" * 26, "give 16 to 256 printable ASCII"),
    ],
)
def test_a_fault_in_a_secret_does_not_repeat_it(name: str, text: str, hint: str) -> None:
    [fault] = faults(COMPLETE | {name: text})
    assert fault.startswith(f"{name}: ")
    assert hint in fault
    assert "red-secret" not in fault
    assert "red secret" not in fault
    assert PRIVATE[40:80] not in fault


def test_no_secret_is_shown_when_settings_are_printed() -> None:
    shown = repr(settings(ALIPAY_AGENT_TOKEN="token-secret")) + repr(
        settings(ALIPAY_AGENT_TOKEN="token-secret").accounts
    )
    assert "red-secret" not in shown
    assert "token-secret" not in shown
    assert "RSAPrivateKey" not in shown
    assert "receiver_port=8080" in shown


# Several keys


@pytest.mark.parametrize(
    "text",
    [
        f"1={PUBLIC},2={PUBLIC_2}",
        f"1={PUBLIC}\n2={PUBLIC_2}\n",
        f" 1 = {PUBLIC} , 2={PUBLIC_2},".replace(" = ", "="),
        f"1={pem()}2={pem('alipay_v2')}",
        f"1=\n{pem()},2={PUBLIC_2}",
        f"1={pem()}2={pem('alipay_v2')}".replace("\n", "\\n"),
        f"2={PUBLIC_2}\r\n1={PUBLIC}\r\n",
    ],
    ids=["commas", "lines", "blanks", "pem", "pem on its own line", "escaped", "windows"],
)
def test_public_keys_are_pairs_of_version_and_key(text: str) -> None:
    keys = settings(ALIPAY_PUBLIC_KEYS=text).public_keys["SANDBOX_5X00000000000000"]
    assert {version: key.public_numbers() for version, key in keys.items()} == {
        1: public_key("alipay_v1").public_numbers(),
        2: public_key("alipay_v2").public_numbers(),
    }


@pytest.mark.parametrize("text", [PUBLIC, pem(), pem().replace("\n", "\\n"), PUBLIC + ",\n"])
def test_a_lone_public_key_is_version_1(text: str) -> None:
    keys = settings(ALIPAY_PUBLIC_KEYS=text).public_keys["SANDBOX_5X00000000000000"]
    assert list(keys) == [1]


def test_the_padding_of_a_key_is_not_taken_for_a_version() -> None:
    """A key broken into lines may end in a line of digits and `=`."""
    numbers = RSAPublicNumbers(119645, (1 << 3071) | 1)
    der = numbers.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    key = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 48))
    assert key.endswith("\n010=")
    for separator in ("\n", ",", ",\n"):
        both = f"1={key}{separator}2={PUBLIC_2}"
        keys = settings(ALIPAY_PUBLIC_KEYS=both).public_keys["SANDBOX_5X00000000000000"]
        assert {version: found.key_size for version, found in keys.items()} == {1: 3072, 2: 2048}


def test_our_own_key_in_place_of_the_gateways_is_noticed() -> None:
    ours = key_text("merchant_v1", "public_x509_b64")
    [fault] = faults(COMPLETE | {"ALIPAY_PUBLIC_KEYS": f"1={PUBLIC},3={ours}"})
    assert "version 3 is the public half of your own ALIPAY_PRIVATE_KEY" in fault


# What contradicts

CALLED = {"ALIPAY_NOTIFY_URL": "https://pay.example.com/alipay"}


@pytest.mark.parametrize(
    "given",
    [{}, {"ALIPAY_NOTIFY_PATH": "/alipay/"}, {"ALIPAY_NOTIFY_SIGNED_PATH": "/notify,/pay"}],
)
def test_a_path_that_no_genuine_notification_has_signed_is_noticed(given: dict[str, str]) -> None:
    [fault] = faults(COMPLETE | CALLED | given)
    assert fault.startswith("ALIPAY_NOTIFY_URL: the gateway signs /alipay, the receiver believes")


@pytest.mark.parametrize(
    "given", [{"ALIPAY_NOTIFY_PATH": "/alipay"}, {"ALIPAY_NOTIFY_SIGNED_PATH": "/old,/alipay"}]
)
def test_the_path_that_the_gateway_calls_may_be_the_receivers_or_a_proxys(
    given: dict[str, str],
) -> None:
    assert settings(**CALLED, **given).notify_url == CALLED["ALIPAY_NOTIFY_URL"]


def test_a_url_without_a_path_calls_the_root() -> None:
    bare = {"ALIPAY_NOTIFY_URL": "https://pay.example.com"}
    assert settings(**bare, ALIPAY_NOTIFY_PATH="/").notify_path == "/"
    assert "signs /, the receiver" in faults(COMPLETE | bare)[0]


def test_tls_needs_both_files(tmp_path: Path) -> None:
    file = tmp_path / "pem"
    file.write_text("x")
    both = {"TLS_CERT_FILE": str(file), "TLS_KEY_FILE": str(file)}
    assert settings(**both).tls_key_file == file
    assert faults(COMPLETE | {"TLS_CERT_FILE": str(file)}) == [
        "TLS_CERT_FILE and TLS_KEY_FILE belong together: set both or none"
    ]


OFF_LOOPBACK = ["0.0.0.0", "::", "10.0.0.5", "pay.example.com", "127.0.0.1.example.com"]


@pytest.mark.parametrize("host", OFF_LOOPBACK)
def test_where_others_reach_the_admin_port_there_must_be_a_token(host: str) -> None:
    [fault] = faults(COMPLETE | {"ADMIN_HOST": host})
    assert fault.startswith(f"ADMIN_HOST={host}: ") and "set ADMIN_TOKEN" in fault
    load(COMPLETE | {"ADMIN_HOST": host, "ADMIN_TOKEN": "x" * 16})
    [fault] = faults(COMPLETE | {"ADMIN_HOST": host, "ADMIN_TOKEN": "x" * 15})
    assert fault.startswith("ADMIN_TOKEN: ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_this_machine_alone_the_admin_port_needs_no_token(host: str) -> None:
    assert load(COMPLETE | {"ADMIN_HOST": host}).admin_token is None


def test_no_token_is_needed_for_ports_that_this_process_does_not_open() -> None:
    open_to_all = COMPLETE | {"ADMIN_HOST": "0.0.0.0"}
    load(open_to_all, need=Need.COMMANDS)
    none = {"RECEIVER_ADMIN_PORT": "0", "WORKER_ADMIN_PORT": "0"}
    load(open_to_all | none)
    for need, port in (
        (Need.NOTIFICATIONS, "RECEIVER_ADMIN_PORT"),
        (Need.GATEWAY, "WORKER_ADMIN_PORT"),
    ):
        load(open_to_all | {port: "0"}, need=need)
        assert faults(open_to_all | none | {port: "1"}, need=need)


def test_records_are_kept_as_long_as_aftercare_takes() -> None:
    [fault] = faults(COMPLETE | {"RETENTION_DAYS": "1"})
    assert fault.startswith("RETENTION_DAYS: shorter than AFTERCARE_SCHEDULE takes")


# Misspelt names


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ALIPAY_NOTIFY_PTH", "ALIPAY_NOTIFY_PATH"),
        ("ALIPAY_AGENT_TOKN", "ALIPAY_AGENT_TOKEN"),
        ("RECONCILER_SCHEDULES", "RECONCILER_SCHEDULE"),
        ("RECONCILER_PREFIX_KEY", None),
        ("ALIPAY_APP_ID", None),
        ("MY_REDIS_URL", None),
    ],
)
def test_a_misspelt_name_is_noticed_and_a_foreign_one_left_alone(
    wrong: str, right: str | None
) -> None:
    environ = COMPLETE | {wrong: "x"}
    if right is None:
        load(environ)
    else:
        assert faults(environ) == [f"{wrong} is unknown: did you mean {right}?"]


def test_a_name_like_ours_may_be_the_merchants_own_where_ours_is_set(tmp_path: Path) -> None:
    load(COMPLETE | {"ALIPAY_PUBLIC_KEY": "x"})
    (tmp_path / "key").write_text(PUBLIC)
    load(
        {k: v for k, v in COMPLETE.items() if k != "ALIPAY_PUBLIC_KEYS"}
        | {"ALIPAY_PUBLIC_KEYS_FILE": str(tmp_path / "key"), "ALIPAY_PUBLIC_KEY": "x"}
    )


def test_the_environment_of_the_tests_themselves_is_no_fault() -> None:
    load(dict(os.environ) | COMPLETE)


# What is sent to the merchant's own systems


def test_secrets_are_read_in_their_order_and_hosts_for_each_account() -> None:
    both = f"whsec_{'b' * 32}, {CALLBACKS['CALLBACK_SECRETS']}"
    [account] = settings(**CALLBACKS | {"CALLBACK_SECRETS": both}).accounts.values()
    assert account.callback_secrets == (base64.b64decode("b" * 32), b"0" * 24)
    assert account.callback_allowed_hosts.why_not("https://shop.example.com/hook") == ""
    assert "b'0000" not in repr(account)


@pytest.mark.parametrize(
    "text",
    [
        "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
        "whsec_",
        "whsec_MDAw",
        f"whsec_{'A' * 92}",
        "whsec_not-base64",
        f"whsec_{'b' * 32},x",
        ",".join([f"whsec_{'b' * 32}"] * 2),
        ",".join(f"whsec_{letter * 32}" for letter in "bcdef"),
    ],
)
def test_a_secret_that_would_not_sign_is_refused_and_not_repeated(text: str) -> None:
    [fault] = faults(COMPLETE | {"CALLBACK_SECRETS": text, "CALLBACK_ALLOWED_HOSTS": "a.example"})
    assert fault.startswith("CALLBACK_SECRETS: give ")
    assert "bbbb" not in fault


@pytest.mark.parametrize("name", CALLBACKS)
def test_secrets_and_hosts_of_callbacks_belong_together(name: str) -> None:
    [fault] = faults(COMPLETE | {name: CALLBACKS[name]})
    assert "belong together" in fault


def test_where_notifications_are_passed_on_is_known_to_those_who_need_it() -> None:
    given = COMPLETE | {"NOTIFY_FORWARD_URL": "http://shop.internal/notify"}
    urls = {"SANDBOX_5X00000000000000": "http://shop.internal/notify"}
    assert load(given).forward_urls == urls
    assert load(given, need=Need.NOTIFICATIONS).forward_urls == urls
    assert load(given, need=Need.COMMANDS).forward_urls == {}
    assert load(COMPLETE).forward_urls == {}


def test_notifications_are_not_passed_on_to_ourselves() -> None:
    url = "https://pay.example.com/notify"
    [fault] = faults(COMPLETE | {"ALIPAY_NOTIFY_URL": url, "NOTIFY_FORWARD_URL": url})
    assert fault.startswith("NOTIFY_FORWARD_URL: this is our own")
