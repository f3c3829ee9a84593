"""Whatever stands in Redis is counted, page by page, and the oldest are named."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.model import Aftercare, Money, Ms, Payment, Status
from jobs.schedule import MINUTE
from tests.servers import put
from worker import connect
from worker.census import LISTED, PAGE, Census, Waiting, census
from worker.keys import Keys

pytestmark = pytest.mark.once  # what is under test is not Python

HAPPENED: Ms = 1_700_000_000_000
NEVER: Ms = 9_000_000_000_000


@pytest.fixture
async def client(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Redis]:
    """As in production: it gives bytes."""
    made = connect.client(redis_url)
    yield made
    pipe = made.pipeline()
    async for key in made.scan_iter(match=f"{prefix}:*", count=1000):
        pipe.delete(key)  # all in one write: one by one each would wait for the disk
    await pipe.execute()
    await made.aclose()


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


def payment(name: str, **changes: Any) -> Payment:
    return replace(
        Payment(
            client_id="client",
            payment_request_id=name,
            amount=Money("USD", 599),
            tracked_at=HAPPENED,
            closing_time=NEVER,
            next_at=HAPPENED,
        ),
        **changes,
    )


async def write(client: Redis, keys: Keys, *payments: Payment) -> None:
    pipe = client.pipeline(transaction=False)
    for each in payments:
        put(pipe, keys, each)
    await pipe.execute()


async def meddle(client: Redis, keys: Keys, name: str, field: str, value: str | bytes) -> None:
    await client.hset(keys.payment(f"client:{name}"), field, value)  # type: ignore[misc,arg-type]


def counted(found: Census) -> tuple[int, int]:
    return sum(found.by_status.values()), sum(found.by_aftercare.values())


# Counting


async def test_where_nothing_is_open_every_status_counts_none(client: Redis, keys: Keys) -> None:
    found = await census(client, keys)
    seconds, _ = await client.time()
    assert found.at // 1000 == pytest.approx(seconds, abs=2)
    assert found.by_status == {Status.PENDING: 0, Status.CANCELLING: 0, Status.UNRESOLVED: 0}
    assert list(found.by_aftercare) == ["watching", "cancelling", "refund_required"]
    assert (*counted(found), found.overdue, found.missing, found.unreadable) == (0, 0, 0, 0, 0)
    assert found.oldest == ()
    assert found.oldest_at(Status.PENDING) is None


async def test_payments_count_by_status_and_aftercare(client: Redis, keys: Keys) -> None:
    await write(
        client,
        keys,
        payment("1"),
        payment("2"),
        payment("3", status=Status.CANCELLING),
        payment("4", status=Status.UNRESOLVED, next_at=None),
        payment("5", status=Status.FAILED, aftercare=Aftercare.WATCHING),
        payment("6", status=Status.CANCELLED, aftercare=Aftercare.CANCELLING),
        payment("7", status=Status.CANCELLED, aftercare=Aftercare.REFUND_REQUIRED, next_at=None),
    )
    found = await census(client, keys)
    assert found.by_status == {
        Status.PENDING: 2,
        Status.CANCELLING: 1,
        Status.UNRESOLVED: 1,
        Status.FAILED: 1,
        Status.CANCELLED: 2,
    }
    assert found.by_aftercare == {
        Aftercare.WATCHING: 1,
        Aftercare.CANCELLING: 1,
        Aftercare.REFUND_REQUIRED: 1,
    }


@pytest.mark.parametrize("status", ["pending", "cancelling"])
async def test_open_ten_minutes_after_closing_is_overdue(
    client: Redis, keys: Keys, status: str
) -> None:
    seconds, _ = await client.time()
    limit = (seconds - 600) * 1000
    before, after = limit - MINUTE, limit + MINUTE
    await write(
        client,
        keys,
        payment("late", status=Status(status), closing_time=before),
        payment("tracked-late", status=Status(status), closing_time=before, tracked_at=after),
        payment("not-yet", status=Status(status), closing_time=after),
        payment("for-a-person", status=Status.UNRESOLVED, closing_time=before),
        payment("over", status=Status.FAILED, closing_time=before),
    )
    assert (await census(client, keys)).overdue == 1


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, 3 * PAGE + 1])
async def test_page_after_page_each_one_is_counted_once(
    client: Redis, keys: Keys, count: int
) -> None:
    await write(client, keys, *(payment(f"{n}", tracked_at=HAPPENED + n) for n in range(count)))
    found = await census(client, keys)
    assert counted(found) == (count, 0)
    assert [one.tracked_at - HAPPENED for one in found.oldest] == list(range(LISTED))


async def test_payments_that_move_meanwhile_are_counted_once(
    client: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores change all the time; pages by score or rank would miss some and count others twice."""
    count = 4 * PAGE
    await write(client, keys, *(payment(f"{n}", next_at=HAPPENED + n) for n in range(count)))
    moves = iter(range(count))
    run = connect.Discreet.pipeline

    def pipeline(self: Any, *args: Any, **options: Any) -> Any:
        pipe = run(self, *args, **options)
        for n in [next(moves) for _ in range(200)]:
            pipe.zadd(keys.open, {f"client:{n}": HAPPENED * 2})
        return _Last(pipe)

    monkeypatch.setattr(connect.Discreet, "pipeline", pipeline)
    found = await census(client, keys)
    assert next(moves) >= 800
    assert counted(found) == (count, 0)


