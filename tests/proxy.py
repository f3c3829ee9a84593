"""A bad line between a client and a server, on loopback: what it does is changed while it runs."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNK = 64 * 1024


class Proxy:
    """Passes bytes on, both ways, unless told otherwise. What is blocked comes later, as in TCP."""

    def __init__(self, dial: Callable[[], Awaitable[Streams]]) -> None:
        self._dial = dial
        self.port = 0
        self.delay = 0.0  #: seconds before each answer is passed on
        self.cut_after: int | None = None  #: bytes of answers until a connection is reset
        self.instead: Talk | None = None  #: who answers new connections in place of the server
        self.connections = 0  #: how many there have been
        self._clear = asyncio.Event()  #: not set: nothing passes, and nobody is told so
        self._clear.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def block(self) -> None:
        """Swallow everything from now on, also new connections, without a word."""
        self._clear.clear()

    def unblock(self) -> None:
        self._clear.set()

    def reset(self) -> None:
        """End every connection as a router that has forgotten it does: RST, in mid-word."""
        for writer in self._writers:
            _reset(writer)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        async with _closing(writer, self._writers):
            if self.instead is not None:
                return await self.instead(reader, writer)
            there, back = await self._dial()
            async with _closing(back, self._writers):
                answers = asyncio.create_task(self._answer(there, writer))
                try:
                    await self._ask(reader, back)
                    await answers
                finally:
                    answers.cancel()

    async def _ask(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._clear.wait()
                back.write(chunk)
                await back.drain()
        back.close()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := await there.read(CHUNK):
                await asyncio.sleep(self.delay)
                await self._clear.wait()
                if self.cut_after is not None and passed + len(chunk) > self.cut_after:
                    writer.write(chunk[: max(0, self.cut_after - passed)])
                    _reset(writer)
                    return
                passed += len(chunk)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    def start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def _closing(
    writer: asyncio.StreamWriter, among: set[asyncio.StreamWriter]
) -> AsyncIterator[None]:
    among.add(writer)
    try:
        with suppress(OSError):
            yield
    finally:
        among.discard(writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxying(dial: Callable[[], Awaitable[Streams]]) -> AsyncIterator[Proxy]:
    """A proxy before what `dial` connects to."""
    proxy = Proxy(dial)
    server = await asyncio.start_server(proxy.start, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


def to_socket(path: Path) -> Callable[[], Awaitable[Streams]]:
    return lambda: asyncio.open_unix_connection(path)


def to_url(url: str) -> Callable[[], Awaitable[Streams]]:
    """`url`: http://host:port, which is read now, so that the server may come later."""
    there = urlsplit(url)
    return lambda: asyncio.open_connection(there.hostname, there.port)
