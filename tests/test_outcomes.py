"""A merchant's loop over outcomes handles each once, whatever dies between two of them."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from jobs.commands import carry_out
from jobs.model import Money, Payment
from jobs.news import Ask
from tests.fakes import open_bench, order, track
from tests.servers import own_server, until
from worker import outcomes as module
from worker.keys import Keys
from worker.outcomes import Outcome, RedisMemory, outcomes

SHOP, US = "shop", "CLIENT"
NUMBERS = count(1)


async def next_of(source: AsyncGenerator[Outcome, None]) -> Outcome:
    """The next outcome; a failure if none comes."""
    async with asyncio.timeout(10):
        return await anext(source)


class Stream:
    """The outcomes of a worker, and the merchant's consumers."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self.redis, self.prefix, self.keys = redis, prefix, Keys(prefix)

    async def publish(self, name: str, seq: int | None = None, payment: str = "order-1") -> str:
        """One event; its id ends in `name`. Its `seq` is the next, if none is given."""
        rejected = name.startswith("command:")
        data: dict[str, Any] = {"paymentRequestId": payment}
        if not rejected:
            data["seq"] = next(NUMBERS) if seq is None else seq
        id_ = name if rejected else f"{US}:{payment}:{name}"
        fields: dict[Any, Any] = {
            "id": id_,
            "type": "command.rejected" if rejected else f"payment.{name.partition('.')[0]}",
            "clientId": US,
            "paymentRequestId": payment,
            "data": json.dumps({"specversion": "1.0", "id": id_, "data": data}),
        }
        return str(await self.redis.xadd(self.keys.outcomes, fields))

    def consume(self, consumer: str = "a", **more: Any) -> AsyncGenerator[Outcome, None]:
        return outcomes(self.redis, SHOP, consumer, prefix=self.prefix, **more)

    async def handle(self, number: int, consumer: str = "a", **more: Any) -> list[str]:
        """Handle so many, and die while the next one is waited for."""
        names: list[str] = []
        source = self.consume(consumer, **more)
        async with asyncio.timeout(10), aclosing(source):
            for _ in range(number):
                names.append((await next_of(source)).id.rpartition(":")[2])
            waiting = asyncio.ensure_future(anext(source))
            await until(self._all_acknowledged)
            waiting.cancel()
            await asyncio.wait({waiting})
        return names

    async def _all_acknowledged(self) -> bool:
        return not await self.pending("-")

    async def take(self, consumer: str, **more: Any) -> str:
        """Take the next one, and die while it is handled."""
        async with aclosing(self.consume(consumer, **more)) as source:
            return (await next_of(source)).id.rpartition(":")[2]

    async def pending(self, first: str = "-") -> list[str]:
        found = await self.redis.xpending_range(self.keys.outcomes, SHOP, first, "+", 100)
        return [entry["message_id"] for entry in found]


@pytest.fixture
async def stream(redis: Redis, prefix: str) -> AsyncIterator[Stream]:
    yield Stream(redis, prefix)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 10)
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.05)


# What is read


async def test_what_a_worker_publishes_is_read_whole(redis_url: str, prefix: str) -> None:
    async with open_bench(redis_url, prefix) as bench:
        at = await bench.now()
        await bench.worker.store.load("nobody")  # so that it knows the time of Redis
        await carry_out(track(at), bench.worker.tools)
        await carry_out(order(Ask.FORGET, at), bench.worker.tools)
        await carry_out(track(at, id="3-0", amount=Money("USD", 1)), bench.worker.tools)
        source = outcomes(bench.redis, SHOP, "a", prefix=prefix)
        async with aclosing(source):
            forgotten, rejected = await next_of(source), await next_of(source)
        payment: Payment = await bench.payment()
    assert forgotten.type == "payment.forgotten"
    assert forgotten.id == f"{payment.key}:forgotten"
    assert (forgotten.client_id, forgotten.payment_request_id) == tuple(payment.key.split(":"))
    assert forgotten.data["status"] == "forgotten" and forgotten.seq == payment.seq
    assert (rejected.id, rejected.type, rejected.seq) == ("command:3-0", "command.rejected", None)
    assert rejected.data["reason"] == "conflict"


async def test_a_group_begins_with_the_first_outcome_that_there_is(stream: Stream) -> None:
    await stream.publish("cancelling.1")
    await stream.publish("cancelled")
    assert await stream.handle(2) == ["cancelling.1", "cancelled"]


async def test_what_comes_while_it_is_waited_for_is_read(stream: Stream) -> None:
    async with aclosing(stream.consume()) as source:
        waiting = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0.05)
        await stream.publish("succeeded")
        assert (await asyncio.wait_for(waiting, 5)).id == f"{US}:order-1:succeeded"