class _Last:
    """A pipeline of which only the last answer is told."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    async def __aenter__(self) -> "_Last":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pipe.reset()

    def evalsha(self, *args: Any) -> None:
        self._pipe.evalsha(*args)

    async def execute(self, **said: Any) -> list[Any]:
        answers: list[Any] = await self._pipe.execute(**said)
        return answers[-1:]


# The oldest


async def test_the_oldest_of_each_status_are_named_oldest_first(client: Redis, keys: Keys) -> None:
    refund = Aftercare.REFUND_REQUIRED
    await write(
        client,
        keys,
        payment("c", tracked_at=3),
        payment("a", tracked_at=1),
        payment("b", tracked_at=2),
        payment("d", tracked_at=9, status=Status.UNRESOLVED),
        payment("e", tracked_at=8, status=Status.CANCELLED, aftercare=refund),
        payment("f", tracked_at=7, status=Status.CANCELLED, aftercare=Aftercare.WATCHING),
    )
    found = await census(client, keys, listed=2)
    names = [one.key.removeprefix("client:") for one in found.oldest]
    assert names == ["a", "b", "f", "e", "d"]
    assert found.oldest[3] == Waiting(
        key="client:e", status=Status.CANCELLED, aftercare=refund, tracked_at=8
    )
    assert [found.oldest_at(status) for status in (Status.PENDING, Status.UNRESOLVED)] == [1, 9]


async def test_none_need_be_named(client: Redis, keys: Keys) -> None:
    await write(client, keys, payment("a"))
    assert (await census(client, keys, listed=0)).oldest == ()


# By age


async def test_what_waits_is_counted_by_its_age(client: Redis, keys: Keys) -> None:
    seconds, _ = await client.time()
    ages = (5, 59, 100, 299, 600, 1000, 3599, 5000, 86_000, 90_000, 900_000)  # seconds
    tracked = [payment(f"{n}", tracked_at=(seconds - age) * 1000) for n, age in enumerate(ages)]
    closed = payment("over", status=Status.FAILED, aftercare=Aftercare.WATCHING)
    await write(client, keys, *tracked, closed, payment("look", status=Status.UNRESOLVED))
    assert (await census(client, keys)).by_age == (2, 2, 1, 2, 2, 2)


async def test_ages_add_up_over_all_pages(client: Redis, keys: Keys) -> None:
    await write(client, keys, *(payment(f"{n}") for n in range(2 * PAGE + 7)))
    assert (await census(client, keys)).by_age == (0, 0, 0, 0, 0, 2 * PAGE + 7)


# What none of ours wrote


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "frozen"), ("aftercare", "?"), ("schema", "999"), ("trackedAt", "soon")],
)
async def test_what_cannot_be_read_is_named(
    client: Redis, keys: Keys, field: str, value: str
) -> None:
    await write(client, keys, payment("a"), payment("b"))
    await meddle(client, keys, "a", field, value)
    assert (await census(client, keys)).odd == ("client:a",)


async def test_of_many_that_cannot_be_read_some_are_named(client: Redis, keys: Keys) -> None:
    await write(client, keys, *(payment(f"{n:02}") for n in range(30)))
    for n in range(30):
        await meddle(client, keys, f"{n:02}", "trackedAt", "")
    found = await census(client, keys)
    assert len(found.odd) == LISTED
    assert found.odd[0].startswith("client:")


async def test_one_without_a_record_is_missing(client: Redis, keys: Keys) -> None:
    await write(client, keys, payment("a"))
    await client.zadd(keys.open, {"client:gone": 1})
    found = await census(client, keys)
    assert (counted(found), found.missing, found.unreadable) == ((1, 0), 1, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "frozen"),
        ("status", b"\xff\xfe"),
        ("aftercare", "unheard of"),
        ("schema", "999"),
        ("schema", ""),
    ],
)
async def test_a_record_of_another_version_is_unreadable_and_hides_no_other(
    client: Redis, keys: Keys, field: str, value: str | bytes
) -> None:
    await write(client, keys, payment("a"), payment("b"))
    await meddle(client, keys, "a", field, value)
    found = await census(client, keys)
    assert found.unreadable == 1
    assert found.by_status[Status.PENDING] == (2 if field == "schema" else 1)
    assert "client:b" in {one.key for one in found.oldest}


@pytest.mark.parametrize("value", ["", "soon", "-1", "inf", "nan", "0x10", "1e9", "9" * 400])
@pytest.mark.parametrize("field", ["trackedAt", "closingTime"])
async def test_a_time_that_is_none_is_no_age(
    client: Redis, keys: Keys, field: str, value: str
) -> None:
    await write(client, keys, payment("a"), payment("b", closing_time=0))
    await meddle(client, keys, "a", field, value)
    found = await census(client, keys)
    assert found.by_status[Status.PENDING] == 2
    assert found.overdue == 1
    named = {one.key for one in found.oldest}
    assert named == {"client:b"} | ({"client:a"} if field == "closingTime" else set())


async def test_keys_of_another_type_and_names_that_are_no_text_are_counted_too(
    client: Redis, keys: Keys
) -> None:
    await write(client, keys, payment("a"))
    await client.set(keys.payment("client:text"), "x")
    await client.zadd(keys.open, {"client:text": 1, "": 2, "x\ny": 3})
    await client.zadd(keys.open, {b"\xff": 4})
    found = await census(client, keys)
    assert (counted(found), found.missing, found.unreadable) == ((1, 0), 3, 1)


async def test_an_open_set_that_is_none_is_an_error(client: Redis, keys: Keys) -> None:
    await client.set(keys.open, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await census(client, keys)


async def test_it_changes_nothing(client: Redis, keys: Keys) -> None:
    await write(client, keys, payment("a"), payment("b", closing_time=0))
    await client.zadd(keys.open, {"client:gone": 1})
    before = [await client.dump(key) for key in (keys.open, keys.payment("client:a"))]
    info = await client.info("persistence")
    await census(client, keys)
    assert [await client.dump(key) for key in (keys.open, keys.payment("client:a"))] == before
    after = await client.info("persistence")
    assert after["rdb_changes_since_last_save"] == info["rdb_changes_since_last_save"]
