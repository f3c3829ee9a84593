"""What was set aside is taken up again: once, whole, and only where it helps."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money, Ms
from jobs.schedule import Policy
from jobs.tools import Account, Tools
from tests.fakes import ScriptedGateway
from tests.keys import CLIENT_ID
from tests.servers import now_ms, paid
from worker import connect
from worker.commands import CommandStream
from worker.groups import make_group
from worker.keys import Keys
from worker.logs import log
from worker.replay import Choice, Replay, Row
from worker.store import Store

ID = f"{CLIENT_ID}:order-1"
EVERY = Choice()
TRACK = {"paymentRequestId": "order-1", "paymentAmount": {"currency": "USD", "value": "599"}}


@dataclass
class World:
    """A worker's stores and its place in the command stream, and an operator's replay."""

    redis: Redis
    keys: Keys
    store: Store
    stream: CommandStream
    again: Replay

    @property
    def dry(self) -> Replay:
        return replace(self.again, dry_run=True)

    async def write(self, type_: str, data: Any, **more: str) -> str:
        text = data if isinstance(data, str) else json.dumps(data)
        fields: dict[Any, Any] = {"type": type_, "data": text, **more}
        return str(await self.redis.xadd(self.keys.commands, fields))

    async def die(self, type_: str, data: Any, **more: str) -> str:
        """A command that nobody can carry out; the id of its entry among the dead ones."""
        await self.write(type_, data, **more)
        await self.read()
        [(entry_id, _)] = await self.redis.xrevrange(self.keys.dead, count=1)
        return str(entry_id)

    async def bury(self, type_: str, data: Any, at: Ms, error: str = "malformed: a bug") -> str:
        """A command that died of a bug, at `at`; the worker can carry it out by now."""
        fields: dict[Any, Any] = {"type": type_, "data": json.dumps(data), "error": error}
        fields |= {"deliveries": "10", "origin_id": f"{at}-0"}
        return str(await self.redis.xadd(self.keys.dead, fields))

    async def read(self) -> None:
        await make_group(self.redis, self.keys.commands, "reconciler")
        await self.stream.read()

    async def receive(self, body: bytes, why: str = "amount", name: str = "order-1") -> None:
        """A notification that could not be understood when it came."""
        fields: dict[Any, Any] = {"clientId": CLIENT_ID, "paymentRequestId": name}
        await self.redis.xadd(self.keys.quarantine, fields | {"reason": why, "body": body})

    async def track(self, name: str = "order-1") -> None:
        await self.write("payment.track", TRACK | {"paymentRequestId": name})
        await self.read()

    async def everything(self) -> dict[str, Any]:
        names = sorted([name async for name in self.redis.scan_iter(f"{self.keys.prefix}*")])
        return {name: await self.redis.dump(name) for name in names}


@pytest.fixture
async def world(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[World]:
    keys = Keys(prefix)
    async with connect.client(redis_url) as client:
        store = Store(client, keys)
        account = Account(gateway=ScriptedGateway(), policy=Policy(), brake=0)
        tools = Tools(store=store, accounts={CLIENT_ID: account}, log=log)
        stream = CommandStream(client, store, keys, tools, "me")
        again = Replay(redis=client, keys=keys, accounts=[CLIENT_ID])
        yield World(redis, keys, store, stream, again)


def results(rows: list[Row]) -> list[tuple[bool, str]]:
    return [(row.done, row.result) for row in rows]


# Dead commands


async def test_a_command_that_died_of_a_bug_is_written_again_and_carried_out(
    world: World,
) -> None:
    await world.bury("payment.track", TRACK, now_ms())
    [row] = await world.again.commands(EVERY)
    [(new, fields)] = await world.redis.xrange(world.keys.commands)
    assert results([row]) == [(True, f"written again as {new}")]
    assert set(fields) == {"type", "data", "origin_id"}
    assert await world.redis.xlen(world.keys.dead) == 0
    await world.read()
    loaded = await world.store.load(ID)
    assert loaded and loaded.payment.amount == Money("USD", 599)


async def test_the_time_to_pay_still_counts_from_when_the_command_was_written_first(
    world: World,
) -> None:
    """Else a replay a day later would keep a buyer's order open for a day longer."""
    written = now_ms() - 86_400_000
    await world.bury("payment.track", TRACK | {"expiresIn": 600}, written)
    await world.again.commands(EVERY)
    await world.read()
    loaded = await world.store.load(ID)
    assert loaded and loaded.payment.closing_time == written + 600_000


async def test_a_command_that_dies_again_keeps_its_first_time(world: World) -> None:
    at = now_ms() - 3_600_000
    await world.bury("payment.track", {"paymentRequestId": "order-1"}, at)
    [(entry_id, _)] = await world.redis.xrange(world.keys.dead)
    mended = json.dumps(TRACK | {"clientId": CLIENT_ID})
    await world.again.commands(Choice(ids=[entry_id]), data=mended)
    await world.redis.xadd(world.keys.commands, {"type": "payment.odd", "origin_id": f"{at}-0"})
    await world.read()
    [(_, fields)] = await world.redis.xrange(world.keys.dead)
    assert fields["origin_id"] == f"{at}-0"


