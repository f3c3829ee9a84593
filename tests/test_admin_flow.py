"""Health and metrics of processes as they really run: what is counted, and when one is ready."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money
from tests.servers import (
    ARQ_WORKER,
    Process,
    environ,
    free_port,
    get,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    send,
    until,
)
from tests.test_metrics import Samples, samples
from tests.test_worker_process import slowly
from worker import client, watch
from worker.keys import Keys
from worker.main import run_worker
from worker.mock_gateway import RunningMock
from worker.settings import load

pytestmark = pytest.mark.once  # processes that wait for each other

ALL_LINES = {"LOG_LEVEL": "debug", "LOG_CONDENSED": "false"}


class Ports:
    """The admin ports of a receiver and a worker."""

    def __init__(self) -> None:
        self.receiver, self.worker = free_port(), free_port()

    @property
    def given(self) -> dict[str, str]:
        names = {"RECEIVER_ADMIN_PORT": self.receiver, "WORKER_ADMIN_PORT": self.worker}
        return {name: str(port) for name, port in names.items()}


async def scraped(port: int) -> Samples:
    reply = await get(port, "/metrics")
    assert reply.status == 200
    return samples(reply.body)


async def ready(port: int) -> dict[str, str]:
    """What `/readyz` says of each check; its status must fit."""
    reply = await get(port, "/readyz")
    said = json.loads(reply.body)
    assert (reply.status, said["ready"]) in ((200, True), (503, False))
    assert said["ready"] == (set(said["checks"].values()) == {"ok"})
    return dict(said["checks"])


async def is_ready(port: int) -> bool:
    try:
        return set((await ready(port)).values()) == {"ok"}
    except OSError:
        return False  # it has not begun to listen


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(labels.items())))


def told(running: Process, role: str) -> Counter[tuple[str, str]]:
    """How many lines of a role its log has, by event and level; those before all this left out."""
    return Counter(
        (line["event"], line["level"]) for line in running.lines if line.get("role") == role
    )


async def as_in_the_log(running: Process, port: int, role: str) -> Samples:
    """The metrics, once they count just the lines that are written."""

    async def agreed() -> Samples | None:
        found = await scraped(port)
        counted = {
            (dict(labels)["event"], dict(labels)["level"]): round(count)
            for (name, labels), count in found.items()
            if name == "log_events_total" and count
        }
        return found if counted == told(running, role) else None

    found: Samples = await until(agreed)
    return found


async def ended(running: Process) -> int:
    return await asyncio.to_thread(running.ended)


# Counting


async def test_what_a_worker_did_is_what_its_metrics_say(
    redis: Redis, mock: RunningMock, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    ports = Ports()
    given = environ(redis_url, prefix, mock.url, **ports.given, **ALL_LINES)
    with process(tmp_path, given, *reconciler("worker")) as worker:
        for name in ("paid-1", "paid-2", "failed-1", "never_paid-1"):
            mock.ledger.create(name, Money("USD", 599), now_ms())
            await client.track(redis, name, "USD", 599, expires_in=1, prefix=prefix)
        await client.track(redis, "paid-1", "USD", 600, prefix=prefix)  # another amount
        await client.send(redis, "nonsense", {}, prefix=prefix)

        async def over() -> bool:
            return len(worker.find("payment.final")) == 4 and bool(worker.find("command.dead"))

        await until(over)
        found = await as_in_the_log(worker, ports.worker, "worker")

    by_type = {"succeeded": 2, "failed": 1, "cancelled": 1, "cancelling": 2, "unresolved": 0}
    for type_, count in by_type.items():
        assert of(found, "outcomes_total", type=f"payment.{type_}") == count
    outcomes = sum(v for (name, _), v in found.items() if name == "outcomes_total")
    assert outcomes == len(worker.find("outcome.published")) == sum(by_type.values())
    assert of(found, "commands_total", result="accepted") == 4
    assert of(found, "commands_total", result="rejected") == 1
    assert of(found, "commands_total", result="dead") == 1

    ends = Counter((line["status"], line["via"]) for line in worker.find("payment.final"))
    for (status, via), count in ends.items():
        assert of(found, "time_to_final_seconds_count", status=status, via=via) == count
    followed = sum(line["followed_ms"] for line in worker.find("payment.final")) / 1000
    seen = sum(v for (name, _), v in found.items() if name == "time_to_final_seconds_sum")
    assert seen == pytest.approx(followed)

    for endpoint, event in (
        ("inquiryPayment", "inquiry.completed"),
        ("cancel", "cancel.completed"),
    ):
        lines = worker.find(event)
        assert lines
        answered = of(found, "gateway_calls_total", endpoint=endpoint, result="answered")
        assert answered == len(lines)
        assert of(found, "gateway_call_seconds_count", endpoint=endpoint) == len(lines)
        took = sum(line["ms"] for line in lines) / 1000
        assert of(found, "gateway_call_seconds_sum", endpoint=endpoint) == pytest.approx(took)
    assert of(found, "cancels_total", result="confirmed") == 2
    assert of(found, "job_lateness_seconds_count") == len(worker.find("payment.woken"))


async def test_calls_without_an_answer_are_counted_by_why(
    redis: Redis, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    ports = Ports()
    given = environ(redis_url, prefix, "http://127.0.0.1:9", **ports.given, **ALL_LINES)
    with process(tmp_path, given, *reconciler("worker")) as worker:
        await client.track(redis, "order-1", "USD", 599, expires_in=60, prefix=prefix)
        await asyncio.to_thread(worker.wait_for, "inquiry.unanswered")
        found = await as_in_the_log(worker, ports.worker, "worker")
    lines = len(worker.find("inquiry.unanswered", why="not_connected"))
    call = {"endpoint": "inquiryPayment"}
    assert 1 <= (of(found, "gateway_calls_total", **call, result="not_connected") or 0) <= lines
    assert of(found, "gateway_calls_total", **call, result="answered") == 0


async def test_receiver_and_worker_in_one_process_tell_each_its_own(
    mock: RunningMock, tmp_path: Path
) -> None:
    """Who looks at both ports counts nothing twice."""
    ports = Ports()
    with own_server() as server:
        given = environ(server.url, "reconciler", mock.url, **ports.given, **ALL_LINES)
        with process(tmp_path, given, *reconciler("run")) as both:
            started = await asyncio.to_thread(both.wait_for, "receiver.started")
            await until(lambda: is_ready(ports.receiver))
            await until(lambda: is_ready(ports.worker))
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            await notify(port)
            receiver = await as_in_the_log(both, ports.receiver, "receiver")
            worker = await as_in_the_log(both, ports.worker, "worker")
            await asyncio.to_thread(server.stop)
            reply = await send(port, notification(paid("order-9")).wire())
            assert reply is not None and reply.status == 503
            down = await as_in_the_log(both, ports.receiver, "receiver")
            await asyncio.to_thread(server.start)

    results = {"accepted": 2, "duplicate": 1, "rejected": 1, "encrypted": 1, "quarantined": 1}
    results |= {"ignored": 1, "store_down": 0}
    for result, count in results.items():
        assert of(receiver, "notifications_total", result=result) == count
    assert of(receiver, "notification_seconds_count") == sum(results.values())
    assert of(down, "notifications_total", result="store_down") == 1
    assert not any(name.startswith("notification") for name, _ in worker)
    assert not any(name.startswith("outcome") for name, _ in receiver)
    starts = ("log_events_total", (("event", "worker.started"), ("level", "info")))
    assert (receiver[starts], worker[starts]) == (0, 1)


async def notify(port: int) -> None:
    """One of each kind, and one of them twice."""
    first = notification(paid("order-1"))
    odd = paid("order-3", paymentAmount={"currency": "USD", "value": "8e3"})
    posts = [
        first,
        first,
        notification(paid("order-2")),
        notification(odd),
        notification(paid("order-1", notifyType="REFUND_RESULT")),
        notification(paid("order-1"), key="attacker"),
        first.also("Encrypt", "algorithm=RSA256"),
    ]
    statuses = []
    for post in posts:
        reply = await send(port, post.wire())
        assert reply is not None
        statuses.append(reply.status)
    assert statuses == [200] * 5 + [401, 400]


# Gauges


async def test_what_stands_in_redis_is_told_by_every_worker_alike(
    redis: Redis, redis_url: str, prefix: str, tmp_path: Path
) -> None:
    keys = Keys(prefix)
    for number in range(3):
        await redis.xadd(keys.dead, {"type": f"{number}"})
    await redis.xadd(keys.outcomes, {"id": "x"}, id=f"{now_ms() - 60_000}-1")
    await redis.set(keys.swept, now_ms())
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        given = environ(redis_url, prefix, gateway.url, OUTCOME_GROUPS="shop")
        workers = [Ports(), Ports()]
        with (
            process(tmp_path, given | workers[0].given, *reconciler("worker")) as _,
            process(tmp_path, given | workers[1].given, *reconciler("worker")) as _,
        ):
            for one in workers:
                await until(lambda one=one: is_ready(one.worker))  # type: ignore[misc]

                async def has_read(port: int = one.worker) -> Samples | None:
                    found = await scraped(port)
                    return found if of(found, "redis_up") == 1 else None

                found = await until(has_read)
                assert of(found, "commands_dead") == 3
                assert of(found, "outcome_lag_entries", group="shop") == 1
                assert 55 < (of(found, "outcome_lag_seconds", group="shop") or 0) < 120
                assert of(found, "payments_open", status="pending") == 0
                assert (of(found, "last_sweep_age_seconds") or 0) < 60
                assert of(found, "ready") == 1


# Readiness


async def test_readiness_follows_redis_and_a_scrape_waits_for_nobody(
    mock: RunningMock, tmp_path: Path
) -> None:
    ports = Ports()
    with own_server() as server:
        given = environ(server.url, "reconciler", mock.url, **ports.given)
        with process(tmp_path, given, *reconciler("run")) as both:
            for port in (ports.receiver, ports.worker):
                await until(lambda port=port: is_ready(port))  # type: ignore[misc]
            before = await until(lambda: read_by(ports.worker))
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                for port in (ports.receiver, ports.worker):
                    await scraped(port)
                    assert (await get(port, "/healthz")).status == 200
                assert time.monotonic() - began < 2  # redis-py would wait for 5 s
                for port in (ports.receiver, ports.worker):
                    checks = await until(lambda port=port: red(port))  # type: ignore[misc]
                    assert checks["redis"] == "does not answer"
                    assert (await get(port, "/healthz")).status == 200
                    assert of(await scraped(port), "redis_up") == 0
                    assert of(await scraped(port), "ready") == 0
                gauges = await scraped(ports.worker)
                for name in ("commands_dead", "parked", "payments_overdue"):
                    assert of(gauges, name) == of(before, name) == 0
            finally:
                os.kill(pid, signal.SIGCONT)
            for port in (ports.receiver, ports.worker):
                await until(lambda port=port: is_ready(port))  # type: ignore[misc]
            assert both.running


async def read_by(port: int) -> Samples | None:
    found = await scraped(port)
    return found if of(found, "redis_up") == 1 else None


async def red(port: int) -> dict[str, str] | None:
    checks = await ready(port)
    return checks if set(checks.values()) != {"ok"} else None


async def test_a_worker_whose_sweep_fails_is_not_ready_until_it_comes_round(
    monkeypatch: pytest.MonkeyPatch, redis: Redis, redis_url: str, prefix: str
) -> None:
    monkeypatch.setattr(watch, "STALLED_AFTER", 300)
    ports, keys = Ports(), Keys(prefix)
    given = environ(redis_url, prefix, "http://127.0.0.1:9", SWEEP_SECONDS="0.1", **ports.given)
    async with working(given):
        await until(lambda: is_ready(ports.worker))
        await redis.set(keys.open, "no sorted set")
        checks = await until(lambda: red(ports.worker))
        assert checks.pop("sweep").startswith("has not come round for ")
        assert set(checks.values()) == {"ok"}
        await redis.delete(keys.open)
        await until(lambda: is_ready(ports.worker))


@asynccontextmanager
async def working(given: dict[str, str]) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(run_worker(load(given), stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def test_before_redis_is_there_a_process_is_healthy_and_not_ready(tmp_path: Path) -> None:
    ports = Ports()
    given = environ(f"unix://{tmp_path}/r.sock", "p", "http://127.0.0.1:9", **ports.given)
    with process(tmp_path, given, *reconciler("run")) as both:
        await asyncio.to_thread(both.wait_for, "admin.started", role="worker")
        await asyncio.to_thread(both.wait_for, "admin.started", role="receiver")
        for port in (ports.receiver, ports.worker):
            assert (await get(port, "/healthz")).status == 200
            checks = await ready(port)
            assert checks["redis"] == "does not answer"
            assert checks["probes"] != "ok"
            assert of(await scraped(port), "redis_up") == 0


# The end


@pytest.mark.parametrize("words", [reconciler("run"), ARQ_WORKER], ids=["reconciler", "arq"])
async def test_the_admin_port_answers_until_the_last_job_is_done_and_not_longer(
    redis: Redis, redis_url: str, prefix: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ports = Ports()
    async with scripted_gateway() as gateway:
        gateway.answer = slowly(1.5)
        given = environ(redis_url, prefix, gateway.url, **ports.given)
        with process(tmp_path, given, *words) as worker:
            await until(lambda: is_ready(ports.worker))
            await client.track(redis, "order-1", "USD", 599, expires_in=60, prefix=prefix)
            await until(lambda: asked(gateway))
            worker.signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert (await get(ports.worker, "/healthz")).status == 200
            assert (await get(ports.worker, "/metrics")).status == 200
            if words != ARQ_WORKER:  # it tells nobody before its jobs are done
                assert (await ready(ports.worker))["process"] == "is stopping"
            assert await ended(worker) == 0
        assert worker.find("inquiry.completed")
    with pytest.raises(OSError):
        await get(ports.worker, "/healthz")


async def asked(gateway: Any) -> bool:
    return bool(gateway.asked)


async def test_a_receiver_that_stops_says_so_while_it_answers_its_last_request(
    tmp_path: Path,
) -> None:
    ports = Ports()
    with own_server() as server:
        given = environ(server.url, "reconciler", "", **ports.given)
        with process(tmp_path, given, *reconciler("receiver")) as receiver:
            started = await asyncio.to_thread(receiver.wait_for, "receiver.started")
            port = int(started["addresses"][0].split(",")[1].strip(" )"))
            await until(lambda: is_ready(ports.receiver))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)  # to keep it takes a while
            try:
                last = asyncio.create_task(send(port, notification(paid("order-1")).wire()))
                await asyncio.sleep(0.3)
                receiver.signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                assert (await ready(ports.receiver))["process"] == "is stopping"
            finally:
                os.kill(server.pid, signal.SIGCONT)
            reply = await last
            assert reply is not None and reply.status == 200
            assert await ended(receiver) == 0
    with pytest.raises(OSError):
        await get(ports.receiver, "/healthz")


async def test_off_loopback_a_process_shows_its_metrics_to_whoever_knows_the_token(
    redis_url: str, prefix: str, tmp_path: Path
) -> None:
    ports, token = Ports(), "a-token-of-20-signs!"
    (tmp_path / "token").write_text(token)
    given = environ(redis_url, prefix, "http://127.0.0.1:9", **ports.given, ADMIN_HOST="0.0.0.0")
    with process(tmp_path, given, *reconciler("worker")) as refused:
        assert await ended(refused) == 3
        assert "ADMIN_TOKEN" in refused.said
    given |= {"ADMIN_TOKEN_FILE": str(tmp_path / "token")}
    with process(tmp_path, given, *reconciler("worker")) as worker:
        await asyncio.to_thread(worker.wait_for, "admin.started")
        assert (await get(ports.worker, "/metrics")).status == 401
        shown = await get(ports.worker, "/metrics", Authorization=f"Bearer {token}")
        assert shown.status == 200
        assert token not in worker.said
