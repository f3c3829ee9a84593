"""Where the real things meet: one wiring, that survives Redis and ends in good order."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_parser
from arq.worker import Worker as ArqWorker
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

import worker.main
import worker.tasks
from jobs.schedule import CancelWindow
from tests.keys import CLIENT_ID
from tests.servers import (
    ROOT,
    ScriptedGateway,
    environ,
    notification,
    own_server,
    paid,
    raw_gateway,
    says,
    scripted_gateway,
    send,
    until,
)
from worker import client, connect
from worker.connect import Unsafe
from worker.keys import Keys
from worker.main import run_worker, worker_settings
from worker.receiving import run_receiver
from worker.settings import Settings, load
from worker.tools import policy_of


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        yield gateway


@pytest.fixture
def settings(redis_url: str, prefix: str, gateway: ScriptedGateway) -> Settings:
    return load(environ(redis_url, prefix, gateway.url))


@asynccontextmanager
async def running(work: Any, settings: Settings) -> AsyncIterator["asyncio.Task[None]"]:
    """`work` as the command line runs it: until it is asked to stop."""
    stopping = asyncio.Event()
    task = asyncio.create_task(work(settings, stopping))
    try:
        yield task
    finally:
        stopping.set()
        if not task.done():
            await task


def named(lines: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == event]


async def logged(lines: list[EventDict], event: str) -> EventDict:
    async def found() -> list[EventDict]:
        return named(lines, event)

    line: EventDict = (await until(found))[0]
    return line


async def told(redis: Redis, keys: Keys) -> list[str]:
    return [
        str(fields.get("id") or fields[b"id"]) for _, fields in await redis.xrange(keys.outcomes)
    ]


# Settings


def test_importing_it_reads_no_environment_and_connects_to_nothing() -> None:
    code = "import worker.main; print('imported')"
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, cwd="/")
    assert done.stdout == b"imported\n", done.stderr


def test_the_settings_of_arq_are_made_when_arq_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(SystemExit):
        _ = worker.main.WorkerSettings
    assert "REDIS_URL is not set" in capsys.readouterr().err
    with pytest.raises(AttributeError):
        _ = worker.main.Nonsense


def test_a_worker_loses_no_job_by_a_default_of_arq(settings: Settings, prefix: str) -> None:
    """Each of these is a way in which stock arq drops, repeats or hides a payment's job."""
    given = worker_settings(settings)
    assert given["keep_result"] == 0, "a kept result blocks the id"
    assert given["max_tries"] > 1_000_000, "crashes and deploys count as tries"
    assert given["job_timeout"] > 15, "a job that times out is deleted: none may"
    assert given["expires_extra_ms"] >= 30 * 86_400_000, "after 24 h a payload is gone"
    assert given["job_completion_wait"] == 15, "a stopping worker cancels its jobs"
    assert given["queue_read_limit"] >= 3 * given["max_jobs"], "jobs in hand hide the others"
    assert given["health_check_key"].startswith(f"{prefix}:queue:health:"), "shared and deleted"
    assert not given["log_results"], "arguments in the log"
    assert b"pickle" not in given["job_serializer"]({"f": "follow_payment"})
    assert given["redis_pool"].job_serializer is given["job_serializer"]


