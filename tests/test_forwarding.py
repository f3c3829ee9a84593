"""Beside an existing receiver: what the gateway sent is passed on as it came, and taken as well
where it comes from that receiver."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from tests.fakes import Bench, open_bench
from tests.keys import CLIENT_ID, public_key
from tests.servers import (
    Asked,
    Post,
    Reply,
    ScriptedGateway,
    environ,
    notification,
    paid,
    receiving,
    scripted_gateway,
    send,
)
from tests.test_courier import couriers, dead, deliver, due, waits
from worker.deliveries import forward_lane
from worker.messages import ACK
from worker.settings import Settings, load
from worker.signature import Signed, Untrusted, verify
from worker.store import digest

pytestmark = pytest.mark.once  # what is under test is Redis and HTTP

PATH = "/alipay/notify"  #: which the gateway calls and signs
KEYS = {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}
GENUINE = notification(paid("order-1"), path=PATH)
LANE = forward_lane(CLIENT_ID, digest(GENUINE.body))


@pytest.fixture
async def bench(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    async with open_bench(redis_url, prefix) as bench:
        yield bench


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedGateway]:
    """The receiver that the merchant has already."""
    async with scripted_gateway() as shop:
        shop.answer = taken
        yield shop


async def taken(_: Asked) -> web.StreamResponse:
    return web.Response(body=ACK, content_type="application/json")


def settings_of(url: str) -> Settings:
    given = environ("redis://127.0.0.1", "x", "http://127.0.0.1:1")
    return load(given | {"NOTIFY_FORWARD_URL": url})


@asynccontextmanager
async def receiver(bench: Bench, **trusted: Any) -> AsyncIterator[int]:
    given: dict[str, Any] = {"path": PATH, "forwards": {CLIENT_ID}} | trusted
    async with receiving(bench.worker.store, **given) as port:
        yield port


async def post(port: int, message: Post) -> Reply:
    reply = await send(port, message.wire())
    assert reply is not None
    return reply


def signature_headers(asked: Asked) -> dict[str, str]:
    names = ("Content-Type", "Client-Id", "Request-Time", "Signature")
    return {name: asked.headers[name] for name in names if name in asked.headers}


# Passing on


async def test_a_verified_message_is_passed_on_as_it_came(
    bench: Bench, shop: ScriptedGateway
) -> None:
    async with receiver(bench) as port:
        assert (await post(port, GENUINE)).body == ACK
    assert shop.asked == [], "the receiver writes it down, and sends nothing itself"
    await deliver(bench, settings_of(shop.url + PATH))
    [asked] = shop.asked
    assert asked.body == GENUINE.body
    assert asked.path == PATH
    assert signature_headers(asked) == dict(GENUINE.headers)
    assert await due(bench, LANE) is None


async def test_who_gets_it_can_verify_it_by_the_gateways_key(
    bench: Bench, shop: ScriptedGateway
) -> None:
    async with receiver(bench) as port:
        await post(port, GENUINE)
    await deliver(bench, settings_of(shop.url + PATH))
    [asked] = shop.asked
    heads = asked.headers
    signed = Signed(asked.path, heads["Client-Id"], heads["Request-Time"], asked.body)
    verify(signed, heads["Signature"], client_id=CLIENT_ID, keys=KEYS)
    with pytest.raises(Untrusted):
        altered = replace(signed, body=signed.body + b" ")
        verify(altered, heads["Signature"], client_id=CLIENT_ID, keys=KEYS)


async def test_a_second_reconciler_behind_the_first_one_believes_it(
    bench: Bench, redis_url: str, prefix: str
) -> None:
    async with open_bench(redis_url, f"{prefix}-2") as other:
        async with (
            receiver(bench) as port,
            receiver(other, path="/behind", signed_paths=(PATH,)) as behind,
        ):
            await post(port, GENUINE)
            await deliver(bench, settings_of(f"http://127.0.0.1:{behind}/behind"))
        assert await waits(bench, LANE) == []
        inbox = other.keys.inbox(f"{CLIENT_ID}:order-1")
        assert await other.redis.llen(inbox) == 1  # type: ignore[misc]
        await other.redis.flushdb()


@pytest.mark.parametrize(
    ("body", "about"),
    [
        (paid("order-1", notifyType="CAPTURE_RESULT"), "order-1"),  # not ours
        ({"notifyType": "SOMETHING_NEW"}, ""),  # of no payment at all
        (paid("order-1", paymentAmount="?"), "order-1"),  # not to be understood: quarantined
        (b'{"a":"\xff"}', ""),  # not even text
    ],
    ids=["other kind", "no payment", "odd", "no text"],
)
async def test_whatever_is_genuine_is_passed_on(
    bench: Bench, shop: ScriptedGateway, body: Any, about: str
) -> None:
    message = notification(body, path=PATH)
    lane = forward_lane(CLIENT_ID, digest(message.body))
    async with receiver(bench) as port:
        assert (await post(port, message)).body == ACK
    [waiting] = await waits(bench, lane)
    assert waiting.about == about
    await deliver(bench, settings_of(shop.url + PATH))
    assert [asked.body for asked in shop.asked] == [message.body]


async def test_what_is_not_proven_genuine_is_not_passed_on(bench: Bench) -> None:
    forged = replace(GENUINE, body=GENUINE.body.replace(b"599", b"999"))
    async with receiver(bench) as port:
        assert (await post(port, forged)).status == 401
    assert await bench.redis.zcard(bench.keys.deliveries) == 0


async def test_a_message_of_an_account_that_passes_nothing_on_stays_here(bench: Bench) -> None:
    async with receiver(bench, forwards=()) as port:
        assert (await post(port, GENUINE)).body == ACK
    assert await bench.redis.zcard(bench.keys.deliveries) == 0


async def test_a_resend_is_passed_on_once(bench: Bench, shop: ScriptedGateway) -> None:
    async with receiver(bench) as port:
        for _ in range(3):
            await post(port, notification(GENUINE.body, path=PATH))
    await deliver(bench, settings_of(shop.url + PATH), rounds=3)
    assert len(shop.asked) == 1


async def test_one_of_no_payment_is_forgotten_when_the_gateway_resends_no_more(
    bench: Bench,
) -> None:
    """Every one is remembered under a key of its own: one for all would never expire."""
    async with receiver(bench) as port:
        for n in range(3):
            await post(port, notification({"notifyType": "NEW", "n": n}, path=PATH))
    names = [name async for name in bench.redis.scan_iter(bench.keys.heard("*"))]
    assert len(names) == 3
    for name in names:
        assert await bench.redis.pttl(name) > 0


async def test_a_shop_that_is_down_delays_no_answer_to_the_gateway_and_gets_it_later(
    bench: Bench, shop: ScriptedGateway
) -> None:
    answers = [500, 302, 429]

    async def down(asked: Asked) -> web.StreamResponse:
        if not answers:
            return await taken(asked)
        return web.Response(status=answers.pop(0), headers={"Location": "/elsewhere"})

    shop.answer = down
    async with receiver(bench) as port:
        assert (await post(port, GENUINE)).body == ACK
        assert len(await waits(bench, LANE)) == 1
    await deliver(bench, settings_of(shop.url + PATH), rounds=4)
    assert [asked.path for asked in shop.asked] == [PATH] * 4
    assert len({(asked.body, asked.headers["Signature"]) for asked in shop.asked}) == 1
    assert await waits(bench, LANE) == []


async def test_a_url_that_is_read_again_gets_the_next_message(
    bench: Bench, shop: ScriptedGateway
) -> None:
    settings = settings_of(shop.url + PATH)
    async with receiver(bench) as port, couriers(bench, settings) as courier:
        for name, path in ("order-1", PATH), ("order-2", "/moved"):
            await post(port, notification(paid(name), path=PATH))
            settings.renew(settings_of(shop.url + path))
            await courier.collect()
            await courier.drain()
    assert [asked.path for asked in shop.asked] == [PATH, "/moved"]


async def test_a_message_that_is_refused_delays_no_other(
    bench: Bench, shop: ScriptedGateway
) -> None:
    async def picky(asked: Asked) -> web.StreamResponse:
        return web.Response(status=500) if b"order-1" in asked.body else await taken(asked)

    shop.answer = picky
    async with receiver(bench) as port:
        await post(port, GENUINE)
        await post(port, notification(paid("order-2"), path=PATH))
    await deliver(bench, settings_of(shop.url + PATH))
    assert len(shop.asked) == 2
    assert len(await waits(bench, LANE)) == 1


async def test_after_three_days_it_is_kept_aside_with_its_signature(
    bench: Bench, shop: ScriptedGateway
) -> None:
    async def refuses(_: Asked) -> web.StreamResponse:
        return web.Response(status=404)

    shop.answer = refuses
    async with receiver(bench) as port:
        await post(port, GENUINE)
    await deliver(bench, settings_of(shop.url + PATH), rounds=12)
    assert len(shop.asked) == 10
    [letter] = await dead(bench)
    assert (letter["lane"], letter["fault"], letter["paymentRequestId"]) == (
        LANE,
        "http_404",
        "order-1",
    )


async def test_where_passing_on_was_switched_off_nothing_is_lost_in_silence(bench: Bench) -> None:
    async with receiver(bench) as port:
        await post(port, GENUINE)
    await deliver(bench, settings_of(""), rounds=10)
    assert [letter["fault"] for letter in await dead(bench)] == ["no_url"]


async def test_what_could_not_be_kept_is_neither_acknowledged_nor_passed_on_in_part(
    bench: Bench,
) -> None:
    await bench.redis.set(bench.keys.deliveries, "no sorted set")
    async with receiver(bench) as port:
        assert (await post(port, GENUINE)).status == 503
        assert await bench.redis.exists(bench.keys.inbox(f"{CLIENT_ID}:order-1")) == 0
        await bench.redis.delete(bench.keys.deliveries)
        assert (await post(port, GENUINE)).body == ACK
    assert len(await waits(bench, LANE)) == 1


# The other way round


async def test_the_merchants_own_receiver_may_hand_on_what_the_gateway_sent_it(
    bench: Bench,
) -> None:
    """Body and headers as they came, to a path of ours: the gateway signed another one."""
    handed_on = replace(notification(paid("order-1"), path="/shop/notify"), path=PATH)
    async with receiver(bench, forwards=()) as port:
        assert (await post(port, handed_on)).status == 401
    async with receiver(bench, forwards=(), signed_paths=("/shop/notify",)) as port:
        assert (await post(port, handed_on)).body == ACK
    inbox = bench.keys.inbox(f"{CLIENT_ID}:order-1")
    assert await bench.redis.llen(inbox) == 1  # type: ignore[misc]


async def test_two_that_hand_on_to_each_other_go_round_once(
    bench: Bench, redis_url: str, prefix: str
) -> None:
    async with (
        open_bench(redis_url, f"{prefix}-2") as other,
        receiver(bench) as port,
        receiver(other) as back,
    ):
        await post(port, GENUINE)
        for _ in range(3):
            await deliver(bench, settings_of(f"http://127.0.0.1:{back}{PATH}"))
            await deliver(other, settings_of(f"http://127.0.0.1:{port}{PATH}"))
        await asyncio.sleep(0)
        for one in (bench, other):
            assert await one.redis.zcard(one.keys.deliveries) == 0
            assert await one.redis.llen(one.keys.inbox(f"{CLIENT_ID}:order-1")) == 1  # type: ignore[misc]
