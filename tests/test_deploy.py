"""What `deploy/` and the package bring is complete, and starts what exists."""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def knows_command(name: str) -> bool:
    code = "import sys; from worker.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, name, "--help"]
    return subprocess.run(command, capture_output=True, cwd=ROOT).returncode == 0


# Docker


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def test_the_server_keeps_what_it_answered_and_evicts_nothing(compose: Any) -> None:
    server = compose["services"]["redis"]
    options = dict(zip(server["command"][1::2], server["command"][2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--maxmemory-policy"] == "noeviction"
    assert server["volumes"] == ["redis-data:/data"]


@pytest.mark.parametrize("name", ["receiver", "worker"])
def test_each_process_is_a_service_that_is_always_started_again(compose: Any, name: str) -> None:
    service = compose["services"][name]
    assert service["command"] == [name]
    assert service["restart"] == "always"
    assert service["env_file"] == "../.env"
    assert service["environment"]["REDIS_URL"].startswith("redis://redis:")
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert knows_command(name)


def test_a_process_that_does_not_exist_would_be_noticed() -> None:
    assert not knows_command("reciever")


def test_the_receiver_is_not_given_the_private_key(compose: Any) -> None:
    assert compose["services"]["receiver"]["environment"]["ALIPAY_PRIVATE_KEY"] == ""


def test_the_server_is_not_reached_from_outside(compose: Any) -> None:
    assert "ports" not in compose["services"]["redis"]


def test_with_users_each_process_is_its_own_user_and_the_server_is_set_up_alike(
    compose: Any,
) -> None:
    over = yaml.safe_load((DEPLOY / "compose.acl.yaml").read_text("utf-8"))
    program, users, *options = over["services"]["redis"]["command"]
    assert [program, *options] == compose["services"]["redis"]["command"]
    assert over["services"]["redis"]["configs"] == [{"source": "users", "target": users}]
    assert over["configs"] == {"users": {"file": "../redis-users.conf"}}
    made = (DEPLOY / "make-users").read_text("utf-8")
    for name in ("receiver", "worker"):
        url = over["services"][name]["environment"]["REDIS_URL"]
        password = f"REDIS_{name.upper()}_PASSWORD"
        assert url == f"redis://reconciler-{name}:${{{password}:?}}@redis:6379/0"
        assert name.upper() in made
        assert f"\nuser reconciler-{name} " in (DEPLOY / "users.conf").read_text("utf-8")


@pytest.mark.skipif(
    subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0
    if shutil.which("docker")
    else True,
    reason="docker compose is not here",
)
def test_docker_compose_takes_the_file(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    shutil.copy(ROOT / ".env.example", tmp_path / ".env")
    command = ["docker", "compose", "-f", str(tmp_path / "deploy/compose.yaml"), "config", "-q"]
    subprocess.run(command, check=True)


def dockerfile(word: str) -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    return re.findall(rf"^{word} (.+)$", text, re.MULTILINE)


def test_the_image_takes_only_files_that_exist_and_reach_it() -> None:
    reaching = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = [line.split()[:-1] for line in dockerfile("COPY") if not line.startswith("--from")]
    for name in [name for names in copied for name in names]:
        assert (ROOT / name).exists()
        assert f"!{name}" in reaching


def test_the_image_runs_without_root_and_starts_the_command_line() -> None:
    assert dockerfile("USER") == ["10001"]
    assert dockerfile("ENTRYPOINT") == ['["reconciler"]']


def test_everything_in_the_image_was_checked_by_its_hash() -> None:
    installs = [line for line in dockerfile("RUN") if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


# systemd


def read_unit(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text("utf-8"))
    return parser


def test_there_is_a_unit_for_each_process() -> None:
    assert [unit.stem for unit in UNITS] == ["reconciler-receiver", "reconciler-worker"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_its_process_again_and_again(unit: Path) -> None:
    service = read_unit(unit)["Service"]
    program, command = service["ExecStart"].rsplit("/", 1)[1].split()
    assert program in PROJECT["project"]["scripts"]
    assert command == unit.stem.removeprefix("reconciler-")
    assert service["EnvironmentFile"] == "/etc/reconciler/.env"
    assert service["Restart"] == "always"
    assert service["TimeoutStopSec"] == "30"
    assert service["User"] == "reconciler"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """With a program that exists in place of ours."""
    copy = tmp_path / unit.name
    copy.write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8")))
    command = ["systemd-analyze", "verify", str(copy)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert unit.name not in checked.stderr
    assert checked.returncode == 0, checked.stderr


# The package


def test_the_package_lists_every_folder_of_code() -> None:
    folders = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("jobs", "worker")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders


def test_the_package_brings_every_file_that_is_not_code() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["worker"]
    brought = {file for pattern in patterns for file in (ROOT / "worker").glob(pattern)}
    files = {
        file
        for file in (ROOT / "worker").rglob("*")
        if file.is_file() and file.suffix not in {".py", ".pyc"}
    }
    assert brought == files


@pytest.mark.parametrize(
    "lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda lock: lock.name
)
def test_a_lock_file_has_a_hash_for_everything_and_names_no_host(lock: Path) -> None:
    text = lock.read_text("utf-8")
    pinned = re.findall(r"^[a-z0-9-]+(?:\[.+\])?==.*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pinned) == len(re.findall(r"^[^ #\n]", text, re.MULTILINE)) > 10
    assert all("--hash=sha256:" in requirement for requirement in pinned)
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash)", text, re.MULTILINE)


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-metrics.lock", "requirements-demo.lock"]
)
def test_all_lock_files_agree(lock: str) -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text("utf-8"), re.MULTILINE))

    assert pins(lock) <= pins("requirements-test.lock")