@pytest.mark.parametrize("origin", ["9999999999999-0", "nonsense", "1-0", "", "-", "1e13-0"])
async def test_a_first_time_that_is_none_is_not_believed(world: World, origin: str) -> None:
    before = now_ms()
    await world.write("payment.track", TRACK | {"expiresIn": 600}, origin_id=origin)
    await world.read()
    loaded = await world.store.load(ID)
    assert loaded and loaded.payment.closing_time >= before + 600_000


async def test_a_command_that_would_be_refused_again_stays_where_it_is(world: World) -> None:
    entry_id = await world.die("payment.track", {"paymentRequestId": "order-1"})
    [row] = await world.again.commands(EVERY)
    assert (row.id, row.paymentRequestId, row.reason) == (entry_id, "order-1", "malformed")
    assert row.result.startswith("left: it would be refused again: paymentAmount: write ")
    assert await world.redis.xlen(world.keys.dead) == 1


async def test_it_may_be_mended_on_the_way(world: World) -> None:
    entry_id = await world.die("payment.trakc", "{}")
    rows = await world.again.commands(
        Choice(ids=[entry_id]), type_="payment.track", data=json.dumps(TRACK)
    )
    assert [row.done for row in rows] == [True]
    await world.read()
    assert await world.store.load(ID)


async def test_the_type_of_a_cloud_event_may_be_mended_too(world: World) -> None:
    event: Any = {"ce_specversion": "1.0", "ce_type": "payment.trakc", "data": json.dumps(TRACK)}
    entry_id = await world.redis.xadd(world.keys.dead, event | {"error": "unknown_type: x"})
    rows = await world.again.commands(Choice(ids=[entry_id]), type_="payment.track")
    assert [row.done for row in rows] == [True]
    await world.read()
    assert await world.store.load(ID)


async def test_a_command_that_is_no_text_is_left(world: World) -> None:
    fields: dict[Any, Any] = {"type": b"payment.track\xff", "data": b"\xff", "error": "x: y"}
    await world.redis.xadd(world.keys.dead, fields)
    assert [row.done for row in await world.again.commands(EVERY)] == [False]


async def test_run_twice_it_is_done_once(world: World) -> None:
    await world.bury("payment.track", TRACK, now_ms())
    assert len(await world.again.commands(EVERY)) == 1
    assert await world.again.commands(EVERY) == []
    assert await world.redis.xlen(world.keys.commands) == 1


async def test_two_operators_at_once_do_it_once(world: World) -> None:
    for _ in range(30):
        await world.bury("payment.track", TRACK, now_ms())
    both = await asyncio.gather(world.again.commands(EVERY), world.again.commands(EVERY))
    assert await world.redis.xlen(world.keys.commands) == 30
    assert sum(row.done for rows in both for row in rows) == 30


async def test_a_command_that_dies_again_meanwhile_is_not_met_twice(world: World) -> None:
    """What is replayed may be dead again before the run has ended."""
    await world.bury("payment.track", TRACK, now_ms())

    class Dying(Replay):
        async def _run(self, *_: Any) -> str:
            assert await world.redis.xlen(world.keys.dead) < 5, "it never ends"
            await asyncio.sleep(0.002)  # not within the same millisecond
            return await world.bury("payment.track", TRACK, now_ms())

    dying = Dying(redis=world.again.redis, keys=world.keys, accounts=[CLIENT_ID])
    assert len(await dying.commands(EVERY)) == 1


# Quarantine

NOTICE = json.dumps(paid("order-1")).encode()


async def test_what_an_upgrade_understands_goes_to_its_payment_and_makes_it_ask(
    world: World,
) -> None:
    await world.track()
    await world.receive(NOTICE)
    [row] = await world.again.quarantine(EVERY)
    assert results([row]) == [(True, "applied: it lies in the payment's inbox")]
    loaded = await world.store.load(ID)
    assert loaded and [type(message).__name__ for message in loaded.inbox] == ["Notification"]
    assert await world.redis.xlen(world.keys.quarantine) == 0
    due = await world.redis.zscore(world.keys.open, ID)
    assert due is not None and due <= now_ms() + 1000
    assert await world.redis.zscore(world.keys.queue, world.keys.job(ID)) is not None


async def test_what_it_understands_of_a_payment_that_nobody_tracks_is_parked(
    world: World,
) -> None:
    await world.receive(NOTICE)
    [row] = await world.again.quarantine(EVERY)
    assert results([row]) == [(True, "parked until its payment is tracked")]
    assert await world.redis.zrange(world.keys.parked, 0, -1) == [ID]
    await world.track()
    loaded = await world.store.load(ID)
    assert loaded and len(loaded.inbox) == 1


