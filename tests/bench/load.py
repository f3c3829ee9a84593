"""Notifications, sent to a receiver over connections that stay open, as the gateway sends them.

Requests are made beforehand and answers hardly read, so that who is measured is the receiver.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.bench.gateway import signed_together
from tests.bench.measure import Meter, Spent
from tests.keys import CLIENT_ID
from tests.servers import now_ms, paid
from worker.messages import ACK
from worker.signature import Signed

PATH = "/notify"
CONNECTIONS = 64


def requests(names: Sequence[str]) -> list[bytes]:
    """Signed notifications that these payments are paid, as whole HTTP requests."""
    at = str(now_ms())
    bodies = [json.dumps(paid(name)).encode() for name in names]
    signatures = signed_together([Signed(PATH, CLIENT_ID, at, body) for body in bodies])
    return [
        _request(at, signature, body) for signature, body in zip(signatures, bodies, strict=True)
    ]


def _request(at: str, signature: str, body: bytes) -> bytes:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: us\r\nContent-Type: application/json; charset=UTF-8\r\n"
        f"Client-Id: {CLIENT_ID}\r\nRequest-Time: {at}\r\nSignature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Load:
    """Connections to a receiver, and what came of what was sent."""

    streams: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
    acked: int = 0
    late: list[float] = field(default_factory=list)  #: seconds from when it should go to its ack

    async def as_fast_as_it_goes(self, waiting: Sequence[bytes], pids: dict[str, int]) -> Spent:
        """Each connection sends the next one as soon as it has its answer. Counted is what comes
        after the first tenth and before the last."""
        left, tenth = iter(waiting), len(waiting) // 10
        found: list[Spent] = []
        meter = Meter(pids)

        async def in_turn(number: int) -> None:
            nonlocal meter
            for request in left:
                await self._exchange(number, request)
                if self.acked == tenth:
                    meter = Meter(pids)
                if self.acked == len(waiting) - tenth:
                    found.append(meter.read(len(waiting) - 2 * tenth))

        await asyncio.gather(*map(in_turn, range(len(self.streams))))
        return found[0]

    async def steadily(self, waiting: Sequence[bytes], rate: float) -> None:
        """So many a second, whatever the receiver does: its delays hold up nobody's start."""
        free: asyncio.Queue[int] = asyncio.Queue()
        for number in range(len(self.streams)):
            free.put_nowait(number)

        async def one(request: bytes, due: float) -> None:
            number = await free.get()
            await self._exchange(number, request)
            free.put_nowait(number)
            self.late.append(time.monotonic() - due)

        began, sending = time.monotonic(), []
        for number, request in enumerate(waiting):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sending.append(asyncio.create_task(one(request, due)))
        await asyncio.gather(*sending)

    async def _exchange(self, number: int, request: bytes) -> None:
        reader, writer = self.streams[number]
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200 ") and body == ACK, head + body
        self.acked += 1


@asynccontextmanager
async def connected(port: int, connections: int = CONNECTIONS) -> AsyncIterator[Load]:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    try:
        yield Load(streams)
    finally:
        for _, writer in streams:
            writer.close()
