"""How an answer goes wrong on its way to the merchant: lies, silence, and other people's truth."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from jobs.model import Ms
from worker.mock_gateway.calls import Reply
from worker.mock_gateway.scenarios import Fault
from worker.mock_gateway.wire import Body, Signer, claiming, result, to_bytes, to_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What it takes to answer one call: who signs, who would like to, for which path and when."""

    gateway: Signer
    attacker: Signer
    path: str
    now: Ms

    def say(self, body: Body) -> web.Response:
        return self._signed(body, self.gateway)

    def forge(self, body: Body) -> web.Response:
        return self._signed(body, self.attacker)

    def alter(self, body: Body, claim: Body) -> web.Response:
        """The genuine headers around another body."""
        return web.Response(body=to_bytes(claim), headers=self._headers(body, self.gateway))

    def _signed(self, body: Body, signer: Signer) -> web.Response:
        return web.Response(body=to_bytes(body), headers=self._headers(body, signer))

    def _headers(self, body: Body, signer: Signer) -> Mapping[str, str]:
        """Over the path of the request: docs.antom.com/ac/ams/digital_signature"""
        return signer.headers(self.path, "Response-Time", to_time(self.now), to_bytes(body))


def say_unsigned(body: Body) -> web.Response:
    return web.Response(body=to_bytes(body), content_type="application/json")


async def send(request: web.Request, reply: Reply, voice: Voice) -> web.Response:
    """Answer the call, or do to it what its scenario wants."""
    await asyncio.sleep(reply.wait / 1000)
    if reply.fault in (Fault.DROP, Fault.LOST):
        return _drop(request)
    return _ANSWERS[reply.fault](voice, reply.body)


_ANSWERS: Mapping[Fault | None, Callable[[Voice, Body], web.Response]] = {
    None: Voice.say,
    Fault.HOLD: Voice.say,
    Fault.BUSY: lambda voice, _: voice.say(result("U", "REQUEST_TRAFFIC_EXCEED_LIMIT")),
    Fault.UNKNOWN: lambda voice, _: voice.say(result("U", "UNKNOWN_EXCEPTION")),
    Fault.REFUSED: lambda voice, _: voice.say(result("F", "RISK_REJECT")),
    Fault.WINDOW: lambda voice, _: voice.say(result("F", "CANCEL_WINDOW_EXCEED")),
    Fault.UNAVAILABLE: lambda _, __: web.Response(status=503, text="upstream unavailable"),
    Fault.UNSIGNED_SUCCESS: lambda _, body: say_unsigned(claiming(body, "SUCCESS")),
    Fault.UNSIGNED_FAIL: lambda _, body: say_unsigned(claiming(body, "FAIL")),
    Fault.FORGED_SUCCESS: lambda voice, body: voice.forge(claiming(body, "SUCCESS")),
    Fault.FORGED_FAIL: lambda voice, body: voice.forge(claiming(body, "FAIL")),
    Fault.ALTERED_SUCCESS: lambda voice, body: voice.alter(body, claiming(body, "SUCCESS")),
    Fault.FOREIGN_SUCCESS: lambda voice, body: voice.say(_of_another_payment(body)),
}


def _of_another_payment(body: Body) -> Body:
    """What the gateway would say of an order of the same merchant that was paid."""
    other = {
        "paymentRequestId": f"other-{body['paymentRequestId']}"[:64],
        "paymentId": body["paymentId"][::-1],
    }
    return claiming(body, "SUCCESS") | other


def _drop(request: web.Request) -> web.Response:
    """Close the connection under the answer: the merchant sees none."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
