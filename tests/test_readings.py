"""What Redis holds is asked for every so often, and the last answer stands when it is away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from jobs.model import Aftercare, Payment, Status
from jobs.schedule import HOUR, MINUTE, SECOND
from tests.servers import end, now_ms, own_server, put, until
from tests.test_census import payment
from worker import connect, readings
from worker.deliveries import Delivery, callback_lane
from worker.deliveries import write as write_delivery
from worker.groups import make_group
from worker.health import Health
from worker.keys import Keys
from worker.readings import Reading, Readings, read_for_receiver, read_for_worker

ACCOUNTS = ("client", "another")


@pytest.fixture
async def client(redis: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """As in production: it gives bytes."""
    made = connect.client(redis_url, tries=0)
    yield made
    await made.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


async def write(client: Redis, keys: Keys, *payments: Payment) -> None:
    pipe = client.pipeline()
    for each in payments:
        put(pipe, keys, each)
    await pipe.execute()


async def read(client: Redis, keys: Keys) -> Reading:
    return await read_for_worker(client, keys, ACCOUNTS)


# What is read


async def test_an_empty_redis_counts_nothing_and_every_gauge_says_so(
    client: Redis, keys: Keys
) -> None:
    found = await read(client, keys)
    values = [value for gauge in found.values() for value in gauge.values()]
    assert values and set(values) == {0}
    assert found["cancel_brake_misses"] == {("client",): 0, ("another",): 0}
    assert "last_sweep_age_seconds" not in found


async def test_payments_are_counted_and_the_oldest_of_each_status_is_aged(
    client: Redis, keys: Keys
) -> None:
    now = now_ms()
    refund = Aftercare.REFUND_REQUIRED
    await write(
        client,
        keys,
        payment("a", tracked_at=now - HOUR, closing_time=now - 11 * MINUTE),
        payment("b", tracked_at=now - MINUTE),
        payment("c", tracked_at=now - 2 * HOUR, status=Status.UNRESOLVED, next_at=None),
        payment("d", status=Status.CANCELLED, aftercare=refund, next_at=None),
    )
    await client.zadd(keys.open, {"client:gone": 1})
    found = await read(client, keys)
    assert found["payments_open"] == {("pending",): 2, ("cancelling",): 0, ("unresolved",): 1}
    assert found["payments_aftercare"][("refund_required",)] == 1
    assert found["attention_open"] == {("unresolved",): 1, ("refund_required",): 1}
    assert (found["payments_overdue"], found["payments_unreadable"]) == ({(): 1}, {(): 1})
    ages = found["oldest_open_age_seconds"]
    assert ages["pending",] == pytest.approx(3600, abs=5)
    assert ages["unresolved",] == pytest.approx(7200, abs=5)
    assert ages["cancelling",] == 0


async def test_what_lies_aside_is_counted(client: Redis, keys: Keys) -> None:
    await client.xadd(keys.dead, {"type": "x"})
    for _ in range(2):
        await client.xadd(keys.quarantine, {"reason": "x"})
    await client.zadd(keys.parked, {"client:1": 1, "client:2": 1, "client:3": 1})
    await client.hset(keys.brake, "client", "4")  # type: ignore[misc]
    await client.set(keys.swept, now_ms() - 30 * SECOND)
    found = await read(client, keys)
    counts = [found[name][()] for name in ("commands_dead", "quarantined", "parked")]
    assert counts == [1, 2, 3]
    assert found["cancel_brake_misses"] == {("client",): 4, ("another",): 0}
    assert found["last_sweep_age_seconds"][()] == pytest.approx(30, abs=3)


async def test_what_is_to_be_sent_is_counted_and_the_oldest_is_aged(
    client: Redis, keys: Keys
) -> None:
    found = await read(client, keys)
    names = ("deliveries_waiting", "delivery_oldest_age_seconds", "deliveries_dead")
    assert [found[name][()] for name in names] == [0, 0, 0]
    for n, age in enumerate((MINUTE, HOUR, SECOND)):
        lane = callback_lane(f"client:{n}")
        one = Delivery(id="x", at=now_ms() - age, about="x", body=b"{}", url="https://a.example")
        await client.rpush(keys.delivery(lane), write_delivery(one))  # type: ignore[misc]
        await client.zadd(keys.deliveries, {lane: now_ms() + age})
    await client.xadd(keys.dead_deliveries, {"lane": "x"})
    found = await read(client, keys)
    waiting, oldest, dead = (found[name][()] for name in names)
    assert (waiting, dead) == (3, 1)
    assert oldest == pytest.approx(3600, abs=5)


async def test_a_memory_limit_makes_a_ratio() -> None:
    with own_server("--maxmemory", "100mb") as server:
        client = connect.client(server.url)
        for found in (await read(client, Keys()), await read_for_receiver(client, Keys())):
            assert 0.005 < found["redis_memory_used_ratio"][()] < 0.5
        await client.aclose()


async def test_a_receiver_reads_what_its_user_may(client: Redis, keys: Keys) -> None:
    await client.set(keys.swept, now_ms() - 30 * SECOND)
    found = await read_for_receiver(client, keys)
    assert found["redis_memory_used_ratio"] == {(): 0}
    assert found["last_sweep_age_seconds"][()] == pytest.approx(30, abs=3)


# Who is behind


async def add(client: Redis, stream: str, age: int) -> str:
    entry: bytes = await client.xadd(stream, {"id": "x"}, id=f"{now_ms() - age}-1")
    return entry.decode()


async def lag(client: Redis, keys: Keys) -> tuple[float, float]:
    found = await read(client, keys)
    return found["outcome_lag_entries"]["shop",], found["outcome_lag_seconds"]["shop",]


def about(entries: float, seconds: float) -> Any:
    """So many entries, the oldest of about that age."""
    return pytest.approx((entries, seconds), abs=0.9, rel=0.05)


async def test_a_group_is_behind_by_what_it_was_not_given(client: Redis, keys: Keys) -> None:
    await make_group(client, keys.outcomes, "shop")
    assert await lag(client, keys) == (0, 0)
    await add(client, keys.outcomes, HOUR)
    await add(client, keys.outcomes, MINUTE)
    assert await lag(client, keys) == about(2, 3600)


async def test_a_group_is_behind_by_what_it_has_not_acknowledged(client: Redis, keys: Keys) -> None:
    await make_group(client, keys.outcomes, "shop")
    first = await add(client, keys.outcomes, HOUR)
    second = await add(client, keys.outcomes, MINUTE)
    await client.xreadgroup("shop", "me", {keys.outcomes: ">"}, count=1)
    assert await lag(client, keys) == about(2, 3600)
    await client.xack(keys.outcomes, "shop", first)
    assert await lag(client, keys) == about(1, 60)
    await client.xreadgroup("shop", "me", {keys.outcomes: ">"})
    await client.xack(keys.outcomes, "shop", second)
    assert await lag(client, keys) == (0, 0)


async def test_after_a_long_pause_the_age_is_that_of_the_new_entry(
    client: Redis, keys: Keys
) -> None:
    """Not that of the last one that was read: a quiet night is no lag."""
    await make_group(client, keys.outcomes, "shop")
    old = await add(client, keys.outcomes, 24 * HOUR)
    await client.xreadgroup("shop", "me", {keys.outcomes: ">"})
    await client.xack(keys.outcomes, "shop", old)
    await add(client, keys.outcomes, 20 * SECOND)
    assert await lag(client, keys) == about(1, 20)


async def test_where_redis_does_not_know_how_many_there_is_at_least_one(
    client: Redis, keys: Keys
) -> None:
    for age in (HOUR, MINUTE, SECOND):
        await add(client, keys.outcomes, age)
    await client.xgroup_create(keys.outcomes, "shop", f"{now_ms() - 2 * MINUTE}-0")
    [group] = await client.xinfo_groups(keys.outcomes)
    assert group["lag"] is None
    assert await lag(client, keys) == about(1, 60)


async def test_each_group_is_behind_on_its_own(client: Redis, keys: Keys) -> None:
    for group in ("shop", "books"):
        await make_group(client, keys.outcomes, group)
    await add(client, keys.outcomes, 0)
    await client.xreadgroup("books", "me", {keys.outcomes: ">"}, noack=True)
    found = await read(client, keys)
    assert found["outcome_lag_entries"] == {("shop",): 1, ("books",): 0}


async def test_commands_wait_until_they_are_acknowledged(client: Redis, keys: Keys) -> None:
    for group in ("reconciler", "another's"):
        await make_group(client, keys.commands, group)
    entries = [await add(client, keys.commands, age) for age in (2, 1)]
    await client.xreadgroup("reconciler", "me", {keys.commands: ">"}, count=1)
    assert (await read(client, keys))["commands_waiting"] == {(): 2}
    await client.xack(keys.commands, "reconciler", entries[0])
    assert (await read(client, keys))["commands_waiting"] == {(): 1}


# When


class Asked:
    """Answers as it is told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0
        self.answer: Any = {"parked": {(): 1}}

    async def __call__(self) -> Reading:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Reading = self.answer
        return answer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "PING_EVERY", 20)
    monkeypatch.setattr(readings, "READ_EVERY", 100)


