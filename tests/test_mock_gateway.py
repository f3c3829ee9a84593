"""The mock gateway speaks the real protocol, misbehaves as its scenarios say, and keeps the truth.

Everything here goes over HTTP with real signatures, checked by this file's own few lines of JSON
rather than by the project's parser. Time is wound by hand; a life of 10 s makes 1 % 100 ms.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web

from jobs.model import Money, Status
from tests.keys import CLIENT_ID, private_key, public_key
from worker.mock_gateway import (
    SCENARIOS,
    SUBMITTED,
    Ledger,
    MockConfig,
    RealAccount,
    RunningMock,
    Standing,
    Switches,
    Truth,
    agrees,
    refuse_real_account,
    start,
)
from worker.mock_gateway.admin import from_here, show_scenarios
from worker.mock_gateway.calls import CALLS, Reply
from worker.mock_gateway.order import CancelResult
from worker.mock_gateway.scenarios import Fault, Trouble, choose
from worker.signature import Signed, Untrusted, signature_header, verify

LIFE = 10_000
BIRTH = 1_800_000_000_000
USD = {"currency": "USD", "value": "599"}
PAY = {
    "productCode": "IN_STORE_PAYMENT",
    "paymentRequestId": "never_paid-1",
    "paymentFactor": {"inStorePaymentScenario": "EntryCode"},
    "paymentMethod": {"paymentMethodType": "CONNECT_WALLET"},
    "paymentAmount": USD,
    "order": {"orderAmount": USD, "env": {"userAgent": "Mozilla/5.0 AlipayClient"}},
}
ACK = '{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'


# A merchant, a receiver of notifications, and the mock between them.


class Clock:
    """Stands still until somebody turns it."""

    now = BIRTH

    def __call__(self) -> int:
        return self.now


@dataclass
class Answer:
    http: int
    headers: dict[str, str]
    raw: bytes
    genuine: bool

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))

    @property
    def code(self) -> str:
        result = self.body["result"]
        return f"{result['resultStatus']} {result['resultCode']}"


@dataclass
class Receiver:
    """The merchant's notify URL: keeps what comes, and acknowledges what verifies."""

    answers: list[tuple[int, str]] = field(default_factory=list)  #: given first, in turn
    heard: list[tuple[str, Answer]] = field(default_factory=list)

    async def hear(self, request: web.Request) -> web.Response:
        raw = await request.read()
        genuine = is_genuine(request.raw_path, "Request-Time", request.headers, raw)
        heard = Answer(200, dict(request.headers), raw, genuine)
        self.heard.append((request.raw_path, heard))
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text, headers={"Location": "/notify"})
        return web.Response(text=ACK) if genuine else web.Response(status=401)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [heard.body for _, heard in self.heard]


@dataclass
class World:
    """A merchant beside a running mock gateway."""

    mock: RunningMock
    session: aiohttp.ClientSession
    receiver: Receiver
    clock: Clock
    client_id: str = CLIENT_ID

    def turn(self, percent: int) -> None:
        self.clock.now = BIRTH + LIFE * percent // 100

    async def order(self, name: str, **more: Any) -> dict[str, Any]:
        wish = {"paymentRequestId": name, "amount": USD, "closingSeconds": LIFE / 1000} | more
        async with self.session.post(f"{self.mock.url}/mock/orders", json=wish) as response:
            assert response.status == 201, await response.text()
            return dict(await response.json())

    async def call(self, name: str, body: object, **changed: Any) -> Answer:
        """A signed request, or one that is wrong in what `changed` says."""
        prefix = "/ams/sandbox/api" if self.client_id.startswith("SANDBOX_") else "/ams/api"
        path = f"{prefix}/v1/payments/{name}"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        client_id = changed.get("client_id", self.client_id)
        sent_at = "1800000000000"
        signed = Signed(changed.get("path", path), client_id, sent_at, changed.get("signed", raw))
        key = private_key(changed.get("key", "merchant_v1"))
        headers = {
            "Client-Id": client_id,
            "Request-Time": sent_at,
            "Signature": signature_header(signed, key, changed.get("key_version", 1)),
            "Content-Type": "application/json; charset=UTF-8",
        }
        headers.pop(changed.get("without", ""), None)
        async with self.session.post(self.mock.url + path, data=raw, headers=headers) as response:
            got = await response.read()
            genuine = is_genuine(path, "Response-Time", response.headers, got, self.client_id)
            return Answer(response.status, dict(response.headers), got, genuine)

    async def inquire(self, name: str, percent: int | None = None) -> Answer:
        if percent is not None:
            self.turn(percent)
        return await self.call("inquiryPayment", {"paymentRequestId": name})

    async def cancel(self, name: str, percent: int | None = None) -> Answer:
        if percent is not None:
            self.turn(percent)
        return await self.call("cancel", {"paymentRequestId": name})

    async def status(self, name: str, percent: int | None = None) -> str:
        return str((await self.inquire(name, percent)).body["paymentStatus"])

    async def truth(self, name: str) -> Truth:
        async with self.session.get(f"{self.mock.url}/mock/ledger") as response:
            truths = [Truth.from_json(row) for row in await response.json()]
        return next(truth for truth in truths if truth.payment_request_id == name)


def is_genuine(path: str, time_name: str, headers: Any, raw: bytes, us: str = CLIENT_ID) -> bool:
    """Whether the gateway signed exactly this, for us."""
    names = ("Client-Id", time_name, "Signature")
    if any(name not in headers for name in names):
        return False
    client_id, at, signature = (headers[name] for name in names)
    keys = {1: public_key("alipay_v1")}
    try:
        verify(Signed(path, client_id, at, raw), signature, client_id=us, keys=keys)
    except Untrusted:
        return False
    return True


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/notify", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running(*, query: str = "", **changed: Any) -> AsyncIterator[World]:
    receiver, clock = Receiver(), Clock()
    client_id = changed.get("client_id", CLIENT_ID)
    async with serving(receiver.hear) as url, aiohttp.ClientSession() as session:
        mock = await start(replace(CONFIG, clock=clock, notify_url=url + query, **changed))
        try:
            yield World(mock, session, receiver, clock, client_id)
        finally:
            await mock.close()


