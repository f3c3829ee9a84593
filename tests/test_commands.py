"""Commands of the merchant: what is written correctly is carried out, all else is answered why not.

Up to the queue's edge on a real Redis; the last tests hand commands to a real worker as arq jobs.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from structlog.testing import capture_logs
from structlog.typing import EventDict

from jobs import commands as job_commands
from jobs.model import Money, Ms, OnTimeout, Payment
from jobs.news import Ask, Order, Track
from jobs.schedule import DAY, SECOND, Policy
from jobs.tools import Account, Loaded, Tools
from tests.fakes import ScriptedGateway
from tests.keys import CLIENT_ID
from tests.servers import end, environ, own_server, says, scripted_gateway, until
from worker import commands, connect, queue
from worker.arq_jobs import COMMAND_RETRY
from worker.commands import BadCommand, CommandStream, read_command
from worker.groups import make_group
from worker.keys import Keys
from worker.logs import log
from worker.main import run_worker
from worker.scripts import Confirm, NotDurable
from worker.settings import load
from worker.store import Store
from worker.times import format_time

NOW: Ms = 1_800_000_000_000
AMOUNT = {"currency": "USD", "value": "599"}
TRACK: dict[str, Any] = {"paymentRequestId": "order-1", "paymentAmount": AMOUNT}
ORDER = {"paymentRequestId": "order-1"}
ACCOUNTS = (CLIENT_ID,)
EVENTS = [
    {"specversion": "1.0", "type": "payment.track", "data": TRACK},
    {"specversion": "1.0", "type": "payment.cancel", "data": ORDER},
    {"specversion": "1.0", "type": "payment.cancel", "data": {}},
    {"specversion": "1.0"},
]


def read(said: object, type_: str = "payment.track", accounts: Any = ACCOUNTS) -> Any:
    data = said if isinstance(said, str) else json.dumps(said)
    return read_command(type_, data, "1-1", NOW, accounts)


# Reading


def test_a_payment_needs_its_name_and_its_amount_and_no_more() -> None:
    assert read(TRACK) == Track(
        id="1-1",
        at=NOW,
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("USD", 599),
    )


def test_a_payment_may_come_with_everything() -> None:
    everything = {
        "clientId": CLIENT_ID,
        "expiresIn": 600,
        "paymentId": "2026",
        "onTimeout": "report",
        "reference": "cart 7",
        "callbackUrl": "",
    }
    assert read(TRACK | everything) == Track(
        id="1-1",
        at=NOW,
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("USD", 599),
        closing_time=NOW + 600 * SECOND,
        payment_id="2026",
        on_timeout=OnTimeout.REPORT,
        reference="cart 7",
    )


@pytest.mark.parametrize("ask", Ask)
def test_an_order_is_about_a_payment_and_may_say_why(ask: Ask) -> None:
    assert read(ORDER | {"reason": "buyer left"}, ask) == Order(
        ask=ask,
        id="1-1",
        at=NOW,
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        reason="buyer left",
    )


@pytest.mark.parametrize(
    ("given", "closing_time"),
    [
        ({}, None),
        ({"expiresIn": 1}, NOW + SECOND),
        ({"expiresIn": "600"}, NOW + 600 * SECOND),
        ({"expiresIn": 2_592_000}, NOW + 30 * DAY),
        ({"paymentExpiryTime": "2027-01-15T16:00:01+08:00"}, NOW + SECOND),
        ({"paymentExpireTime": "2027-01-15T08:00:01Z"}, NOW + SECOND),
        ({"paymentExpiryTime": format_time(NOW + 30 * DAY)}, NOW + 30 * DAY),
        ({"paymentExpiryTime": "2001-09-09T01:46:40Z"}, 1_000_000_000_000),
    ],
)
def test_a_closing_time_is_given_or_counted_from_when_the_command_was_written(
    given: dict[str, Any], closing_time: Ms | None
) -> None:
    assert read(TRACK | given).closing_time == closing_time


@pytest.mark.parametrize(
    "said",
    [
        TRACK | {"paymentRequestId": "aZ09_.:-" * 8},
        TRACK | {"paymentAmount": {"currency": "JPY", "value": "1"}},
        TRACK | {"paymentAmount": {"currency": "JPY", "value": "9" * 16}},
        TRACK | {"reference": "x" * 256},
        TRACK | {"reference": "支" * 85},
        TRACK | {"paymentId": "!" * 64},
        TRACK | {"paymentId": ""},
    ],
)
def test_what_is_just_within_the_limits_is_taken(said: dict[str, Any]) -> None:
    assert isinstance(read(said), Track)


#: What is wrong with a `payment.track`, and what the merchant is told to write instead.
NAME = "paymentRequestId: write 1 to 64 of A-Z a-z 0-9 _ . : -"
PRICE = 'paymentAmount: write {"currency": "USD", "value": "599"}, in the smallest unit'
SECONDS = "expiresIn: write whole seconds from 1 to 2592000"
TIME = "paymentExpiryTime: write ISO 8601 with an offset, as in 2026-01-02T03:04:05+08:00"
AHEAD = "paymentExpiryTime: more than 30 days ahead"
GATEWAYS_ID = "paymentId: write the gateway's id, at most 64 characters"
TIMEOUT = "onTimeout: write cancel or report"
REFERENCE = "reference: write at most 256 bytes"
CALLBACK = "callbackUrl: no callback hosts are allowed here"
MALFORMED: list[tuple[object, str]] = [
    (TRACK | {"paymentAmount": AMOUNT | {"decimals": 2}}, f"{PRICE}, and nothing else"),
    ("", "data cannot be read (json): write a JSON object"),
    ("{", "data cannot be read (json)"),
    ("[]", "data cannot be read (not_object)"),
    ("null", "data cannot be read (not_object)"),
    ('"{}"', "data cannot be read (not_object)"),
    ('{"paymentRequestId":"a","paymentRequestId":"b"}', "data cannot be read (duplicate_key"),
    ('{"a":' + "[" * 17, "data cannot be read (nesting)"),
    ('{"a":NaN}', "data cannot be read (number)"),
    ('{"a":"\\ud800"}', "data cannot be read (text)"),
    ('{"a":"\ud800"}', "data cannot be read (utf8)"),
    ({}, NAME),
    (TRACK | {"paymentRequestId": None}, NAME),
    (TRACK | {"paymentRequestId": ""}, NAME),
    (TRACK | {"paymentRequestId": 4711}, NAME),
    (TRACK | {"paymentRequestId": ["order-1"]}, NAME),
    (TRACK | {"paymentRequestId": "x" * 65}, NAME),
    (TRACK | {"paymentRequestId": "order 1"}, NAME),
    (TRACK | {"paymentRequestId": "order/1"}, NAME),
    (TRACK | {"paymentRequestId": "bestellung-ä"}, NAME),
    (TRACK | {"paymentRequestId": "order-1\n"}, NAME),
    (TRACK | {"expiresin": 60}, "'expiresin' is not a field of payment.track: paymentRequestId, "),
    (TRACK | {"reason": ""}, "'reason' is not a field of payment.track: "),
    (TRACK | {"x" * 100: 1}, f"'{'x' * 64}' is not a field of payment.track: "),
    (ORDER, PRICE),
    (TRACK | {"paymentAmount": None}, PRICE),
    (TRACK | {"paymentAmount": "USD 599"}, PRICE),
    (TRACK | {"paymentAmount": {"value": "599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "usd", "value": "599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "US", "value": "599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": 599}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": 5.99}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "5.99"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "0"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "0599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "-599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "+599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": " 599"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "５９９"}}, PRICE),
    (TRACK | {"paymentAmount": {"currency": "USD", "value": "9" * 17}}, PRICE),
    (TRACK | {"expiresIn": 0}, SECONDS),
    (TRACK | {"expiresIn": -1}, SECONDS),
    (TRACK | {"expiresIn": 2_592_001}, SECONDS),
    (TRACK | {"expiresIn": 60.5}, SECONDS),
    (TRACK | {"expiresIn": "1e3"}, SECONDS),
    (TRACK | {"expiresIn": "٦٠"}, SECONDS),
    (TRACK | {"expiresIn": "60\n"}, SECONDS),
    (TRACK | {"expiresIn": ""}, SECONDS),
    (TRACK | {"expiresIn": True}, SECONDS),
    (TRACK | {"expiresIn": None}, SECONDS),
    (TRACK | {"expiresIn": [60]}, SECONDS),
    (TRACK | {"paymentExpiryTime": "2027-01-15T16:00:01"}, TIME),
    (TRACK | {"paymentExpiryTime": "2027-01-15"}, TIME),
    (TRACK | {"paymentExpiryTime": "2027-02-30T16:00:01Z"}, TIME),
    (TRACK | {"paymentExpiryTime": "soon"}, TIME),
    (TRACK | {"paymentExpiryTime": NOW}, TIME),
    (TRACK | {"paymentExpiryTime": None}, TIME),
    (TRACK | {"paymentExpireTime": "soon"}, TIME.replace("Expiry", "Expire")),
    (TRACK | {"paymentExpiryTime": format_time(NOW + 30 * DAY + 1)}, AHEAD),
    (
        TRACK | {"paymentExpiryTime": "2027-01-15T16:00:01Z", "expiresIn": 60},
        "paymentExpiryTime and expiresIn: write only one of them",
    ),
    (TRACK | {"paymentId": 2026}, GATEWAYS_ID),
    (TRACK | {"paymentId": "x" * 65}, GATEWAYS_ID),
    (TRACK | {"paymentId": "2026 1"}, GATEWAYS_ID),
    (TRACK | {"paymentId": None}, GATEWAYS_ID),
    (TRACK | {"onTimeout": "wait"}, TIMEOUT),
    (TRACK | {"onTimeout": "Cancel"}, TIMEOUT),
    (TRACK | {"onTimeout": ""}, TIMEOUT),
    (TRACK | {"onTimeout": None}, TIMEOUT),
    (TRACK | {"onTimeout": ["cancel"]}, TIMEOUT),
    (TRACK | {"reference": "x" * 257}, REFERENCE),
    (TRACK | {"reference": "支" * 86}, REFERENCE),
    (TRACK | {"reference": 7}, REFERENCE),
    (TRACK | {"reference": None}, REFERENCE),
    (TRACK | {"callbackUrl": "https://shop.example/hook"}, CALLBACK),
    (TRACK | {"callbackUrl": 7}, "callbackUrl: write a URL"),
]


@pytest.mark.parametrize(("said", "message"), MALFORMED)
def test_what_is_malformed_is_answered_with_what_to_write_instead(
    said: object, message: str
) -> None:
    with pytest.raises(BadCommand) as caught:
        read(said)
    assert caught.value.reason == "malformed"
    assert caught.value.message.startswith(message)


def test_the_answer_names_the_payment_wherever_that_could_be_read() -> None:
    with pytest.raises(BadCommand) as caught:
        read(ORDER)
    assert (caught.value.client_id, caught.value.payment_request_id) == (CLIENT_ID, "order-1")
    with pytest.raises(BadCommand) as caught:
        read(TRACK | {"expires": 1})
    assert caught.value.payment_request_id == "order-1"


@pytest.mark.parametrize(
    ("data", "named"),
    [(json.dumps(ORDER), "order-1"), ('{"paymentRequestId": "a b"}', ""), ("{", ""), ("", "")],
)
def test_a_command_of_an_unknown_type_is_answered_with_the_payment_it_names(
    data: str, named: str
) -> None:
    with pytest.raises(BadCommand) as caught:
        read_command("payment.refund", data, "1-1", NOW, [CLIENT_ID])
    assert (caught.value.reason, caught.value.payment_request_id) == ("unknown_type", named)


@pytest.mark.parametrize("ask", Ask)
@pytest.mark.parametrize(
    ("said", "message"),
    [
        (ORDER | {"paymentAmount": AMOUNT}, "'paymentAmount' is not a field of payment."),
        (ORDER | {"reason": 7}, "reason: write at most 256 characters"),
        (ORDER | {"reason": "x" * 257}, "reason: write at most 256 characters"),
        ({"reason": ""}, NAME),
    ],
)
def test_an_order_is_held_to_its_own_fields(ask: Ask, said: object, message: str) -> None:
    with pytest.raises(BadCommand) as caught:
        read(said, ask)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("type_", ["", "payment", "payment.Track", "track", "x" * 10_000])
def test_an_unknown_type_is_answered_with_those_there_are(type_: str) -> None:
    with pytest.raises(BadCommand) as caught:
        read(TRACK, type_)
    assert caught.value.reason == "unknown_type"
    assert caught.value.message == (
        f"type {type_[:64]!r} is unknown: write one of"
        " payment.track, payment.submit, payment.cancel, payment.recheck, payment.forget"
    )


@pytest.mark.parametrize(
    ("client_id", "accounts", "reason", "message"),
    [
        (None, ("a", "b"), "malformed", "clientId: there are several accounts; name one"),
        ("c", ("a", "b"), "unknown_account", "clientId: no such account is configured here"),
        ("c", ("a",), "unknown_account", "clientId: no such account is configured here"),
        (["a"], ("a",), "unknown_account", "clientId: no such account is configured here"),
        ("a", (), "unknown_account", "clientId: no such account is configured here"),
    ],
)
def test_an_account_is_named_where_there_are_several_and_must_be_one_of_them(
    client_id: Any, accounts: tuple[str, ...], reason: str, message: str
) -> None:
    with pytest.raises(BadCommand) as caught:
        read(TRACK | ({} if client_id is None else {"clientId": client_id}), accounts=accounts)
    assert (caught.value.reason, caught.value.message) == (reason, message)
    assert caught.value.payment_request_id == "order-1"


def test_one_of_several_accounts_is_named() -> None:
    assert read(TRACK | {"clientId": "b"}, accounts=("a", "b")).client_id == "b"


# The stream


class World:
    """One worker's place at the command stream, and what the merchant sees."""

    def __init__(self, redis: Redis, store: Store) -> None:
        self.redis, self.store, self.keys = redis, store, store.keys
        # Carrying out a command asks nobody: the payment's job does, later.
        account = Account(gateway=ScriptedGateway(), policy=Policy(), brake=0)
        self.tools = Tools(store=store, accounts={CLIENT_ID: account}, log=log)
        self.stream = CommandStream(store.redis, store, store.keys, self.tools, "us")

    async def write(self, type_: str, said: object, id_: str = "*", **more: Any) -> str:
        fields: dict[Any, Any] = {"type": type_, "data": json.dumps(said), **more}
        return str(await self.redis.xadd(self.keys.commands, fields, id=id_))

    async def told(self) -> list[dict[str, Any]]:
        entries = await self.redis.xrange(self.keys.outcomes)
        return [json.loads(fields["data"]) for _, fields in entries]

    async def dead(self) -> list[dict[str, str]]:
        return [fields for _, fields in await self.redis.xrange(self.keys.dead)]

    async def waiting(self) -> int:
        found = await self.redis.xpending(self.keys.commands, commands.GROUP)
        return int(found["pending"])

    async def payment(self, name: str = "order-1") -> Payment | None:
        loaded = await self.store.load(f"{CLIENT_ID}:{name}")
        return loaded.payment if loaded else None


