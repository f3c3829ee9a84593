"""Clocks that are wrong, that jump, and calendars that are odd."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import arq.worker
import pytest
from redis.asyncio import Redis

from jobs.model import Ms
from tests.faults.stage import KEYS, port_of, reading, status_of
from tests.keys import CLIENT_ID
from tests.servers import (
    environ,
    notification,
    now_ms,
    own_server,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    until,
)
from worker import connect
from worker.client import track
from worker.keys import Keys
from worker.main import run_worker
from worker.settings import load
from worker.store import Store
from worker.times import format_time, parse_time

HOUR = 3_600_000

# 47: the clock of one host is two hours off, or jumps while we run


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR], ids=["ahead", "behind"])
async def test_a_step_of_our_clock_moves_no_time_of_a_payment(
    redis_url: str, redis: Redis, prefix: str, step: Ms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis' time and our monotonic clock are the only ones that count."""
    store = Store(connect.client(redis_url), Keys(prefix))
    await store.wake_overdue()
    before, real = store.now(), time.time
    monkeypatch.setattr(time, "time", lambda: real() + step / 1000)
    monkeypatch.setattr(time, "time_ns", lambda: round((real() + step / 1000) * 1e9))
    assert 0 <= store.now() - before < HOUR
    await store.wake_overdue()
    assert 0 <= store.now() - before < HOUR
    await store.redis.aclose()


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR], ids=["ahead", "behind"])
async def test_a_worker_whose_clock_is_wrong_wakes_payments_when_redis_says(
    redis_url: str, redis: Redis, prefix: str, step: Ms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """arq asks its host's clock what is due: behind, it would wake nobody for two hours."""
    monkeypatch.setattr(arq.worker, "timestamp_ms", lambda: now_ms() + step)
    stopping = asyncio.Event()
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        given = environ(redis_url, prefix, gateway.url, RECONCILER_SCHEDULE="0.5")
        working = asyncio.create_task(run_worker(load(given), stopping))
        await track(redis, "order-1", "USD", 599, prefix=prefix)
        await until(lambda: redis.xlen(Keys(prefix).outcomes))
        await asyncio.sleep(1)
        assert len(gateway.asked) == 1
        stopping.set()
        await working


LIBRARY = next(
    (str(found) for found in Path("/usr").glob("lib/*/faketime/libfaketime.so.1")),
    "",
)
FAKETIME = pytest.mark.skipif(
    not LIBRARY, reason="NOT TESTED: clock steps of a whole process; install faketime (Debian)"
)


@FAKETIME
@pytest.mark.parametrize("offset", ["+2h", "-2h"])
async def test_a_process_whose_clock_is_wrong_ends_payments_as_any_other(
    tmp_path: Path, offset: str
) -> None:
    """Also when the clock jumps to that while it runs: the file is read again every moment."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    wrong = {
        "LD_PRELOAD": LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url) | wrong
            with process(tmp_path, given, *reconciler("run")) as both:
                port = await asyncio.to_thread(port_of, both)
                async with reading(server.url) as redis:
                    await track(redis, "inquired", "USD", 599, expires_in=600)
                    await track(redis, "notified", "USD", 599, expires_in=600)
                    await until(lambda: _asked(gateway.asked, 2))
                    clock.write_text(offset)
                    post = notification(paid("notified")).wire()
                    assert await status_of(port, post) == 200
                    await until(lambda: redis.xlen(KEYS.outcomes))
                    gateway.answer = says("SUCCESS")

                    async def told() -> dict[str, str]:
                        found = [f["id"] for _, f in await redis.xrange(KEYS.outcomes)]
                        return found if len(found) == 2 else []  # type: ignore[return-value]

                    await until(told)
                    ends = {f["id"] for _, f in await redis.xrange(KEYS.outcomes)}
                    wanted = {f"{CLIENT_ID}:{name}:succeeded" for name in ("notified", "inquired")}
                    assert ends == wanted
                    asked = [int(one.headers["Request-Time"]) for one in gateway.asked]
                    assert all(abs(at - now_ms()) < HOUR for at in asked), "we sign Redis' time"


async def _asked(asked: Sequence[object], count: int) -> bool:
    return len(asked) >= count


# 48: the night in which an hour comes twice, and odd offsets


@pytest.fixture(params=["America/New_York", "Europe/Berlin", "Asia/Kolkata", "Pacific/Chatham"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00.000Z"),  # the first half past two
        ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00.000Z"),  # and the second
        ("2026-03-29T02:30:00+01:00", "2026-03-29T01:30:00.000Z"),  # one that no clock showed
        ("2026-11-01T01:30:00-04:00", "2026-11-01T05:30:00.000Z"),
        ("2026-11-01T01:30:00-05:00", "2026-11-01T06:30:00.000Z"),
        ("2026-06-01T12:00:00+08:30", "2026-06-01T03:30:00.000Z"),
        ("2026-06-01T12:00:00+05:30", "2026-06-01T06:30:00.000Z"),
        ("2026-06-01T12:00:00+12:45", "2026-05-31T23:15:00.000Z"),
        ("2026-06-01T12:00:00-00:00", "2026-06-01T12:00:00.000Z"),
        ("2038-01-19T03:14:08Z", "2038-01-19T03:14:08.000Z"),
        ("2147483648000", "2038-01-19T03:14:08.000Z"),
        ("2106-02-07T06:28:16+00:00", "2106-02-07T06:28:16.000Z"),
    ],
)
def test_a_time_means_one_instant_wherever_we_run(local_zone: str, text: str, utc: str) -> None:
    ms = parse_time(text)
    assert ms is not None
    assert format_time(ms) == utc


@pytest.mark.parametrize(
    "text", ["2026-10-25T02:30:00", "2026-06-01T12:00:60Z", "12026-06-01T12:00:00Z"]
)
def test_a_time_that_could_be_several_or_none_is_taken_for_none(text: str) -> None:
    assert parse_time(text) is None


async def test_one_whose_time_is_odd_is_acknowledged_and_makes_us_ask(tmp_path: Path) -> None:
    """Nothing genuine is refused for its time; where it proves nothing, the gateway is asked."""
    odd = ["2026-10-25T02:30:00", "2099-10-25T02:30:00Z", "12026-06-01T12:00:00Z"]
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        with own_server() as server:
            given = environ(server.url, KEYS.prefix, gateway.url, RECONCILER_SCHEDULE="600")
            with process(tmp_path, given, *reconciler("run")) as both:
                port = await asyncio.to_thread(port_of, both)
                async with reading(server.url) as redis:
                    for n in range(len(odd)):
                        await track(redis, f"order-{n}", "USD", 599)
                    await asyncio.to_thread(both.wait_for, "payment.tracked")
                    for n, sent_at in enumerate(odd):
                        post = notification(paid(f"order-{n}"), sent_at=sent_at).wire()
                        assert await status_of(port, post) == 200
                    await until(lambda: _asked(gateway.asked, len(odd)))
                    assert await redis.xlen(KEYS.outcomes) == 0


# 49: after 2038


async def test_a_closing_time_after_2038_survives_redis_to_the_millisecond(
    redis: Redis, prefix: str
) -> None:
    """Scores are doubles, and Lua's numbers too."""
    keys, late = Keys(prefix), 4_102_444_800_123  # 2100
    await redis.zadd(keys.open, {"a:b": late})
    assert await Store(redis, keys).claim("a:b") is None
    assert await redis.zscore(keys.queue, keys.job("a:b")) == late
