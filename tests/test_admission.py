"""A process begins only on a Redis that is safe, and does not go on with one that is not."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

from tests.servers import (
    ARQ_WORKER,
    OtherServer,
    Process,
    environ,
    own_server,
    process,
    reconciler,
)
from worker import admission, connect
from worker.admission import Admitted, admit, warn_if_nearly_full, watch
from worker.connect import Unsafe
from worker.facts import ask
from worker.keys import Keys
from worker.rights import Role
from worker.settings import Settings, load

CANARY = Keys().canary
GATEWAY = "http://127.0.0.1:9"


def given(url: str, **more: str) -> Settings:
    return load(environ(url, "reconciler", GATEWAY, **more))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with own_server() as server:
        yield server.url


@pytest.fixture
async def own(url: str) -> AsyncIterator[Redis]:
    """A server that is empty and as it must be."""
    redis = connect.client(url)
    await redis.flushall()
    yield redis
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", 0)
    await redis.aclose()


def events(lines: list[EventDict], **facts: Any) -> list[str]:
    return [line["event"] for line in lines if facts.items() <= line.items()]


# The first look


async def test_a_good_server_is_told_in_one_line(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    await own.set(CANARY, "2026-01-01")
    admitted = await admit(own, given(url), Role.WORKER)
    assert admitted.confirm == connect.confirmation(given(url).durability)
    [line] = log_lines
    assert (line["event"], line["role"]) == ("probes.passed", "worker")
    assert line["server"].split()[1].count(".") == 2


async def test_the_first_worker_leaves_a_canary_and_says_that_there_was_none(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    first = await admit(own, given(url), Role.WORKER)
    assert events(log_lines) == ["store.empty", "probes.passed"]
    assert (await own.get(CANARY)).decode() == first.canary
    assert await own.ttl(CANARY) == -1
    second = await admit(own, given(url), Role.WORKER)
    assert second.canary == first.canary
    assert events(log_lines)[2:] == ["probes.passed"]


async def test_a_canary_that_is_no_text_ends_no_process(own: Redis, url: str) -> None:
    await own.set(CANARY, b"\xff")
    for role in (Role.WORKER, Role.RECEIVER):
        assert await admit(own, given(url), role)


async def test_a_receiver_leaves_none_as_it_cannot_tell_that_all_is_there(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    await admit(own, given(url), Role.RECEIVER)
    assert events(log_lines) == ["store.empty", "probes.passed"]
    assert await own.keys("*") == []


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
async def test_an_empty_database_is_refused_where_there_must_be_one(
    own: Redis, url: str, role: Role, log_lines: list[EventDict]
) -> None:
    with pytest.raises(Unsafe, match="Redis holds nothing of ours"):
        await admit(own, given(url, REQUIRE_STATE="true"), role)
    assert events(log_lines) == ["store.empty", "probe.alarmed"]
    assert await own.keys("*") == []


async def test_everything_that_is_wrong_is_told_at_once(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    await own.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(Unsafe) as refused:
        await admit(own, given(url, REQUIRE_STATE="true"), Role.WORKER)
    head, *lines = str(refused.value).splitlines()
    assert head == "payments would not be safe here:"
    assert [line[:11] for line in lines] == ["  - Redis f", "  - Redis h"]
    assert "set `maxmemory-policy noeviction`" in lines[0]
    alarmed = [line["probe"] for line in log_lines if line["event"] == "probe.alarmed"]
    assert alarmed == ["eviction", "state"]


async def test_a_server_that_is_managed_by_others_is_used_after_a_warning(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    await own.config_set("maxmemory-policy", "allkeys-lru")
    await admit(own, given(url, REDIS_CHECKS="warn"), Role.WORKER)
    assert events(log_lines) == ["probe.warned", "store.empty"]


async def test_a_redis_that_goes_away_while_it_is_looked_at_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(admission, "AGAIN_SECONDS", 0.01)
    with own_server() as server:
        redis = connect.client(server.url, tries=0)

        async def interrupted(*args: Any) -> Any:
            monkeypatch.setattr(admission, "ask", ask)
            await asyncio.to_thread(server.stop)
            try:
                return await ask(*args)
            finally:
                await asyncio.to_thread(server.start)

        monkeypatch.setattr(admission, "ask", interrupted)
        await admit(redis, given(server.url), Role.WORKER)
        await redis.aclose()
    assert events(log_lines) == [
        "worker.redis_waiting",
        "store.empty",
        "probes.passed",
        "worker.redis_back",
    ]


# While it runs


@pytest.fixture
async def admitted(own: Redis, url: str, log_lines: list[EventDict]) -> Admitted:
    found = await admit(own, given(url), Role.WORKER)
    log_lines.clear()
    return found


async def looks(own: Redis, url: str, known: Admitted, times: int = 3) -> Admitted:
    for _ in range(times):
        known = await watch(own, given(url), Role.WORKER, known)
    return known


async def test_as_long_as_all_is_well_nothing_is_said(
    own: Redis, url: str, admitted: Admitted, log_lines: list[EventDict]
) -> None:
    assert (await looks(own, url, admitted)).canary == admitted.canary
    assert log_lines == []


@pytest.mark.parametrize("how", ["flushed", "another"])
async def test_a_database_that_was_lost_is_told_once_while_it_runs(
    own: Redis, url: str, admitted: Admitted, how: str, log_lines: list[EventDict]
) -> None:
    await own.flushall()
    if how == "another":  # another worker was started meanwhile
        await own.set(CANARY, "2026-02-02")
    known = await looks(own, url, admitted)
    [line] = log_lines
    assert (line["event"], line["log_level"]) == ("store.lost", "error")
    assert line["since"] == admitted.canary
    assert await own.get(CANARY) != admitted.canary.encode()  # nothing hides it from the next start
    await own.set(CANARY, admitted.canary)  # restored
    known = await looks(own, url, known)
    await own.delete(CANARY)
    await looks(own, url, known)
    assert events(log_lines) == ["store.lost", "store.lost"]


async def test_a_receiver_that_began_before_the_first_worker_minds_the_canary_too(
    own: Redis, url: str, log_lines: list[EventDict]
) -> None:
    known = await admit(own, given(url), Role.RECEIVER)
    await admit(own, given(url), Role.WORKER)
    log_lines.clear()
    known = await watch(own, given(url), Role.RECEIVER, known)
    await own.flushall()
    await watch(own, given(url), Role.RECEIVER, known)
    assert events(log_lines) == ["store.lost"]


async def test_what_goes_wrong_while_it_runs_is_an_alarm_told_once(
    own: Redis, url: str, admitted: Admitted, log_lines: list[EventDict]
) -> None:
    await own.config_set("maxmemory-policy", "allkeys-lru")
    known = await looks(own, url, admitted)
    assert events(log_lines, probe="eviction", log_level="error") == ["probe.alarmed"]
    await own.config_set("maxmemory-policy", "noeviction")
    known = await looks(own, url, known)
    await own.config_set("maxmemory-policy", "volatile-lru")
    await looks(own, url, known)
    assert events(log_lines) == ["probe.alarmed", "probe.alarmed"]


async def test_memory_that_is_nearly_used_up_is_told(
    own: Redis, log_lines: list[EventDict]
) -> None:
    await warn_if_nearly_full(own)
    assert log_lines == []
    used = (await own.info("memory"))["used_memory"]
    await own.config_set("maxmemory", int(used * 1.1))
    await warn_if_nearly_full(own)
    [line] = log_lines
    assert line["event"] == "redis.nearly_full"
    assert 80 <= line["percent"] <= 100


async def test_another_redis_in_its_place_is_looked_at_as_if_it_were_the_first(
    log_lines: list[EventDict],
) -> None:
    with own_server() as server:
        redis = connect.client(server.url)
        known = await admit(redis, given(server.url), Role.WORKER)
        await asyncio.to_thread(server.stop)
        server.options = ("--rename-command", "WAITAOF", "")
        await asyncio.to_thread(server.start)
        known = await watch(redis, given(server.url), Role.WORKER, known)
        assert known.confirm is None
        assert events(log_lines) == ["store.empty", "probes.passed", "probes.passed"]
        await asyncio.to_thread(server.stop)
        server.options = ("--appendonly", "no")
        await asyncio.to_thread(server.start)
        with pytest.raises(Unsafe, match="keeps nothing on disk"):
            await watch(redis, given(server.url), Role.WORKER, known)
        await redis.aclose()


async def test_a_redis_that_comes_back_empty_gets_no_new_canary_from_who_knew_the_old(
    own: Redis, url: str, admitted: Admitted, log_lines: list[EventDict]
) -> None:
    await own.flushall()
    again = await admit(own, given(url), Role.WORKER, admitted)
    assert again.canary == admitted.canary
    assert "store.lost" in events(log_lines)
    assert await own.keys("*") == []


# Processes

STARTED = {"worker": "worker.started", "arq": "worker.started", "receiver": "receiver.started"}
WORDS = {
    "worker": reconciler("worker"),
    "receiver": reconciler("receiver"),
    "run": reconciler("run"),
    "arq": ARQ_WORKER,
}
each_process = pytest.mark.parametrize("name", WORDS)


def refused(running: Process, *said: str) -> None:
    """It has ended as it must: one message, exit code 5, no traceback."""
    assert running.ended() == 5
    for words in said:
        assert running.said.count(f"  - {words}") == 1, running.said
    assert running.said.count("reconciler: payments would not be safe here:") == 1
    assert "Traceback" not in running.said
    assert "never retrieved" not in running.said


@pytest.fixture(scope="module")
def bad_url() -> Iterator[str]:
    with own_server("--appendonly", "no", "--maxmemory-policy", "allkeys-lru") as server:
        yield server.url


@each_process
def test_a_process_tells_all_that_is_wrong_and_ends_with_5(
    tmp_path: Path, bad_url: str, name: str
) -> None:
    with process(tmp_path, environ(bad_url, "p", GATEWAY), *WORDS[name]) as running:
        refused(running, "Redis keeps nothing on disk", "Redis forgets payments when it is full")
        assert '"probe": "eviction"' in running.said
        assert "noeviction" in running.said


@pytest.mark.once
@pytest.mark.parametrize("name", STARTED)
def test_a_process_goes_on_where_it_is_told_only_to_warn(
    tmp_path: Path, bad_url: str, name: str
) -> None:
    given = environ(bad_url, "p", GATEWAY, REDIS_CHECKS="warn")
    with process(tmp_path, given, *WORDS[name]) as running:
        running.wait_for("probe.warned", probe="eviction")
        running.wait_for(STARTED[name])
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


@pytest.mark.once
@each_process
def test_a_process_ends_with_5_where_its_state_is_gone(
    tmp_path: Path, url: str, own: Redis, name: str
) -> None:
    given = environ(url, "empty", GATEWAY, REQUIRE_STATE="true")
    with process(tmp_path, given, *WORDS[name]) as running:
        refused(running, "Redis holds nothing of ours")


@pytest.mark.once
@pytest.mark.parametrize("name", WORDS)
def test_a_process_ends_with_5_when_redis_comes_back_unsafe(tmp_path: Path, name: str) -> None:
    with own_server() as server, running_on(server, tmp_path, name) as running:
        for role in {"run": ["worker", "receiver"], "arq": ["worker"]}.get(name, [name]):
            running.wait_for(f"{role}.started")
            running.wait_for("probes.passed", role=role)
        _restart(server, "--appendonly", "no")
        refused(running, "Redis keeps nothing on disk")


def running_on(
    server: OtherServer, folder: Path, name: str
) -> contextlib.AbstractContextManager[Process]:
    return process(folder, environ(server.url, "p", GATEWAY), *WORDS[name])


def _restart(server: OtherServer, *options: str) -> None:
    server.stop()
    server.options = options
    server.start()


@pytest.mark.once
def test_a_process_whose_database_is_flushed_says_so_and_goes_on(tmp_path: Path) -> None:
    with own_server() as server:
        asyncio.run(do(server.url, "SET", Keys("p").canary, "2026-01-01"))
        with process(tmp_path, environ(server.url, "p", GATEWAY), *WORDS["run"]) as running:
            for role in ("worker", "receiver"):
                running.wait_for("probes.passed", role=role)
            asyncio.run(do(server.url, "FLUSHALL"))
            for role in ("worker", "receiver"):
                running.wait_for("store.lost", role=role)
            assert running.running


async def do(url: str, *words: str) -> None:
    redis = connect.client(url)
    await redis.execute_command(*words)  # type: ignore[no-untyped-call]
    await redis.aclose()


@pytest.mark.once
def test_a_clock_that_is_off_ends_a_process_with_5(tmp_path: Path, url: str) -> None:
    if not shutil.which("faketime"):
        pytest.skip("needs faketime: apt-get install faketime")
    environment = environ(url, "p", GATEWAY, FAKETIME_DONT_FAKE_MONOTONIC="1")
    words = ("faketime", "-f", "+3m", *reconciler("worker"))
    with process(tmp_path, environment, *words) as running:
        refused(running, "our clock and that of Redis differ by 180 s")


@pytest.mark.once
def test_a_redis_cluster_ends_a_process_with_5(tmp_path: Path) -> None:
    with (
        own_server("--cluster-enabled", "yes") as server,
        running_on(server, tmp_path, "worker") as running,
    ):
        refused(running, "this is a Redis Cluster")


# The command line


def track(tmp_path: Path, url: str, prefix: str, **more: str) -> tuple[int, str]:
    words = reconciler("track", "order-1", "--amount", "USD:599")
    with process(tmp_path, environ(url, prefix, GATEWAY, **more), *words) as running:
        return running.ended(), running.said


def test_who_tracks_into_a_database_without_workers_is_warned(
    tmp_path: Path, url: str, own: Redis
) -> None:
    code, said = track(tmp_path, url, "nobody")
    assert code == 0
    assert "reconciler: warning: Redis holds nothing of ours" in said


def test_who_tracks_where_it_would_not_be_safe_is_refused(
    tmp_path: Path, url: str, bad_url: str, own: Redis
) -> None:
    code, said = track(tmp_path, bad_url, "p")
    assert code == 5
    assert "  - Redis keeps nothing on disk" in said
    code, said = track(tmp_path, url, "nobody", REQUIRE_STATE="true")
    assert code == 5
    assert "Traceback" not in said
