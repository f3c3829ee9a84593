"""What a person or a script sees of payments: all that is known, in times one can read."""

import re
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Act, Aftercare, Cause, Money, Payment, Status, Via
from tests.keys import CLIENT_ID
from tests.servers import put
from worker import connect
from worker.keys import Keys
from worker.views import listed, look_up, open_payments, table

AT = 1_800_000_000_000  #: 2027-01-15T08:00:00Z
PAYMENT = Payment(
    client_id=CLIENT_ID,
    payment_request_id="order-1",
    amount=Money("USD", 599),
    tracked_at=AT,
    closing_time=AT + 840_000,
    next_at=AT + 2000,
)
TRACKED = {"at": AT, "source": "command", "what": "payment.track", "detail": "USD 599"}
ASKED = {
    "at": AT + 2000,
    "source": "inquiry",
    "what": "not_yet",
    "detail": "SUCCESS",
    "count": 3,
    "until": AT + 8000,
}


@pytest.fixture
def keys(prefix: str) -> Keys:
    return Keys(prefix)


async def write(redis: Redis, keys: Keys, payment: Payment, *timeline: dict[str, Any]) -> None:
    async with redis.pipeline() as pipe:
        put(pipe, keys, payment, *timeline)
        await pipe.execute()


async def followed_for(redis: Redis, seconds: int, name: str, **changed: Any) -> Payment:
    """A payment tracked so many seconds ago, by Redis time."""
    now = (await redis.time())[0] * 1000
    at = now - seconds * 1000
    moved = {"tracked_at": at, "closing_time": at + 840_000, "next_at": now + 5000} | changed
    return replace(PAYMENT, payment_request_id=name, **moved)


# One payment


async def test_the_body_of_a_payment_that_we_submit_is_shown_to_nobody(
    redis: Redis, keys: Keys
) -> None:
    submitted = replace(PAYMENT, pay_request='{"order":"secret"}', next_act=Act.PAY)
    await write(redis, keys, submitted, TRACKED)
    seen = await look_up(redis, keys.prefix, CLIENT_ID, "order-1")
    assert seen is not None
    assert seen["payment"]["nextAct"] == "pay"
    assert "secret" not in str(seen)


async def test_a_payment_is_shown_with_its_record_and_its_story(redis: Redis, keys: Keys) -> None:
    await write(redis, keys, PAYMENT, TRACKED, ASKED)
    seen = await look_up(redis, keys.prefix, CLIENT_ID, "order-1")
    assert seen == {
        "payment": {
            "clientId": CLIENT_ID,
            "paymentRequestId": "order-1",
            "amount": "599",
            "currency": "USD",
            "status": "pending",
            "trackedAt": "2027-01-15T08:00:00.000Z",
            "closingTime": "2027-01-15T08:14:00.000Z",
            "nextInquiryAt": "2027-01-15T08:00:02.000Z",
            "attempts": "0",
            "cancelState": "none",
            "cancelAttempts": "0",
            "paidSeen": "0",
            "aftercare": "none",
            "onTimeout": "cancel",
            "seq": "0",
            "updatedAt": "1970-01-01T00:00:00.000Z",
            "schema": "1",
            "version": "0",
        },
        "timeline": [
            {
                "at": "2027-01-15T08:00:00.000Z",
                "source": "command",
                "what": "payment.track",
                "detail": "USD 599",
            },
            {
                "at": "2027-01-15T08:00:02.000Z",
                "source": "inquiry",
                "what": "not_yet",
                "detail": "SUCCESS",
                "count": 3,
                "until": "2027-01-15T08:00:08.000Z",
            },
        ],
    }


async def test_every_time_in_a_record_can_be_read(redis: Redis, keys: Keys) -> None:
    """A length of time stays a number."""
    times = {
        name: AT
        for name in Payment.__dataclass_fields__
        if name.endswith(("_at", "_since", "_time"))
    }
    await write(redis, keys, replace(PAYMENT, **times, tried_for=7000))  # type: ignore[arg-type]
    seen = await look_up(redis, keys.prefix, CLIENT_ID, "order-1")
    assert seen
    shown = list(seen["payment"].values())
    assert shown.count("2027-01-15T08:00:00.000Z") == len(times)
    assert str(AT) not in shown
    assert seen["payment"]["triedFor"] == "7000"


