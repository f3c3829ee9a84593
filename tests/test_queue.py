"""Jobs lie in arq's queue as JSON of a known version, and come out of it by Redis' clock."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from arq.jobs import DeserializationError, deserialize_job_raw, serialize_job
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.typing import EventDict

from jobs.tools import LEASE
from tests.servers import now_ms
from worker import connect
from worker.keys import Keys
from worker.queue import VERSION, Batch, Jobs, Queue, deserialize, serialize
from worker.store import Store

TEXT_OR_NUMBER = st.text() | st.integers() | st.booleans() | st.none()


@given(st.lists(TEXT_OR_NUMBER), st.dictionaries(st.text(), TEXT_OR_NUMBER))
def test_arq_reads_back_what_it_wrote(args: list[Any], kwargs: dict[str, Any]) -> None:
    raw = serialize_job("track_payment", tuple(args), kwargs, 3, 1_790, serializer=serialize)
    job = deserialize_job_raw(raw, deserializer=deserialize)
    assert list(job) == ["track_payment", args, kwargs, 3, 1_790]


def test_a_job_says_its_version() -> None:
    assert json.loads(serialize({"f": "x"})) == {"v": VERSION, "f": "x"}


def test_a_job_without_a_version_is_one_of_ours() -> None:
    """A merchant may enqueue with any JSON serializer."""
    assert deserialize(b'{"f":"track_payment"}') == {"f": "track_payment"}


class Trap:
    """Unpickled, it would set `sprung`."""

    sprung = False

    def __reduce__(self) -> Any:
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize(
    "raw",
    [
        pickle.dumps(Trap()),
        b'{"v":2,"f":"follow_payment"}',
        b'{"v":"1"}',
        b"[]",
        b'"text"',
        b"null",
        b"",
        b"\xff",
    ],
)
def test_what_is_no_job_of_this_version_is_refused_and_not_run(raw: bytes) -> None:
    with pytest.raises(ValueError):
        deserialize(raw)
    with pytest.raises(DeserializationError):
        deserialize_job_raw(raw, deserializer=deserialize)
    assert not Trap.sprung


def test_what_json_does_not_know_becomes_text() -> None:
    at = datetime(2026, 9, 21, tzinfo=UTC)
    assert deserialize(serialize({"r": at}))["r"] == "2026-09-21 00:00:00+00:00"


# Who takes what is due


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Redis]:
    async with connect.client(redis_url) as client:
        yield client


@pytest.fixture
async def jobs(queue: Redis, prefix: str) -> Jobs:
    """A queue of nine jobs, due ten seconds after each other, the fifth one now."""
    jobs = Jobs(Store(queue, Keys(prefix)))
    start = now_ms() - 40_000
    await queue.zadd(Keys(prefix).queue, {f"{prefix}:{n}": start + n * 10_000 for n in range(9)})
    return jobs


def names(batch: Batch) -> str:
    return " ".join(job.id.rpartition(":")[2] for job in batch.jobs)


async def score(queue: Redis, prefix: str, n: int) -> float | None:
    found: float | None = await queue.zscore(Keys(prefix).queue, f"{prefix}:{n}")
    return found


async def test_what_is_due_is_taken_once_and_by_redis_time(
    jobs: Jobs, queue: Redis, prefix: str
) -> None:
    assert names(await jobs.take(100)) == "0 1 2 3 4"
    assert names(await jobs.take(100)) == ""
    assert await score(queue, prefix, 0) == pytest.approx(now_ms() + LEASE, abs=2000)


async def test_no_more_is_taken_than_there_are_hands_for_and_the_earliest_first(
    jobs: Jobs,
) -> None:
    assert [names(await jobs.take(2)) for _ in range(4)] == ["0 1", "2 3", "4", ""]


async def test_of_two_that_take_at_once_each_job_goes_to_one(jobs: Jobs, prefix: str) -> None:
    batches = await asyncio.gather(*(jobs.take(2) for _ in range(5)))
    assert sorted(names(batch) for batch in batches) == ["", "", "0 1", "2 3", "4"]


async def test_what_stock_arq_has_in_progress_is_left_to_it_and_hides_nothing(
    jobs: Jobs, queue: Redis, prefix: str
) -> None:
    for n in (0, 1, 3):
        await queue.set(f"arq:in-progress:{prefix}:{n}", "1", ex=60)
    assert names(await jobs.take(1)) == "2"
    assert names(await jobs.take(9)) == "4"
    assert names(await jobs.take(1)) == ""


async def test_a_payment_that_is_open_is_named_and_no_other(
    jobs: Jobs, queue: Redis, prefix: str
) -> None:
    await queue.zadd(Keys(prefix).open, {"1": 5, "3": float("inf"), "8": 5})
    await queue.zadd(Keys(prefix).queue, {"3": 5})
    batch = await jobs.take(100)
    assert sorted(batch.payments) == ["1", "3"]
    assert [job.id for job in batch.jobs] == ["3", *(f"{prefix}:{n}" for n in (0, 2, 4))]


async def test_a_job_comes_with_its_payload_and_the_number_of_its_tries(
    jobs: Jobs, queue: Redis, prefix: str
) -> None:
    await queue.set(f"arq:job:{prefix}:0", b"\xff raw")
    await queue.set(f"arq:retry:{prefix}:1", "four")
    await queue.rpush(f"arq:job:{prefix}:1", "a list")  # type: ignore[misc]
    first, second, *_ = (await jobs.take(100)).jobs
    assert (first.payload, first.tries) == (b"\xff raw", 1)
    assert (second.payload, second.tries) == (b"", 1)
    await queue.zadd(Keys(prefix).queue, {f"{prefix}:0": 1})
    [again] = (await jobs.take(100)).jobs
    assert again.tries == 2


async def test_a_job_that_is_over_leaves_nothing(jobs: Jobs, queue: Redis, prefix: str) -> None:
    await queue.set(f"arq:job:{prefix}:0", "x")
    [job] = (await jobs.take(1)).jobs
    assert await jobs.finish(job)
    assert await score(queue, prefix, 0) is None
    assert not await queue.exists(f"arq:job:{prefix}:0", f"arq:retry:{prefix}:0")


async def test_a_job_that_is_put_off_comes_again_by_redis_time(
    jobs: Jobs, queue: Redis, prefix: str
) -> None:
    [job] = (await jobs.take(1)).jobs
    assert await jobs.put_off(job, 5_000)
    assert await score(queue, prefix, 0) == pytest.approx(now_ms() + 5_000, abs=2000)


@pytest.mark.parametrize("end", ["finish", "put_off", "bury"])
async def test_who_has_lost_a_job_ends_nothing(
    jobs: Jobs, queue: Redis, prefix: str, end: str
) -> None:
    """Its lease was over, or it was queued anew: it is another's now."""
    await queue.set(f"arq:job:{prefix}:0", "x")
    [job] = (await jobs.take(1)).jobs
    await queue.zadd(Keys(prefix).queue, {f"{prefix}:0": 1})
    more = {"finish": (), "put_off": (1,), "bury": ({"type": "t"},)}[end]
    assert not await getattr(jobs, end)(job, *more)
    assert await score(queue, prefix, 0) == 1
    assert await queue.exists(f"arq:job:{prefix}:0")
    assert await queue.xlen(Keys(prefix).dead) == 0


async def test_an_id_that_is_no_text_is_taken_out_and_told(
    jobs: Jobs, queue: Redis, prefix: str, log_lines: list[EventDict]
) -> None:
    await queue.zadd(Keys(prefix).queue, {b"\xff": 1})
    assert names(await jobs.take(2)) == "0"
    assert await queue.zscore(Keys(prefix).queue, b"\xff") is None
    assert [line["event"] for line in log_lines] == ["retention.skipped"]


async def test_arqs_own_worker_is_shown_nothing(redis_url: str, prefix: str) -> None:
    shell = Queue(connect.pool(redis_url, tries=1), f"{prefix}:queue")
    await shell.zadd(shell.default_queue_name, {"job": 1})
    asked = {"min": float("-inf"), "start": 0, "num": 2, "max": now_ms()}
    assert await shell.zrangebyscore(shell.default_queue_name, **asked) == []
    await shell.aclose(close_connection_pool=True)