@pytest.fixture
async def world(redis_url: str, redis: Redis, prefix: str) -> AsyncIterator[World]:
    client = connect.client(redis_url)
    world = World(redis, Store(client, Keys(prefix)))
    await make_group(client, world.keys.commands, commands.GROUP)
    yield world
    await client.aclose()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left lying is taken up at once, and an empty stream is not waited at."""
    monkeypatch.setattr(commands, "RETRY_IDLE", 0)
    monkeypatch.setattr(commands, "READ_BLOCK", 1)


async def test_a_payment_tracked_by_xadd_is_followed(
    world: World, log_lines: list[EventDict]
) -> None:
    entry_id = await world.write("payment.track", TRACK)
    assert await world.stream.read() == 1
    payment = await world.payment()
    assert payment and payment.amount == Money("USD", 599)
    assert await world.redis.zscore(world.keys.open, payment.key) == payment.next_at
    assert await world.redis.zscore(world.keys.queue, world.keys.job(payment.key))
    assert await world.waiting() == 0
    assert log_lines[-1] == {
        "event": "command.accepted",
        "command": "payment.track",
        "command_id": entry_id,
        "client_id": CLIENT_ID,
        "payment_request_id": payment.payment_request_id,
        "log_level": "info",
    }


async def test_the_time_to_pay_runs_from_when_the_command_was_written(world: World) -> None:
    """However long it lay in the stream."""
    written = world.store.now() - 100 * SECOND
    await world.write("payment.track", TRACK | {"expiresIn": 300}, f"{written}-0")
    await world.stream.read()
    payment = await world.payment()
    assert payment and payment.closing_time == written + 300 * SECOND


async def test_fields_beside_type_and_data_do_no_harm(world: World) -> None:
    await world.write("payment.track", TRACK, id="my-id", trace="abc")
    await world.stream.read()
    assert await world.payment()


@pytest.mark.parametrize(
    "fields",
    [
        {"ce_type": "payment.track", "ce_specversion": "1.0", "data": json.dumps(TRACK)},
        {"data": json.dumps({"specversion": "1.0", "type": "payment.track", "data": TRACK})},
    ],
)
async def test_a_cloud_event_is_a_command_like_any_other(
    world: World, fields: dict[Any, Any]
) -> None:
    await world.redis.xadd(world.keys.commands, fields)
    await world.stream.read()
    payment = await world.payment()
    assert payment and payment.amount == Money("USD", 599)
    assert (await world.waiting(), await world.told(), await world.dead()) == (0, [], [])


async def test_one_that_cannot_be_read_is_buried_whole_and_answered(
    world: World, log_lines: list[EventDict]
) -> None:
    entry_id = await world.write("payment.track", ORDER, id="my-id", trace="abc")
    await world.stream.read()
    message = PRICE
    assert await world.dead() == [
        {
            "type": "payment.track",
            "data": json.dumps(ORDER),
            "id": "my-id",
            "trace": "abc",
            "error": f"malformed: {message}",
            "deliveries": "1",
            "origin_id": entry_id,
        }
    ]
    assert await world.waiting() == 0
    [event] = await world.told()
    assert (event["id"], event["type"]) == (f"command:{entry_id}", "command.rejected")
    assert (event["source"], event["subject"]) == (f"/reconciler/{CLIENT_ID}", "order-1")
    assert "seq" not in event["data"]
    wanted = {
        "commandId": entry_id,
        "command": "payment.track",
        "reason": "malformed",
        "message": message,
        "clientId": CLIENT_ID,
        "paymentRequestId": "order-1",
    }
    assert wanted.items() <= event["data"].items()
    assert [line["event"] for line in log_lines] == ["command.dead"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"hello": "world"}, "unknown_type"),
        ({"type": "payment.track"}, "malformed"),
        ({"data": "{}"}, "malformed"),
        ({"data": json.dumps(TRACK)}, "malformed"),
        ({"ce_type": "payment.pay", "ce_specversion": "1.0"}, "unknown_type"),
        ({"type": "payment.track", "ce_type": "payment.cancel", "data": "{}"}, "malformed"),
        ({b"\xff\xfe": b"\x00\xff", b"type": b"\xff"}, "unknown_type"),
        ({"type": "payment.track", "data": json.dumps(TRACK | {"clientId": "x"})}, "unknown_acc"),
        ({b"type": b"payment.track", b"data": b'{"paymentRequestId":"\xff"}'}, "malformed"),
        (
            {
                b"type": b"payment.track",
                b"data": json.dumps(TRACK)[:-1].encode() + b',"reference":"caf\xe9"}',
            },
            "malformed",
        ),
    ],
)
async def test_whatever_is_written_is_buried_as_it_came_and_the_stream_goes_on(
    world: World, fields: dict[Any, Any], reason: str
) -> None:
    entry_id = await world.redis.xadd(world.keys.commands, fields)
    await world.write("payment.track", TRACK)
    await world.stream.read()
    [(_, dead)] = await world.store.redis.xrange(world.keys.dead)
    as_bytes = {_bytes(name): _bytes(value) for name, value in fields.items()}
    assert as_bytes.items() <= dead.items()
    assert dead[b"origin_id"].decode() == entry_id
    assert dead[b"error"].decode().startswith(reason)
    assert [event["id"] for event in await world.told()] == [f"command:{entry_id}"]
    assert await world.waiting() == 0
    assert await world.payment()


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _event(**changed: Any) -> str:
    return json.dumps({"specversion": "1.0", "type": "payment.track", "data": TRACK} | changed)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "payment.pay", "data": json.dumps(TRACK)},
        {"type": "payment.track", "data": json.dumps(TRACK | {"refrence": "x"})},
        {"data": json.dumps(TRACK)},
        {"data": _event(specversion="0.3")},
        {"data": _event(type="payment.pay")},
        {"data": _event(type=None)},
        {"type": "payment.track", "ce_type": "payment.cancel", "data": json.dumps(TRACK)},
        {"ce_type": "payment.track", "data": json.dumps(TRACK)},
    ],
)
async def test_a_command_that_is_not_carried_out_names_its_payment_whatever_is_wrong_with_it(
    world: World, fields: dict[Any, Any], log_lines: list[Any]
) -> None:
    entry_id = await world.redis.xadd(world.keys.commands, fields)
    await world.stream.read()
    [event] = await world.told()
    names = {"clientId": CLIENT_ID, "paymentRequestId": "order-1"}
    assert names.items() <= event["data"].items()
    assert (event["id"], event["subject"]) == (f"command:{entry_id}", "order-1")
    assert event["source"] == f"/reconciler/{CLIENT_ID}"
    [line] = log_lines
    assert (line["client_id"], line["payment_request_id"]) == (CLIENT_ID, "order-1")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"paymentRequestId": "order 1"}, (CLIENT_ID, "")),
        ({"paymentRequestId": "order-1", "clientId": "x\ny"}, ("", "order-1")),
        ({"paymentRequestId": 7, "clientId": []}, ("", "")),
        ("no JSON", ("", "")),
    ],
)
@pytest.mark.parametrize("type_", ["payment.pay", "payment.track"])
async def test_what_is_not_well_formed_is_never_repeated_as_a_name(
    world: World, type_: str, said: Any, names: tuple[str, str]
) -> None:
    data = said if isinstance(said, str) else json.dumps(said)
    await world.redis.xadd(world.keys.commands, {"type": type_, "data": data})
    await world.stream.read()
    [event] = await world.told()
    assert (event["data"]["clientId"], event["data"]["paymentRequestId"]) == names
    assert event["subject"] == names[1]


async def test_an_order_for_a_payment_not_tracked_yet_waits_for_it(world: World) -> None:
    await world.write("payment.recheck", ORDER)
    await world.stream.read()
    await world.stream.read()
    assert (await world.waiting(), await world.told(), await world.dead()) == (1, [], [])
    await world.write("payment.track", TRACK)
    await world.stream.read()
    await world.stream.read()
    assert await world.waiting() == 0
    lines = await world.redis.lrange(world.keys.timeline(f"{CLIENT_ID}:order-1"), 0, -1)  # type: ignore[misc]
    assert [json.loads(line)["what"] for line in lines] == ["payment.track", "payment.recheck"]


async def test_an_order_for_a_payment_never_tracked_is_rejected_after_a_minute(
    world: World,
) -> None:
    early = await world.write("payment.cancel", ORDER, f"{world.store.now() - 61_000}-0")
    await world.write("payment.cancel", {"paymentRequestId": "b"}, f"{world.store.now()}-0")
    await world.stream.read()
    [event] = await world.told()
    assert (event["id"], event["data"]["reason"]) == (f"command:{early}", "not_tracked")
    assert await world.waiting() == 1
    assert await world.dead() == []  # nothing is wrong with its sender


async def test_an_order_with_an_id_of_the_future_has_its_minute_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes an entry may choose its id."""
    entry_id = await world.write("payment.cancel", ORDER, f"{world.store.now() + DAY}-0")
    await world.stream.read()
    assert (await world.waiting(), await world.told()) == (1, [])
    monkeypatch.setattr(job_commands, "NOT_TRACKED_GRACE", 0)
    await world.stream.read()
    [event] = await world.told()
    assert (event["id"], event["data"]["reason"]) == (f"command:{entry_id}", "not_tracked")
    assert await world.waiting() == 0


