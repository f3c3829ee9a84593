"""What a stranger may hold of us: so many connections, so much memory, and for so long."""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import http_parser, web
from structlog.typing import EventDict

from tests.servers import certificate, until
from worker import http_server
from worker.http_server import serve
from worker.receiving import tls_context

ASK = b"GET / HTTP/1.1\r\nHost: us\r\n\r\n"
Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[web.AppRunner]:
    async def ok(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/", handler or ok)
    runner = await serve(app, "127.0.0.1", 0, tls)
    try:
        yield runner
    finally:
        await runner.cleanup()


async def connected(runner: web.AppRunner) -> Talk:
    return await asyncio.open_connection(*runner.addresses[0][:2])


def open_now(runner: web.AppRunner) -> int:
    assert runner.server
    return len(runner.server.connections)


async def close(*talks: Talk) -> None:
    for _, writer in talks:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def read(talk: Talk) -> bytes:
    """What comes until the other side ends it, which it must within 10 s."""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            return await talk[0].read()
    return b""


def reading(talk: Talk) -> asyncio.ReadTransport:
    """The side of a connection that may stop to read."""
    transport: Any = talk[1].transport
    assert isinstance(transport, asyncio.ReadTransport)
    return transport


async def test_an_expect_that_there_is_not_is_passed_over_and_not_repeated() -> None:
    """aiohttp's own answer repeats it, and no handler, no log would see the request."""
    for expect in (b"<evil>", b"100-continue, x", b"x\r\nExpect: 100-continue"):
        async with serving() as runner:
            talk = await connected(runner)
            talk[1].write(ASK[:-2] + b"Expect: " + expect + b"\r\nConnection: close\r\n\r\n")
            answer = await read(talk)
            assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"ok")
            await close(talk)


# Time


@pytest.mark.parametrize("before", [b"", ASK], ids=["at first", "after a request"])
async def test_headers_that_come_byte_by_byte_are_cut_off_all_the_same(
    before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.3)
    async with serving() as runner:
        talk = await connected(runner)
        talk[1].write(before + b"GET / HTTP/1.1\r\nX: ")
        await until(lambda: asyncio.sleep(0, open_now(runner)))
        dribbled = 0
        while open_now(runner):
            talk[1].write(b"x")
            dribbled += 1
            await asyncio.sleep(0.02)
            assert dribbled < 400
        assert dribbled > 3
        await close(talk)


async def test_an_answer_that_nobody_reads_ends_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else as many such as we allow would keep everybody else out, for as long as they like."""
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.2)

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(100_000))

    async with serving(much) as runner:
        talk = await connected(runner)
        reading(talk).pause_reading()
        talk[1].write(ASK * 200)
        await until(lambda: asyncio.sleep(0, not open_now(runner)))
        await close(talk)


async def test_a_small_answer_that_nobody_reads_ends_its_connection_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that asyncio would keep for ever, as it is too little to slow its writer down."""
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.2)

    async def little(request: web.Request) -> web.Response:
        assert request.transport
        ours = request.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return web.Response(body=bytes(40_000))

    with socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with serving(little) as runner:
            await asyncio.to_thread(theirs.connect, runner.addresses[0][:2])
            theirs.send(ASK)
            await until(lambda: asyncio.sleep(0, open_now(runner)))
            await until(lambda: asyncio.sleep(0, not open_now(runner)), 10)


