"""The units of deploy/systemd start our processes, give them little, and let them stop."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deployment import DEPLOY, UNITS, commands, read_unit, seconds
from tests.servers import environ
from worker.environment import Need
from worker.http_server import MAX_CONNECTIONS
from worker.main import STOP_SECONDS
from worker.receiver import KEEPS_AT_ONCE
from worker.settings import SETTINGS, load

pytestmark = pytest.mark.once  # files, not Python

TARGET = DEPLOY / "systemd" / "reconciler.target"
NEEDS = {"reconciler-receiver": Need.NOTIFICATIONS, "reconciler-worker@": Need.GATEWAY}
EACH = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
#: systemd's own measure goes from 0, all is closed, to 10; what is left is the network.
EXPOSURE = 2.0

#: What keeps a process from all that it does not need.
CLOSED = {
    "DynamicUser": "yes",
    "CapabilityBoundingSet": "",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service\n~@privileged @resources",
    "UMask": "0077",
}


def test_there_is_a_unit_for_each_process_and_a_target_for_all() -> None:
    assert [unit.stem for unit in UNITS] == list(NEEDS)
    assert read_unit(TARGET)["Install"]["WantedBy"] == "multi-user.target"
    for unit in UNITS:
        assert read_unit(unit)["Unit"]["PartOf"] == TARGET.name
        assert read_unit(unit)["Install"]["WantedBy"] == TARGET.name


@EACH
def test_a_unit_starts_its_process_again_and_again(unit: Path) -> None:
    service = read_unit(unit)["Service"]
    command = unit.stem.removeprefix("reconciler-").removesuffix("@")
    assert service["ExecStart"] == f"/opt/reconciler/bin/reconciler {command}"
    assert command in commands()
    assert service["Restart"] == "always"
    assert read_unit(unit)["Unit"]["StartLimitIntervalSec"] == "0"


@EACH
def test_a_reload_sends_the_signal_on_which_keys_are_read_again(unit: Path) -> None:
    """tests/test_reload.py shows that a process hears it from its first moments on."""
    reload = read_unit(unit)["Service"]["ExecReload"].split()
    assert reload == ["/bin/kill", "-HUP", "$MAINPID"]


@EACH
def test_a_process_is_given_longer_than_it_takes_to_stop(unit: Path) -> None:
    assert seconds(read_unit(unit)["Service"]["TimeoutStopSec"]) > STOP_SECONDS


@EACH
def test_a_process_may_open_all_the_connections_that_it_takes(unit: Path) -> None:
    allowed = int(read_unit(unit)["Service"]["LimitNOFILE"])
    assert allowed > 2 * (MAX_CONNECTIONS + KEEPS_AT_ONCE)


@EACH
def test_a_process_has_no_more_than_it_needs(unit: Path) -> None:
    service = read_unit(unit)["Service"]
    assert {key: service[key] for key in CLOSED} == CLOSED
    assert "User" not in service  # each has one of its own, and so its own memory and files


def given(unit: Path, folder: Path) -> dict[str, str]:
    """The environment of a process whose credentials are in `folder`."""
    service = read_unit(unit)["Service"]
    credentials = dict(line.split(":", 1) for line in service["LoadCredential"].splitlines())
    env = environ("", "reconciler", "https://gateway.example")
    del env["REDIS_URL"]
    for name in service.get("UnsetEnvironment", "").split():
        env.pop(name, None)
    for line in service["Environment"].splitlines():
        name, value = line.split("=", 1)
        if value.startswith("%d/"):
            value = str(folder / Path(credentials[value.removeprefix("%d/")]).name)
        env[name] = value.replace("%i", "9103")
    return env


@EACH
def test_a_process_can_use_what_it_is_given(unit: Path, tmp_path: Path) -> None:
    command = ["sh", str(DEPLOY / "make-secrets"), "127.0.0.1:6379"]
    subprocess.run(command, cwd=tmp_path, check=True)
    secrets = tmp_path / "secrets"
    (secrets / "alipay-private-key").write_text(environ("", "", "")["ALIPAY_PRIVATE_KEY"])
    settings = load(given(unit, secrets), need=NEEDS[unit.stem])
    who = unit.stem.removesuffix("@")
    assert settings.redis_url.startswith(f"redis://{who}:")
    if "@" in unit.stem:
        assert settings.worker_admin_port == 9103  # each instance has its own
        assert settings.accounts


def test_the_receiver_is_not_given_what_signs() -> None:
    service = read_unit(UNITS[0])["Service"]
    assert "private-key" not in service["LoadCredential"]
    signing = {e.name for e in SETTINGS if e.secret and e.need is Need.GATEWAY}
    unset = set(service["UnsetEnvironment"].split())
    assert {name for secret in signing for name in (secret, f"{secret}_FILE")} <= unset


# Its own tool


def runnable(unit: Path, folder: Path) -> Path:
    """A copy with a program that exists in place of ours; a template as one of its instances."""
    copy = folder / unit.name.replace("@.", "@9102.")
    copy.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8")))
    return copy


analyze = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze: apt-get install systemd"
)


@analyze
@pytest.mark.parametrize("unit", [*UNITS, TARGET], ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", str(runnable(unit, tmp_path))]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert unit.stem not in checked.stderr
    assert checked.returncode == 0, checked.stderr


def exposure(unit: Path) -> float:
    command = ["systemd-analyze", "security", "--offline=true", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"exposure level for \S+: ([0-9.]+)", said)
    assert match, said
    return float(match[1])


@analyze
@EACH
def test_systemd_finds_little_that_is_exposed(unit: Path, tmp_path: Path) -> None:
    assert exposure(runnable(unit, tmp_path)) < EXPOSURE
    opened = tmp_path / "opened.service"
    text = unit.read_text("utf-8")
    opened.write_text(re.sub(r"(?m)^(Private|Protect|DynamicUser|SystemCall).*$", "", text))
    assert exposure(opened) > EXPOSURE
