"""The API over HTTP: verify the merchant's request, look the answer up, sign it."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from jobs.model import Ms
from worker.mock_gateway.calls import CALLS, Illegal, read_object
from worker.mock_gateway.config import MockConfig
from worker.mock_gateway.faults import Voice, say_unsigned, send
from worker.mock_gateway.ledger import Ledger
from worker.mock_gateway.wire import Signer, result
from worker.requests import api_path
from worker.signature import Reason, Signed, Untrusted, verify

#: What the gateway calls our mistakes; docs.antom.com/ac/ref/INVALID_SIGNATURE_error_code.
_REFUSALS = {Reason.CLIENT_ID: "INVALID_CLIENT", Reason.KEY_VERSION: "KEY_NOT_FOUND"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What every request handler needs."""

    config: MockConfig
    ledger: Ledger
    signer: Signer
    attacker: Signer
    changed: Callable[[], None]  #: something may be due sooner now
    clock: Callable[[], Ms]


GATEWAY = web.AppKey("GATEWAY", Gateway)


def add_api(app: web.Application) -> None:
    """Serve the account's three endpoints, in the sandbox or not as its client id says."""
    client_id = app[GATEWAY].config.client_id
    for name in ("pay", "inquiryPayment", "cancel"):
        app.router.add_post(api_path(client_id, name), answer, name=name)


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer a call as the gateway would, or as its scenario has it misbehave."""
    gateway = request.app[GATEWAY]
    body = await request.read()
    try:
        _verify(request, body, gateway.config)
    except Untrusted as refusal:
        # The one answer that the real gateway does not sign either.
        code = _REFUSALS.get(refusal.reason, "INVALID_SIGNATURE")
        return say_unsigned(result("F", code, f"refused: {refusal.reason}"))
    now = gateway.clock()
    voice = Voice(gateway=gateway.signer, attacker=gateway.attacker, path=request.raw_path, now=now)
    try:
        call = CALLS[request.match_info.route.name or ""]
        reply = call(gateway.ledger, read_object(body), now, gateway.config.switches)
    except Illegal as illegal:
        return voice.say(result("F", "PARAM_ILLEGAL", f"illegal parameter: {illegal}"))
    gateway.changed()
    return await send(request, reply, voice)


def _verify(request: web.Request, body: bytes, config: MockConfig) -> None:
    """The merchant's signature over the raw body: docs.antom.com/ac/ams/digital_signature"""
    names = ("Client-Id", "Request-Time", "Signature")
    if any(name not in request.headers for name in names):
        raise Untrusted(Reason.HEADER_MISSING)
    client_id, sent_at, signature = (request.headers[name] for name in names)
    signed = Signed(request.raw_path, client_id, sent_at, body)
    verify(signed, signature, client_id=config.client_id, keys=config.merchant_public_keys)
