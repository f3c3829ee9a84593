"""The receiver of notifications: verify, keep, answer. It does not act.

Before a signature is proven a message costs little and leaves nothing but a log line. Once it is
proven nothing of it may be lost, however odd it is; the answer that the gateway takes as "received"
leaves us only when the message is safe in Redis.

Source: docs.antom.com/ac/ams/paymentrn_online
"""

import asyncio
import secrets
import ssl
import time
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from redis.exceptions import RedisError
from structlog.contextvars import bind_contextvars

from jobs.model import Ms
from jobs.news import Notification, Unusable
from worker import messages, signature, times
from worker.deliveries import Delivery
from worker.events import EVENTS
from worker.http_server import says_json, serve
from worker.logs import log
from worker.messages import ACK
from worker.signature import Reason, Signed, Untrusted, verify
from worker.store import Store, digest, short_digest, write_mail
from worker.strict_json import Unreadable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

#: The gateway's own headers: docs.antom.com/ac/ams/api_fund
SIGNATURE, CLIENT_ID, REQUEST_TIME, ENCRYPT = "Signature", "Client-Id", "Request-Time", "Encrypt"

#: Real notifications have about 1 KB; what is far larger is not read, let alone verified.
MAX_BODY_BYTES = 64 * 1024
#: Time for a body to arrive: the gateway sends it at once, a slow sender only holds a connection.
BODY_SECONDS = 3.0
#: How long Redis may take to keep a message: it has 3 s to confirm a write. The timeouts and tries
#: of redis-py add up to more than a sender should wait for a Redis that hangs.
KEEP_SECONDS = 4.0
#: Messages on their way into Redis at once: each takes a connection. The others wait their turn.
KEEPS_AT_ONCE = 64

