"""The HTTP command API of the worker's admin port, for systems that cannot write to Redis.

    POST /v1/payments                 payment.track; the body is its data
    POST /v1/payments/submit          payment.submit
    POST /v1/payments/{id}/cancel     payment.cancel; the body may hold clientId and reason
    POST /v1/payments/{id}/recheck    payment.recheck
    POST /v1/payments/{id}/forget     payment.forget
    GET  /v1/payments/{id}            its record and timeline; ?clientId= where there are several

A command is read before it is written to the command stream, so that a mistake is answered at once;
202 means that it is there and safe. What becomes of it is told in the outcomes, as of any other.
Sent again, every command is safe.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker import views
from worker.callbacks import checker
from worker.commands import BadCommand, client_id_of, read_command, request_id_of
from worker.envelope import encode_data
from worker.health import Health
from worker.http_server import says_json
from worker.keys import Keys
from worker.logs import log
from worker.replies import text_of
from worker.scripts import Confirm, NotDurable
from worker.settings import Settings
from worker.strict_json import Json, Unreadable, parse_object

ROOT = "/v1/"
#: What there is, for who asks for something else.
HELP = "there are POST /v1/payments, /v1/payments/submit, /v1/payments/{id}/cancel, /recheck and"
HELP += " /forget, and GET /v1/payments/{id}"
OFF = "the command API needs a token: set ADMIN_TOKEN, and restart"

#: The longest command, a payment.submit with every field, has 8 KB.
MAX_BODY_BYTES = 64 * 1024
#: Time for a body to arrive.
BODY_SECONDS = 5.0
#: How long Redis may take: it has 3 s to confirm a write.
REDIS_SECONDS = 4.0
#: Commands on their way into Redis at once: each takes a connection. The others wait their turn.
AT_ONCE = 16

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):
    """A request that is not carried out, and how it is answered."""

    def __init__(self, status: HTTPStatus, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error, self.message = status, error, message


def routes(redis: Redis, settings: Settings, health: Health) -> list[web.RouteDef]:
    """The API, to be mounted behind a token."""
    api = _Api(redis, settings, health)
    orders = [
        web.post(f"/v1/payments/{{id}}/{verb}", _answered(api.order(f"payment.{verb}")))
        for verb in ("cancel", "recheck", "forget")
    ]
    return [
        web.post("/v1/payments", _answered(api.payment("payment.track"))),
        web.post("/v1/payments/submit", _answered(api.payment("payment.submit"))),
        *orders,
        web.get("/v1/payments/{id}", _answered(api.show)),
    ]


class _Api:
    def __init__(self, redis: Redis, settings: Settings, health: Health) -> None:
        self._redis, self._settings, self._health = redis, settings, health
        self._keys = Keys(settings.key_prefix)
        self._turns = asyncio.Semaphore(AT_ONCE)

    @property
    def _accounts(self) -> Sequence[str]:
        return tuple(self._settings.accounts)

    def payment(self, type_: str) -> Handler:
        """A command whose data is the body."""

        async def handle(request: web.Request) -> web.Response:
            _check_query(request)
            return await self._command(type_, await _body(request))

        return handle

    def order(self, type_: str) -> Handler:
        """A command about the payment in the path."""

        async def handle(request: web.Request) -> web.Response:
            _check_query(request)
            named, said = request.match_info["id"], await _body(request, needed=False)
            if said.setdefault("paymentRequestId", named) != named:
                message = "paymentRequestId: the path names another; leave it out of the body"
                raise Refused(HTTPStatus.BAD_REQUEST, "malformed", message)
            return await self._command(type_, said)

        return handle

    async def _command(self, type_: str, said: Json) -> web.Response:
        """Read a command as the worker will, write it, and name it."""
        at = time.time_ns() // 1_000_000
        command = read_command(
            type_, encode_data(said), "", at, self._accounts, checker(self._settings.accounts)
        )
        data = encode_data(said | {"clientId": command.client_id})
        async with asyncio.timeout(REDIS_SECONDS), self._turns:
            command_id = await self._write(type_, data)
        accepted = {
            "commandId": command_id,
            "paymentRequestId": command.payment_request_id,
            "clientId": command.client_id,
        }
        return web.json_response(accepted, status=HTTPStatus.ACCEPTED)

    async def _write(self, type_: str, data: str) -> str:
        """The id of a new entry, once it is as safe as everything that we acknowledge."""
        if not self._health.admitted:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "not_ready", "see /readyz; try again later"
            )
        confirm = self._health.confirm
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._keys.commands, {"type": type_, "data": data})
            if confirm is not None:
                pipe.execute_command(*confirm.command)
            answers = await pipe.execute()
        _check(confirm, answers)
        return text_of(answers[0])

    async def show(self, request: web.Request) -> web.Response:
        """A payment's record and timeline."""
        named = {"paymentRequestId": request.match_info["id"]}
        asked = {**named, **{n: v for n, v in request.query.items() if n == "clientId"}}
        request_id, client_id = request_id_of(asked), client_id_of(asked, self._accounts)
        async with asyncio.timeout(REDIS_SECONDS):
            seen = await views.look_up(self._redis, self._keys.prefix, client_id, request_id)
        if seen is None:
            message = f"no such payment is tracked under {client_id}"
            raise Refused(HTTPStatus.NOT_FOUND, "not_tracked", message)
        return web.json_response(seen)