CONFIG = MockConfig(
    client_id=CLIENT_ID,
    gateway_private_key=private_key("alipay_v1"),
    merchant_public_keys={1: public_key("merchant_v1")},
    time_scale=1e-6,
    default_closing_seconds=LIFE / 1000,
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        yield world


async def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def quiet() -> None:
    """Long enough for anything that is due to have been sent."""
    await asyncio.sleep(0.1)


# Whom it plays.


@pytest.mark.parametrize(
    ("client_id", "own_keys", "refused"),
    [
        ("SANDBOX_5X", False, False),
        ("SANDBOX_5X", True, False),
        ("5X_REAL", True, False),
        ("5X_REAL", False, True),
        ("sandbox_5X", False, True),
        ("X_SANDBOX_", False, True),
    ],
)
def test_it_plays_a_sandbox_or_whoever_it_made_keys_for(
    client_id: str, own_keys: bool, refused: bool
) -> None:
    """A real account with keys from elsewhere is refused, by name and with what to do."""
    if not refused:
        refuse_real_account(client_id, own_keys)
        return
    with pytest.raises(RealAccount, match=f"{client_id}.*SANDBOX_"):
        refuse_real_account(client_id, own_keys)


async def test_it_does_not_start_for_a_real_account() -> None:
    """The refusal comes from `start` itself, so that no caller can forget it."""
    with pytest.raises(RealAccount):
        await start(replace(CONFIG, client_id="5X_REAL"))


async def test_a_taken_port_is_an_os_error() -> None:
    """Whoever starts it can say what is wrong."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="address already in use"):
            await start(replace(CONFIG, port=taken.getsockname()[1]))


async def test_sandbox_and_production_accounts_have_their_own_paths() -> None:
    """The client id alone chooses: the other path is not there."""
    async with running(client_id="5X_MADE_FOR_THIS", own_keys=True) as world:
        await world.order("paid-1")
        assert (await world.inquire("paid-1")).genuine
        sandbox = world.mock.url + "/ams/sandbox/api/v1/payments/inquiryPayment"
        async with world.session.post(sandbox) as response:
            assert response.status == 404


# Signatures.


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"key": "attacker"}, "F INVALID_SIGNATURE"),
        ({"signed": b'{"paymentRequestId":"paid-2"}'}, "F INVALID_SIGNATURE"),
        ({"path": "/ams/sandbox/api/v1/payments/cancel"}, "F INVALID_SIGNATURE"),
        ({"without": "Signature"}, "F INVALID_SIGNATURE"),
        ({"without": "Client-Id"}, "F INVALID_SIGNATURE"),
        ({"without": "Request-Time"}, "F INVALID_SIGNATURE"),
        ({"client_id": "SANDBOX_OTHER"}, "F INVALID_CLIENT"),
        ({"key_version": 2}, "F KEY_NOT_FOUND"),
    ],
)
async def test_a_request_that_does_not_verify_is_refused_unsigned(
    world: World, changed: dict[str, Any], code: str
) -> None:
    """The refusal is the one answer that the gateway does not sign, and it counts for nothing."""
    await world.order("paid-1")
    answer = await world.call("inquiryPayment", {"paymentRequestId": "paid-1"}, **changed)
    assert (answer.http, answer.code, "Signature" in answer.headers) == (200, code, False)
    assert (await world.truth("paid-1")).inquiries == 0


async def test_an_answer_is_signed_over_its_own_time_and_path(world: World) -> None:
    """Client-Id, Response-Time and Signature are there, and the time is the gateway's."""
    await world.order("paid-1")
    answer = await world.inquire("paid-1")
    assert answer.genuine
    assert answer.headers["Client-Id"] == CLIENT_ID
    assert answer.headers["Response-Time"] == "2027-01-15T16:00:00+08:00"
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("encoding", "looks"), [("upper", r"%2B|%2F|%3D"), ("lower", r"%2b|%2f|%3d"), ("plain", "==$")]
)
async def test_a_signature_is_encoded_as_the_switch_says(encoding: Any, looks: str) -> None:
    """All three spellings were seen in the wild, and all verify."""
    async with running(switches=Switches(signature_encoding=encoding)) as world:
        answer = await world.inquire("nobody")
        header = answer.headers["Signature"]
        assert answer.genuine
        assert re.search(looks, header)
        assert (unquote(header) == header) == (encoding == "plain")


# pay.


async def test_pay_creates_an_order_and_says_nothing_of_a_payment(world: World) -> None:
    """S with a paymentId and where to send the buyer, but no paymentStatus."""
    answer = await world.call("pay", PAY)
    assert answer.genuine
    assert answer.code == "S SUCCESS"
    assert answer.body["paymentAmount"] == USD
    assert answer.body["paymentCreateTime"] == "2027-01-15T16:00:00+08:00"
    assert answer.body["redirectActionForm"]["redirectUrl"].startswith("https://")
    assert "paymentStatus" not in answer.body
    inquired = await world.inquire("never_paid-1")
    assert inquired.body["paymentId"] == answer.body["paymentId"]
    assert inquired.body["paymentStatus"] == "PROCESSING"


async def test_pay_is_idempotent(world: World) -> None:
    """The same id gives the same answer, even past its expiry; another amount is refused."""
    expiry = {"paymentExpiryTime": "2027-01-15T16:00:10+08:00"}
    first = await world.call("pay", PAY | expiry)
    world.turn(200)
    assert (await world.call("pay", PAY | expiry)).body == first.body
    other = PAY | {"paymentAmount": {"currency": "USD", "value": "600"}}
    assert (await world.call("pay", other)).code == "F REPEAT_REQ_INCONSISTENT"


@pytest.mark.parametrize("name", ["paymentExpiryTime", "paymentExpireTime"])
async def test_pay_takes_the_closing_time_under_both_names(world: World, name: str) -> None:
    """The SDKs write one, the older documents the other."""
    await world.call("pay", PAY | {name: "2027-01-15T16:00:06+08:00"})
    assert (await world.truth("never_paid-1")).closing_at == BIRTH + 6_000


async def test_pay_without_a_closing_time_uses_the_contract_s(world: World) -> None:
    """Which is the mock's default."""
    await world.call("pay", PAY)
    assert (await world.truth("never_paid-1")).closing_at == BIRTH + LIFE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"productCode": "CASHIER_PAYMENT"}, "productCode"),
        ({"paymentFactor": {}}, "paymentFactor.inStorePaymentScenario"),
        ({"paymentMethod": "CONNECT_WALLET"}, "paymentMethod.paymentMethodType"),
        ({"order": {}}, "env.userAgent"),
        ({"paymentRequestId": ""}, "paymentRequestId"),
        ({"paymentRequestId": "x" * 65}, "paymentRequestId"),
        ({"paymentRequestId": 1}, "paymentRequestId"),
        ({"paymentRequestId": "\ud800"}, "paymentRequestId"),
        ({"paymentAmount": None}, "paymentAmount.currency"),
        ({"paymentAmount": {"currency": "USD", "value": 599}}, "paymentAmount.value"),
        ({"paymentAmount": {"currency": "USD", "value": "5.99"}}, "paymentAmount.value"),
        ({"paymentAmount": {"currency": "usd", "value": "599"}}, "paymentAmount.currency"),
        ({"paymentExpiryTime": "2027-01-15T15:59:59+08:00"}, "paymentExpiryTime"),
        ({"paymentExpiryTime": "2027-01-15T16:00:06"}, "paymentExpiryTime"),
        ({"paymentExpiryTime": "2037-01-15T16:00:06Z"}, "paymentExpiryTime"),
        ({"paymentExpiryTime": "tomorrow"}, "paymentExpiryTime"),
        ({"paymentExpiryTime": 5}, "paymentExpiryTime"),
        ({"paymentNotifyUrl": "ftp://example.com"}, "paymentNotifyUrl"),
        ({"paymentNotifyUrl": 7}, "paymentNotifyUrl"),
    ],
)
async def test_pay_refuses_what_is_no_entry_code_payment(
    world: World, change: dict[str, Any], field: str
) -> None:
    """PARAM_ILLEGAL, signed, naming the field; and no order."""
    answer = await world.call("pay", PAY | change)
    assert (answer.code, answer.genuine) == ("F PARAM_ILLEGAL", True)
    assert answer.body["result"]["resultMessage"] == f"illegal parameter: {field}"
    assert world.mock.ledger.truths(BIRTH) == []