async def never_tracked(world: World) -> None:
    """A notification that went to quarantine as nobody tracked its payment for 72 hours."""
    await world.store.receive(
        ID,
        json.dumps({"v": 1, "at": now_ms(), "time": str(now_ms()), "body": NOTICE.decode()}),
        "digest",
        parks=True,
        quarantine=None,
    )
    assert await world.store.unpark(ID, now_ms() + 1000) == 1


async def test_a_notification_never_tracked_is_applied_once_its_payment_is(world: World) -> None:
    await never_tracked(world)
    [row] = await world.again.quarantine(EVERY)
    assert row.reason == "never_tracked"
    assert results([row]) == [(False, "left: its payment is not tracked; track it first")]
    await world.track()
    [row] = await world.again.quarantine(EVERY)
    assert row.done
    loaded = await world.store.load(ID)
    [message] = loaded.inbox if loaded else ()
    assert getattr(message, "sent_at", None) is not None  # it still knows when it was sent


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"no JSON", "left: it cannot be understood: "),
        (json.dumps(paid("order-1", paymentAmount=1)).encode(), "left: it cannot be understood"),
        (json.dumps(paid("order-1", notifyType="REFUND_RESULT")).encode(), "left: it is a REFUND"),
        (b"\xff", "left: it cannot be understood: "),
    ],
)
async def test_what_is_still_not_understood_stays(world: World, body: bytes, why: str) -> None:
    await world.track()
    await world.receive(body)
    [row] = await world.again.quarantine(EVERY)
    assert not row.done and row.result.startswith(why)
    assert await world.redis.xlen(world.keys.quarantine) == 1
    loaded = await world.store.load(ID)
    assert loaded and not loaded.inbox


async def test_an_inbox_is_given_a_message_once(world: World) -> None:
    await world.track()
    await world.receive(NOTICE)
    await asyncio.gather(*(world.again.quarantine(EVERY) for _ in range(5)))
    loaded = await world.store.load(ID)
    assert loaded and len(loaded.inbox) == 1


# What is chosen


async def test_a_dry_run_changes_nothing_and_says_what_would_happen(world: World) -> None:
    await world.track()
    await world.bury("payment.recheck", {"paymentRequestId": "order-1"}, now_ms())
    await world.receive(NOTICE)
    await world.receive(json.dumps(paid("order-2")).encode(), name="order-2")
    await world.receive(b"?", name="")
    before = await world.everything()
    commands, messages = await world.dry.commands(EVERY), await world.dry.quarantine(EVERY)
    assert await world.everything() == before
    assert results(commands) == [(True, "would be written again: payment.recheck")]
    assert results(messages)[:2] == [(True, "would be applied"), (True, "would be parked")]
    assert [row.done for row in messages] == [True, True, False]


async def test_a_dry_run_tells_of_one_that_nobody_tracks(world: World) -> None:
    await never_tracked(world)
    assert results(await world.dry.quarantine(EVERY)) == [
        (False, "left: its payment is not tracked; track it first")
    ]


async def test_lines_are_chosen_by_id_time_and_reason_and_counted(world: World) -> None:
    ids = []
    for age, why in ((7200, "malformed: a"), (60, "unknown_type: b"), (10, "malformed: c")):
        at = now_ms() - age * 1000
        fields: dict[Any, Any] = {"type": "payment.track", "data": json.dumps(TRACK)}
        fields["error"] = why
        ids.append(await world.redis.xadd(world.keys.dead, fields, id=f"{at}-1"))

    async def chosen(choice: Choice) -> list[str]:
        return [row.id for row in await world.dry.commands(choice)]

    assert await chosen(EVERY) == ids
    assert await chosen(Choice(ids=[ids[1], "1-1"])) == [ids[1]]
    assert await chosen(Choice(since=now_ms() - 3_600_000)) == ids[1:]
    assert await chosen(Choice(reason="malformed")) == [ids[0], ids[2]]
    assert await chosen(Choice(reason="malformed", since=now_ms() - 3_600_000)) == [ids[2]]
    assert await chosen(Choice(limit=2)) == ids[:2]


async def test_all_are_taken_however_many_a_page_at_a_time(world: World) -> None:
    async with world.redis.pipeline(transaction=False) as pipe:
        for n in range(1203):
            data = json.dumps(TRACK | {"paymentRequestId": f"order-{n}"})
            pipe.xadd(world.keys.dead, {"type": "payment.track", "data": data, "error": "x: y"})
        await pipe.execute()
    rows = await world.again.commands(EVERY)
    assert sum(row.done for row in rows) == 1203
    assert await world.redis.xlen(world.keys.commands) == 1203
    assert await world.redis.xlen(world.keys.dead) == 0
