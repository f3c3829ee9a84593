"""What `deploy/` and the package bring is complete, and names what exists."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import DEPLOY, FILES, ROOT, strange_names

pytestmark = pytest.mark.once  # files, not Python

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


# Names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_every_name_in_a_file_exists(file: Path) -> None:
    assert strange_names(file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("compose.yaml", "REDIS_URL_FILE", "REDIS_URI_FILE"),
        ("compose.yaml", "WORKER_ADMIN_PORT", "WORKER_ADMIN_PROT"),
        ("systemd/reconciler-worker@.service", "ALIPAY_PRIVATE_KEY_FILE", "ALIPAY_PRIVAT_KEY_FILE"),
        ("systemd/reconciler-worker@.service", "bin/reconciler worker", "bin/reconciler werker"),
        ("kubernetes/base/settings.env", "RECEIVER_PORT", "RECIEVER_PORT"),
        ("kubernetes/keda/scaled-object.yaml", "reconciler:v1:commands", "reconciler:v1:comands"),
        ("kubernetes/keda/scaled-object.yaml", "reconciler:v1:commands", "reconciler:v2:commands"),
        ("users.conf", "reconciler:v1:timeline:*", "reconciler:v1:timelines:*"),
        ("users.conf", "reconciler:queue", "reconciler:que"),
        ("README.md", "`record.unreadable`", "`record.unreadble`"),
        ("README.md", "-- reconciler pending", "-- reconciler pendnig"),
        ("README.md", "keys generate", "key generate"),
        ("README.md", "deploy/make-secrets", "deploy/make-users"),
        ("README.md", "REQUIRE_STATE", "REQUIRED_STATE"),
    ],
)
def test_a_name_that_does_not_exist_is_noticed(file: str, right: str, wrong: str) -> None:
    text = (DEPLOY / file).read_text("utf-8")
    assert right in text
    assert strange_names(text.replace(right, wrong)) != []


def test_every_secret_that_is_named_is_made_or_told_of(tmp_path: Path) -> None:
    subprocess.run(["sh", str(DEPLOY / "make-secrets")], cwd=tmp_path, check=True)
    made = {file.name for file in (tmp_path / "secrets").iterdir()} | {"alipay-private-key"}
    named = {
        name
        for file in FILES
        for name in re.findall(r"secrets/([a-z][a-z-]+(?:\.conf)?)", file.read_text("utf-8"))
    }
    told = re.findall(r"^\| (`.+?`) \|", (DEPLOY / "README.md").read_text("utf-8"), re.MULTILINE)
    assert named <= made | {"reconciler", "reconciler-admin"}  # where Kubernetes mounts them
    assert made <= set(re.findall(r"`([^`]+)`", " ".join(told)))


def test_no_file_holds_a_secret() -> None:
    for file in FILES:
        text = file.read_text("utf-8")
        assert not re.search(r"[0-9a-f]{64}|[A-Za-z0-9+/]{100}|BEGIN [A-Z ]*KEY", text), file


# The server


def test_the_server_keeps_what_it_answered_and_evicts_nothing() -> None:
    """By the file alone; test_redis_conf.py starts servers with it."""
    text = (DEPLOY / "redis.conf").read_text("utf-8")
    options = dict(re.findall(r"^([a-z-]+) (.+)$", text, re.MULTILINE))
    assert options["appendonly"] == "yes"
    assert options["appendfsync"] == "always"
    assert options["no-appendfsync-on-rewrite"] == "no"
    assert options["maxmemory-policy"] == "noeviction"


# The image


def dockerfile(word: str) -> list[str]:
    """What stands behind an instruction, its continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return re.findall(rf"^{word} (.+)$", text, re.MULTILINE)


def test_the_image_takes_only_files_that_exist_and_reach_it() -> None:
    reaching = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = [line.split()[:-1] for line in dockerfile("COPY") if not line.startswith("--from")]
    for name in [name for names in copied for name in names]:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in reaching
    assert reaching[0] == "*"


def test_the_image_runs_without_root_and_starts_the_command_line_itself() -> None:
    assert dockerfile("USER") == ["10001:10001"]
    assert dockerfile("ENTRYPOINT") == ['["reconciler"]']
    assert "reconciler" in PROJECT["project"]["scripts"]


def test_everything_in_the_image_was_checked_by_its_hash() -> None:
    installs = [line for line in dockerfile("RUN") if "pip install" in line]
    assert len(installs) == 2
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_the_image_asks_its_process_how_it_is() -> None:
    [check] = dockerfile("HEALTHCHECK")
    assert check.endswith('CMD ["python", "-m", "worker.healthcheck"]')


def test_the_image_says_what_it_is() -> None:
    [labels] = dockerfile("LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', labels))
    project = PROJECT["project"]
    assert said["title"] == project["name"]
    assert said["description"] == project["description"]
    assert said["licenses"] == project["license"]
    assert set(said) >= {"version", "revision"}


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