async def test_redis_is_asked_again_and_again_but_no_more_often_than_that(
    quick: None, client: Redis
) -> None:
    asked = Asked()
    one = Readings(client, Health(admitted=True), asked)
    task = asyncio.create_task(one.run())
    await asyncio.sleep(1.05)
    await end(task)
    assert 3 <= asked.times <= 11
    assert one.up and one.last == {"parked": {(): 1}}


async def test_before_redis_has_passed_the_probes_it_is_only_pinged(
    quick: None, client: Redis
) -> None:
    asked, health = Asked(), Health()
    task = asyncio.create_task(Readings(client, health, asked).run())
    await until(lambda: _is(health.redis_up))
    await asyncio.sleep(0.1)
    assert asked.times == 0
    health.admitted = True
    await until(lambda: _is(asked.times > 0))
    await end(task)


async def test_what_takes_long_is_asked_more_rarely(quick: None, client: Redis) -> None:
    times = 0

    async def slow() -> Reading:
        nonlocal times
        times += 1
        await asyncio.sleep(0.05)
        return {}

    task = asyncio.create_task(Readings(client, Health(admitted=True), slow).run())
    await asyncio.sleep(1)
    await end(task)
    assert times == 1


def test_by_default_it_is_asked_at_most_every_15_seconds() -> None:
    assert readings.READ_EVERY == 15 * SECOND