async def test_a_client_that_gives_bytes_reads_the_same(
    stream: Stream, redis_url: str, prefix: str
) -> None:
    await stream.publish("succeeded")
    async with Redis.from_url(redis_url) as plain:
        assert await Stream(plain, prefix).take("a") == "succeeded"
        stream_of_bytes = outcomes(plain, SHOP, "a", prefix=prefix)
        async with aclosing(stream_of_bytes):
            assert (await next_of(stream_of_bytes)).client_id == US
        memory = RedisMemory(plain, SHOP, prefix)
        async with aclosing(outcomes(plain, SHOP, "a", prefix=prefix)) as source:
            outcome = await next_of(source)
        await memory.remember(outcome)
        assert await memory.handled(outcome)


# Each once


async def test_one_is_acknowledged_when_the_next_is_asked_for_and_not_before(
    stream: Stream,
) -> None:
    first = await stream.publish("cancelling.1")
    second = await stream.publish("cancelled")
    async with aclosing(stream.consume()) as source:
        await next_of(source)
        assert await stream.pending() == [first]
        await next_of(source)
        assert await stream.pending() == [second]


async def test_the_same_event_again_is_passed_over(stream: Stream) -> None:
    """It has the same id and a higher seq: a payment tracked again after its end."""
    for _ in range(2):
        await stream.publish("succeeded")
    await stream.publish("attention.contradiction.1")
    assert await stream.handle(2) == ["succeeded", "attention.contradiction.1"]
    assert await stream.pending() == []


async def test_what_was_overtaken_is_passed_over(stream: Stream) -> None:
    await stream.publish("cancelled", 20)
    await stream.publish("cancelling.1", 10)
    await stream.publish("cancelling.1", 10, payment="order-2")
    assert await stream.handle(2) == ["cancelled", "cancelling.1"]
    assert await stream.pending() == []


async def test_a_rejected_command_is_known_by_its_id_alone(stream: Stream) -> None:
    await stream.publish("succeeded")
    for name in ("command:1-0", "command:2-0", "command:1-0"):
        await stream.publish(name)
    await stream.publish("attention.contradiction.1")
    handled = ["succeeded", "1-0", "2-0", "attention.contradiction.1"]
    assert await stream.handle(4) == handled


async def test_what_was_handled_is_known_after_a_restart_and_to_others(stream: Stream) -> None:
    await stream.publish("succeeded")
    assert await stream.handle(1) == ["succeeded"]
    await stream.publish("succeeded")
    await stream.publish("failed", payment="order-2")
    assert await stream.handle(1, "b") == ["failed"]


async def test_each_group_reads_for_itself(stream: Stream) -> None:
    await stream.publish("succeeded")
    assert await stream.handle(1) == ["succeeded"]
    books = outcomes(stream.redis, "books", "a", prefix=stream.prefix)
    async with aclosing(books):
        assert (await next_of(books)).id.endswith("succeeded")


async def test_what_is_remembered_is_forgotten_after_all_records_are(stream: Stream) -> None:
    await stream.publish("succeeded")
    await stream.handle(1)
    [key] = [key async for key in stream.redis.scan_iter(match=f"{stream.prefix}:v1:handled:*")]
    assert key == stream.keys.handled(SHOP, f"{US}:order-1")
    assert 0 < await stream.redis.pttl(key) <= module.REMEMBERED_FOR