async def test_a_time_to_pay_never_runs_from_the_future(world: World) -> None:
    now = world.store.now()
    await world.write("payment.track", TRACK | {"expiresIn": 300}, f"{now + DAY}-0")
    await world.stream.read()
    payment = await world.payment()
    assert payment and payment.closing_time == pytest.approx(now + 300 * SECOND, abs=5 * SECOND)


@pytest.mark.parametrize("id_", ["1-1", "1796092360-0", "999999999999-7"])
async def test_a_time_to_pay_never_runs_from_an_id_that_is_no_time(world: World, id_: str) -> None:
    """Counted from 1970 it is over: the payment would be cancelled while its buyer pays."""
    now = world.store.now()
    await world.write("payment.track", TRACK | {"expiresIn": 300}, id_)
    await world.stream.read()
    payment = await world.payment()
    assert payment and payment.closing_time == pytest.approx(now + 300 * SECOND, abs=5 * SECOND)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([b"type", b"data", b"id", b"ce_type", b"ce_specversion", b"origin_id"])
            | st.binary(max_size=8),
            st.sampled_from(
                [b"payment.track", b"payment.cancel", b"1.0", b"{}", b"1-1", b"9" * 13 + b"-1"]
                + [json.dumps(said).encode() for said in (TRACK, ORDER, ORDER | {"reason": 7})]
                + [json.dumps(event).encode() for event in EVENTS]
            )
            | st.binary(max_size=64),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_comes_into_the_stream_ends_done_or_answered_and_the_stream_goes_on(
    redis_url: str, entries: list[dict[Any, Any]]
) -> None:
    asyncio.run(_all_end(redis_url, entries))