#: An order that lives a second, so that what is lost or held takes no longer.
BRIEF = PAY | {"paymentExpiryTime": "2027-01-15T16:00:01+08:00"}


async def pays(world: World, name: str) -> list[str]:
    """What three pays are answered."""
    said = []
    for _ in range(3):
        try:
            said.append((await world.call("pay", BRIEF | {"paymentRequestId": name})).code)
        except aiohttp.ClientError:
            said.append("lost")
    return said


@pytest.mark.parametrize(
    ("name", "said", "standing"),
    [
        ("pay_unknown-1", ["U UNKNOWN_EXCEPTION", "lost", "S SUCCESS"], "unpaid"),
        ("pay_refused-1", ["F RISK_REJECT"] * 3, "never_created"),
        ("pay_refused_late-1", ["lost", "F RISK_REJECT", "S SUCCESS"], "unpaid"),
    ],
)
async def test_pay_itself_may_go_wrong_with_and_without_making_the_order(
    world: World, name: str, said: list[str], standing: str
) -> None:
    assert await pays(world, name) == said
    truth = await world.truth(name)
    assert (truth.status, truth.pays) == (standing, 3)


async def test_a_pay_that_is_lost_has_made_the_order(world: World) -> None:
    with pytest.raises(aiohttp.ClientError):
        await world.call("pay", BRIEF | {"paymentRequestId": "pay_refused_late-1"})
    assert await world.status("pay_refused_late-1") == "PROCESSING"


async def test_each_pay_leaves_a_digest_by_which_the_same_request_is_known(world: World) -> None:
    await world.call("pay", PAY)
    await world.call("pay", PAY)
    await world.call("pay", PAY | {"paymentRedirectUrl": "https://shop.example/done"})
    said = [moment.detail for moment in world.mock.ledger.journal if moment.what == "pay"]
    assert said[0] == said[1] != said[2]


async def test_a_pay_that_is_held_is_answered_when_the_trouble_is_over(world: World) -> None:
    started = time.monotonic()
    answer = await world.call("pay", BRIEF | {"paymentRequestId": "pay_slow-1"})
    assert answer.code == "S SUCCESS"
    assert time.monotonic() - started >= 0.39


@pytest.mark.parametrize("body", [b"{", b'{"a":' * 100_000, {}, {"paymentRequestId": None}])
async def test_an_inquiry_without_a_payment_is_illegal(world: World, body: object) -> None:
    """What cannot be read is answered, not crashed on."""
    answer = await world.call("inquiryPayment", body)
    assert (answer.code, answer.genuine) == ("F PARAM_ILLEGAL", True)


# inquiryPayment.


@pytest.mark.parametrize(
    ("scenario", "percent", "said"),
    [
        ("paid", 29, "PROCESSING"),
        ("paid", 30, "SUCCESS"),
        ("paid_notification_lost", 30, "SUCCESS"),
        ("paid_late", 80, "PROCESSING"),
        ("paid_late", 90, "SUCCESS"),
        ("failed", 30, "FAIL"),
        ("never_paid", 99, "PROCESSING"),
        ("never_paid", 900, "PROCESSING"),
        ("closed_by_gateway", 94, "PROCESSING"),
        ("closed_by_gateway", 95, "CANCELLED"),
        ("pending_confirmation", 29, "PROCESSING"),
        ("pending_confirmation", 30, "PENDING"),
        ("pending_confirmation", 129, "PENDING"),
        ("pending_confirmation", 130, "SUCCESS"),
        ("order_not_exist_first", 25, "PROCESSING"),
        ("order_not_exist_first", 60, "SUCCESS"),
        ("notification_twice", 30, "SUCCESS"),
        ("notification_before_track", 0, "SUCCESS"),
        ("forged_notification", 900, "PROCESSING"),
        ("cancel_unknown", 900, "PROCESSING"),
        ("paid_during_cancel", 900, "PROCESSING"),
        ("paid_after_cancel", 900, "PROCESSING"),
        ("cancel_window_exceeded", 900, "PROCESSING"),
        ("gateway_down", 115, "SUCCESS"),
        ("gateway_slow", 80, "SUCCESS"),
        ("amount_mismatch", 29, "PROCESSING"),
        ("amount_mismatch", 30, "SUCCESS"),
        ("paid_after_expiry_refunded", 99, "PROCESSING"),
        ("paid_after_expiry_refunded", 100, "SUCCESS"),
    ],
)
async def test_an_inquiry_says_how_the_order_stands(
    world: World, scenario: str, percent: int, said: str
) -> None:
    """Signed, S, and the paymentStatus of that moment of the order's life."""
    await world.order(f"{scenario}-1")
    answer = await world.inquire(f"{scenario}-1", percent)
    assert (answer.genuine, answer.code) == (True, "S SUCCESS")
    assert answer.body["paymentStatus"] == said
    assert answer.body["paymentRequestId"] == f"{scenario}-1"
    assert ("paymentTime" in answer.body) == (said == "SUCCESS")
    assert answer.body["paymentAmount"] == (
        {"currency": "USD", "value": "600"}
        if (scenario, percent) == ("amount_mismatch", 30)
        else USD
    )


async def test_the_gateway_s_own_id_wins(world: World) -> None:
    """An inquiry with both ids is about the paymentId's order: what we must never send."""
    one, other = await world.order("paid-1"), await world.order("paid-2")
    both = {"paymentRequestId": "paid-1", "paymentId": other["paymentId"]}
    assert (await world.call("inquiryPayment", both)).body["paymentRequestId"] == "paid-2"
    alone = {"paymentId": one["paymentId"]}
    assert (await world.call("inquiryPayment", alone)).body["paymentRequestId"] == "paid-1"
    unknown = {"paymentId": "20260101"}
    assert (await world.call("inquiryPayment", unknown)).code == "F ORDER_NOT_EXIST"


@pytest.mark.parametrize("code", ["ORDER_NOT_EXIST", "PROCESS_FAIL"])
async def test_an_order_that_is_missing_is_said_to_be_missing(code: Any) -> None:
    """Never created or not yet there, asked or cancelled: one code, which a switch chooses."""
    async with running(switches=Switches(missing_order=code)) as world:
        await world.order("order_not_exist_first-1")
        for name in ("order_not_exist_first-1", "nobody"):
            for answer in (await world.inquire(name, 24), await world.cancel(name)):
                assert (answer.code, answer.genuine) == (f"F {code}", True)
                assert answer.body["result"]["resultMessage"] == "order not exist"
        never = await world.truth("nobody")
        assert (never.status, never.inquiries, never.cancels) == (Standing.NEVER_CREATED, 1, 1)
        assert await world.status("order_not_exist_first-1", 60) == (
            "SUCCESS"  # the vain cancel has changed nothing
        )