#: What is answered to a message that is not believed: the status and what would help.
REFUSALS: Mapping[Reason, tuple[HTTPStatus, str]] = {
    Reason.METHOD: (HTTPStatus.METHOD_NOT_ALLOWED, "send notifications by POST"),
    Reason.PATH: (HTTPStatus.NOT_FOUND, "no notifications are received here"),
    Reason.MEDIA_TYPE: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send application/json in UTF-8"),
    Reason.ENCODING: (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without encoding"),
    Reason.ENCRYPTED: (HTTPStatus.BAD_REQUEST, "encrypted notifications are not understood"),
    Reason.TOO_LARGE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is over 64 KiB"),
    Reason.BODY_TIMEOUT: (HTTPStatus.REQUEST_TIMEOUT, "the body took too long"),
    Reason.BODY_CUT: (HTTPStatus.BAD_REQUEST, "the body ended early"),
    Reason.HEADER_MISSING: (HTTPStatus.BAD_REQUEST, "send Client-Id, Request-Time and Signature"),
    Reason.HEADER_REPEATED: (HTTPStatus.BAD_REQUEST, "send each header once"),
    Reason.HEADER_CHARSET: (HTTPStatus.BAD_REQUEST, "send headers in plain ASCII"),
    Reason.TIME_CHARSET: (HTTPStatus.BAD_REQUEST, "Request-Time is not a time"),
    Reason.NOT_OBJECT: (HTTPStatus.BAD_REQUEST, "the body is not a JSON object"),
    Reason.SIG_SYNTAX: (HTTPStatus.BAD_REQUEST, "the Signature header is malformed"),
    Reason.SIG_ALGORITHM: (HTTPStatus.BAD_REQUEST, "the algorithm must be RSA256"),
    Reason.CLIENT_ID: (HTTPStatus.UNAUTHORIZED, "this client id is not served here"),
    Reason.KEY_VERSION: (HTTPStatus.UNAUTHORIZED, "this keyVersion is not known here"),
    Reason.SIG_MISMATCH: (HTTPStatus.UNAUTHORIZED, "the signature does not match the message"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whom the receiver believes, and under which paths: looked up anew for each message."""

    keys: "Mapping[str, Mapping[int, RSAPublicKey]]"  #: by client id and key version
    path: str
    signed_paths: tuple[str, ...] = ()  #: what the gateway called, where a proxy rewrites the path
    forwards: Collection[str] = ()  #: client ids whose notifications are passed on
    #: By client id: its own `notify_path` and `notify_signed_paths`, which hold for it alone.
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def path_of(self, client_id: str) -> str:
        return str(self.own.get(client_id, {}).get("notify_path", self.path))

    def signed_paths_of(self, client_id: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self.own.get(client_id, {}).get(
            "notify_signed_paths", self.signed_paths
        )
        return found

    def listens_on(self, path: str) -> bool:
        """Whether it is the path of any account."""
        return path == self.path or any(path == self.path_of(client_id) for client_id in self.own)


@dataclass(slots=True)
class Visit:
    """One request, and what its log line will say."""

    request: web.Request
    started: float = field(default_factory=time.monotonic)
    facts: dict[str, Any] = field(default_factory=dict)
    #: What goes with the body where it is passed on; empty where it is not.
    passed_on: tuple[tuple[str, str], ...] = ()

    def tell(self, event: str, **facts: Any) -> None:
        """The one canonical line of this request."""
        took = round((time.monotonic() - self.started) * 1000, 1)
        line = {"peer": self.request.remote, "ms": took} | self.facts | facts
        getattr(log, EVENTS[event].level or "info")(event, **line)


def create_app(trust: Trust, store: Store) -> web.Application:
    """The receiver as an aiohttp application."""

    turns = asyncio.Semaphore(KEEPS_AT_ONCE)

    # No route but a middleware: it sees every request, also one whose target is no path.
    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.Response:  # noqa: ARG001
        # Each request binds its own: what aiohttp says of one that broke still has its id.
        bind_contextvars(request_id=secrets.token_hex(8))
        return await _receive(Visit(request), trust, store, turns)

    app = web.Application(middlewares=[handle])
    app.on_response_prepare.append(_without_banner)
    return app


async def _receive(
    visit: Visit, trust: Trust, store: Store, turns: asyncio.Semaphore
) -> web.Response:
    """Verify and keep one message, and answer it."""
    try:
        message = await _verified(visit, trust)
        if message.client_id in trust.forwards:
            visit.passed_on = _passed_on(visit.request)
        event = await _in_time(_keep_in_turn(visit, message, store, turns))
    except Untrusted as doubt:
        return _refuse(visit, doubt.reason)
    except (RedisError, OSError) as fault:
        visit.tell("receiver.store_down", fault=type(fault).__name__)
        return _later()
    visit.tell(event)
    return web.Response(body=ACK, content_type="application/json")


async def _without_banner(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop(hdrs.SERVER, None)


def _refuse(visit: Visit, reason: Reason) -> web.Response:
    status, hint = REFUSALS[reason]
    encrypted = reason is Reason.ENCRYPTED
    event = "notification.encrypted" if encrypted else "notification.rejected"
    visit.tell(event, reason=reason.value, http_status=status.value)
    answer = web.json_response({"error": reason.value, "message": hint}, status=status)
    if reason in (Reason.TOO_LARGE, Reason.BODY_TIMEOUT, Reason.BODY_CUT):
        answer.force_close()  # the rest of the body is not worth waiting for
    return answer


def _later() -> web.Response:
    """Not kept, so not acknowledged: the gateway sends it again."""
    return web.json_response(
        {"error": "store_down", "message": "send it again later"},
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        headers={hdrs.RETRY_AFTER: "5"},
    )


# Verify


async def _verified(visit: Visit, trust: Trust) -> Signed:
    """The message, if it is the gateway's and for one of our accounts; else `Untrusted`."""
    request = visit.request
    # 1. It comes the right way.
    target, *query = request.raw_path.split("?", 1)
    path = _without_origin(target)
    if not trust.listens_on(path):
        raise Untrusted(Reason.PATH)
    if request.method != "POST":
        raise Untrusted(Reason.METHOD)
    _check_content(request)
    # 2. Its three headers are there, once each, and name an account of ours.
    header = _one(request, SIGNATURE)
    client_id = _one(request, CLIENT_ID)
    sent_at = _one(request, REQUEST_TIME)
    keys = _keys_of(visit, trust, client_id, path)
    # 3. Its body is not too long and there in time.
    body = await _body(request)
    visit.facts |= {"bytes": len(body), "body_sha256": short_digest(body)}
    # 4. The signature covers the path that the gateway called. Nothing says whether a query is
    #    signed with it: the path as received is tried first, then the path alone.
    doubt = Untrusted(Reason.SIG_MISMATCH)
    for signed_path in signed_paths(trust.signed_paths_of(client_id) or (path,), query):
        message = Signed(path=signed_path, client_id=client_id, time=sent_at, body=body)
        try:
            verify(message, header, client_id=client_id, keys=keys)
        except Untrusted as why:
            doubt = why
        else:
            visit.facts["key_version"], _ = signature.parse_signature(header)
            return message
    raise doubt


def _passed_on(request: web.Request) -> tuple[tuple[str, str], ...]:
    """What the signature needs, and what says how to read the body."""
    names = (hdrs.CONTENT_TYPE, CLIENT_ID, REQUEST_TIME, SIGNATURE)
    return tuple((name, request.headers[name]) for name in names if name in request.headers)


def _keys_of(visit: Visit, trust: Trust, client_id: str, path: str) -> "Mapping[int, RSAPublicKey]":
    """The keys that are believed for an account, on its own path alone."""
    keys = trust.keys.get(client_id)
    if keys is None:
        raise Untrusted(Reason.CLIENT_ID)
    visit.facts["client_id"] = client_id
    if path != trust.path_of(client_id):
        raise Untrusted(Reason.PATH)
    return keys


def _without_origin(path: str) -> str:
    """The path of a request target that may be in absolute form (RFC 9112, 3.2.2)."""
    if path.startswith(("http://", "https://")):
        return "/" + path.split("/", 3)[3] if path.count("/") > 2 else "/"
    return path


def signed_paths(candidates: Sequence[str], query: list[str]) -> Iterator[str]:
    """What the gateway may have signed, the likeliest first. `query` holds one, or none."""
    for candidate in candidates:
        if query:
            yield f"{candidate}?{query[0]}"
        yield candidate


def _check_content(request: web.Request) -> None:
    """JSON in UTF-8, neither compressed nor encrypted; no Content-Type is taken as that."""
    if ENCRYPT in request.headers:
        raise Untrusted(Reason.ENCRYPTED)
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Untrusted(Reason.ENCODING)
    if not says_json(request.headers.get(hdrs.CONTENT_TYPE, "application/json")):
        raise Untrusted(Reason.MEDIA_TYPE)


def _one(request: web.Request, name: str) -> str:
    values = request.headers.getall(name, [])
    if not values:
        raise Untrusted(Reason.HEADER_MISSING)
    if len(values) > 1:
        raise Untrusted(Reason.HEADER_REPEATED)
    return values[0]


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise Untrusted(Reason.TOO_LARGE)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Untrusted(Reason.TOO_LARGE)
    except TimeoutError:
        raise Untrusted(Reason.BODY_TIMEOUT) from None
    except (web.RequestPayloadError, ConnectionError):
        raise Untrusted(Reason.BODY_CUT) from None
    return bytes(body)


# Keep


async def _in_time(keeping: Coroutine[Any, Any, str]) -> str:
    """The result, or TimeoutError after `KEEP_SECONDS`, also where `keeping` does not end then.

    redis-py loses a cancel now and then, see `worker.tasks.CANCEL_AGAIN_SECONDS`.
    """
    task = asyncio.ensure_future(keeping)
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # it was heard
    try:
        await asyncio.wait({task}, timeout=KEEP_SECONDS)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        task.cancel()


async def _keep_in_turn(
    visit: Visit, message: Signed, store: Store, turns: asyncio.Semaphore
) -> str:
    async with turns:
        return await _keep(visit, message, store)


async def _keep(visit: Visit, message: Signed, store: Store) -> str:
    """Write the message down, safely; the event that tells of it."""
    received_at = store.latest()
    client_id, body = message.client_id, message.body
    sent_at = times.parse_time(message.time)
    visit.facts["age_ms"] = None if sent_at is None else received_at - sent_at
    try:
        said = messages.parse_notification(body, sent_at, received_at, client_id)
    except Unreadable as unreadable:
        forward = _forward(visit, body, received_at)
        visit.facts["result"] = await store.quarantine(client_id, unreadable.why, body, forward)
        visit.facts["reason"] = unreadable.why
        return "notification.quarantined"
    visit.facts["payment_request_id"] = said.payment_request_id
    visit.facts["kind"] = said.kind if not isinstance(said, Unusable) else ""
    ours = isinstance(said, Notification | Unusable)
    forward = _forward(visit, body, received_at, said.payment_request_id)
    if not said.payment_request_id and not forward:
        return "notification.ignored"
    visit.facts["result"] = await store.receive(
        f"{client_id}:{said.payment_request_id}",
        write_mail(received_at, message.time, body),
        digest(body),
        parks=ours,
        quarantine=(said.why, body) if isinstance(said, Unusable) else None,
        forward=forward,
    )
    if isinstance(said, Unusable):
        visit.facts["reason"] = said.why
        return "notification.quarantined"
    return "notification.accepted" if ours else "notification.ignored"


def _forward(visit: Visit, body: bytes, at: Ms, about: str = "") -> Delivery | None:
    """What the merchant's own receiver is sent, unchanged, if it is to be sent anything."""
    if not visit.passed_on:
        return None
    return Delivery(id=digest(body), at=at, about=about, body=body, headers=visit.passed_on)


# Serve


async def start_receiver(
    trust: Trust, store: Store, host: str, port: int, tls: ssl.SSLContext | None = None
) -> web.AppRunner:
    """A running receiver; `await runner.cleanup()` ends it, after the requests under way."""
    return await serve(create_app(trust, store), host, port, tls)