@pytest.mark.parametrize(
    ("client_id", "name"), [(CLIENT_ID, "order-2"), ("OTHER", "order-1"), ("", "")]
)
async def test_of_a_payment_that_is_not_tracked_there_is_nothing_to_see(
    redis: Redis, keys: Keys, client_id: str, name: str
) -> None:
    await write(redis, keys, PAYMENT, TRACKED)
    assert await look_up(redis, keys.prefix, client_id, name) is None


async def test_a_client_that_gives_bytes_sees_the_same(
    redis: Redis, redis_url: str, keys: Keys
) -> None:
    await write(redis, keys, PAYMENT, TRACKED)
    plain = connect.client(redis_url)
    seen = [await look_up(r, keys.prefix, CLIENT_ID, "order-1") for r in (redis, plain)]
    rows = [(await open_payments(r, keys.prefix, -(10**12), 10)).rows for r in (redis, plain)]
    await plain.aclose()
    assert seen[0] == seen[1]
    assert rows[0] and rows[0] == rows[1]


# Open payments


async def test_open_payments_are_listed_the_oldest_first(redis: Redis, keys: Keys) -> None:
    for age, name in ((10, "young"), (300, "old"), (60, "middle")):
        await write(redis, keys, await followed_for(redis, age, name))
    rows = (await open_payments(redis, keys.prefix, 0, 10)).rows
    assert [row["paymentRequestId"] for row in rows] == ["old", "middle", "young"]


async def test_a_row_says_how_a_payment_stands_and_what_comes_next(
    redis: Redis, keys: Keys
) -> None:
    cancelling = {
        "status": Status.CANCELLING,
        "cause": Cause.TIMED_OUT,
        "next_act": Act.CANCEL,
    }
    await write(redis, keys, await followed_for(redis, 900, "order-1", **cancelling))
    [row] = (await open_payments(redis, keys.prefix, 0, 10)).rows
    assert 900 <= row.pop("ageSeconds") <= 902
    assert 2 <= row.pop("nextInSeconds") <= 5
    assert row == {
        "paymentRequestId": "order-1",
        "clientId": CLIENT_ID,
        "status": "cancelling",
        "reason": "",
        "amount": "USD 599",
        "next": "cancel",
        "why": "its time was up; the cancel is about to be sent",
    }


async def test_what_needs_a_person_is_listed_though_nothing_comes_next(
    redis: Redis, keys: Keys
) -> None:
    unresolved = {"status": Status.UNRESOLVED, "reason": "amount_mismatch", "next_at": None}
    refund = {
        "status": Status.CANCELLED,
        "via": Via.CANCEL,
        "aftercare": Aftercare.REFUND_REQUIRED,
        "next_at": None,
    }
    await write(redis, keys, await followed_for(redis, 20, "a", **unresolved))
    await write(redis, keys, await followed_for(redis, 10, "b", **refund))
    rows = (await open_payments(redis, keys.prefix, 0, 10)).rows
    assert [(row["status"], row["reason"], row["nextInSeconds"]) for row in rows] == [
        ("unresolved", "amount_mismatch", None),
        ("cancelled", "refund_required", None),
    ]


async def test_what_has_ended_and_is_only_watched_does_not_hide_what_is_open(
    redis: Redis, keys: Keys
) -> None:
    ended = {"status": Status.CANCELLED, "via": Via.CANCEL, "aftercare": Aftercare.WATCHING}
    for age, reason in ((40, ""), (30, "resolved by an operator")):
        one = await followed_for(redis, age, f"ended-{age}", reason=reason, **ended)
        await write(redis, keys, one)
    nothing = listed(await open_payments(redis, keys.prefix, 0, 1))
    assert nothing == "nothing\nbesides, ended and still watched: 2"
    await write(redis, keys, await followed_for(redis, 10, "open"))
    found = await open_payments(redis, keys.prefix, 0, 1)
    assert [row["paymentRequestId"] for row in found.rows] == ["open"]
    assert listed(found).endswith("first: 1 pending\nbesides, ended and still watched: 2")