def test_patience_is_read_from_the_settings_of_its_account(redis_url: str) -> None:
    given = {
        "RECONCILER_SCHEDULE": "1,2",
        "PENDING_SCHEDULE": "3",
        "CANCEL_SCHEDULE": "4",
        "AFTERCARE_SCHEDULE": "5",
        "UNRESOLVED_SCHEDULE": "6",
        "ALIPAY_CLOSING_TIME_SECONDS": "7",
        "ALIPAY_PENDING_CLOSING_TIME_SECONDS": "8",
        "LAST_INQUIRY_GRACE_SECONDS": "9",
        "CANCEL_QUIET_SECONDS": "10",
        "CANCEL_LIMIT_SECONDS": "11",
        "ALIPAY_CANCEL_WINDOW": "14s",
        "NOT_FOUND_SETTLE_SECONDS": "12",
        "UNRESOLVED_WATCH_DAYS": "13",
        "ON_TIMEOUT": "report",
    }
    settings = load(environ(redis_url, "p", "https://gateway.example", **given))
    policy = policy_of(settings, settings.accounts[CLIENT_ID])
    delays = (
        policy.inquiry_delays,
        policy.confirming_delays,
        policy.cancel_delays,
        policy.aftercare_delays,
        policy.unresolved_delays,
    )
    assert delays == ((1000, 2000), (3000,), (4000,), (5000,), (6000,))
    assert (policy.closing, policy.confirming) == (7000, 8000)
    assert (policy.last_inquiry_grace, policy.cancel_quiet) == (9000, 10_000)
    assert (policy.cancel_limit, policy.not_found_settle) == (11_000, 12_000)
    assert policy.unresolved_watch == 13 * 86_400_000
    assert policy.cancel_window == CancelWindow(length=14_000)
    assert policy.report


# The worker


async def test_a_payment_is_followed_to_its_end(
    settings: Settings, redis: Redis, prefix: str, log_lines: list[EventDict]
) -> None:
    keys = Keys(prefix)
    async with running(run_worker, settings):
        await client.track(redis, "order-1", "USD", 599, prefix=prefix)
        await until(lambda: told(redis, keys))
    assert await told(redis, keys) == [f"{CLIENT_ID}:order-1:succeeded"]
    assert [line["event"] for line in log_lines][-1] == "worker.stopped"
    assert await redis.keys(f"arq:*{prefix}*") == []