async def test_the_payment_status_is_spelled_as_the_switch_says() -> None:
    """A sample of the vendor prints `Success`."""
    async with running(switches=Switches(payment_status="Success")) as world:
        await world.order("paid-1")
        assert await world.status("paid-1") == "Processing"
        assert await world.status("paid-1", 30) == "Success"


async def test_a_refund_at_once_is_a_success_with_a_transaction(world: World) -> None:
    """The status alone would read as paid: the whole amount stands in transactions[]."""
    await world.order("paid_after_expiry_refunded-1")
    body = (await world.inquire("paid_after_expiry_refunded-1", 101)).body
    [back] = body["transactions"]
    assert body["paymentStatus"] == back["transactionStatus"] == "SUCCESS"
    assert (back["transactionType"], back["transactionAmount"]) == ("REFUND", USD)
    cancelled = await world.cancel("paid_after_expiry_refunded-1")
    assert cancelled.code == "F PROCESS_FAIL"


# cancel.


async def test_a_cancel_closes_the_unpaid_order_for_good(world: World) -> None:
    """S however often it is sent, and the buyer who comes later cannot pay."""
    await world.order("paid-1")
    first, again = await world.cancel("paid-1", 20), await world.cancel("paid-1")
    assert first.code == again.code == "S SUCCESS"
    assert first.genuine
    assert first.body["paymentRequestId"] == "paid-1"
    assert first.body["cancelTime"] == "2027-01-15T16:00:02+08:00"
    assert await world.status("paid-1", 50) == "CANCELLED"
    truth = await world.truth("paid-1")
    assert (truth.status, truth.kept, truth.closed_at) == (Standing.CLOSED, 0, BIRTH + 2_000)
    assert (truth.inquiries, truth.cancels) == (1, 2)


async def test_a_cancel_gives_all_of_a_paid_order_back(world: World) -> None:
    """The payment is CANCELLED then, with a transaction of type CANCEL."""
    await world.order("paid-1")
    assert (await world.cancel("paid-1", 50)).code == "S SUCCESS"
    assert (await world.cancel("paid-1")).code == "S SUCCESS"
    body = (await world.inquire("paid-1")).body
    assert body["paymentStatus"] == "CANCELLED"
    [back] = body["transactions"]
    assert (back["transactionType"], back["transactionAmount"]) == ("CANCEL", USD)
    truth = await world.truth("paid-1")
    assert (truth.status, truth.taken, truth.refunded) == (Standing.REFUNDED, 599, 599)


async def test_a_cancel_while_the_bank_confirms_closes_the_order(world: World) -> None:
    """The gateway sees to it that none of the money stays taken."""
    await world.order("pending_confirmation-1")
    assert (await world.cancel("pending_confirmation-1", 50)).code == "S SUCCESS"
    assert await world.status("pending_confirmation-1", 200) == "CANCELLED"
    assert (await world.truth("pending_confirmation-1")).kept == 0


@pytest.mark.parametrize(("switch", "code"), [("S", "S SUCCESS"), ("F", "F ORDER_STATUS_INVALID")])
async def test_a_cancel_of_a_failed_payment_is_a_switch(switch: Any, code: str) -> None:
    """Either way the payment stays FAIL."""
    async with running(switches=Switches(cancel_of_failed=switch)) as world:
        await world.order("failed-1")
        assert (await world.cancel("failed-1", 40)).code == code
        assert await world.status("failed-1") == "FAIL"


async def test_cancel_unknown_hears_u_then_nothing_then_s(world: World) -> None:
    """The first cancel does nothing; the second closes the order, and its answer is lost."""
    await world.order("cancel_unknown-1", closingSeconds=0.5)
    assert (await world.cancel("cancel_unknown-1")).code == "U UNKNOWN_EXCEPTION"
    assert await world.status("cancel_unknown-1") == "PROCESSING"
    asked = time.monotonic()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.cancel("cancel_unknown-1")
    assert time.monotonic() - asked >= 0.05
    assert await world.status("cancel_unknown-1") == "CANCELLED"
    assert (await world.cancel("cancel_unknown-1")).code == "S SUCCESS"


async def test_cancel_window_exceeded_refuses_every_cancel(world: World) -> None:
    """And leaves the order as open as it was."""
    await world.order("cancel_window_exceeded-1")
    for percent in (100, 101, 1000):
        answer = await world.cancel("cancel_window_exceeded-1", percent)
        assert (answer.code, answer.genuine) == ("F CANCEL_WINDOW_EXCEED", True)
        assert await world.status("cancel_window_exceeded-1") == "PROCESSING"


async def test_paid_during_cancel_is_paid_and_given_back_in_one_breath(world: World) -> None:
    """No inquiry ever saw it paid, and yet the buyer is told of a payment."""
    await world.order("paid_during_cancel-1")
    assert await world.status("paid_during_cancel-1", 100) == "PROCESSING"
    assert (await world.cancel("paid_during_cancel-1")).code == "S SUCCESS"
    assert await world.status("paid_during_cancel-1") == "CANCELLED"
    await until(lambda: len(world.receiver.heard) == 1)
    assert world.receiver.bodies[0]["result"]["resultStatus"] == "S"
    truth = await world.truth("paid_during_cancel-1")
    assert (truth.taken, truth.kept, truth.status) == (599, 0, Standing.REFUNDED)


async def test_paid_after_cancel_needs_a_second_cancel(world: World) -> None:
    """The first was confirmed, the buyer pays all the same, a notification says so."""
    name = "paid_after_cancel-1"
    await world.order(name)
    await world.cancel(name, 100)
    await world.cancel(name, 110)  # a repeated cancel changes nothing
    assert await world.status(name) == "CANCELLED"
    assert not (await world.truth(name)).settled
    assert await world.status(name, 130) == "SUCCESS"
    await until(lambda: len(world.receiver.heard) == 1)
    assert world.receiver.bodies[0]["result"]["resultStatus"] == "S"
    taken = await world.truth(name)
    assert (taken.kept, taken.settled, agrees("cancelled", taken)) == (599, True, False)
    assert (await world.cancel(name)).code == "S SUCCESS"
    assert await world.status(name, 900) == "CANCELLED"
    assert agrees("cancelled", await world.truth(name))


# Inquiries that go wrong.


async def test_gateway_down_drops_the_connection_or_answers_503(world: World) -> None:
    """In turn, until some time after the closing time."""
    await world.order("gateway_down-1")
    for percent in (10, 60, 114):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await world.inquire("gateway_down-1", percent)
        assert (await world.inquire("gateway_down-1")).http == 503
    assert await world.status("gateway_down-1", 115) == "SUCCESS"


async def test_gateway_slow_answers_when_the_trouble_is_over(world: World) -> None:
    """With what was true when it was asked."""
    await world.order("gateway_slow-1", closingSeconds=0.5)
    asked = time.monotonic()
    assert await world.status("gateway_slow-1") == "PROCESSING"
    assert time.monotonic() - asked >= 0.4
    world.clock.now += 400
    assert await world.status("gateway_slow-1") == "SUCCESS"