@pytest.mark.parametrize(
    ("fault", "event"),
    [
        (RedisConnectionError("gone"), "metrics.stale"),
        (OSError("gone"), "metrics.stale"),
        (ValueError("a bug"), "metrics.failed"),
    ],
)
async def test_a_failure_leaves_the_last_values_and_is_told(
    quick: None, client: Redis, fault: Exception, event: str, log_lines: list[EventDict]
) -> None:
    asked, health = Asked(), Health(admitted=True)
    one = Readings(client, health, asked)
    task = asyncio.create_task(one.run())
    await until(lambda: _is(one.up))
    asked.answer = fault
    await until(lambda: _is(not one.up))
    assert one.last == {"parked": {(): 1}}
    assert health.redis_up  # it answers a ping: what fails is another matter
    asked.answer = {"parked": {(): 2}}
    await until(lambda: _is(one.up))
    await end(task)
    assert one.last == {"parked": {(): 2}}
    assert {line["event"] for line in log_lines} == {event}


async def test_a_redis_that_goes_away_is_noticed_and_comes_back(quick: None) -> None:
    with own_server() as server:
        client, health, asked = connect.client(server.url, tries=0), Health(admitted=True), Asked()
        one = Readings(client, health, asked)
        task = asyncio.create_task(one.run())
        await until(lambda: _is(health.redis_up and one.up))
        server.stop()
        await until(lambda: _is(not health.redis_up and not one.up))
        assert one.last == {"parked": {(): 1}}
        server.start()
        await until(lambda: _is(health.redis_up and one.up))
        await end(task)
        await client.aclose()


async def _is(fact: bool) -> bool:
    return fact


async def test_a_key_that_is_not_as_it_should_be_is_told_and_not_counted(
    quick: None, client: Redis, keys: Keys, log_lines: list[EventDict]
) -> None:
    await client.set(keys.parked, "no set")
    one = Readings(client, Health(admitted=True), lambda: read(client, keys))
    task = asyncio.create_task(one.run())
    await until(lambda: _is(bool(log_lines)))
    await end(task)
    assert (log_lines[0]["event"], one.up) == ("metrics.stale", False)
    assert "WRONGTYPE" in log_lines[0]["fault"]