async def _all_end(redis_url: str, entries: list[dict[Any, Any]]) -> None:
    keys, plain = Keys(f"test-{secrets.token_hex(6)}"), connect.client(redis_url)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        world = World(redis, Store(plain, keys))
        await make_group(plain, keys.commands, commands.GROUP)
        ids = {(await plain.xadd(keys.commands, fields)).decode() for fields in entries}
        ids.add(await world.write("payment.track", TRACK | {"paymentRequestId": "last"}))
        with capture_logs() as lines, pytest.MonkeyPatch.context() as patch:
            await world.stream.read()
            assert await world.payment("last")
            patch.setattr(job_commands, "NOT_TRACKED_GRACE", 0)  # of orders without a payment
            await world.stream.read()
        assert await world.waiting() == 0
        ends = [line for line in lines if line["event"] in ENDS]
        assert sorted(line["command_id"] for line in ends) == sorted(ids), "each has one end"
        answered = {f"command:{e['command_id']}" for e in ends if e["event"] != ENDS[0]}
        told = {event["id"] for event in await world.told()}  # a cancel is told of besides
        assert answered == {id_ for id_ in told if id_.startswith("command:")}
        assert await plain.xlen(keys.dead) == sum(line["event"] == "command.dead" for line in ends)
        await plain.delete(*[key async for key in plain.scan_iter(match=f"*{keys.prefix}*")])
    await plain.aclose()