async def test_rate_limited_turns_four_inquiries_away(world: World) -> None:
    """U means nothing about the money, which is paid."""
    await world.order("rate_limited-1")
    for _ in range(4):
        answer = await world.inquire("rate_limited-1", 50)
        assert (answer.code, answer.genuine) == ("U REQUEST_TRAFFIC_EXCEED_LIMIT", True)
    assert await world.status("rate_limited-1") == "SUCCESS"


async def test_bad_signature_answers_lie_five_times(world: World) -> None:
    """Unsigned, forged or altered, paid or failed: none of it verifies, none of it is true."""
    await world.order("bad_signature_answers-1")
    lies = [await world.inquire("bad_signature_answers-1") for _ in range(5)]
    assert [lie.body["paymentStatus"] for lie in lies] == [
        "SUCCESS",
        "FAIL",
        "SUCCESS",
        "FAIL",
        "SUCCESS",
    ]
    assert not any(lie.genuine for lie in lies)
    assert ["Signature" in lie.headers for lie in lies] == [False, True, True, False, True]
    honest = await world.inquire("bad_signature_answers-1", 100)
    assert (honest.genuine, honest.body["paymentStatus"]) == (True, "PROCESSING")


async def test_answer_of_another_payment_is_genuine_and_beside_the_question(world: World) -> None:
    """Its signature verifies: only its paymentRequestId tells."""
    await world.order("answer_of_another_payment-1")
    for _ in range(3):
        answer = await world.inquire("answer_of_another_payment-1")
        assert (answer.genuine, answer.body["paymentStatus"]) == (True, "SUCCESS")
        assert answer.body["paymentRequestId"] == "other-answer_of_another_payment-1"
        assert answer.body["paymentAmount"] == USD
    right = await world.inquire("answer_of_another_payment-1", 100)
    assert right.body["paymentRequestId"] == "answer_of_another_payment-1"
    assert right.body["paymentStatus"] == "PROCESSING"


@pytest.mark.parametrize(
    ("trouble", "calls"),
    [
        (Trouble(faults=(Fault.BUSY,)), ["1@0 busy", "9@999 busy"]),
        (Trouble(faults=(Fault.BUSY,), first=2), ["2@0 busy", "3@0 -"]),
        (Trouble(faults=(Fault.BUSY,), since=5, until=7), ["1@4 -", "1@5 busy", "1@7 -"]),
        (Trouble(faults=(Fault.DROP, Fault.BUSY)), ["1@0 drop", "2@0 busy", "3@0 drop"]),
    ],
)
def test_a_trouble_has_a_number_and_a_time(trouble: Trouble, calls: list[str]) -> None:
    """`nth call @ age fault`: how many, from when, until when, and the faults in turn."""
    for call in calls:
        where, fault = call.split()
        nth, age = map(int, where.split("@"))
        assert (trouble.fault(nth, age) or "-") == fault


# Notifications.


@pytest.mark.parametrize(
    ("scenario", "percent", "status", "code"),
    [
        ("paid", 31, "S", "SUCCESS"),
        ("paid_late", 116, "S", "SUCCESS"),
        ("failed", 31, "F", "USER_BALANCE_NOT_ENOUGH"),
        ("order_not_exist_first", 61, "S", "SUCCESS"),
        ("amount_mismatch", 31, "S", "SUCCESS"),
        ("paid_after_expiry_refunded", 151, "S", "SUCCESS"),
    ],
)
async def test_a_result_is_notified_once_it_is_acknowledged(
    world: World, scenario: str, percent: int, status: str, code: str
) -> None:
    """Signed for the notify URL's path; no paymentStatus; a paymentTime only if paid."""
    made = await world.order(f"{scenario}-1")
    await world.inquire(f"{scenario}-1", percent)
    await until(lambda: len(world.receiver.heard) == 1)
    await quiet()
    [(_, heard)] = world.receiver.heard
    assert heard.genuine
    assert heard.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert heard.body["notifyType"] == "PAYMENT_RESULT"
    assert heard.code == f"{status} {code}"
    assert heard.body["paymentRequestId"] == f"{scenario}-1"
    assert heard.body["paymentId"] == made["paymentId"]
    assert heard.body["paymentAmount"]["value"] == (
        "600" if scenario == "amount_mismatch" else "599"
    )
    assert ("paymentTime" in heard.body) == (status == "S")
    assert "paymentStatus" not in heard.body
    truth = await world.truth(f"{scenario}-1")
    assert (truth.notifications_sent, truth.notifications_acked) == (1, 1)


async def test_a_late_notification_is_late(world: World) -> None:
    """paid_late is notified after the closing time, not before."""
    await world.order("paid_late-1")
    await world.inquire("paid_late-1", 114)
    await quiet()
    assert world.receiver.heard == []


@pytest.mark.parametrize(
    "scenario", [row.name for row in SCENARIOS.values() if not row.notify.copies]
)
async def test_a_lost_notification_never_comes(world: World, scenario: str) -> None:
    """Nor does a resend of it."""
    await world.order(f"{scenario}-1")
    world.turn(900)
    await world.call("inquiryPayment", {"paymentRequestId": "wake"})
    await quiet()
    assert world.receiver.heard == []


async def test_a_notification_comes_by_itself_when_its_time_comes() -> None:
    """On the wall clock, with nobody calling the mock."""
    receiver = Receiver()
    async with serving(receiver.hear) as url:
        mock = await start(replace(CONFIG, notify_url=url))
        async with aiohttp.ClientSession() as session:
            world = World(mock, session, receiver, Clock())
            born = time.monotonic()
            await world.order("paid-1", closingSeconds=0.4)
        await until(lambda: len(receiver.heard) == 1)
        assert time.monotonic() - born >= 0.1
        await mock.close()


async def test_pending_confirmation_is_notified_as_pending_then_as_paid(world: World) -> None:
    """PAYMENT_PENDING comes with resultStatus S: the trap of this protocol."""
    await world.order("pending_confirmation-1")
    await world.inquire("pending_confirmation-1", 40)
    await until(lambda: len(world.receiver.heard) == 1)
    await world.inquire("pending_confirmation-1", 140)
    await until(lambda: len(world.receiver.heard) == 2)
    said = [(body["notifyType"], body["result"]["resultStatus"]) for body in world.receiver.bodies]
    assert said == [("PAYMENT_PENDING", "S"), ("PAYMENT_RESULT", "S")]
    assert ["paymentTime" in body for body in world.receiver.bodies] == [False, True]


async def test_notification_twice_comes_twice(world: World) -> None:
    """The same message, word for word."""
    await world.order("notification_twice-1")
    await world.inquire("notification_twice-1", 31)
    await until(lambda: len(world.receiver.heard) == 2)
    assert world.receiver.bodies[0] == world.receiver.bodies[1]
    assert (await world.truth("notification_twice-1")).notifications_acked == 2


async def test_notification_before_track_comes_as_soon_as_there_is_an_order(world: World) -> None:
    """No time passes, nobody asks: creating it is enough."""
    await world.order("notification_before_track-1")
    await until(lambda: len(world.receiver.heard) == 1)
    assert world.receiver.bodies[0]["result"]["resultStatus"] == "S"


