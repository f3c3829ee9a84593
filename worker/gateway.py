"""One account's line to the gateway: signed questions out, verified answers in.

Whatever goes wrong on the way is `Silence`: it says that nothing is known, and nothing more.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TypeVar

import aiohttp
from multidict import CIMultiDictProxy

from jobs.model import Ms, Payment
from jobs.news import CancelAnswer, InquiryAnswer, PayAnswer, Silence, Submit
from worker import messages, requests, times
from worker.requests import Endpoint
from worker.settings import Account
from worker.signature import Reason, Signed, Untrusted, header_of, verify
from worker.signer import Sign, sign_here
from worker.strict_json import Unreadable

#: An answer lists a payment's refunds and quotes; the largest known is 200 KB. More is no answer.
MAX_ANSWER_BYTES = 512 * 1024

A = TypeVar("A", InquiryAnswer, CancelAnswer, PayAnswer)


class HttpGateway:
    """Implements `jobs.tools.Gateway` over HTTP."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        account: Account,
        timeout: Ms,
        notify_url: str | None = None,
        sign: Sign = sign_here,
    ) -> None:
        self._session = session
        self._sign = sign
        self._notify_url = notify_url
        self._account = account
        self._timeout = timeout / 1000
        # Of its own: a request that found no connection has not left, and that is worth knowing.
        self._connecting = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout / 2)

    async def inquire(self, payment: Payment, asked_at: Ms) -> InquiryAnswer | Silence:
        """docs.antom.com/ac/ams/paymentri_online"""
        body = requests.inquiry_body(payment.payment_request_id)
        return await self._ask("inquiryPayment", body, asked_at, messages.parse_inquiry_answer)

    async def cancel(self, payment: Payment, asked_at: Ms) -> CancelAnswer | Silence:
        """docs.antom.com/ac/ams/paymentc_online"""
        body = requests.cancel_body(payment.payment_request_id)
        return await self._ask("cancel", body, asked_at, messages.parse_cancel_answer)

    async def pay(self, payment: Payment, asked_at: Ms) -> PayAnswer | Silence:
        """docs.antom.com/ac/ams/ec; the same bytes every time, so the same order."""
        body = payment.pay_request.encode()
        return await self._ask("pay", body, asked_at, messages.parse_pay_answer)

    def pay_request(self, submit: Submit, closing_time: Ms) -> str:
        return requests.finish_pay(submit.form, self._notify_url, closing_time)

    async def _ask(
        self,
        endpoint: Endpoint,
        body: bytes,
        asked_at: Ms,
        parse: Callable[[bytes, Ms, Ms | None], A],
    ) -> A | Silence:
        began = time.monotonic()
        answer = await self._answer(endpoint, body, asked_at, parse)
        return replace(answer, took=round((time.monotonic() - began) * 1000))

    async def _answer(
        self,
        endpoint: Endpoint,
        body: bytes,
        asked_at: Ms,
        parse: Callable[[bytes, Ms, Ms | None], A],
    ) -> A | Silence:
        def silence(why: str, left: bool = True) -> Silence:
            return Silence(
                asked_at=asked_at,
                why=why,
                to_cancel=endpoint == "cancel",
                to_pay=endpoint == "pay",
                left=left,
            )

        try:
            async with asyncio.timeout(self._timeout):
                answer, answered_at = await self._exchange(endpoint, body, asked_at)
            return parse(answer, asked_at, answered_at)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return silence("not_connected", left=False)
        except TimeoutError:
            return silence("timeout")
        except aiohttp.ClientError:
            return silence("connection_lost")
        except NoAnswerHere as reply:
            return silence(str(reply))
        except Untrusted as doubt:
            return silence(f"untrusted_{doubt.reason}")
        except Unreadable:
            return silence("unreadable")

    async def _exchange(
        self, endpoint: Endpoint, body: bytes, asked_at: Ms
    ) -> tuple[bytes, Ms | None]:
        """The verified body of an answer, and its response-time."""
        reply = await self.call(endpoint, body, asked_at)
        if reply.status != HTTPStatus.OK:
            raise NoAnswerHere(f"http_{reply.status}")
        return reply.body, reply.verify(self._account)

    async def call(self, endpoint: Endpoint, body: bytes, asked_at: Ms) -> "Reply":
        """What comes back to a signed question, believed or not."""
        account = self._account
        path = requests.api_path(account.client_id, endpoint)
        asked = Signed(path=path, client_id=account.client_id, time=str(asked_at), body=body)
        signature = await self._sign(account.private_key, asked.content())
        headers = requests.request_headers(
            asked, header_of(signature, account.key_version), account.agent_token or ""
        )
        async with self._session.post(
            account.gateway_url + path,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=self._connecting,
        ) as reply:
            answer = await _read(reply.content) if reply.status == HTTPStatus.OK else b""
            return Reply(path, reply.status, reply.headers, answer)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back over HTTP; the body of anything but a 200 is not read."""

    path: str
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def verify(self, account: Account) -> Ms | None:
        """Its response-time, if it is the gateway's to this account; else `Untrusted`."""
        said_at = _one(self.headers, "response-time")
        answered = Signed(self.path, _one(self.headers, "client-id"), said_at, self.body)
        header = _one(self.headers, "signature")
        verify(answered, header, client_id=account.client_id, keys=account.public_keys)
        return times.parse_time(said_at)


class NoAnswerHere(Exception):
    """HTTP of some kind, but not an answer of the gateway."""


async def _read(content: aiohttp.StreamReader) -> bytes:
    chunks = bytearray()
    async for chunk in content.iter_any():
        chunks += chunk
        if len(chunks) > MAX_ANSWER_BYTES:
            raise NoAnswerHere("too_large")
    return bytes(chunks)


def _one(headers: CIMultiDictProxy[str], name: str) -> str:
    """The only header of this name: which of two was meant is for nobody to guess."""
    values = headers.getall(name, [])
    if not values:
        raise Untrusted(Reason.HEADER_MISSING)
    if len(values) > 1:
        raise Untrusted(Reason.HEADER_REPEATED)
    return values[0]


def open_session(connections: int) -> aiohttp.ClientSession:
    """A session for the gateway: no cookies, no proxies from the environment, no compression."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "payment-reconciler"},
        auto_decompress=False,
    )