ENDS = ("command.accepted", "command.rejected", "command.dead")


async def test_the_same_payment_again_is_taken_and_changes_nothing(world: World) -> None:
    for _ in range(3):
        await world.write("payment.track", TRACK)
    await world.stream.read()
    assert (await world.told(), await world.dead(), await world.waiting()) == ([], [], 0)


async def test_the_same_payment_at_another_price_is_a_conflict(world: World) -> None:
    await world.write("payment.track", TRACK)
    dearer = TRACK | {"paymentAmount": {"currency": "USD", "value": "600"}}
    entry_id = await world.write("payment.track", dearer)
    await world.stream.read()
    [event] = await world.told()
    assert (event["id"], event["data"]["reason"]) == (f"command:{entry_id}", "conflict")


async def test_what_a_dead_worker_left_is_taken_up(world: World) -> None:
    await world.write("payment.track", TRACK)
    await world.store.redis.xreadgroup(commands.GROUP, "dead", {world.keys.commands: ">"})
    assert await world.stream.read() == 1
    assert await world.payment()
    assert await world.waiting() == 0


async def test_what_another_worker_has_in_hand_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RETRY_IDLE", 60_000)
    await world.write("payment.track", TRACK)
    await world.store.redis.xreadgroup(commands.GROUP, "busy", {world.keys.commands: ">"})
    assert await world.stream.read() == 0