def _check(confirm: Confirm | None, answers: Sequence[Any]) -> None:
    if confirm is not None and not confirm.holds(answers[1]):
        raise NotDurable(f"{confirm.command[0]} answered {answers[1]}")


# What is answered


def _answered(handler: Handler) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Refused as refused:
            return _refuse(refused.status, refused.error, refused.message)
        except BadCommand as bad:
            return _refuse(HTTPStatus.BAD_REQUEST, bad.reason, bad.message)
        except (RedisError, OSError) as fault:  # a timeout is an OSError
            log.warning("admin.store_down", peer=request.remote, fault=type(fault).__name__)
            message = (
                "Redis does not answer: ask again later; no command does harm if it is repeated"
            )
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "store_down", message)

    return answer


def _refuse(status: HTTPStatus, error: str, message: str) -> web.Response:
    answer = web.json_response({"error": error, "message": message}, status=status)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers[hdrs.RETRY_AFTER] = "5"
    if status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
        answer.force_close()  # the rest of the body is not worth waiting for
    return answer


# What is asked


async def _body(request: web.Request, *, needed: bool = True) -> Json:
    """The JSON object that was sent; an empty one for no body, if none is needed."""
    if not needed and not request.can_read_body:
        return {}
    _check_content(request)
    try:
        return parse_object(await _read(request))
    except Unreadable as fault:
        message = f"the body cannot be read ({fault.why}): {fault.remedy}"
        raise Refused(HTTPStatus.BAD_REQUEST, "malformed", message) from None


def _check_query(request: web.Request) -> None:
    """Not read, so refused: a cancel with ?clientId= would go to the only account there is."""
    for name in request.query:
        message = f"{name[:64]!r} is not read from the query of a command: write it in the body"
        raise Refused(HTTPStatus.BAD_REQUEST, "malformed", message)


def _check_content(request: web.Request) -> None:
    """JSON must be named as such: what a form of another site can send is not."""
    if not says_json(request.headers.get(hdrs.CONTENT_TYPE, "")):
        message = "send Content-Type: application/json, in UTF-8"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "media_type", message)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        message = "send the body without encoding"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoding", message)


async def _read(request: web.Request) -> bytes:
    body = bytearray()
    too_large = Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too_large",
        f"the body is over {MAX_BODY_BYTES // 1024} KiB",
    )
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise too_large
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError:
        message = "the body took too long"
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, "body_timeout", message) from None
    except (web.RequestPayloadError, ConnectionError):
        raise Refused(HTTPStatus.BAD_REQUEST, "body_cut", "the body ended early") from None
    return bytes(body)