async def test_forged_notifications_claim_success_and_do_not_verify(world: World) -> None:
    """Four ways of lying, each sent once; the genuine key is among them, for another account."""
    await world.order("forged_notification-1")
    await world.inquire("forged_notification-1", 60)
    await until(lambda: len(world.receiver.heard) == 4)
    await quiet()
    assert [body["result"]["resultStatus"] for body in world.receiver.bodies] == ["S"] * 4
    assert not any(heard.genuine for _, heard in world.receiver.heard)
    clients = {heard.headers["Client-Id"] for _, heard in world.receiver.heard}
    assert clients == {CLIENT_ID, "SANDBOX_OTHER_MERCHANT"}
    [replayed] = [h for _, h in world.receiver.heard if h.headers["Client-Id"] != CLIENT_ID]
    path, times = "/notify", "Request-Time"
    assert is_genuine(path, times, replayed.headers, replayed.raw, us="SANDBOX_OTHER_MERCHANT")
    truth = await world.truth("forged_notification-1")
    assert (truth.forgeries_sent, truth.forgeries_acked, truth.kept) == (4, 0, 0)
    assert truth.notifications_sent == 0


async def test_a_receiver_that_believes_a_forgery_is_found_out(world: World) -> None:
    """An acknowledged forgery stands in the ledger."""
    world.receiver.answers = [(200, ACK)] * 4
    await world.order("forged_notification-1")
    await world.inquire("forged_notification-1", 60)
    await until(lambda: len(world.receiver.heard) == 4)
    await quiet()
    assert (await world.truth("forged_notification-1")).forgeries_acked == 4


@pytest.mark.parametrize(
    ("http", "text"),
    [
        (503, ACK),
        (302, ACK),
        (201, ACK),
        (200, ""),
        (200, "success"),
        (200, "[]"),
        (200, '{"result":"S"}'),
        (200, '{"result":{"resultStatus":"U"}}'),
    ],
)
async def test_a_notification_is_resent_until_it_is_acknowledged(
    world: World, http: int, text: str
) -> None:
    """Only HTTP 200 with resultStatus S is an acknowledgement; no redirect is followed."""
    world.receiver.answers = [(http, text)] * 2
    await world.order("paid-1")
    await world.inquire("paid-1", 31)
    await until(lambda: len(world.receiver.heard) == 3)
    await quiet()
    truth = await world.truth("paid-1")
    assert (truth.notifications_sent, truth.notifications_acked) == (3, 1)
    assert world.receiver.bodies[0] == world.receiver.bodies[2]


async def test_a_notification_is_given_up_after_eight_tries(world: World) -> None:
    """As the vendor documents it."""
    world.receiver.answers = [(503, "")] * 20
    await world.order("paid-1")
    await world.inquire("paid-1", 31)
    await until(lambda: len(world.receiver.heard) == 8)
    await quiet()
    truth = await world.truth("paid-1")
    assert (truth.notifications_sent, truth.notifications_acked) == (8, 0)


async def test_resends_wait_as_documented_times_the_scale() -> None:
    """0, 2 min, 10 min, 10 min, 1 h, ...: a thousandth of it puts the second try at 0.12 s."""
    async with running(time_scale=1e-3) as world:
        world.receiver.answers = [(503, "")] * 2
        await world.order("notification_before_track-1")
        await until(lambda: len(world.receiver.heard) == 1)
        first = time.monotonic()
        await until(lambda: len(world.receiver.heard) == 2)
        second = time.monotonic()
        await until(lambda: len(world.receiver.heard) == 3)
        assert 0.1 <= second - first < 0.5
        assert 0.55 <= time.monotonic() - second < 1.5