async def test_what_was_deleted_from_the_stream_holds_up_nothing(world: World) -> None:
    entry_id = await world.write("payment.recheck", ORDER)
    await world.stream.read()
    await world.redis.xdel(world.keys.commands, entry_id)
    await world.write("payment.track", TRACK)
    await world.stream.read()
    assert await world.payment()
    assert await world.waiting() == 0


async def test_many_commands_are_taken_a_batch_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "BATCH", 4)
    for n in range(6):
        await world.write("payment.track", TRACK | {"paymentRequestId": f"order-{n}"})
    assert await world.stream.read() == 4
    assert await world.stream.read() == 2
    assert await world.redis.zcard(world.keys.open) == 6


async def test_what_redis_does_not_confirm_as_safe_is_not_acknowledged_but_done_again(
    world: World,
) -> None:
    """`replica:1` where there is no replica: the write is made, and not safe."""
    await world.write("payment.track", TRACK)
    world.store.confirm = Confirm(("WAIT", 1, 1), 1)
    with pytest.raises(NotDurable):
        await world.stream.read()
    assert (await world.waiting(), await world.dead(), await world.told()) == (1, [], [])
    world.store.confirm = None
    await world.stream.read()
    assert await world.waiting() == 0
    assert await world.payment()


async def test_one_whose_payment_redis_refuses_holds_up_no_other(world: World) -> None:
    key = world.keys.payment(f"{CLIENT_ID}:odd")
    await world.redis.set(key, "no record")
    await world.write("payment.track", TRACK | {"paymentRequestId": "odd"})
    await world.write("payment.track", TRACK)
    for _ in range(2):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await world.stream.read()
    assert await world.payment()
    assert (await world.waiting(), await world.dead()) == (1, [])
    await world.redis.delete(key)
    await world.stream.read()
    assert await world.payment("odd")
    assert await world.waiting() == 0


