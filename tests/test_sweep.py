"""Whatever becomes of arq's keys, every overdue payment is woken, and no other."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis.asyncio import Redis

from jobs.commands import carry_out
from jobs.model import Ms
from jobs.schedule import MINUTE
from jobs.sweep import sweep
from tests.fakes import CLIENT, KEY, PAID, Bench, notification, open_bench, track
from worker import store
from worker.store import SWEEP_GRACE

SOON: Ms = 2_000


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A bench with one payment that should have been asked about a second ago."""
    async with open_bench(redis_url, prefix) as bench:
        await add(bench, KEY)
        await overdue(bench, KEY)
        bench.worker.log.lines.clear()
        yield bench


async def add(bench: Bench, key: str) -> None:
    request = key.partition(":")[2]
    await carry_out(track(await bench.now(), payment_request_id=request), bench.worker.tools)


async def overdue(bench: Bench, key: str, by: Ms = 1_000) -> None:
    at = await bench.now() - by
    await bench.redis.zadd(bench.keys.open, {key: at})
    await bench.redis.zadd(bench.keys.queue, {bench.keys.job(key): at})


async def swept(bench: Bench) -> int:
    return await sweep(bench.worker.tools)


async def job_at(bench: Bench, key: str = KEY) -> Ms | None:
    score = await bench.redis.zscore(bench.keys.queue, bench.keys.job(key))
    return None if score is None else round(score)


async def is_queued_now(bench: Bench, key: str = KEY) -> bool:
    at = await job_at(bench, key)
    due = at is not None and abs(at - await bench.now()) < SOON
    return due and bool(await bench.redis.exists(f"arq:job:{bench.keys.job(key)}"))


# The ways to lose a job


async def payload_gone(bench: Bench) -> None:
    """Expired, evicted, or deleted after max_tries."""
    await bench.redis.delete(f"arq:job:{bench.keys.job(KEY)}")


async def not_in_the_queue(bench: Bench) -> None:
    await bench.redis.zrem(bench.keys.queue, bench.keys.job(KEY))


async def all_of_arq_flushed(bench: Bench) -> None:
    await bench.redis.delete(bench.keys.queue)
    async for name in bench.redis.scan_iter(f"arq:*{bench.keys.prefix}*"):
        await bench.redis.delete(name)


async def put_off(bench: Bench) -> None:
    """By a clock ahead of that of Redis, or a wake-up that was never pulled forward."""
    later = await bench.now() + 10 * MINUTE
    await bench.redis.zadd(bench.keys.queue, {bench.keys.job(KEY): later})


async def worker_crashed(bench: Bench) -> None:
    """It had the job in progress, and arq keeps others away from it for half a minute."""
    await bench.redis.set(f"arq:in-progress:{bench.keys.job(KEY)}", b"1", px=30_000)


LOSSES = [payload_gone, not_in_the_queue, all_of_arq_flushed, put_off, worker_crashed]


@pytest.mark.parametrize("lose", LOSSES)
async def test_an_overdue_payment_whose_job_is_lost_is_woken_at_once(
    bench: Bench, lose: Callable[[Bench], Awaitable[None]]
) -> None:
    await lose(bench)
    assert await swept(bench) == 1
    assert await is_queued_now(bench)
    assert not await bench.redis.exists(f"arq:in-progress:{bench.keys.job(KEY)}")
    assert bench.worker.log.lines == [("sweep.completed", {"woken": 1})]


@pytest.mark.parametrize("lose", LOSSES)
async def test_once_woken_it_is_left_alone(
    bench: Bench, lose: Callable[[Bench], Awaitable[None]]
) -> None:
    await lose(bench)
    await swept(bench)
    assert await swept(bench) == 0


async def test_a_job_that_waits_its_turn_is_not_touched(bench: Bench) -> None:
    """A busy worker has a backlog: its jobs are overdue, and nothing is wrong with them."""
    at = await job_at(bench)
    assert await swept(bench) == 0
    assert await job_at(bench) == at
    assert bench.worker.log.lines == []


@pytest.mark.parametrize("ahead", [MINUTE, -SWEEP_GRACE // 2])
async def test_what_is_not_overdue_is_not_looked_at(bench: Bench, ahead: Ms) -> None:
    await overdue(bench, KEY, by=-ahead)
    await all_of_arq_flushed(bench)
    assert await swept(bench) == 0
    assert await job_at(bench) is None


async def test_a_payment_in_a_workers_hands_is_not_taken_from_it(bench: Bench) -> None:
    assert await bench.worker.store.claim(KEY)
    await worker_crashed(bench)  # it has not: the lease runs
    assert await swept(bench) == 0
    assert await bench.redis.exists(f"arq:in-progress:{bench.keys.job(KEY)}")


async def test_a_payment_whose_worker_crashed_is_woken_when_the_lease_has_run_out(
    bench: Bench,
) -> None:
    assert await bench.worker.store.claim(KEY)
    await worker_crashed(bench)
    due = await bench.due()
    assert due is not None
    await bench.pass_time(due - await bench.now() + SWEEP_GRACE + 1)
    assert await swept(bench) == 1
    assert await is_queued_now(bench)


async def test_one_without_a_next_action_is_not_woken(bench: Bench) -> None:
    await bench.redis.zadd(bench.keys.open, {KEY: "+inf"})
    await all_of_arq_flushed(bench)
    assert await swept(bench) == 0


async def test_mail_that_woke_nobody_is_found(bench: Bench) -> None:
    """The receiver's wake-up is lost with the job that arq deletes when it ends."""
    await bench.redis.zadd(bench.keys.open, {KEY: await bench.now() + MINUTE})
    await bench.deliver(notification())
    await all_of_arq_flushed(bench)
    await bench.pass_time(SWEEP_GRACE + 1)
    assert await swept(bench) == 1


@pytest.mark.parametrize("count", [4, 5, 6, 10, 11])
async def test_page_after_page_none_is_forgotten(
    bench: Bench, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SWEEP_PAGE", 5)
    for number in range(1, count):
        await add(bench, f"{CLIENT}:order-{number + 1}")
        await overdue(bench, f"{CLIENT}:order-{number + 1}", by=1_000 + number)
    await all_of_arq_flushed(bench)
    assert await swept(bench) == count
    for number in range(1, count + 1):
        assert await is_queued_now(bench, f"{CLIENT}:order-{number}")


async def test_nothing_open_is_nothing_to_do(bench: Bench) -> None:
    await bench.redis.delete(bench.keys.open)
    assert await swept(bench) == 0


async def test_a_woken_payment_is_followed_to_its_end(bench: Bench) -> None:
    await all_of_arq_flushed(bench)
    await swept(bench)
    await bench.pass_time(MINUTE)
    bench.worker.gateway.will(PAID)
    await bench.worker.follow()
    assert await bench.told() == ["succeeded"]
