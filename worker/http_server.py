"""The HTTP server under receiver and admin port: what a stranger may cost before he is read.

aiohttp's own defaults are for friends: headers of 1 MB, an hour for them to arrive, any number of
connections, answers that wait for ever to be read, and an error page that prints what was sent.

Limits are those of one process. While every connection is held by somebody who means ill, it needs
about 300 MB.
"""

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from aiohttp import hdrs, http_parser, web
from aiohttp.helpers import parse_mimetype
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy

from worker.logs import log

#: Held at once: half of the 1,024 files that most systems allow a process. The gateway needs few.
MAX_CONNECTIONS = 512
#: A notification has ten headers at most, and proxies add some.
MAX_HEADERS = 48
#: A header's name, its value, the request's target. The longest we read, a signature, has 1.5 KB.
MAX_HEADER_BYTES = 4096
#: Requests that wait on one connection while another is in hand: nobody who means well sends any.
MAX_PIPELINED = 2
#: What is read ahead of the handler.
READ_AHEAD_BYTES = 32 * 1024
#: For a request's headers to arrive, from its connection's start or the answer before: bytes that
#: come one by one do not extend it. It is also how long a connection may idle.
HEADER_SECONDS = 15.0
#: For an answer to be taken. It has 200 bytes: who does not read it only holds a connection.
ANSWER_SECONDS = 10.0
#: For TLS to be agreed on, and to be ended.
HANDSHAKE_SECONDS = 10.0
#: How long the rest of a refused body is still taken in: closing at once would often wipe out the
#: answer on its way. aiohttp's own 10 s would hold the connection for a slow sender.
LINGER_SECONDS = 1.0
#: For the requests under way, when the server is asked to stop, and once more as long.
DRAIN_SECONDS = 5.0
#: At most one line in this time says that connections are refused.
CROWDED_EVERY_SECONDS = 10.0
KNOWN = "100-continue"  #: the only `Expect` that there is

_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 19\r\n\r\n"
    b'{"error":"crowded"}'
)


def says_json(content_type: str) -> bool:
    """Whether a Content-Type means JSON in UTF-8."""
    media = parse_mimetype(content_type)
    charset = media.parameters.get("charset", "utf-8").lower()
    return f"{media.type}/{media.subtype}" == "application/json" and charset in ("utf-8", "utf8")


async def serve(
    app: web.Application,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    crowded: str = "receiver.crowded",
    patience: float = DRAIN_SECONDS,
) -> web.AppRunner:
    """A running server; `await runner.cleanup()` ends it, after the requests under way.

    `crowded` is the name of the line that says that there are too many connections. Requests have
    twice this `patience` (seconds): aiohttp cuts off what is left of their bodies after once.
    """
    warn_of_weak_parser()
    runner = _Runner(
        crowded,
        app,
        access_log=None,
        keepalive_timeout=HEADER_SECONDS,
        lingering_time=LINGER_SECONDS,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
        read_bufsize=READ_AHEAD_BYTES,
        auto_decompress=False,
        shutdown_timeout=patience,
    )
    await runner.setup()
    try:
        await _Site(runner, host, port, ssl_context=tls).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


def warn_of_weak_parser() -> None:
    """Say so if aiohttp parses HTTP in Python: that parser had the holes that the other had not."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        log.warning("http.parser_weak")


class Connection(web.RequestHandler):
    """One connection, held to the limits above; what is no HTTP is answered without an echo."""

    __slots__ = ("_unread",)

    def __init__(self, manager: "_Server", **options: object) -> None:
        super().__init__(manager, **options)  # type: ignore[arg-type]
        self._max_msg_queue_size = MAX_PIPELINED
        self._msg_queue_resume_size = MAX_PIPELINED // 2
        self._unread: asyncio.TimerHandle | None = None

    @property
    def idle_since(self) -> float:
        """When it began to wait for a request or for the rest of its headers; never, if busy."""
        waits = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time if waits else math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        if not cast(_Server, self._manager).has_room():
            self._force_close = True
            stream.write(_TURNED_AWAY)
            stream.close()
            return
        stream.set_write_buffer_limits(high=1, low=0)  # or small answers that pile up go unnoticed
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """A server that stops hears a body out that is half here; aiohttp drops whatever comes."""
        request, stops = self._current_request, (self._close, self._force_close)
        if request is not None and not request.content.is_eof():
            self._close = self._force_close = False
        super().data_received(data)
        if any(stops):
            self._close, self._force_close = stops

    def pause_writing(self) -> None:
        """An answer waits to be read: not for long."""
        super().pause_writing()
        if self.transport is not None:
            self._unread = self._loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_at_last()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._read_at_last()
        super().connection_lost(exc)

    def _read_at_last(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp's own would print the sender's headers, in its answer and in the log."""
        if status == HTTPStatus.BAD_REQUEST:
            log.warning("http.malformed", peer=request.remote, error=type(exc).__name__)
        else:
            super().handle_error(request, status, exc, message)  # logs it
        fault = HTTPStatus(status).phrase.lower().replace(" ", "_")
        answer = web.json_response({"error": fault}, status=status, headers={"Server": ""})
        answer.force_close()
        return answer


class _Server(web.Server):
    """All connections. When there are too many, who waits longest to say something makes room."""

    crowded = ""  #: the name of a line
    _ended = 0
    _said_at = -math.inf

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    def has_room(self) -> bool:
        """Whether one more may come. The gateway speaks at once: what idles longest is not it."""
        if len(self._connections) < MAX_CONNECTIONS:
            return True
        self._ended += 1
        self._say_crowded()
        longest = min(cast("dict[Connection, Any]", self._connections), key=lambda c: c.idle_since)
        if longest.idle_since == math.inf:
            return False
        self._connections[longest].abort()
        longest.force_close()
        return True

    def _say_crowded(self) -> None:
        now = time.monotonic()
        if now - self._said_at >= CROWDED_EVERY_SECONDS:
            log.warning(self.crowded, open=len(self._connections), ended=self._ended)
            self._said_at, self._ended = now, 0


class _Runner(web.AppRunner):
    def __init__(self, crowded: str, app: web.Application, **options: Any) -> None:
        super().__init__(app, **options)
        self._crowded = crowded

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        factory = _expecting_no_more(made.request_factory)
        server = _Server(made.request_handler, request_factory=factory, **self._kwargs)
        server.crowded = self._crowded
        return server


def _expecting_no_more(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """aiohttp answers an `Expect` that it does not know itself, and repeats it there: it need not,
    and nobody would see the request (RFC 9110, 10.1.1)."""

    def request(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
        if message.headers.get(hdrs.EXPECT, KNOWN).lower() != KNOWN:
            headers = message.headers.copy()
            headers.popall(hdrs.EXPECT)
            message = message._replace(headers=CIMultiDictProxy(headers))
        return make(message, *rest)

    return request


class _Site(web.TCPSite):
    """aiohttp leaves a stranger a minute to agree on TLS, and half of one to end it."""

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        patience = HANDSHAKE_SECONDS if self._ssl_context else None  # asyncio refuses it otherwise
        self._server = await asyncio.get_running_loop().create_server(
            server,
            self._host,
            self._port,
            ssl=self._ssl_context,
            ssl_handshake_timeout=patience,
            ssl_shutdown_timeout=patience,
        )
