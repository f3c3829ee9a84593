"""The one command of deploy/compose.yaml starts what is safe, and nothing that is not."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment import DEPLOY, ROOT, commands, read_env, read_yaml, seconds
from tests.servers import environ
from tests.test_redis_conf import USERS, options
from worker.environment import Need
from worker.main import STOP_SECONDS
from worker.settings import load

pytestmark = pytest.mark.once  # files, not Python

FILE = DEPLOY / "compose.yaml"
OURS = ("receiver", "worker-1", "worker-2")
MIB = {"m": 1, "mb": 1, "g": 1024, "gb": 1024}


@pytest.fixture(scope="module")
def compose() -> Any:
    return read_yaml(FILE)


@pytest.fixture(scope="module")
def services(compose: Any) -> Any:
    return compose["services"]


def role_of(name: str) -> str:
    return name.split("-")[0]


def mib(text: str) -> int:
    match = re.fullmatch("([0-9]+)([a-z]+)", text)
    assert match
    return int(match[1]) * MIB[match[2]]


# The server


def test_the_server_reads_the_file_that_is_tested_and_users_of_least_privilege(
    compose: Any, services: Any
) -> None:
    server, configs = services["redis"], compose["configs"]
    given = {mount["target"]: configs[mount["source"]]["file"] for mount in server["configs"]}
    [program, conf] = server["command"]
    assert program == "valkey-server"
    assert (DEPLOY / given[conf]).samefile(DEPLOY / "redis.conf")
    assert given[USERS] == "../secrets/redis-users.conf"
    assert server["volumes"] == ["redis-data:/data"]


def test_the_server_is_reached_by_our_processes_alone(compose: Any, services: Any) -> None:
    assert "ports" not in services["redis"]
    assert services["redis"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}


def test_the_server_may_use_twice_its_data_while_it_rewrites_its_log(services: Any) -> None:
    assert mib(services["redis"]["mem_limit"]) > 2 * mib(options()["maxmemory"])


# Our processes


@pytest.mark.parametrize("name", OURS)
def test_each_process_is_a_service_that_is_always_started_again(services: Any, name: str) -> None:
    service = services[name]
    assert service["command"] == [role_of(name)] and role_of(name) in commands()
    assert service["restart"] == "always"
    assert (DEPLOY / service["env_file"]) == DEPLOY / "../.env"
    assert (DEPLOY / service["build"]["context"]).samefile(ROOT)
    assert (ROOT / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_two_workers_differ_in_nothing_but_where_their_admin_port_is_seen(services: Any) -> None:
    first, second = (dict(services[name]) for name in OURS[1:])
    assert first.pop("ports") != second.pop("ports")
    assert first == second


@pytest.mark.parametrize("name", [*OURS, "redis"])
def test_no_process_can_change_or_become_anything(services: Any, name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 64
    assert mib(service["mem_limit"]) > 256
    assert not {"privileged", "devices", "network_mode", "pid"} & set(service)
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", OURS)
def test_a_process_is_given_longer_than_it_takes_to_stop(services: Any, name: str) -> None:
    assert seconds(services[name]["stop_grace_period"]) > STOP_SECONDS


@pytest.mark.parametrize("name", OURS)
def test_nothing_is_reached_but_from_this_machine(services: Any, name: str) -> None:
    for port in services[name]["ports"]:
        assert port.startswith("127.0.0.1:")


NEEDS = {"receiver": Need.NOTIFICATIONS, "worker": Need.GATEWAY}


def inside(compose: Any, name: str, folder: Path) -> dict[str, str]:
    """The environment of a service, with its mounted secrets in `folder` and .env filled in."""
    service, filled = compose["services"][name], environ("", "reconciler", "")
    env = read_env(ROOT / ".env.example")
    for setting in ("ALIPAY_CLIENT_ID", "ALIPAY_PUBLIC_KEYS", "ALIPAY_PRIVATE_KEY"):
        env[setting] = filled[setting]
    env |= {"ALIPAY_GATEWAY_URL": "https://gateway.example"} | service["environment"]
    mounted = {f"/run/secrets/{secret}" for secret in service["secrets"]}
    for setting, value in env.items():
        if value.startswith("/run/"):
            assert value in mounted, f"{setting}: no secret of this service is there"
            env[setting] = str(folder / Path(value).name)
    return env


@pytest.mark.parametrize("name", OURS)
def test_a_process_can_use_what_it_is_given(compose: Any, name: str, tmp_path: Path) -> None:
    """With the secrets that are made, and a `.env` in which only the account was filled in."""
    subprocess.run(["sh", str(DEPLOY / "make-secrets")], cwd=tmp_path, check=True)
    secrets = tmp_path / "secrets"
    key = environ("", "", "")["ALIPAY_PRIVATE_KEY"]
    (secrets / "alipay-private-key").write_text(key)
    for secret in compose["secrets"].values():
        assert secret["file"].startswith("../secrets/")
        assert (secrets / Path(secret["file"]).name).is_file()
    settings = load(inside(compose, name, secrets), need=NEEDS[role_of(name)])
    assert settings.redis_url.startswith(f"redis://reconciler-{role_of(name)}:")
    assert settings.redis_url.endswith("@redis:6379/0")
    assert bool(settings.accounts) == (name != "receiver")
    ports = {
        "receiver": {f"{settings.receiver_port}", f"{settings.receiver_admin_port}"},
        "worker": {f"{settings.worker_admin_port}"},
    }
    published = {port.rsplit(":", 1)[1] for port in compose["services"][name]["ports"]}
    assert published == ports[role_of(name)]
    assert settings.admin_host == "0.0.0.0" and settings.admin_token


def test_the_receiver_is_not_given_the_private_key(services: Any) -> None:
    given = services["receiver"]["environment"]
    assert "alipay-private-key" not in services["receiver"]["secrets"]
    for name in ("ALIPAY_PRIVATE_KEY", "ALIPAY_AGENT_TOKEN"):
        assert given[name] == given[f"{name}_FILE"] == ""


@pytest.mark.parametrize("name", OURS)
def test_a_process_counts_as_well_when_it_is_ready(services: Any, name: str) -> None:
    check = services[name]["healthcheck"]
    assert check["test"] == ["CMD", "python", "-m", "worker.healthcheck", "--ready"]


# Its own tool


def compose_command() -> list[str] | None:
    """The plugin, or Debian's older docker-compose; neither needs a daemon for this."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if (
            shutil.which(words[0])
            and not subprocess.run([*words, "version"], capture_output=True).returncode
        ):
            return words
    return None


def told_by_compose(folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """What its own tool makes of the file, beside secrets as they are made."""
    words = compose_command() or []
    shutil.copytree(DEPLOY, folder / "deploy")
    shutil.copy(ROOT / ".env.example", folder / ".env")
    subprocess.run(["sh", "deploy/make-secrets"], cwd=folder, check=True)
    file = folder / "deploy" / "compose.yaml"  # the older tool knows no `name`
    file.write_text(text if len(words) > 1 else re.sub("(?m)^name: .*$", "", text))
    return subprocess.run([*words, "-f", str(file), "config"], capture_output=True, text=True)


@pytest.mark.skipif(
    not compose_command(), reason="needs docker compose: apt-get install docker-compose"
)
def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    text = FILE.read_text("utf-8")
    told = told_by_compose(tmp_path / "good", text)
    assert told.returncode == 0, told.stderr
    assert set(yaml.safe_load(told.stdout)["services"]) == {*OURS, "redis"}
    bad = told_by_compose(tmp_path / "bad", text.replace("cap_drop:", "cap_dorp:"))
    assert bad.returncode != 0 and "cap_dorp" in bad.stderr
