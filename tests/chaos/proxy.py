"""A wire that misbehaves: it cuts, delays, swallows and refuses, as it is told."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

CHUNK = 65_536
#: Closing with this sends a reset, as a host does that has forgotten the connection.
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False, slots=True)
class Connection:
    """One client, and the server on its behalf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    reply_lost: bool = False  #: cut it as soon as the server answers: the request was carried out

    def cut(self) -> None:
        for end in (self.client, self.server):
            end.transport.abort()


@dataclass(eq=False, slots=True)
class Wire:
    """Listens on a port of its own and passes on to `target`.

    That is a port of this machine or the path of a socket. A request is whatever the client
    sends at a time: our clients send each command, pipeline or HTTP request in one piece.
    """

    target: int | str
    port: int = 0
    refusing: bool = False
    delay: float = 0  #: seconds added to everything, both ways
    drop_next: bool = False  #: cut the connection of the next request, which is not passed on
    lose_next: bool = False  #: cut the connection of the next reply: its request was carried out
    requests: int = 0
    cuts: int = 0
    on_request: Callable[[bytes, Connection], bool] | None = None  #: False: it is not passed on
    open: set[Connection] = field(default_factory=set)
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)
    _listener: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self) -> None:
        self._flowing.set()
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._listener:
            self._listener.close()
        self.cut()
        self._flowing.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What it does to its connections

    def cut(self) -> int:
        """End every connection at once; how many there were."""
        found = list(self.open)
        for connection in found:
            connection.cut()
        self.cuts += len(found)
        return len(found)

    def swallow(self) -> None:
        """Pass on nothing until `flow`: nobody is told that anything is wrong."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()
        self.delay, self.refusing = 0, False
        self.drop_next = self.lose_next = False

    # How it works

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                await self._serve(reader, client)
        except (OSError, asyncio.CancelledError):
            pass  # asyncio would report a connection that `close` cancelled
        finally:
            _reset(client)
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if isinstance(self.target, str):
            answers, server = await asyncio.open_unix_connection(self.target)
        else:
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        connection = Connection(client, server)
        self.open.add(connection)
        there = asyncio.ensure_future(self._pass_requests(reader, connection))
        back = asyncio.ensure_future(self._pass_replies(answers, connection))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open.discard(connection)
            server.transport.abort()
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _pass_requests(self, reader: asyncio.StreamReader, on: Connection) -> None:
        while data := await reader.read(CHUNK):
            self.requests += 1
            if self.drop_next or (self.on_request and not self.on_request(data, on)):
                self.drop_next = False
                self.cuts += 1
                on.cut()
                return
            await self._pass(data, on.server)

    async def _pass_replies(self, answers: asyncio.StreamReader, on: Connection) -> None:
        while data := await answers.read(CHUNK):
            if self.lose_next or on.reply_lost:
                self.lose_next = False
                self.cuts += 1
                on.cut()
                return
            await self._pass(data, on.client)

    async def _pass(self, data: bytes, to: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.delay)
        await self._flowing.wait()
        to.write(data)
        await to.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
