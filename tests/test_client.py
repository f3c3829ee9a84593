"""Commands from the merchant's own Python code are the commands that the worker reads."""

import json
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money, OnTimeout
from jobs.news import Ask, Order, Track
from tests.keys import CLIENT_ID
from worker import client
from worker.client import send, submit, track
from worker.commands import read_command
from worker.keys import Keys


async def written(redis: Redis, prefix: str) -> tuple[str, str, str]:
    """Id, type and data of the one command in the stream."""
    [(entry_id, fields)] = await redis.xrange(Keys(prefix).commands)
    assert set(fields) == {"type", "data"}
    return entry_id, fields["type"], fields["data"]


async def read(redis: Redis, prefix: str) -> Track | Order:
    """The command as the worker understands it."""
    entry_id, type_, data = await written(redis, prefix)
    at = int(entry_id.partition("-")[0])
    return read_command(type_, data, entry_id, at, [CLIENT_ID])


async def test_a_payment_is_tracked_by_its_name_and_amount(redis: Redis, prefix: str) -> None:
    entry_id = await track(redis, "order-1", "USD", 599, prefix=prefix)
    command = await read(redis, prefix)
    assert command == Track(
        id=entry_id,
        at=command.at,
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("USD", 599),
    )


async def test_all_that_can_be_said_of_a_payment_arrives(redis: Redis, prefix: str) -> None:
    entry_id = await track(
        redis,
        "order-1",
        "JPY",
        1,
        client_id=CLIENT_ID,
        expires_in=600,
        payment_id="2026",
        on_timeout="report",
        reference="支付 7",
        prefix=prefix,
    )
    command = await read(redis, prefix)
    assert command == Track(
        id=entry_id,
        at=command.at,
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("JPY", 1),
        closing_time=command.at + 600_000,
        payment_id="2026",
        on_timeout=OnTimeout.REPORT,
        reference="支付 7",
    )


async def test_the_time_to_pay_may_be_a_moment(redis: Redis, prefix: str) -> None:
    moment = "2001-09-09T09:46:40+08:00"
    await track(redis, "order-1", "USD", 599, expiry_time=moment, prefix=prefix)
    command = await read(redis, prefix)
    assert isinstance(command, Track)
    assert command.closing_time == 1_000_000_000_000


@pytest.mark.parametrize("ask", Ask)
async def test_any_other_command_is_sent_by_its_type(redis: Redis, prefix: str, ask: Ask) -> None:
    data: dict[str, Any] = {"paymentRequestId": "order-1", "clientId": None, "reason": "left"}
    await send(redis, ask, data, prefix)
    command = await read(redis, prefix)
    assert isinstance(command, Order)
    assert (command.ask, command.reason) == (ask, "left")


@pytest.mark.parametrize("ask", Ask)
async def test_each_order_has_a_function_of_its_name(redis: Redis, prefix: str, ask: Ask) -> None:
    give = getattr(client, ask.value.removeprefix("payment."))
    entry_id = await give(redis, "order-1", client_id=CLIENT_ID, reason="left", prefix=prefix)
    assert await read(redis, prefix) == Order(
        ask=ask,
        id=entry_id,
        at=int(entry_id.partition("-")[0]),
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        reason="left",
    )


async def test_a_submitted_payment_has_the_gateways_own_fields(redis: Redis, prefix: str) -> None:
    order = {"referenceOrderId": "basket-7", "env": {"userAgent": "Mozilla"}}
    entry_id = await submit(
        redis,
        "order-1",
        "USD",
        599,
        order,
        redirect_url="https://shop.example/thanks",
        notify_url="https://shop.example/notify",
        settlement_currency="EUR",
        expires_in=600,
        callback_url="https://shop.example/hook",
        prefix=prefix,
    )
    id_, type_, data = await written(redis, prefix)
    assert (id_, type_) == (entry_id, "payment.submit")
    assert json.loads(data) == {
        "paymentRequestId": "order-1",
        "paymentAmount": {"currency": "USD", "value": "599"},
        "order": order,
        "paymentRedirectUrl": "https://shop.example/thanks",
        "paymentNotifyUrl": "https://shop.example/notify",
        "settlementStrategy": {"settlementCurrency": "EUR"},
        "expiresIn": 600,
        "callbackUrl": "https://shop.example/hook",
    }


async def test_where_to_be_called_back_may_be_said(redis: Redis, prefix: str) -> None:
    url = "https://shop.example/hook"
    await track(redis, "order-1", "USD", 599, callback_url=url, prefix=prefix)
    _, _, data = await written(redis, prefix)
    assert json.loads(data)["callbackUrl"] == url


def test_a_type_checker_is_told_that_there_are_types() -> None:
    for package in ("jobs", "worker"):
        assert (resources.files(package) / "py.typed").is_file()


async def test_what_is_not_given_is_not_written(redis: Redis, prefix: str) -> None:
    """An empty text is given; None is not."""
    await track(redis, "order-1", "USD", 599, reference="", prefix=prefix)
    _, _, data = await written(redis, prefix)
    assert json.loads(data) == {
        "paymentRequestId": "order-1",
        "paymentAmount": {"currency": "USD", "value": "599"},
        "reference": "",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expires_in", timedelta(minutes=10)),
        ("expiry_time", datetime(2026, 1, 2, tzinfo=UTC)),
        ("reference", b"basket 7"),
    ],
)
async def test_what_no_command_can_hold_is_refused_with_what_to_write(
    redis: Redis, prefix: str, name: str, value: Any
) -> None:
    with pytest.raises(TypeError, match=f"no {type(value).__name__}: write times as text in ISO"):
        await track(redis, "order-1", "USD", 599, prefix=prefix, **{name: value})
    assert await redis.exists(Keys(prefix).commands) == 0


async def test_a_client_that_gives_bytes_is_told_the_id_as_text_too(
    redis: Redis, redis_url: str, prefix: str
) -> None:
    async with Redis.from_url(redis_url) as plain:
        entry_id = await track(plain, "order-1", "USD", 599, prefix=prefix)
    assert (await written(redis, prefix))[0] == entry_id