async def test_an_answer_that_is_read_slowly_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "ANSWER_SECONDS", 5.0)

    async def much(_: web.Request) -> web.Response:
        return web.Response(body=bytes(10_000_000))

    async with serving(much) as runner:
        talk = await connected(runner)
        reading(talk).pause_reading()
        talk[1].write(ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await asyncio.sleep(0.1)
        reading(talk).resume_reading()
        assert len(await read(talk)) > 10_000_000
        await close(talk)


async def test_tls_that_nobody_goes_on_with_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HANDSHAKE_SECONDS", 0.2)
    async with serving(tls=tls_context(*certificate(tmp_path))) as runner:
        talk = await connected(runner)
        assert await read(talk) == b""
        await close(talk)


# Connections


async def crowd(runner: web.AppRunner, count: int) -> list[Talk]:
    talks = [await connected(runner) for _ in range(count)]
    await until(lambda: asyncio.sleep(0, open_now(runner) == count))
    return talks


async def test_in_a_crowd_whoever_waits_longest_to_speak_makes_room(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    async with serving() as runner:
        first, second, third = await crowd(runner, 3)
        first[1].write(ASK)  # it has spoken: now the second waits longest
        await first[0].readuntil(b"ok")
        late = await connected(runner)
        late[1].write(ASK)
        await late[0].readuntil(b"ok")
        assert await read(second) == b""
        third[1].write(ASK)
        await third[0].readuntil(b"ok")
        assert open_now(runner) == 3
        await close(first, second, third, late)
    assert [line["event"] for line in log_lines] == ["receiver.crowded"]
    assert (log_lines[0]["open"], log_lines[0]["ended"]) == (3, 1)


async def test_where_all_are_being_served_one_more_is_turned_away(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 2)
    go_on = asyncio.Event()

    async def busy(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(text="ok")

    async with serving(busy) as runner:
        talks = await crowd(runner, 2)
        for talk in talks:
            talk[1].write(ASK)
        await until(lambda: asyncio.sleep(0, all_busy(runner)))
        late = await connected(runner)
        late[1].write(ASK)
        turned_away = await read(late)
        assert turned_away == b"" or turned_away.startswith(b"HTTP/1.1 503 ")
        go_on.set()
        for talk in talks:
            assert await talk[0].readuntil(b"ok")
        await close(*talks, late)
    assert [line["event"] for line in log_lines] == ["receiver.crowded"]


def all_busy(runner: web.AppRunner) -> bool:
    assert runner.server
    return all(c.idle_since == float("inf") for c in runner.server.connections)  # type: ignore[attr-defined]


async def test_a_flood_of_connections_leaves_one_line_and_no_trace(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 5)
    async with serving() as runner:
        talks = [await connected(runner) for _ in range(100)]
        await until(lambda: asyncio.sleep(0, open_now(runner) <= 5))
        last = await connected(runner)
        last[1].write(ASK)
        await last[0].readuntil(b"ok")
        await close(*talks, last)
        await until(lambda: asyncio.sleep(0, not open_now(runner)))
    assert len(log_lines) == 1


# Memory


async def test_who_sends_many_requests_at_once_is_not_read_ahead_of_our_answers() -> None:
    """With one in hand two wait, and whatever came in the same read; the rest stays where it is."""
    go_on = asyncio.Event()

    async def busy(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(text="ok")

    async with serving(busy) as runner:
        talk = await connected(runner)
        one = ASK.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 4000 + b"\r\n\r\n")
        for _ in range(10):
            talk[1].write(one)
            await asyncio.sleep(0.02)
        assert runner.server
        [connection] = runner.server.connections
        assert len(connection._messages) == http_server.MAX_PIPELINED
        go_on.set()
        for _ in range(10):
            await talk[0].readuntil(b"ok")
        await close(talk)


# The parser


def test_http_is_parsed_in_c() -> None:
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


async def test_a_parser_in_python_is_told_of(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    python = http_parser.HttpRequestParserPy
    monkeypatch.setattr(http_parser, "HttpRequestParser", python)
    async with serving():
        pass
    assert [line["event"] for line in log_lines] == ["http.parser_weak"]


async def test_aiohttp_without_its_extensions_is_what_is_told_of() -> None:
    """The check itself, in a process where it must say so."""
    code = "from worker.http_server import warn_of_weak_parser as warn; warn()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env=os.environ | {"AIOHTTP_NO_EXTENSIONS": "1"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert b"http.parser_weak" in said
