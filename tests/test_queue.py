"""Jobs lie in arq's queue as JSON of a known version, and come out of it by Redis' clock."""

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

from tests.servers import now_ms
from worker import connect
from worker.queue import VERSION, Queue, deserialize, serialize

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


# What a worker is shown of it


@pytest.fixture
async def jobs(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Queue]:
    """A queue of nine jobs, due ten seconds after each other, the fifth one now."""
    queue = Queue(connect.pool(redis_url, tries=1), f"{prefix}:queue")
    start = now_ms() - 40_000
    due = {f"{prefix}:{n}": start + n * 10_000 for n in range(9)}
    await redis.zadd(queue.default_queue_name, due)
    yield queue
    await queue.aclose(close_connection_pool=True)


async def seen(jobs: Queue, ahead: int = 0, start: int = 0, num: int = 100) -> str:
    """What a worker sees whose clock is so many ms ahead."""
    name = jobs.default_queue_name
    ids = await jobs.zrangebyscore(
        name, min=float("-inf"), max=now_ms() + ahead, start=start, num=num
    )
    return " ".join(id_.decode().rpartition(":")[2] for id_ in ids)


async def hold(jobs: Queue, prefix: str, *names: int) -> None:
    for n in names:
        await jobs.set(f"arq:in-progress:{prefix}:{n}", "1", ex=60)


@pytest.mark.parametrize("ahead", [0, 3_600_000, -3_600_000])
async def test_a_worker_sees_what_is_due_by_redis_whatever_its_own_clock_says(
    jobs: Queue, ahead: int
) -> None:
    assert await seen(jobs, ahead) == "0 1 2 3 4"


async def test_what_a_slow_clock_would_find_early_is_moved_forward_and_nothing_else_is(
    jobs: Queue, prefix: str
) -> None:
    """arq looks at the time once more before it starts a job."""
    before = dict(await jobs.zrange(jobs.default_queue_name, 0, -1, withscores=True))
    its_time = now_ms() - 25_000
    assert await seen(jobs, -25_000) == "0 1 2 3 4"
    after = dict(await jobs.zrange(jobs.default_queue_name, 0, -1, withscores=True))
    for n in range(9):
        job = f"{prefix}:{n}".encode()
        if n in (2, 3, 4):
            assert after[job] == pytest.approx(its_time, abs=5000)
        else:
            assert after[job] == before[job]


async def test_what_is_in_a_workers_hands_is_not_seen_and_hides_nothing(
    jobs: Queue, prefix: str
) -> None:
    await hold(jobs, prefix, 0, 1, 3)
    assert await seen(jobs) == "2 4"
    assert await seen(jobs, num=1) == "2"
    assert await seen(jobs, num=2) == "2 4"
    await hold(jobs, prefix, 2)
    assert await seen(jobs, num=1) == "4"
    await hold(jobs, prefix, 4)
    assert await seen(jobs, num=1) == ""


async def test_no_more_is_seen_than_was_asked_for(jobs: Queue) -> None:
    assert await seen(jobs, num=3) == "0 1 2"
    assert await seen(jobs, start=3) == "3 4"
    assert await seen(jobs, start=1, num=2) == "1 2"


async def test_ids_that_arq_cannot_decode_hide_no_job_for_long(jobs: Queue) -> None:
    name = jobs.default_queue_name
    await jobs.zadd(name, {b"\xff1": 1, b"\xff2": 2, b"job": 3})
    asked = {"min": float("-inf"), "start": 0, "num": 2, "max": now_ms()}
    assert await jobs.zrangebyscore(name, **asked) == []
    assert (await jobs.zrangebyscore(name, **asked))[0] == b"job"


async def test_an_id_that_arq_cannot_decode_is_passed_over(jobs: Queue) -> None:
    await jobs.zadd(jobs.default_queue_name, {b"\xff": 1})
    assert await seen(jobs) == "0 1 2 3 4"