class Books:
    """A memory of one's own."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def handled(self, outcome: Outcome) -> bool:
        return outcome.id in self.ids

    async def remember(self, outcome: Outcome) -> None:
        self.ids.append(outcome.id)


async def test_the_memory_may_be_ones_own(stream: Stream) -> None:
    books = Books()
    await stream.publish("succeeded")
    await stream.publish("succeeded")
    await stream.publish("failed", 0)
    assert await stream.handle(2, memory=books) == ["succeeded", "failed"]
    assert books.ids == [f"{US}:order-1:succeeded", f"{US}:order-1:failed"]
    assert not [key async for key in stream.redis.scan_iter(match=f"{stream.prefix}:v1:handled:*")]


# What dies


async def test_what_was_at_hand_comes_first_after_a_restart(stream: Stream) -> None:
    await stream.publish("cancelling.1")
    await stream.publish("cancelled")
    assert await stream.take("a") == "cancelling.1"
    assert await stream.handle(2) == ["cancelling.1", "cancelled"]


async def test_an_exception_in_the_loop_leaves_the_outcome_for_the_next_time(
    stream: Stream,
) -> None:
    await stream.publish("succeeded")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with aclosing(stream.consume()) as source:
                async for _outcome in source:
                    raise ZeroDivisionError
    assert await stream.handle(1) == ["succeeded"]


async def test_what_a_dead_consumer_left_is_given_to_another_after_a_while(
    stream: Stream,
) -> None:
    await stream.publish("succeeded")
    await stream.publish("failed", payment="order-2")
    assert await stream.take("dead") == "succeeded"
    living = stream.consume("living", claim_after=0.3)
    async with aclosing(living):
        names = [(await next_of(living)).id.rpartition(":")[2] for _ in range(2)]
    assert names == ["failed", "succeeded"], "what is new does not wait for it"


async def test_what_a_living_consumer_has_at_hand_is_left_to_it(stream: Stream) -> None:
    await stream.publish("succeeded")
    await stream.take("busy")
    async with aclosing(stream.consume("other")) as other:
        waiting = asyncio.ensure_future(anext(other))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_what_another_has_handled_and_not_acknowledged_is_not_handled_again(
    stream: Stream,
) -> None:
    """It died between its note and the acknowledgement."""
    await stream.publish("succeeded")
    async with aclosing(stream.consume("dead")) as source:
        await RedisMemory(stream.redis, SHOP, stream.prefix).remember(await next_of(source))
    await stream.publish("failed", payment="order-2")
    assert await stream.handle(1, "living", claim_after=0) == ["failed"]
    assert await stream.pending() == []


async def test_two_consumers_share_the_work_and_handle_each_once(stream: Stream) -> None:
    for number in range(40):
        await stream.publish("succeeded", payment=f"order-{number}")
    handled: list[str] = []

    async def work(consumer: str) -> None:
        async with aclosing(stream.consume(consumer)) as source:
            async for outcome in source:
                handled.append(outcome.payment_request_id)

    workers = [asyncio.ensure_future(work(name)) for name in "ab"]
    await until(lambda: _is(len(handled) == 40))
    await until(stream._all_acknowledged)
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    assert sorted(handled) == sorted(f"order-{number}" for number in range(40))


async def _is(true: bool) -> bool:
    return true


# What is odd


@pytest.mark.parametrize(
    "fields",
    [
        {"hello": "world"},
        {"id": "x", "type": "payment.succeeded", "data": "{}"},
        {"id": "x", "type": "t", "clientId": "c", "paymentRequestId": "p", "data": "no json"},
        {"id": "x", "type": "t", "clientId": "c", "paymentRequestId": "p", "data": '{"data": 1}'},
        {b"id": b"\xff"},
    ],
)
async def test_what_is_no_outcome_is_told_and_holds_up_nothing(
    stream: Stream, fields: dict[Any, Any], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    entry_id = await stream.redis.xadd(stream.keys.outcomes, fields)
    await stream.publish("succeeded")
    async with Redis.from_url(redis_url) as plain:
        assert await Stream(plain, stream.prefix).take("a") == "succeeded"
    assert f"no outcome in {entry_id}" in caplog.text
    assert entry_id not in await stream.pending()


async def test_what_was_trimmed_while_it_was_at_hand_holds_up_nothing(stream: Stream) -> None:
    entry_id = await stream.publish("succeeded")
    await stream.take("a")
    await stream.redis.xdel(stream.keys.outcomes, entry_id)
    await stream.publish("failed", payment="order-2")
    assert await stream.handle(1) == ["failed"]


# Redis


async def test_a_group_that_is_gone_is_made_again(stream: Stream) -> None:
    await stream.publish("succeeded")
    async with aclosing(stream.consume()) as source:
        await next_of(source)
        await stream.redis.delete(stream.keys.outcomes)
        await stream.publish("failed", payment="order-2")
        assert (await next_of(source)).id.endswith("failed")


async def test_while_redis_is_away_it_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Once while the next is waited for, once while one is at hand."""
    caplog.set_level(logging.WARNING)
    with own_server() as server:
        redis = Redis.from_url(server.url, decode_responses=True)
        stream = Stream(redis, "p")
        await stream.publish("cancelling.1")
        async with aclosing(stream.consume()) as source:
            await next_of(source)
            await asyncio.to_thread(server.stop)
            waiting = asyncio.ensure_future(anext(source))
            await until(lambda: _is("Redis does not answer" in caplog.text))
            await asyncio.to_thread(server.start)
            await stream.publish("cancelled")
            assert (await asyncio.wait_for(waiting, 10)).id.endswith("cancelled")
        assert len(await stream.pending()) == 1
        await redis.aclose()


@pytest.mark.parametrize(
    ("rights", "password", "fault"),
    [
        (["+xgroup"], "p", "no permissions"),
        (["+@all", "-hset"], "p", "no permissions"),
        (["+@all"], "wrong", "invalid username-password"),
    ],
)
async def test_what_waiting_does_not_mend_is_raised(
    rights: list[str], password: str, fault: str
) -> None:
    with own_server() as server:
        async with Redis.from_url(server.url, decode_responses=True) as admin:
            await Stream(admin, "p").publish("succeeded")
            words = ["ACL", "SETUSER", "u", "reset", "on", ">p", "~*", *rights]
            await admin.execute_command(*words)
        async with Redis.from_url(f"{server.url}?username=u&password={password}") as redis:
            with pytest.raises(RedisError, match=fault):
                async with asyncio.timeout(5), aclosing(Stream(redis, "p").consume()) as source:
                    async for outcome in source:
                        assert outcome.id


async def test_a_key_that_is_no_stream_is_raised(stream: Stream) -> None:
    await stream.redis.set(stream.keys.outcomes, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await stream.take("a")
