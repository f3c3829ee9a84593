"""Several accounts stand in one file: all of it is understood, or every fault is told by name."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs.model import OnTimeout
from tests.keys import key_text, private_key, public_key
from tests.servers import ROOT
from tests.test_settings import faults, pem
from worker.accounts import toml_name
from worker.environment import declared, variants
from worker.settings import OWN, SETTINGS, Account, Need, Settings, Source, load
from worker.tools import policy_of

A, B = "SANDBOX_5X00000000000001", "SANDBOX_5X00000000000002"
OURS, OURS_2 = (key_text(f"merchant_{v}", "private_pkcs8_b64") for v in ("v1", "v2"))
THEIRS, THEIRS_2 = (key_text(f"alipay_{v}", "public_x509_b64") for v in ("v1", "v2"))

REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
ONE = {
    "client_id": f'"{A}"',
    "gateway_url": '"https://open-sea-global.alipay.com"',
    "private_key": f'"{OURS}"',
    "public_keys": f'"{THEIRS}"',
}
TWO = {
    "client_id": f'"{B}"',
    "gateway_url": '"https://open-de-global.alipay.com"',
    "private_key": f'"{OURS_2}"',
    "key_version": "2",
    "public_keys": f'{{ 1 = "{THEIRS}", 2 = "{THEIRS_2}" }}',
}

Write = Callable[..., Mapping[str, str]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """The environment of a process whose file holds these accounts, or this text."""

    def written(*accounts: Mapping[str, str] | str) -> Mapping[str, str]:
        path = tmp_path / "accounts.toml"
        path.write_text("\n".join(map(table, accounts)))
        return REDIS | {"ALIPAY_ACCOUNTS_FILE": str(path)}

    return written


def table(account: Mapping[str, str] | str) -> str:
    if isinstance(account, str):
        return account
    return "\n".join(["[[account]]", *(f"{name} = {text}" for name, text in account.items()), ""])


# What is understood


def test_each_account_has_its_own_region_keys_and_versions(write: Write) -> None:
    found = load(write(ONE, TWO))
    assert found.client_ids == (A, B)
    one, two = found.accounts[A], found.accounts[B]
    assert (one.gateway_url, two.gateway_url) == (
        "https://open-sea-global.alipay.com",
        "https://open-de-global.alipay.com",
    )
    assert (one.key_version, two.key_version) == (1, 2)
    assert one.private_key.private_numbers() == private_key("merchant_v1").private_numbers()
    assert two.private_key.private_numbers() == private_key("merchant_v2").private_numbers()
    assert [list(keys) for keys in found.public_keys.values()] == [[1], [1, 2]]
    second = found.public_keys[B][2]
    assert second.public_numbers() == public_key("alipay_v2").public_numbers()


def test_the_example_holds_what_an_account_may_have(tmp_path: Path) -> None:
    text = (ROOT / "deploy/accounts.example.toml").read_text("utf-8")
    (tmp_path / "accounts.toml").write_text(text.replace('"..."', f'"{THEIRS}"'))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/shop-asia.key").write_text(OURS)
    (tmp_path / "keys/shop-europe.key").write_text(OURS_2)
    (tmp_path / "keys/shop-europe.public-keys").write_text(f"1={THEIRS}\n2={THEIRS_2}\n")
    found = load(REDIS | {"ALIPAY_ACCOUNTS_FILE": str(tmp_path / "accounts.toml")})
    assert found.client_ids == (A, B)
    assert found.accounts[B].closing_time == 1_800_000
    europe = found.of(B)
    assert (europe.on_timeout, europe.cancel_brake) == (OnTimeout.REPORT, 10)
    assert europe.notify_path == "/notify/europe"
    words = {toml_name(name) for e in allowed() for name in variants(e)}
    assert {word for word in words if word in text} >= {toml_name(e.name) for e in allowed()}


def test_the_example_says_of_none_that_the_environment_may_have_it_where_it_may_not() -> None:
    text = (ROOT / "deploy/accounts.example.toml").read_text("utf-8")
    shared = text.partition("the environment has what holds for the others")[2]
    own_alone = {toml_name(entry.name) for entry in declared(Account).values()}
    assert "on_timeout" in shared and not {name for name in own_alone if name in shared}


def allowed() -> list[Any]:
    entries = declared(Settings)
    return [entries["client_id"], *(entries[n] for n in OWN), *declared(Account).values()]


def test_no_two_settings_have_one_name_in_the_file() -> None:
    names = [toml_name(name) for entry in SETTINGS for name in variants(entry)]
    assert len(set(names)) == len(names)


def test_a_secret_may_stand_in_a_file_beside(write: Write, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ours").write_text(OURS + "\n")
    (tmp_path / "token").write_text("token-of-b")
    in_files = ONE | {"private_key_file": '"keys/ours"'}
    del in_files["private_key"]
    absolute = TWO | {"agent_token_file": f'"{tmp_path / "token"}"'}
    found = load(write(in_files, absolute))
    numbers = found.accounts[A].private_key.private_numbers()
    assert numbers == private_key("merchant_v1").private_numbers()
    assert found.accounts[A].agent_token is None
    assert found.accounts[B].agent_token == "token-of-b"


def test_a_key_may_be_pem_in_a_table_or_pairs_in_a_list(write: Write) -> None:
    tables = f'{{ 1 = """{pem()}""", 2 = """{pem("alipay_v2")}""" }}'
    pairs = f'["1={THEIRS}", "2={THEIRS_2}"]'
    found = load(write(ONE | {"public_keys": tables}, TWO | {"public_keys": pairs}))
    assert [list(keys) for keys in found.public_keys.values()] == [[1, 2], [1, 2]]


def test_numbers_lists_and_text_are_one_and_the_same(write: Write) -> None:
    one = ONE | {"schedule": "[0.25, 3, 10]", "cancel_limit_seconds": "7200.5"}
    two = TWO | {"schedule": '"0.25,3,10"', "cancel_limit_seconds": '"7200.5"'}
    found = load(write(one, two))
    assert found.of(A).schedule == found.of(B).schedule == (250, 3000, 10_000)
    assert found.of(A).cancel_limit == found.of(B).cancel_limit == 7_200_500


def test_what_an_account_has_of_its_own_holds_for_it_alone(write: Write) -> None:
    environ = {**write(ONE, TWO | {"cancel_brake": "3"}), "CANCEL_BRAKE": "7"}
    found = load(environ)
    assert (found.of(A).cancel_brake, found.of(B).cancel_brake) == (7, 3)


OWN_POLICY = {
    "schedule": ("[7]", "inquiry_delays", (7000,)),
    "pending_schedule": ("[7]", "confirming_delays", (7000,)),
    "cancel_schedule": ("[7]", "cancel_delays", (7000,)),
    "aftercare_schedule": ("[7]", "aftercare_delays", (7000,)),
    "unresolved_schedule": ("[7]", "unresolved_delays", (7000,)),
    "closing_time_seconds": ("7", "closing", 7000),
    "pending_closing_time_seconds": ("7", "confirming", 7000),
    "last_inquiry_grace_seconds": ("7", "last_inquiry_grace", 7000),
    "cancel_quiet_seconds": ("7", "cancel_quiet", 7000),
    "cancel_limit_seconds": ("7", "cancel_limit", 7000),
    "not_found_settle_seconds": ("7", "not_found_settle", 7000),
    "unresolved_watch_days": ("7", "unresolved_watch", 7 * 86_400_000),
    "on_timeout": ('"report"', "report", True),
}


@pytest.mark.parametrize("name", OWN_POLICY)
def test_the_patience_of_each_account_is_its_own(write: Write, name: str) -> None:
    text, attribute, value = OWN_POLICY[name]
    found = load(write(ONE, TWO | {name: text}))
    plain, own = (policy_of(found, found.accounts[client_id]) for client_id in (A, B))
    assert getattr(own, attribute) == value != getattr(plain, attribute)


def test_the_emergency_brake_of_the_deployment_is_stronger_than_an_account(write: Write) -> None:
    environ = write(ONE, TWO | {"on_timeout": '"cancel"'})
    assert load(environ).of(B).on_timeout is OnTimeout.CANCEL
    assert load({**environ, "ON_TIMEOUT": "report"}).of(B).on_timeout is OnTimeout.REPORT


def test_signed_paths_of_the_deployment_do_not_lead_to_an_accounts_own_path(write: Write) -> None:
    own = TWO | {"notify_path": '"/b"'}
    both = {**write(ONE, own), "ALIPAY_NOTIFY_SIGNED_PATH": "/proxied"}
    found = load(both)
    assert found.of(A).notify_signed_paths == ("/proxied",)
    assert found.of(B).notify_signed_paths == ()
    named = own | {"notify_signed_path": '["/b1", "/b2"]'}
    assert load(write(ONE, named)).of(B).notify_signed_paths == ("/b1", "/b2")


def test_a_receiver_reads_no_private_key_and_a_command_no_key_at_all(write: Write) -> None:
    two = TWO | {"private_key_file": '"/no/such/file"'}
    del two["private_key"]
    environ = write(ONE, two)
    receiver = load(environ, need=Need.NOTIFICATIONS)
    assert (receiver.accounts, list(receiver.public_keys)) == ({}, [A, B])
    command = load(environ, need=Need.COMMANDS)
    assert (command.client_ids, command.public_keys) == ((A, B), {})


def test_a_command_means_the_account_that_it_names_or_the_only_one(write: Write) -> None:
    both = write(ONE, TWO)
    assert load(both).client_id == ""
    assert load(both, overrides={"ALIPAY_CLIENT_ID": B}).client_id == B
    assert load(both, overrides={"ALIPAY_CLIENT_ID": B}).client_ids == (A, B)
    assert load(write(TWO)).client_id == B


# What is refused


def test_all_faults_are_told_together_by_account_and_name(write: Write) -> None:
    broken = {"client_id": f'"{A}"', "gateway_url": '"ftp://x"', "key_versoin": "2"}
    nameless = {name: text for name, text in TWO.items() if name != "client_id"}
    said = faults(write(broken, nameless | {"cancel_brake": "-1"}))
    assert [fault.split(":")[0].split(". ")[0] for fault in said] == [
        f"accounts.toml, {A}, key_versoin is unknown",
        f"accounts.toml, {A}, gateway_url='ftp",
        f"accounts.toml, {A}, private_key is not set",
        f"accounts.toml, {A}, public_keys is not set",
        "accounts.toml, account 2, client_id is not set",
        "accounts.toml, account 2, cancel_brake='-1'",
    ]
    assert said[0].endswith("did you mean key_version?")


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("redis_url", '"x"', "redis_url is the same for all accounts: set REDIS_URL in the"),
        ("log_level", '"info"', "log_level is the same for all accounts: set LOG_LEVEL in the"),
        ("shedule", "[1]", "shedule is unknown: did you mean schedule?"),
        ("private_key_fil", '"x"', "private_key_fil is unknown: did you mean private_key_file?"),
        ("zzzz", "1", "zzzz is unknown: see deploy/accounts.example.toml"),
        ("schedule", "2026-01-01", "schedule: write text, a number, true or false"),
        ("schedule", '["2,3"]', "schedule: write each value of a list for itself"),
        ("schedule", "[[2]]", "schedule: write each value of a list for itself"),
        ("schedule", "true", "schedule='true': give delays in seconds"),
        ("schedule", "nan", "schedule='nan': give delays in seconds"),
        ("private_key_file", '"x"', "private_key and private_key_file are both set: keep one"),
        ("agent_token_file", '"x"', "agent_token_file: the file cannot be read (No such file or"),
        ("notify_url", '"https://p/b"', "notify_url: the gateway signs /b, the receiver believes"),
        ("key_version", "1.5", "key_version='1.5': give a whole number"),
    ],
)
def test_a_fault_is_told_in_the_words_of_the_file(
    write: Write, name: str, text: str, fault: str
) -> None:
    [said] = faults(write(ONE, TWO | {name: text}))
    assert said.startswith(f"accounts.toml, {B}, {fault}")


def test_our_own_key_in_place_of_the_gateways_is_told_in_the_words_of_the_file(
    write: Write,
) -> None:
    own = key_text("merchant_v2", "public_x509_b64")
    [said] = faults(write(ONE, TWO | {"public_keys": f'"{own}"'}))
    assert said.startswith(f"accounts.toml, {B}, public_keys: version 1 is the public half of your")
    assert "private_key: give" in said


def test_what_is_wrong_for_all_accounts_is_told_once(write: Write) -> None:
    [said] = faults({**write(ONE, TWO), "RETENTION_DAYS": "1"})
    assert said.startswith("RETENTION_DAYS: shorter than")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "it has no account: write [[account]] above each"),
        ("[account]\nclient_id = 'x'", "write [[account]], with two brackets"),
        ("account = [1]", "write [[account]], with two brackets"),
        ("client_id = 'x'", "client_id: write nothing outside of the [[account]] tables"),
        ("[[account]]\nclient_id = x", "it is not TOML: Invalid value (at line 2"),
        ("[[account]]\nschedule = " + "[" * 5000, "it is nested too deeply"),
    ],
)
def test_a_file_that_is_none_is_refused(write: Write, text: str, fault: str) -> None:
    [said] = faults(write(text))
    assert said.startswith(f"ALIPAY_ACCOUNTS_FILE: accounts.toml cannot be used: {fault}")


def test_a_file_that_is_no_text_or_cannot_be_found_is_refused(write: Write, tmp_path: Path) -> None:
    environ = write(ONE)
    (tmp_path / "accounts.toml").write_bytes(b"\xff\xfe")
    [said] = faults(environ)
    assert said == "ALIPAY_ACCOUNTS_FILE: accounts.toml cannot be used: it is not text"
    (tmp_path / "accounts.toml").unlink()
    [said] = faults(environ)
    assert said.startswith("ALIPAY_ACCOUNTS_FILE=") and "no such file" in said


def test_an_account_that_is_there_twice_is_refused(write: Write) -> None:
    [said] = faults(write(ONE, TWO, TWO | {"client_id": f'"{A}"'}))
    assert said == f"accounts.toml, {A} is there 2 times: keep one"


def test_sandbox_and_production_do_not_stand_in_one_file(write: Write) -> None:
    [said] = faults(write(ONE, TWO | {"client_id": '"T_111222333"'}))
    assert said.startswith("accounts.toml mixes sandbox and production: run a deployment for each")


@pytest.mark.parametrize(
    "name", ["ALIPAY_CLIENT_ID", *(entry.name for entry in declared(Account).values())]
)
def test_an_account_in_the_environment_beside_the_file_is_refused(write: Write, name: str) -> None:
    environ = write(ONE, TWO)
    [said] = faults({**environ, name: "1"})
    assert said.startswith(f"{name} and ALIPAY_ACCOUNTS_FILE are both set: keep one; in the file")
    assert said.endswith(f"each account has its {toml_name(name)}")


def test_so_is_one_in_dotenv_or_by_a_file_but_no_key_that_a_process_does_not_need(
    write: Write, tmp_path: Path
) -> None:
    environ = write(ONE, TWO)
    dotenv = tmp_path / ".env"
    dotenv.write_text("ALIPAY_PRIVATE_KEY_FILE=/x\n")
    [said] = faults(environ, dotenv=dotenv)
    assert said.startswith("ALIPAY_PRIVATE_KEY_FILE and ALIPAY_ACCOUNTS_FILE are both set")
    assert load(environ, dotenv, need=Need.NOTIFICATIONS).client_ids == (A, B)


def test_a_command_may_not_name_an_account_that_is_not_there(write: Write) -> None:
    [said] = faults(write(ONE, TWO), overrides={"ALIPAY_CLIENT_ID": "SANDBOX_X"})
    assert said == f"--client-id SANDBOX_X: accounts.toml has no such account: give one of {A}, {B}"


def test_no_fault_repeats_a_secret(write: Write) -> None:
    secret = "red-secret"
    environ = write(
        ONE | {"private_key": f'"{secret}"', "agent_token": f'"{secret} x"'},
        TWO | {"public_keys": f'{{ 1 = "{secret}" }}', secret: "1"},
    )
    said = "\n".join(faults(environ))
    assert said.count("\n") == 3
    assert secret not in said.replace(f"{secret} is unknown", "")
    assert OURS_2[40:80] not in said


def test_nothing_of_a_secret_is_shown_when_settings_are_printed(write: Write) -> None:
    found = load(write(ONE | {"agent_token": '"token-secret"'}, TWO))
    shown = repr(found) + repr(found.accounts)
    assert "token-secret" not in shown
    assert "RSAPrivateKey" not in shown


# What it was read from


def test_the_files_of_all_accounts_are_known_also_where_one_is_missing(
    write: Write, tmp_path: Path
) -> None:
    (tmp_path / "ours").write_text(OURS)
    one = ONE | {"private_key_file": '"ours"'}
    two = TWO | {"agent_token_file": '"absent"'}
    del one["private_key"]
    found, said = Source(environ=write(one, two)).survey()
    assert len(said) == 1
    assert [(file.path.name, bool(file.digest)) for file in found.files] == [
        ("accounts.toml", True),
        ("ours", True),
        ("absent", False),
    ]
    assert [file.secret for file in found.files] == [True, True, True]


def test_a_file_without_a_secret_is_known_as_such(write: Write, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text(OURS)
    (tmp_path / "theirs").write_text(THEIRS)
    text = textwrap.dedent(f"""
        [[account]]
        client_id = "{A}"
        gateway_url = "https://open-sea-global.alipay.com"
        private_key_file = "ours"
        public_keys_file = "theirs"
        """)
    found = load(write(text))
    assert [(file.name, file.secret) for file in found.files] == [
        ("ALIPAY_ACCOUNTS_FILE", False),
        ("ALIPAY_PRIVATE_KEY_FILE", True),
        ("ALIPAY_PUBLIC_KEYS_FILE", True),
    ]