class BrokenStore(Store):
    """A bug: one payment cannot be loaded."""

    async def load(self, key: str) -> Loaded | None:
        if key.endswith(":broken"):
            raise RuntimeError("a bug")
        return await super().load(key)


async def test_one_that_fails_again_and_again_is_buried_and_holds_up_no_other(
    world: World, log_lines: list[EventDict]
) -> None:
    world = World(world.redis, BrokenStore(world.store.redis, world.keys))
    entry_id = await world.write("payment.track", TRACK | {"paymentRequestId": "broken"})
    await world.write("payment.track", TRACK)
    for _ in range(commands.MAX_DELIVERIES - 1):
        await world.stream.read()
    assert await world.payment()
    assert (await world.waiting(), await world.dead()) == (1, [])
    await world.stream.read()
    [dead] = await world.dead()
    assert (dead["origin_id"], dead["deliveries"]) == (entry_id, str(commands.MAX_DELIVERIES))
    assert [event["id"] for event in await world.told()] == [f"command:{entry_id}"]
    assert await world.waiting() == 0
    failures = [line for line in log_lines if line["event"] == "job.failed"]
    assert len(failures) == commands.MAX_DELIVERIES


# For ever


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    task = asyncio.create_task(world.stream.run())
    try:
        yield
    finally:
        await end(task)


async def test_a_group_that_is_gone_is_made_again_and_starts_at_the_beginning(
    world: World,
) -> None:
    async with running(world):
        await until(lambda: world.redis.exists(world.keys.commands))
        await world.redis.delete(world.keys.commands)
        await world.write("payment.track", TRACK)
        await until(world.payment)


async def test_when_redis_goes_away_the_stream_waits_and_goes_on(
    log_lines: list[EventDict],
) -> None:
    with own_server() as server:
        store = Store(connect.client(server.url, tries=0), Keys())
        redis = connect.client(server.url, tries=5)
        world = World(redis, store)
        async with running(world):
            await until(lambda: redis.exists(world.keys.commands))
            await asyncio.to_thread(server.stop)
            await until(lambda: seen(log_lines, "worker.redis_waiting"))
            await asyncio.to_thread(server.start)
            await world.write("payment.track", TRACK)
            await until(world.payment)
        await store.redis.aclose()
        await redis.aclose()


async def seen(lines: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == event]


# As arq jobs, with a real worker


class Jobs:
    """A merchant who uses stock arq, a worker, and a gateway where everything is paid."""

    def __init__(self, redis: Redis, arq: ArqRedis, keys: Keys) -> None:
        self.redis, self.arq, self.keys = redis, arq, keys

    async def told(self, id_: str) -> dict[str, Any]:
        async def found() -> dict[str, Any] | None:
            entries = await self.redis.xrange(self.keys.outcomes)
            return next((fields for _, fields in entries if fields["id"] == id_), None)

        event: dict[str, Any] = json.loads((await until(found))["data"])
        return event