async def test_a_receiver_that_is_away_gets_it_later() -> None:
    """No connection is no acknowledgement."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/notify"
        async with running() as world:
            await world.call("pay", PAY | {"paymentRequestId": "paid-1", "paymentNotifyUrl": url})
            await world.inquire("paid-1", 31)
            order = world.mock.ledger.inquire("paid-1", BIRTH)
            assert order
            await until(lambda: order.notifications_sent == 8)
            assert (order.notifications_acked, world.receiver.heard) == (0, [])


async def test_without_a_notify_url_nobody_is_notified() -> None:
    """And nothing counts as sent."""
    async with running() as world, aiohttp.ClientSession() as session:
        mock = await start(replace(CONFIG, clock=world.clock))
        lonely = World(mock, session, world.receiver, world.clock)
        await lonely.order("notification_before_track-1")
        await quiet()
        assert (await lonely.truth("notification_before_track-1")).notifications_sent == 0
        await mock.close()


@pytest.mark.parametrize(("switch", "times"), [("kept", 1), ("renewed", 2)])
async def test_a_resend_keeps_or_renews_its_time(switch: Any, times: int) -> None:
    """Nobody knows which the real gateway does; its signature is valid either way."""
    async with running(switches=Switches(resend_time=switch), time_scale=1e-3) as world:
        world.receiver.answers = [(503, "")]
        await world.order("notification_before_track-1")
        await until(lambda: len(world.receiver.heard) == 1)
        world.clock.now += 120_000
        await until(lambda: len(world.receiver.heard) == 2)
        stamps = {heard.headers["Request-Time"] for _, heard in world.receiver.heard}
        assert len(stamps) == times
        assert "2027-01-15T16:00:00.000+08:00" in stamps
        assert all(heard.genuine for _, heard in world.receiver.heard)


@pytest.mark.parametrize("paid", [True, False])
@pytest.mark.parametrize("switch", [True, False])
async def test_a_cancelled_payment_is_notified_or_not(switch: bool, paid: bool) -> None:
    """As failed, if at all."""
    async with running(switches=Switches(notify_cancelled=switch)) as world:
        await world.order("paid_during_cancel-1" if paid else "never_paid-1")
        await world.cancel("paid_during_cancel-1" if paid else "never_paid-1")
        await until(lambda: len(world.receiver.heard) == switch + paid)
        await quiet()
        codes = [heard.code for _, heard in world.receiver.heard]
        assert ("F ORDER_IS_CANCELED" in codes) == switch


@pytest.mark.parametrize(
    ("switch", "signed"), [("path_and_query", "/notify?a=1"), ("path", "/notify")]
)
async def test_a_notify_url_s_query_is_signed_or_not(switch: Any, signed: str) -> None:
    """The documents say yes, the sample code beside them says no."""
    async with running(switches=Switches(notify_signed=switch), query="?a=1") as world:
        world.receiver.answers = [(200, ACK)]
        await world.order("notification_before_track-1")
        await until(lambda: len(world.receiver.heard) == 1)
        [(path, heard)] = world.receiver.heard
        assert path == "/notify?a=1"
        assert is_genuine(signed, "Request-Time", heard.headers, heard.raw)


async def test_notifications_can_name_another_key_version() -> None:
    """As they might after a rotation; answers keep theirs."""
    async with running(switches=Switches(notify_key_version=7)) as world:
        world.receiver.answers = [(200, ACK)]
        await world.order("notification_before_track-1")
        await until(lambda: len(world.receiver.heard) == 1)
        assert "keyVersion=7," in world.receiver.heard[0][1].headers["Signature"]
        assert (await world.inquire("notification_before_track-1")).genuine


async def test_pay_s_own_notify_url_beats_the_account_s(world: World) -> None:
    """docs.antom.com/ac/ams/paymentrn_online"""
    own = Receiver()
    async with serving(own.hear) as url:
        wish = {"paymentRequestId": "notification_before_track-1", "paymentNotifyUrl": url}
        await world.call("pay", PAY | wish)
        await until(lambda: len(own.heard) == 1)
        assert own.heard[0][1].genuine
        assert world.receiver.heard == []


# The admin calls.


async def test_an_order_can_be_made_without_a_signature(world: World) -> None:
    """The answer says what will become of it; the same again changes nothing."""
    made = await world.order("whatever", scenario="failed", closingSeconds=6)
    world.turn(10)
    assert await world.order("whatever", scenario="failed", closingSeconds=6) == made
    assert made.items() >= {"scenario": "failed", "expects": "failed"}.items()
    assert made["closingAt"] - made["createdAt"] == 6_000
    paid = await world.call("pay", PAY | {"paymentRequestId": "whatever"})
    assert paid.body["paymentId"] == made["paymentId"]


@pytest.mark.parametrize(
    ("change", "http"),
    [
        ({"amount": {"currency": "USD", "value": "600"}}, 409),
        ({"paymentRequestId": "a b"}, 400),
        ({"amount": "599"}, 400),
        ({"scenario": "no_such"}, 400),
        ({"scenario": ["paid"]}, 400),
        ({"closingSeconds": 0}, 400),
        ({"closingSeconds": -1}, 400),
        ({"closingSeconds": "6"}, 400),
        ({"closingSeconds": 1e300}, 400),
        ({"closingSeconds": float("nan")}, 400),
    ],
)
async def test_a_bad_order_is_refused_with_a_reason(
    world: World, change: dict[str, Any], http: int
) -> None:
    """400 for what cannot be read, 409 for what contradicts."""
    await world.order("paid-1")
    wish = {"paymentRequestId": "paid-1", "amount": USD} | change
    async with world.session.post(f"{world.mock.url}/mock/orders", json=wish) as response:
        assert response.status == http
        assert (await response.json())["error"]
    assert len(world.mock.ledger.truths(BIRTH)) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff"])
async def test_an_order_that_is_no_json_object_is_refused(world: World, body: bytes) -> None:
    """With 400, like any other that cannot be read."""
    async with world.session.post(f"{world.mock.url}/mock/orders", data=body) as response:
        assert response.status == 400


async def test_the_ledger_can_be_printed(world: World) -> None:
    """Every order's truth in the order of creation, and reading it lets time pass."""
    await world.order("paid-1")
    await world.order("never_paid-1")
    world.turn(31)
    async with world.session.get(f"{world.mock.url}/mock/ledger") as response:
        first, second = await response.json()
    assert first.items() >= {"paymentRequestId": "paid-1", "status": "paid", "taken": 599}.items()
    assert first.items() >= {"paidAt": BIRTH + 3_000, "refunded": 0, "expects": "succeeded"}.items()
    assert second.items() >= {"status": "unpaid", "taken": 0, "paidAt": None}.items()


async def test_the_journal_says_what_came_and_what_happened_when(world: World) -> None:
    """Calls, happenings, and which notification was acknowledged."""
    await world.order("paid-1")
    await world.inquire("paid-1", 20)
    await world.inquire("paid-1", 40)
    await until(lambda: bool(world.receiver.heard))
    await quiet()
    await world.cancel("paid-1", 60)
    async with world.session.get(f"{world.mock.url}/mock/journal") as response:
        journal = await response.json()
    acked = {"at": BIRTH + 4_000, "what": "acknowledged", "paymentRequestId": "paid-1"}
    digest = sha256(world.receiver.heard[0][1].raw).hexdigest()
    assert acked | {"detail": digest} in journal
    others = [(m["at"] - BIRTH, m["what"]) for m in journal if m["what"] != "acknowledged"]
    assert others == [
        (2_000, "inquiry"),
        (3_000, "paid"),
        (4_000, "inquiry"),
        (6_000, "cancel"),
    ]


async def test_the_scenarios_can_be_listed(world: World) -> None:
    """With name, expected end, and a sentence."""
    async with world.session.get(f"{world.mock.url}/mock/scenarios") as response:
        rows = await response.json()
    assert [row["name"] for row in rows] == [*SCENARIOS, *SUBMITTED]
    assert all(row["description"].endswith(".") for row in rows)
    assert {row["expects"] for row in rows} <= set(Status)


@pytest.mark.parametrize(
    ("remote", "http"),
    [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), ("2001:db8::1", 403), ("", 403)],
)
async def test_the_admin_calls_are_for_this_machine_alone(remote: str, http: int) -> None:
    """They are not signed, so whoever is not on loopback gets nothing."""

    async def as_if_from_there(request: web.Request) -> web.Response:
        return await from_here(show_scenarios)(request.clone(remote=remote))

    async with (
        serving(as_if_from_there) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as response,
    ):
        assert response.status == http


# The truth, without a network.


@pytest.mark.parametrize("status", list(Standing))
def test_what_the_merchant_was_told_agrees_with_the_money(status: Standing) -> None:
    """`succeeded` iff paid and kept; `failed` and `cancelled` iff nothing is kept."""
    taken = 599 if status in (Standing.PAID, Standing.REFUNDED, Standing.CONFIRMING) else 0
    refunded = 599 if status is Standing.REFUNDED else 0
    truth = Truth(payment_request_id="x", status=status, taken=taken, refunded=refunded)
    assert agrees("succeeded", truth) == (status is Standing.PAID)
    kept = status in (Standing.PAID, Standing.CONFIRMING)
    assert agrees("failed", truth) == agrees("cancelled", truth) == (not kept)
    assert agrees("unresolved", truth)
    assert agrees("forgotten", truth)
    assert not any(agrees(open, truth) for open in ("pending", "cancelling", "", "PAID"))


def test_another_amount_is_paid_all_the_same() -> None:
    """Whoever says cancelled while that money is taken is wrong."""
    ledger = Ledger()
    ledger.create("amount_mismatch-1", Money("USD", 599), BIRTH, life=LIFE)
    [truth] = ledger.truths(BIRTH + LIFE)
    assert (truth.amount, truth.taken) == (599, 600)
    assert not agrees("cancelled", truth)
    assert agrees("unresolved", truth)


