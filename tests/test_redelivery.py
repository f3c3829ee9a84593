"""What nobody took is sent again when an operator says so: once, whole, in its payment's order."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.fakes import CLIENT, KEY, Bench, open_bench
from tests.test_courier import (
    LANE,
    Endpoint,
    an_endpoint,
    dead,
    deliver,
    due,
    settings_of,
    tell,
    waits,
)
from worker import deliveries
from worker.deliveries import Delivery, Kind, forward_lane
from worker.replay import Choice, Replay

pytestmark = pytest.mark.once  # what is under test is Redis and HTTP

EVERY = Choice()


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with an_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def again(bench: Bench) -> Replay:
    return Replay(redis=bench.redis, keys=bench.keys, accounts=[CLIENT])


async def die(bench: Bench, endpoint: Endpoint, *names: str) -> None:
    """Callbacks that the endpoint does not want any more."""
    await tell(bench, endpoint.url, *names)
    endpoint.answers = [410]
    await deliver(bench, settings_of(endpoint.host))
    endpoint.got.clear()


async def test_what_was_given_up_is_sent_again_in_order_with_all_its_tries(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a", "b")
    rows = await again.deliveries(EVERY, Kind.CALLBACK)
    assert [(row.done, row.result) for row in rows] == [
        (True, f"sent again: {KEY}:a"),
        (True, f"sent again: {KEY}:b"),
    ]
    assert await dead(bench) == []
    assert [one.tries for one in await waits(bench)] == [0, 0]
    await deliver(bench, settings_of(endpoint.host), rounds=2)
    assert endpoint.ids() == ["a", "b"]


async def test_it_goes_before_what_came_later(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a", "b")
    await tell(bench, endpoint.url, "c")
    await again.deliveries(EVERY, Kind.CALLBACK)
    assert [one.id for one in await waits(bench)] == [f"{KEY}:{name}" for name in "abc"]
    now = await due(bench)
    assert now is not None and now <= 0, "not only when the one after it is due"
    await deliver(bench, settings_of(endpoint.host), rounds=3)
    assert endpoint.ids() == ["a", "b", "c"]


async def test_one_that_is_named_goes_alone_into_its_place(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a", "b", "c")
    ids = [row.id for row in await replace(again, dry_run=True).deliveries(EVERY, Kind.CALLBACK)]
    for place in (2, 0, 1):
        await again.deliveries(Choice(ids=[ids[place]]), Kind.CALLBACK)
    assert [one.id for one in await waits(bench)] == [f"{KEY}:{name}" for name in "abc"]


async def test_a_dry_run_changes_nothing(bench: Bench, endpoint: Endpoint, again: Replay) -> None:
    await die(bench, endpoint, "a")
    before = await dead(bench)
    [row] = await replace(again, dry_run=True).deliveries(EVERY, Kind.CALLBACK)
    assert (row.result, row.reason) == (f"would be sent again: {KEY}:a", "http_410")
    assert await dead(bench) == before
    assert await waits(bench) == []


async def test_two_operators_send_it_again_once(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a")
    fields = await bench.redis.xrange(bench.keys.dead_deliveries)
    [(entry_id, raw)] = fields
    said = {name.decode(): value for name, value in raw.items()}
    rows = [await again._delivery(entry_id.decode(), said, "http_410") for _ in range(2)]
    assert [row.done for row in rows] == [True, False]
    assert len(await waits(bench)) == 1


async def test_callbacks_and_forwards_are_told_apart(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a")
    lane = forward_lane(CLIENT, "d" * 64)
    body = b'{"a":"\xff"}'
    headers = (("Signature", "s"),)
    one = Delivery(id="d" * 64, at=await bench.now(), about="order-1", body=body, headers=headers)
    entry_id = await bury(bench, lane, deliveries.write(one.tried()))
    assert [row.id for row in await again.deliveries(EVERY, Kind.FORWARD)] == [entry_id]
    assert await waits(bench, lane) == [one]
    assert len(await dead(bench)) == 1
    assert await waits(bench) == []


async def bury(bench: Bench, lane: str, entry: str) -> str:
    fields: dict[Any, Any] = {"lane": lane, "fault": "http_500", "entry": entry}
    entry_id: bytes = await bench.redis.xadd(bench.keys.dead_deliveries, fields)
    return entry_id.decode()


@pytest.mark.parametrize(
    ("lane", "entry", "why"),
    [
        (LANE, "?", "left: it cannot be read"),
        (LANE, '{"v":2}', "left: another version wrote it"),
        ("callback:", "{}", "left: no lane has this name"),
        ("callback:OTHER:1", "", "left: it cannot be read"),
    ],
)
async def test_what_cannot_be_read_is_left(
    bench: Bench, again: Replay, lane: str, entry: str, why: str
) -> None:
    await bury(bench, lane, entry)
    [row] = await again.deliveries(EVERY, Kind.CALLBACK)
    assert not row.done
    assert row.result.startswith(why)
    assert len(await dead(bench)) == 1


async def test_what_is_anothers_account_is_left(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a")
    other = replace(again, accounts=["OTHER"])
    [row] = await other.deliveries(EVERY, Kind.CALLBACK)
    assert row.result == f"left: it is of the account {CLIENT}: give its --client-id"
    assert len(await dead(bench)) == 1


async def test_those_of_one_fault_are_chosen_by_it(
    bench: Bench, endpoint: Endpoint, again: Replay
) -> None:
    await die(bench, endpoint, "a")
    await bury(bench, LANE, "?")
    [row] = await again.deliveries(Choice(reason="http_410"), Kind.CALLBACK)
    assert row.done
    assert len(await again.deliveries(Choice(limit=0), Kind.CALLBACK)) == 0