async def test_only_the_older_ones_and_only_so_many(redis: Redis, keys: Keys) -> None:
    for age in (10, 20, 30, 40):
        await write(redis, keys, await followed_for(redis, age, f"order-{age}"))
    rows = (await open_payments(redis, keys.prefix, 15_000, 2)).rows
    assert [row["paymentRequestId"] for row in rows] == ["order-40", "order-30"]


async def test_a_payment_whose_record_has_expired_is_not_listed(redis: Redis, keys: Keys) -> None:
    await redis.zadd(keys.open, {f"{CLIENT_ID}:gone": AT})
    await write(redis, keys, await followed_for(redis, 10, "here"))
    rows = (await open_payments(redis, keys.prefix, 0, 10)).rows
    assert [row["paymentRequestId"] for row in rows] == ["here"]


async def test_of_very_many_a_few_are_kept_and_all_are_counted(redis: Redis, keys: Keys) -> None:
    """More than a page, of several kinds; what is shown is the oldest, in a table of its own."""
    now = (await redis.time())[0] * 1000
    async with redis.pipeline(transaction=False) as pipe:
        for n in range(1203):
            moment = {"tracked_at": now - n * 60_000, "closing_time": now, "next_at": now + n}
            status = Status.CANCELLING if n % 3 == 0 else Status.PENDING
            put(pipe, keys, replace(PAYMENT, payment_request_id=f"o-{n}", status=status, **moment))
        await pipe.execute()
    found = await open_payments(redis, keys.prefix, 0, 3)
    assert [row["paymentRequestId"] for row in found.rows] == ["o-1202", "o-1201", "o-1200"]
    assert found.totals == {"pending": 802, "cancelling": 401}
    heading, first, *_, counts = listed(found).splitlines()
    assert heading.split() == ["payment", "account", "status", "age", "amount", "why"]
    assert first.startswith("o-1202   SANDBOX_5X00000000000000  pending     20 h")
    assert counts == "3 of 1203 shown, the oldest first: 802 pending, 401 cancelling"
    assert (await open_payments(redis, keys.prefix, 1_200 * 60_000, 10)).totals.total() == 3


async def test_one_that_moves_while_we_read_is_listed_once(redis: Redis, keys: Keys) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for n in range(600):
            moved = replace(PAYMENT, payment_request_id=f"o-{n}", next_at=AT + n)
            put(pipe, keys, moved)
        await pipe.execute()
    real, pages = redis.zrange, 0

    async def zrange(*words: Any, **more: Any) -> Any:
        nonlocal pages
        page = await real(*words, **more)
        pages += 1
        await redis.zadd(keys.open, {f"{CLIENT_ID}:o-0": AT + 10_000})  # read already
        return page

    redis.zrange = zrange  # type: ignore[method-assign]
    found = await open_payments(redis, keys.prefix, -(10**12), 10_000)
    names = [row["paymentRequestId"] for row in found.rows]
    assert pages > 1 and len(names) == len(set(names))


async def test_to_look_changes_nothing(redis: Redis, keys: Keys) -> None:
    await write(redis, keys, await followed_for(redis, 10, "order-1"), TRACKED)

    async def everything() -> dict[str, Any]:
        names = sorted([name async for name in redis.scan_iter(f"{keys.prefix}*")])
        return {name: await redis.dump(name) for name in names}

    before = await everything()
    await look_up(redis, keys.prefix, CLIENT_ID, "order-1")
    await open_payments(redis, keys.prefix, 0, 10)
    assert await everything() == before


# Tables


def test_a_table_has_columns_as_wide_as_they_need_to_be() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "order-1", "next": None, "age": 7},
        {"id": "o", "next": "inquire", "age": 1200},
    ]
    assert table(rows) == "\n".join(
        ["id       next     age", "order-1           7", "o        inquire  1200"]
    )
    assert not re.search(r" +$", table(rows), re.MULTILINE)


def test_an_empty_table_says_so() -> None:
    assert table([]) == "nothing"