def test_a_truth_survives_the_wire() -> None:
    """What a checker in another process reads is what the ledger wrote."""
    ledger = Ledger()
    ledger.create("paid-1", Money("USD", 599), BIRTH, life=LIFE)
    ledger.inquire("nobody", BIRTH)
    truths = ledger.truths(BIRTH + LIFE)
    wire = json.loads(json.dumps([truth.to_json() for truth in truths]))
    assert [Truth.from_json(row) for row in wire] == truths


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_can_end_as_its_row_expects(name: str) -> None:
    """A merchant who heeds only genuine answers, asks until he has one, and cancels only then.

    The vendor's own advice in a few lines, to check the rows by.
    """
    ledger, switches = Ledger(), Switches()
    order = ledger.create(f"{name}-1", Money("USD", 599), BIRTH, life=LIFE)
    told = merchant_with_patience(ledger, f"{name}-1", switches)
    ledger.advance(BIRTH + 10 * LIFE)
    if order.standing is Standing.PAID and told == "cancelled":  # a notification said so
        ledger.cancel(order, BIRTH + 10 * LIFE)
    [truth] = ledger.truths(BIRTH + 10 * LIFE)
    assert told == SCENARIOS[name].expects
    assert agrees(told, truth)
    assert truth.settled


def merchant_with_patience(ledger: Ledger, name: str, switches: Switches) -> str:
    """Asks every 5 % of the order's life, cancels from 100 % on, and tells how it ended."""
    wish = {"paymentRequestId": name}
    for percent in range(0, 1000, 5):
        now = BIRTH + LIFE * percent // 100
        inquired = CALLS["inquiryPayment"](ledger, wish, now, switches)
        told = end_of(inquired)
        if told is None and percent >= 100 and says(inquired, "PROCESSING"):
            told = end_of_cancel(CALLS["cancel"](ledger, wish, now, switches))
        if told is not None:
            return told
    return "pending"


def says(reply: Reply, status: str) -> bool:
    return reply.fault is None and reply.body.get("paymentStatus") == status


def end_of(reply: Reply) -> str | None:
    if says(reply, "FAIL"):
        return "failed"
    if says(reply, "CANCELLED") or (says(reply, "SUCCESS") and reply.body["transactions"]):
        return "cancelled"
    if says(reply, "SUCCESS"):
        return "succeeded" if reply.body["paymentAmount"] == USD else "unresolved"
    return None


def end_of_cancel(reply: Reply) -> str | None:
    if reply.fault is Fault.WINDOW:
        return "unresolved"
    return "cancelled" if reply.fault is None else None


def test_no_scenario_is_missing() -> None:
    """The list that the demo, the documents and the checks go by."""
    names = """
        paid paid_notification_lost paid_late failed never_paid closed_by_gateway
        pending_confirmation order_not_exist_first notification_twice notification_before_track
        forged_notification cancel_unknown paid_during_cancel paid_after_cancel
        cancel_window_exceeded gateway_down gateway_slow bad_signature_answers
        answer_of_another_payment amount_mismatch paid_after_expiry_refunded rate_limited
    """
    assert set(SCENARIOS) == set(names.split())


def test_an_id_s_prefix_names_its_scenario() -> None:
    """Up to the first hyphen; anything else is drawn."""
    assert choose("paid_late-2026-11-23", 0).name == "paid_late"
    assert choose("never_paid", 0).name == "never_paid"
    assert {choose(f"paid_never-{n}", 0).name for n in range(300)} >= {"paid", "failed"}


def test_the_mix_depends_on_the_seed_and_the_id_alone() -> None:
    """The same seed gives every id its scenario, in whatever order they come."""
    ids = [f"order-{n}" for n in range(500)]
    one = {name: choose(name, 7).name for name in ids}
    assert {name: choose(name, 7).name for name in reversed(ids)} == one
    assert {name: choose(name, 8).name for name in ids} != one
    assert set(one.values()) == set(SCENARIOS)


def test_two_gateways_with_one_seed_keep_one_ledger() -> None:
    """Payment ids and delays are drawn by the seed, too."""

    def notices(seed: int) -> list[tuple[str, int]]:
        ledger = Ledger(seed=seed)
        for n in range(20):
            ledger.create(f"order-{n}", Money("USD", 599), BIRTH, life=LIFE)
        due = ledger.take_notices(BIRTH + 10 * LIFE)
        return [(notice.order.payment_id, notice.at) for notice in due]

    assert notices(1) == notices(1) != notices(2)


def test_the_usual_notification_comes_three_to_five_seconds_after_the_result() -> None:
    """docs.antom.com/ac/cashierpay/notifications; a delay of its own for every order."""
    ledger = Ledger()
    for n in range(50):
        ledger.create(f"paid-{n}", Money("USD", 599), BIRTH, life=LIFE)
    delays = [notice.at - BIRTH - 3_000 for notice in ledger.take_notices(BIRTH + LIFE)]
    assert len(delays) == 50
    assert all(3_000 <= delay <= 5_000 for delay in delays)
    assert len(set(delays)) > 25


def test_the_ledger_says_when_something_happens_next() -> None:
    """The payment, then its notification, then nothing."""
    ledger = Ledger(time_scale=0)
    assert ledger.next_at() is None
    ledger.create("paid_late-1", Money("USD", 599), BIRTH, life=LIFE)
    assert ledger.next_at() == BIRTH + 8_500
    assert list(ledger.take_notices(BIRTH + 8_500)) == []
    assert ledger.next_at() == BIRTH + 11_500
    assert len(list(ledger.take_notices(BIRTH + 11_500))) == 1
    assert list(ledger.take_notices(BIRTH + 11_500)) == []
    assert ledger.next_at() is None


def test_what_no_longer_fits_does_not_happen() -> None:
    """A payment due while nobody asked still precedes a cancel; a closed order is not paid."""
    ledger = Ledger()
    late = ledger.create("paid-1", Money("USD", 599), BIRTH, life=LIFE)
    assert ledger.ask_cancel("paid-1", BIRTH + LIFE) is late
    assert ledger.cancel(late, BIRTH + LIFE) is CancelResult.DONE
    assert (late.standing, late.paid_at) == (Standing.REFUNDED, BIRTH + 3_000)
    early = ledger.create("failed-1", Money("USD", 599), BIRTH, life=LIFE)
    ledger.cancel(early, BIRTH)
    ledger.advance(BIRTH + LIFE)
    assert early.standing is Standing.CLOSED


# The end.


async def test_closing_leaves_nothing_behind() -> None:
    """Held answers, hanging cancels and pending resends all end with it, at once."""
    before = asyncio.all_tasks()
    async with running(time_scale=1.0) as world:
        world.receiver.answers = [(503, "")] * 2
        await world.order("notification_before_track-1")
        await until(lambda: len(world.receiver.heard) == 1)
        await world.order("gateway_slow-1")
        held = asyncio.create_task(world.inquire("gateway_slow-1"))
        await quiet()
        began = time.monotonic()
        await world.mock.close()
        await world.mock.close()
        assert time.monotonic() - began < 2
        with pytest.raises(aiohttp.ClientError):
            await held
    assert asyncio.all_tasks() == before


async def test_a_merchant_who_hangs_up_frees_the_answer_held_for_him(world: World) -> None:
    """A long stretch of slow answers does not pile up."""
    await world.order("gateway_slow-1", closingSeconds=1000)
    before = len(asyncio.all_tasks())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await world.inquire("gateway_slow-1")
    await until(lambda: len(asyncio.all_tasks()) <= before)