@pytest.fixture
async def jobs(redis_url: str, redis: Redis, prefix: str) -> AsyncIterator[Jobs]:
    keys = Keys(prefix)
    arq = ArqRedis(
        connection_pool=connect.pool(redis_url, tries=1),
        job_serializer=queue.serialize,
        job_deserializer=queue.deserialize,
        default_queue_name=keys.queue,
    )
    async with scripted_gateway() as gateway:
        gateway.answer = says("SUCCESS")
        stopping = asyncio.Event()
        worker_settings = load(environ(redis_url, prefix, gateway.url))
        worker = asyncio.create_task(run_worker(worker_settings, stopping))
        yield Jobs(redis, arq, keys)
        stopping.set()
        await worker
    await arq.connection_pool.disconnect()


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_payment_tracked_by_a_raw_arq_job_is_followed_to_its_end(
    jobs: Jobs, as_text: bool
) -> None:
    await jobs.arq.enqueue_job("track_payment", json.dumps(TRACK) if as_text else TRACK)
    event = await jobs.told(f"{CLIENT_ID}:order-1:succeeded")
    assert event["data"]["via"] == "inquiry"


async def test_a_raw_arq_job_that_cannot_be_carried_out_is_answered_under_its_own_id(
    jobs: Jobs,
) -> None:
    job = await jobs.arq.enqueue_job("track_payment", ORDER, _job_id=f"{jobs.keys.prefix}-mine")
    assert job
    event = await jobs.told(f"command:{job.job_id}")
    assert (event["data"]["reason"], event["data"]["message"]) == ("malformed", PRICE)
    [(_, dead)] = await until(lambda: jobs.redis.xrange(jobs.keys.dead))
    assert (dead["type"], json.loads(dead["data"])) == ("payment.track", ORDER)
    assert (dead["error"], dead["deliveries"]) == (f"malformed: {PRICE}", "1")
    assert dead["origin_id"] == job.job_id
    await jobs.arq.enqueue_job("track_payment", TRACK)  # and the worker goes on
    await jobs.told(f"{CLIENT_ID}:order-1:succeeded")


@pytest.mark.parametrize(
    ("said", "named"),
    [((), {}), ((), TRACK), ((TRACK, "x"), {}), ((TRACK,), {"data": TRACK}), ((), {"said": TRACK})],
)
async def test_a_raw_arq_job_that_is_called_otherwise_is_answered_and_kept(
    jobs: Jobs, said: tuple[Any, ...], named: dict[str, Any]
) -> None:
    job = await jobs.arq.enqueue_job("track_payment", *said, **named)
    assert job
    event = await jobs.told(f"command:{job.job_id}")
    assert event["data"]["message"].startswith("an arq job takes one argument, the data: ")
    [(_, dead)] = await until(lambda: jobs.redis.xrange(jobs.keys.dead))
    assert (dead["type"], json.loads(dead["data"])) == ("payment.track", said[0] if said else named)


async def test_a_raw_arq_job_for_a_payment_not_tracked_yet_stays_in_the_queue(
    jobs: Jobs,
) -> None:
    job = await jobs.arq.enqueue_job("cancel_payment", ORDER)
    assert job
    name = f"arq:retry:{job.job_id}"
    await until(lambda: jobs.redis.exists(name))  # it was tried
    assert await until(lambda: put_off(jobs, job.job_id), seconds=8)  # before the lease is near
    assert await jobs.redis.xlen(jobs.keys.outcomes) == 0
    await jobs.redis.delete(name)


async def put_off(jobs: Jobs, job_id: str) -> bool:
    """Until it was tried, it stands at the end of its lease."""
    seconds, _ = await jobs.redis.time()
    due = await jobs.redis.zscore(jobs.keys.queue, job_id)
    return due is not None and seconds * 1000 < due <= seconds * 1000 + COMMAND_RETRY + SECOND


async def test_a_job_that_would_run_code_is_not_even_opened(jobs: Jobs, redis_url: str) -> None:
    """arq's default format is pickle, with which whoever writes to Redis runs code here."""
    stock = ArqRedis(connection_pool=connect.pool(redis_url, tries=1))
    bomb = await stock.enqueue_job("track_payment", Bomb(), _queue_name=jobs.keys.queue)
    assert bomb
    await until(lambda: gone(jobs, bomb.job_id))
    await stock.connection_pool.disconnect()
    await jobs.arq.enqueue_job("track_payment", TRACK)
    await jobs.told(f"{CLIENT_ID}:order-1:succeeded")


async def gone(jobs: Jobs, job_id: str) -> bool:
    return await jobs.redis.zscore(jobs.keys.queue, job_id) is None


class Bomb:
    """Unpickled, it ends the process."""

    def __reduce__(self) -> Any:
        return (exit, (1,))
