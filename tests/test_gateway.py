"""The line to the gateway: what leaves us byte for byte, and what is no answer.

A scripted gateway on a real socket gives whatever answer a test wants, signed with its own key. All
else that may come back is in `test_hostile_answers.py`.
"""

import asyncio
import base64
import gzip
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from jobs.model import Money, Payment
from jobs.news import (
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    PayAnswer,
    Silence,
    Submit,
)
from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import (
    Asked,
    ScriptedGateway,
    certificate,
    inquired,
    raw_gateway,
    says,
    scripted_gateway,
    signed_answer,
)
from worker.endpoints import AllowedHosts
from worker.gateway import MAX_ANSWER_BYTES, HttpGateway, open_session
from worker.receiving import tls_context
from worker.settings import Account

NOW = 1_800_000_000_000
PAYMENT = Payment(
    client_id=CLIENT_ID,
    payment_request_id="order-1",
    amount=Money("USD", 599),
    tracked_at=NOW,
    closing_time=NOW + 840_000,
)
ACCOUNT = Account(
    client_id=CLIENT_ID,
    gateway_url="http://127.0.0.1:9",
    private_key=private_key("merchant_v1"),
    key_version=1,
    public_keys={1: public_key("alipay_v1"), 2: public_key("alipay_v2")},
    agent_token=None,
    closing_time=840_000,
    pending_closing_time=604_800_000,
    cancel_window=None,
    callback_secrets=(),
    callback_allowed_hosts=AllowedHosts(),
    notify_forward_url=None,
)
CANCELLED = {
    "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
    "paymentRequestId": "order-1",
    "paymentId": "2026order-1",
}
SANDBOX = "/ams/sandbox/api/v1/payments/"
TIMEOUT = 1_500


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(4) as session:
        yield session


def line(session: aiohttp.ClientSession, url: str, **changed: Any) -> HttpGateway:
    return HttpGateway(session, replace(ACCOUNT, gateway_url=url, **changed), TIMEOUT)


Answer = Callable[[Asked], Awaitable[web.StreamResponse]]


