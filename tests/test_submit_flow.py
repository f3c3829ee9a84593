"""A payment that the worker submits itself: from the command to the end, at the mock gateway."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import environ, receiving, until
from worker import client
from worker.keys import Keys
from worker.main import run_worker
from worker.mock_gateway import MockConfig, RunningMock, Truth, start
from worker.settings import load
from worker.store import Store

pytestmark = pytest.mark.once

LIFE = 12  #: seconds; pays leave until 3 s before its end

ORDER = {
    "referenceOrderId": "basket-7",
    "orderDescription": "Mi Band 3 Wrist Strap",
    "orderAmount": {"currency": "USD", "value": "599"},
    "merchant": {
        "referenceMerchantId": "M1",
        "merchantName": "cup Hu",
        "merchantMCC": "1234",
        "store": {"referenceStoreId": "S1", "storeName": "UGG-2", "storeMcc": "1405"},
    },
    "env": {"userAgent": "Mozilla/5.0 AliApp(APHK/) AlipayClientHK/"},
}


class Shop:
    """A merchant that leaves the payment to the worker, and reads what becomes of it."""

    def __init__(self, redis: Redis, redis_url: str, prefix: str, mock: RunningMock) -> None:
        self.redis, self.url, self.keys, self.mock = redis, redis_url, Keys(prefix), mock

    @asynccontextmanager
    async def worker(self, notify_url: str, **settings: str) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        settings |= {"ALIPAY_NOTIFY_URL": notify_url, "GATEWAY_TIMEOUT_SECONDS": "1"}
        given = load(environ(self.url, self.keys.prefix, self.mock.url, **settings))
        task = asyncio.create_task(run_worker(given, stopping))
        try:
            yield
        finally:
            stopping.set()
            await asyncio.wait({task})
        task.result()

    async def submit(self, name: str, **more: Any) -> None:
        data = {
            "paymentRequestId": name,
            "paymentAmount": {"currency": "USD", "value": "599"},
            "expiresIn": LIFE,
            "order": ORDER,
        }
        await client.send(self.redis, "payment.submit", data | more, self.keys.prefix)

    async def events(self) -> list[dict[str, Any]]:
        entries = await self.redis.xrange(self.keys.outcomes)
        return [json.loads(fields["data"]) for _, fields in entries]

    async def told(self, name: str) -> list[str]:
        prefix = f"{CLIENT_ID}:{name}:"
        ids = [event["id"] for event in await self.events()]
        return [id_.removeprefix(prefix) for id_ in ids if id_.startswith(prefix)]

    async def is_told(self, name: str, end: str) -> list[str]:
        async def ended() -> bool:
            return end in await self.told(name)

        await until(ended)
        return await self.told(name)

    def truth(self, name: str) -> Truth:
        truths = self.mock.ledger.truths(0)
        return next(truth for truth in truths if truth.payment_request_id == name)

    def pays(self, name: str) -> list[str]:
        """What each pay said, by its digest."""
        moments = self.mock.ledger.journal
        return [m.detail for m in moments if (m.payment_request_id, m.what) == (name, "pay")]


@pytest.fixture
async def shop(redis: Redis, redis_url: str, prefix: str) -> AsyncIterator[Shop]:
    config = MockConfig(
        client_id=CLIENT_ID,
        gateway_private_key=private_key("alipay_v1"),
        attacker_private_key=private_key("attacker"),
        merchant_public_keys={1: public_key("merchant_v1")},
        time_scale=0.1,
    )
    mock = await start(config)
    yield Shop(redis, redis_url, prefix, mock)
    await mock.close()


NOWHERE = "http://127.0.0.1:9/notify"  #: where the gateway's notifications are lost


async def test_a_submitted_payment_is_paid_for_where_the_event_says_and_succeeds(
    shop: Shop,
) -> None:
    """Notified through the URL that the worker put into the request."""
    store = Store(shop.redis, shop.keys)
    seldom = {"RECONCILER_SCHEDULE": "60"}
    async with (
        receiving(store) as port,
        shop.worker(f"http://127.0.0.1:{port}/notify", **seldom),
    ):
        await shop.submit("paid-1")
        assert await shop.is_told("paid-1", "succeeded") == ["submitted", "succeeded"]
    submitted, succeeded = await shop.events()
    data = submitted["data"]
    assert submitted["type"] == "payment.submitted"
    assert (data["status"], data["via"], data["attempts"]) == ("pending", "pay", 0)
    payment_id = data["paymentId"]
    assert data["redirectUrl"] == f"https://cashier.invalid/pay?paymentId={payment_id}"
    assert data["redirectMethod"] == "GET"
    assert "redirectUrl" not in succeeded["data"]
    assert succeeded["data"]["via"] == "notification"
    truth = shop.truth("paid-1")
    assert (truth.pays, truth.cancels, truth.taken) == (1, 0, 599)
    record = await shop.redis.hgetall(shop.keys.payment(f"{CLIENT_ID}:paid-1"))  # type: ignore[misc]
    assert truth.closing_at == int(record["closingTime"]) // 1000 * 1000
    assert not {"payRequest", "redirectUrl"} & record.keys()


#: What is told of each, and how many pays it takes at least.
STORIES = {
    "pay_unknown-1": (3, ["submitted", "succeeded"]),
    "pay_slow-1": (2, ["submitted", "succeeded"]),
    "pay_refused_late-1": (2, ["succeeded"]),
    "pay_refused-1": (1, ["cancelling.1", "failed"]),
}


async def test_whatever_becomes_of_a_pay_it_is_one_request_and_one_order(shop: Shop) -> None:
    async with shop.worker(NOWHERE):
        for name in STORIES:
            await shop.submit(name)
        for name, (least, events) in STORIES.items():
            assert await shop.is_told(name, events[-1]) == events
            assert len(shop.pays(name)) >= least
            assert len(set(shop.pays(name))) == 1, "the same request each time"
    ends = {event["subject"]: event["data"] for event in await shop.events()}
    failed = ends.pop("pay_refused-1")
    assert (failed["via"], failed["resultCode"]) == ("pay", "RISK_REJECT")
    assert [shop.truth(name).taken for name in ends] == [599] * 3