async def test_the_groups_that_were_named_read_outcomes_from_the_first(
    redis_url: str, redis: Redis, prefix: str, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    keys = Keys(prefix)
    given = environ(redis_url, prefix, gateway.url, OUTCOME_GROUPS="shop,books")
    await redis.xadd(keys.outcomes, {"id": "earlier"})
    async with running(run_worker, load(given)):
        await logged(log_lines, "worker.started")
    groups = await redis.xinfo_groups(keys.outcomes)
    assert sorted(group["name"] for group in groups) == ["books", "shop"]
    assert {group["last-delivered-id"] for group in groups} == {"0-0"}


async def test_a_worker_that_parses_http_in_python_says_so(
    redis_url: str,
    prefix: str,
    gateway: ScriptedGateway,
    log_lines: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    async with running(run_worker, load(environ(redis_url, prefix, gateway.url))):
        await logged(log_lines, "http.parser_weak")
        await logged(log_lines, "worker.started")


async def test_a_worker_that_starts_before_redis_waits_for_it(
    prefix: str, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    with own_server() as server:
        server.stop()
        async with running(run_worker, load(environ(server.url, prefix, gateway.url))):
            await logged(log_lines, "worker.redis_waiting")
            await asyncio.to_thread(server.start)
            await logged(log_lines, "worker.redis_back")
            await logged(log_lines, "worker.started")


async def test_a_worker_that_waits_for_redis_can_be_stopped(
    prefix: str, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    given = environ("unix:///nowhere/r.sock", prefix, gateway.url)
    async with running(run_worker, load(given)):
        await logged(log_lines, "worker.redis_waiting")
    assert named(log_lines, "worker.started") == []


async def test_a_worker_whose_redis_was_away_for_long_starts_afresh(
    gateway: ScriptedGateway, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """arq's own worker ends when its patience does."""
    monkeypatch.setattr(worker.main, "REDIS_TRIES", 0)
    monkeypatch.setattr(worker.main, "RESTART_SECONDS", 0.05)
    with own_server() as server:
        async with running(run_worker, load(environ(server.url, "reconciler", gateway.url))):
            await logged(log_lines, "worker.started")
            await asyncio.to_thread(server.stop)
            await logged(log_lines, "worker.stopped")
            await asyncio.to_thread(server.start)
            redis = connect.client(server.url)
            await client.track(redis, "order-1", "USD", 599)
            await until(lambda: told(redis, Keys()))
            await redis.aclose()
    assert len(named(log_lines, "worker.started")) == 2
    for event in ("worker.redis_waiting", "worker.redis_back"):
        assert "jobs" in {line["task"] for line in named(log_lines, event)}


async def test_a_worker_that_arq_cannot_close_leaves_no_connection_open(
    settings: Settings, redis: Redis
) -> None:
    """arq's closing ends where a job's task has failed; each round would leave some."""

    async def failed() -> None:
        raise RedisConnectionError("away")

    before = len(await redis.client_list())
    broken = ArqWorker(**worker_settings(settings), handle_signals=False)
    await broken.pool.ping()
    assert len(await redis.client_list()) > before
    broken.tasks["job"] = asyncio.create_task(failed())
    await worker.main._close(broken)

    async def closed() -> bool:
        return len(await redis.client_list()) <= before

    await until(closed, 5)


@pytest.mark.parametrize("work", [run_worker, run_receiver])
async def test_nothing_is_promised_on_a_redis_that_keeps_nothing(
    prefix: str, gateway: ScriptedGateway, work: Any
) -> None:
    with own_server() as server:
        redis = connect.client(server.url)
        await redis.config_set("appendonly", "no")
        with pytest.raises(Unsafe, match="set `appendonly yes`"):
            async with running(work, load(environ(server.url, prefix, gateway.url))) as task:
                await asyncio.wait_for(asyncio.shield(task), 10)
        await redis.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("work", [run_worker, run_receiver])
async def test_who_is_cancelled_while_redis_is_away_leaves_nothing_running(
    tmp_path: Path, prefix: str, gateway: ScriptedGateway, work: Any
) -> None:
    given = load(environ(f"unix://{tmp_path}/none.sock", prefix, gateway.url))
    task = asyncio.create_task(work(given, asyncio.Event()))
    await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_memory_that_is_nearly_used_up_is_told_by_the_housekeeping(
    gateway: ScriptedGateway, log_lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.main, "HOUSEKEEPING_EVERY", 100)
    with own_server() as server:
        redis = connect.client(server.url)
        async with running(run_worker, load(environ(server.url, "reconciler", gateway.url))):
            await logged(log_lines, "worker.started")
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", int(used * 1.1))
            line = await logged(log_lines, "redis.nearly_full")
        await redis.aclose()
    assert line["percent"] >= 80


async def test_what_a_write_waits_for_is_renewed_when_redis_is_another_one(
    gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    with own_server() as server:
        given = environ(server.url, "reconciler", gateway.url)
        async with running(run_receiver, load(given)):
            line = await logged(log_lines, "receiver.started")
            port = int(line["addresses"][0].split(",")[1].strip(" )"))
            await logged(log_lines, "probes.passed")
            await asyncio.to_thread(server.stop)
            server.options = ("--rename-command", "WAITAOF", "")  # as before Redis 7.2
            await asyncio.to_thread(server.start)

            async def accepted() -> bool:
                reply = await send(port, notification(paid("order-1")).wire())
                return bool(reply and reply.status == 200)

            await until(accepted)


async def test_what_cannot_be_ended_at_once_is_ended_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Up to Python 3.11 a cancel can be lost on its way through redis-py."""
    cancels = 0

    async def stubborn() -> None:
        nonlocal cancels
        for _ in range(300):
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                cancels += 1
                if cancels == 3:
                    return

    monkeypatch.setattr(worker.tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await worker.tasks.end([task])
    assert cancels == 3


async def test_an_end_that_arq_asks_for_only_once_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.main, "CANCEL_AGAIN_SECONDS", 0.01)

    async def swallowing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.sleep(10)

    work = asyncio.create_task(swallowing())
    again = asyncio.create_task(worker.main._cancel_again(work))
    await asyncio.sleep(0.1)
    assert not work.done(), "nobody asked"
    work.cancel()
    await asyncio.wait({work}, timeout=5)
    assert work.cancelled()
    again.cancel()


# What runs beside the jobs


async def test_what_is_done_again_and_again_outlives_its_failures(
    log_lines: list[EventDict],
) -> None:
    faults: list[Exception | None] = [RuntimeError("a bug"), RedisConnectionError("away"), None]

    async def work() -> None:
        fault = faults.pop(0)
        if fault:
            raise fault

    with pytest.raises(IndexError):  # the fourth time
        await asyncio.wait_for(endless(work), 5)
    assert [line["event"] for line in log_lines] == [
        "sweep.failed",
        "worker.redis_waiting",
        "worker.redis_back",
    ]


async def endless(work: Any) -> None:
    async def guarded() -> None:
        try:
            await work()
        except IndexError as end:
            raise asyncio.CancelledError from end  # nothing else ends it

    try:
        await worker.tasks.every(1, guarded, "sweep.failed")
    except asyncio.CancelledError as cancelled:
        assert cancelled.__cause__
        raise cancelled.__cause__ from None


async def test_a_worker_that_breaks_says_why_before_it_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    async def broken(_: dict[str, Any]) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(worker.main, "start", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        async with running(run_worker, settings) as task:
            await asyncio.wait_for(asyncio.shield(task), 10)
    assert named(log_lines, "worker.failed")


# The receiver


async def test_the_receiver_listens_where_it_says_and_keeps_what_is_genuine(
    settings: Settings, redis: Redis, prefix: str, log_lines: list[EventDict]
) -> None:
    async with running(run_receiver, settings):
        line = await logged(log_lines, "receiver.started")
        port = int(line["addresses"][0].split(",")[1].strip(" )"))
        reply = await send(port, notification(paid("order-1")).wire())
        assert reply and reply.status == 200
    assert await redis.llen(Keys(prefix).inbox(f"{CLIENT_ID}:order-1")) == 1  # type: ignore[misc]
    assert [line["event"] for line in log_lines][-1] == "receiver.stopped"


async def test_a_receiver_that_starts_before_redis_refuses_until_it_is_there(
    prefix: str, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    with own_server() as server:
        server.stop()
        post = notification(paid("order-1")).wire()
        async with running(run_receiver, load(environ(server.url, prefix, gateway.url))):
            line = await logged(log_lines, "receiver.started")
            port = int(line["addresses"][0].split(",")[1].strip(" )"))
            early = await send(port, post)
            assert early and early.status == 503
            await asyncio.to_thread(server.start)
            await logged(log_lines, "worker.redis_back")
            reply = await send(port, post)
            assert reply and reply.status == 200


async def test_a_receiver_whose_redis_goes_away_while_it_is_looked_at_looks_again(
    prefix: str, gateway: ScriptedGateway, log_lines: list[EventDict]
) -> None:
    with own_server() as server:
        left = [1, 2, 3]

        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """A way to the server that ends, three times, as it is asked what it can promise."""
            from_redis, to_redis = await asyncio.open_unix_connection(server.socket)
            answers = asyncio.create_task(_pass(from_redis, writer))
            while data := await reader.read(65536):
                if b"WAITAOF" in data and left:
                    left.pop()
                    break
                to_redis.write(data)
            to_redis.close()
            await answers

        async with raw_gateway(cut) as url:
            given = environ(url.replace("http", "redis"), prefix, gateway.url)
            async with running(run_receiver, load(given)) as task:
                line = await logged(log_lines, "receiver.started")
                await logged(log_lines, "worker.redis_waiting")
                port = int(line["addresses"][0].split(",")[1].strip(" )"))
                reply = await send(port, notification(paid("order-1")).wire())
                assert reply and reply.status == 200
                assert not left and not task.done()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def test_a_taken_port_is_said_at_once(
    redis_url: str, prefix: str, gateway: ScriptedGateway
) -> None:
    port = gateway.url.rpartition(":")[2]
    given = environ(redis_url, prefix, gateway.url, RECEIVER_PORT=port)
    with pytest.raises(OSError, match="address already in use"):
        async with running(run_receiver, load(given)) as task:
            await asyncio.wait_for(asyncio.shield(task), 10)