def answering(said: dict[str, Any] | bytes, path: str = "", **changed: Any) -> Answer:
    """An answer signed as it should be, except for what is changed."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return signed_answer(path or asked.path, said, **changed)

    return answer


# What leaves us


@pytest.mark.parametrize("endpoint", ["inquiryPayment", "cancel"])
@pytest.mark.parametrize(
    ("client_id", "prefix"), [(CLIENT_ID, SANDBOX), ("5X00", "/ams/api/v1/payments/")]
)
async def test_a_request_is_the_prescribed_one_byte_for_byte(
    gateway: ScriptedGateway,
    session: aiohttp.ClientSession,
    endpoint: str,
    client_id: str,
    prefix: str,
) -> None:
    gateway.answer = says("PROCESSING")
    us = line(session, gateway.url, client_id=client_id)
    await (us.cancel if endpoint == "cancel" else us.inquire)(PAYMENT, NOW)
    [asked] = gateway.asked
    assert asked.path == prefix + endpoint
    assert asked.body == b'{"paymentRequestId":"order-1"}'
    content = f"POST {asked.path}\n{client_id}.{NOW}.".encode() + asked.body
    key = private_key("merchant_v1")
    signature = base64.b64encode(key.sign(content, padding.PKCS1v15(), hashes.SHA256()))
    assert asked.headers == {
        "Host": gateway.url.removeprefix("http://"),
        "Client-Id": client_id,
        "Request-Time": str(NOW),
        "Signature": f"algorithm=RSA256,keyVersion=1,signature={quote(signature, safe='')}",
        "Content-Type": "application/json; charset=UTF-8",
        "Content-Length": str(len(asked.body)),
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": "payment-reconciler",
    }


async def test_a_pay_is_the_body_in_the_record_byte_for_byte(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = says("PROCESSING")
    body = '{"productCode":"IN_STORE_PAYMENT",  "order":"支付"}'
    us = line(session, gateway.url)
    for _ in range(2):
        await us.pay(replace(PAYMENT, pay_request=body), NOW)
    first, again = gateway.asked
    assert first.path == SANDBOX + "pay"
    assert first.body == body.encode()
    assert (again.body, again.headers) == (first.body, first.headers)


async def test_a_pay_names_the_closing_time_and_where_to_notify(
    session: aiohttp.ClientSession,
) -> None:
    told: dict[str, Any] = {"client_id": CLIENT_ID, "payment_request_id": "order-1"}
    submit = Submit(id="1-1", at=NOW, amount=PAYMENT.amount, form='{"a":"1"}', digest="", **told)
    us = HttpGateway(session, ACCOUNT, TIMEOUT, "https://shop.example/notify")
    assert json.loads(us.pay_request(submit, NOW)) == {
        "a": "1",
        "paymentNotifyUrl": "https://shop.example/notify",
        "paymentExpiryTime": "2027-01-15T08:00:00+00:00",
    }
    assert line(session, "").pay_request(submit, NOW) == ""


async def test_our_key_is_named_by_its_version(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = says("PROCESSING")
    ours = {"key_version": 7, "private_key": private_key("merchant_v2")}
    await line(session, gateway.url, **ours).inquire(PAYMENT, NOW)
    assert "keyVersion=7," in gateway.asked[0].headers["Signature"]


@pytest.mark.parametrize("token", [None, "agent-token-1"])
async def test_an_agents_token_is_sent_if_there_is_one(
    gateway: ScriptedGateway, session: aiohttp.ClientSession, token: str | None
) -> None:
    gateway.answer = says("PROCESSING")
    await line(session, gateway.url, agent_token=token).inquire(PAYMENT, NOW)
    assert gateway.asked[0].headers.get("Agent-Token") == token


async def test_no_cookie_is_ever_given_back(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    async def with_cookie(asked: Asked) -> web.StreamResponse:
        answer = signed_answer(asked.path, inquired("order-1", "PROCESSING"))
        answer.set_cookie("session", "1")
        return answer

    gateway.answer = with_cookie
    for _ in range(2):
        await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert "Cookie" not in gateway.asked[1].headers


async def test_a_proxy_in_the_environment_is_not_asked(
    gateway: ScriptedGateway, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    gateway.answer = says("SUCCESS")
    assert isinstance(await line(session, gateway.url).inquire(PAYMENT, NOW), InquiryAnswer)


# Answers


async def test_an_inquiry_is_answered_with_all_that_the_gateway_says(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = answering(inquired("order-1", "SUCCESS"), answered_at="1800000000500")
    assert await line(session, gateway.url).inquire(PAYMENT, NOW) == InquiryAnswer(
        asked_at=NOW,
        answered_at=NOW + 500,
        call=Call.OK,
        code="SUCCESS",
        payment_status=GatewayStatus.SUCCESS,
        payment_request_id="order-1",
        payment_id="2026order-1",
        amount=Money("USD", 599),
    )


async def test_a_pay_is_answered_with_where_the_buyer_pays(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    form = {"method": "GET", "redirectUrl": "https://cashier.example/1"}
    gateway.answer = answering(
        CANCELLED | {"redirectActionForm": form}, answered_at="1800000000500"
    )
    assert await line(session, gateway.url).pay(PAYMENT, NOW) == PayAnswer(
        asked_at=NOW,
        answered_at=NOW + 500,
        call=Call.OK,
        code="SUCCESS",
        payment_request_id="order-1",
        payment_id="2026order-1",
        redirect_url="https://cashier.example/1",
        redirect_method="GET",
    )


@pytest.mark.parametrize("key", ["attacker", "merchant_v1"])
async def test_a_pay_that_another_answers_has_no_answer(
    gateway: ScriptedGateway, session: aiohttp.ClientSession, key: str
) -> None:
    gateway.answer = answering(CANCELLED, key=key)
    heard = await line(session, gateway.url).pay(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="untrusted_sig_mismatch", to_pay=True)


async def test_how_long_the_gateway_took_is_told_of_answers_and_of_silence(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    async def slowly(asked: Asked) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        paid = inquired("order-1", "SUCCESS")
        return signed_answer(asked.path, paid if "inquiry" in asked.path else CANCELLED)

    async def never(_: Asked) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    gateway.answer = slowly
    us = line(session, gateway.url)
    for answer in (await us.inquire(PAYMENT, NOW), await us.cancel(PAYMENT, NOW)):
        assert not isinstance(answer, Silence)
        assert answer.took is not None and 100 <= answer.took < TIMEOUT
    gateway.answer = never
    silent = await us.inquire(PAYMENT, NOW)
    assert silent.took is not None and TIMEOUT <= silent.took < 10 * TIMEOUT


async def test_a_cancel_is_answered(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = answering(CANCELLED, answered_at="1800000000500")
    assert await line(session, gateway.url).cancel(PAYMENT, NOW) == CancelAnswer(
        asked_at=NOW,
        answered_at=NOW + 500,
        call=Call.OK,
        code="SUCCESS",
        payment_request_id="order-1",
        payment_id="2026order-1",
    )


async def test_an_answer_may_be_signed_with_any_key_that_is_configured(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = answering(CANCELLED, key="alipay_v2", key_version=2)
    assert isinstance(await line(session, gateway.url).cancel(PAYMENT, NOW), CancelAnswer)


@pytest.mark.parametrize(
    ("answered_at", "heard"),
    [
        ("1500000000000", 1_500_000_000_000),
        ("2001-09-09T09:46:40+08:00", 1_000_000_000_000),
        ("0000000000", None),
    ],
)
async def test_a_stale_answer_comes_with_its_time_for_others_to_judge(
    gateway: ScriptedGateway, session: aiohttp.ClientSession, answered_at: str, heard: int | None
) -> None:
    gateway.answer = answering(inquired("order-1", "SUCCESS"), answered_at=answered_at)
    answer = await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert isinstance(answer, InquiryAnswer)
    assert answer.answered_at == heard


async def test_a_connection_that_the_gateway_kept_open_is_used_again(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    gateway.answer = says("PROCESSING")
    for _ in range(3):
        await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert session.connector
    assert len(session.connector._conns) == 1


# No answers


async def held(_: Asked) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def redirect(asked: Asked) -> web.StreamResponse:
    """To where a perfect answer is waiting."""
    answer = await says("SUCCESS")(asked)
    answer.set_status(302)
    answer.headers["Location"] = asked.path + "?again"
    return answer


def status(code: int) -> Answer:
    """A perfect answer but for its HTTP status: docs say that only 200 carries one."""

    async def answer(asked: Asked) -> web.StreamResponse:
        perfect = await says("SUCCESS")(asked)
        perfect.set_status(code)
        return perfect

    return answer


def saying(**response: Any) -> Answer:
    async def answer(_: Asked) -> web.StreamResponse:
        return web.Response(**response)

    return answer


def without(name: str) -> Answer:
    async def answer(asked: Asked) -> web.StreamResponse:
        incomplete = await says("SUCCESS")(asked)
        del incomplete.headers[name]
        return incomplete

    return answer


def twice(name: str) -> Answer:
    async def answer(asked: Asked) -> web.StreamResponse:
        doubtful = await says("SUCCESS")(asked)
        doubtful.headers.add(name, doubtful.headers[name])
        return doubtful

    return answer


async def forged_signature_second(asked: Asked) -> web.StreamResponse:
    answer = await says("SUCCESS")(asked)
    answer.headers.add("Signature", "algorithm=RSA256,keyVersion=1,signature=Zm9yZ2Vk")
    return answer


async def altered(asked: Asked) -> web.StreamResponse:
    answer = signed_answer(asked.path, inquired("order-1", "FAIL"))
    answer.body = json.dumps(inquired("order-1", "SUCCESS")).encode()
    return answer


async def compressed(asked: Asked) -> web.StreamResponse:
    answer = signed_answer(asked.path, gzip.compress(b'{"a":"' + b"a" * 1000 + b'"}'))
    answer.headers["Content-Encoding"] = "gzip"
    return answer


UNSIGNED_REFUSAL = json.dumps(
    {"result": {"resultCode": "INVALID_SIGNATURE", "resultStatus": "F", "resultMessage": ""}}
)
ELSEWHERE = "/ams/sandbox/api/v1/payments/pay"
SUCCESS = inquired("order-1", "SUCCESS")
LARGE = b'{"a":"%b"}' % (b"a" * MAX_ANSWER_BYTES)

SILENCES: dict[str, tuple[Answer, str]] = {
    "held back": (held, "timeout"),
    "redirect": (redirect, "http_302"),
    "overloaded": (saying(status=503), "http_503"),
    "broken": (status(500), "http_500"),
    "not found": (status(404), "http_404"),
    "created": (status(201), "http_201"),
    "HTML": (saying(text="<html>", content_type="text/html"), "untrusted_header_missing"),
    "unsigned refusal": (saying(text=UNSIGNED_REFUSAL), "untrusted_header_missing"),
    "signed HTML": (answering(b"<html>"), "untrusted_not_object"),
    "empty": (saying(), "untrusted_header_missing"),
    "signed nothing": (answering(b""), "untrusted_not_object"),
    "too large": (answering(LARGE), "too_large"),
    "no signature": (without("Signature"), "untrusted_header_missing"),
    "no response-time": (without("response-time"), "untrusted_header_missing"),
    "no client-id": (without("client-id"), "untrusted_header_missing"),
    "signature twice": (twice("Signature"), "untrusted_header_repeated"),
    "response-time twice": (twice("response-time"), "untrusted_header_repeated"),
    "client-id twice": (twice("client-id"), "untrusted_header_repeated"),
    "forged signature second": (forged_signature_second, "untrusted_header_repeated"),
    "another's key": (answering(SUCCESS, key="attacker"), "untrusted_sig_mismatch"),
    "our own key": (answering(SUCCESS, key="merchant_v1"), "untrusted_sig_mismatch"),
    "altered": (altered, "untrusted_sig_mismatch"),
    "of another call": (answering(SUCCESS, path=ELSEWHERE), "untrusted_sig_mismatch"),
    "another client's": (answering(SUCCESS, client_id="SANDBOX_OTHER"), "untrusted_client_id"),
    "unknown key version": (answering(SUCCESS, key_version=9), "untrusted_key_version"),
    "odd time": (answering(SUCCESS, answered_at="today"), "untrusted_time_charset"),
    "compressed": (compressed, "untrusted_not_object"),
    "signed, cut": (answering(b'{"result":'), "unreadable"),
    "signed, without a result": (answering({}), "unreadable"),
}


@pytest.mark.parametrize("to_cancel", [False, True])
@pytest.mark.parametrize(("answer", "why"), SILENCES.values(), ids=SILENCES)
async def test_what_is_no_answer_is_silence_with_its_reason(
    gateway: ScriptedGateway,
    session: aiohttp.ClientSession,
    answer: Answer,
    why: str,
    to_cancel: bool,
) -> None:
    gateway.answer = answer
    us = line(session, gateway.url)
    heard = await (us.cancel if to_cancel else us.inquire)(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why=why, to_cancel=to_cancel)
    assert len(gateway.asked) == 1  # neither repeated nor taken elsewhere


async def test_an_answer_has_512_kib_at_most(
    gateway: ScriptedGateway, session: aiohttp.ClientSession
) -> None:
    said = inquired("order-1", "SUCCESS", padding="")
    said["padding"] = "x" * (MAX_ANSWER_BYTES - len(json.dumps(said)))
    gateway.answer = answering(said)
    assert isinstance(await line(session, gateway.url).inquire(PAYMENT, NOW), InquiryAnswer)
    said["padding"] += "x"
    gateway.answer = answering(said)
    assert isinstance(await line(session, gateway.url).inquire(PAYMENT, NOW), Silence)


@pytest.mark.parametrize(
    ("call", "which"),
    [
        (HttpGateway.inquire, {}),
        (HttpGateway.cancel, {"to_cancel": True}),
        (HttpGateway.pay, {"to_pay": True}),
    ],
)
async def test_only_a_gateway_that_was_never_reached_is_known_not_to_have_been_asked(
    session: aiohttp.ClientSession, call: Any, which: dict[str, bool]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        us = line(session, f"http://127.0.0.1:{closed.getsockname()[1]}")
        heard = await call(us, PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False, **which)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses at once")
async def test_a_connection_that_does_not_come_about_is_a_question_that_never_left(
    session: aiohttp.ClientSession,
) -> None:
    """A network that swallows everything: here, a server that accepts nobody any more."""
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        us = line(session, f"http://127.0.0.1:{full.getsockname()[1]}")
        heard = await us.inquire(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)


async def test_a_gateway_without_a_good_certificate_is_told_nothing(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with scripted_gateway(tls_context(*certificate(tmp_path))) as gateway:
        heard = await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="not_connected", left=False)
    assert gateway.asked == []


async def test_a_gateway_with_a_good_certificate_is_talked_to(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(cert)))
    async with scripted_gateway(tls_context(cert, key)) as gateway:
        gateway.answer = says("SUCCESS")
        async with aiohttp.ClientSession(connector=trusting) as session:
            heard = await line(session, gateway.url).inquire(PAYMENT, NOW)
    assert isinstance(heard, InquiryAnswer)


# No answer in time

OK = b"HTTP/1.1 200 OK\r\n"


async def test_an_answer_that_dribbles_in_is_not_waited_for(
    session: aiohttp.ClientSession,
) -> None:
    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(OK + b"Content-Length: 10000\r\n\r\n")
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    async with raw_gateway(dribble) as url:
        heard = await line(session, url).inquire(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="timeout")


async def test_a_request_is_never_sent_twice_by_itself(session: aiohttp.ClientSession) -> None:
    """A connection may be dropped while it was kept open: repeating is for the schedule."""
    requests = 0

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        for more in (True, False):
            await reader.readuntil(b"}")
            requests += 1
            if more:
                writer.write(OK + b"Content-Length: 2\r\n\r\n{}")

    async with raw_gateway(once) as url:
        us = line(session, url)
        await us.cancel(PAYMENT, NOW)
        heard = await us.cancel(PAYMENT, NOW)
    assert heard == Silence(asked_at=NOW, why="connection_lost", to_cancel=True)
    assert requests == 2
