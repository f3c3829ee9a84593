"""A gateway that costs next to nothing: it gives answers that were signed before it began.

It runs as a process of its own. Each payment has its answers in order, the last one repeating. How
many were given stands in a file that is mapped into memory, so that nobody has to ask, and so does
after how many it waits for whoever measures; a few of the requests are kept as they came, to see
afterwards that they were signed.
"""

import argparse
import asyncio
import json
import mmap
import pickle
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.keys import CLIENT_ID, private_key, public_key
from tests.servers import ROOT, inquired, now_ms
from worker.requests import api_path, inquiry_body
from worker.signature import Signed, signature_header, verify

PATH = api_path(CLIENT_ID, "inquiryPayment")
KEPT_EVERY = 61  #: of the requests one in so many is looked at afterwards
_MARK = b'"paymentRequestId":"'
_COUNT = struct.Struct("<Q")
_ANSWERED, _HOLD = 0, _COUNT.size  #: where in the mapped file
HELD_SECONDS = 0.001  #: between two looks whether it may go on

#: What is answered to the first inquiry about a payment, to the second, and so on.
Answers = Mapping[str, Sequence[bytes]]


def answers(names: Sequence[str], statuses: Sequence[str]) -> dict[str, list[bytes]]:
    """Whole HTTP responses, signed now, so good for the minutes in which an answer counts as fresh.

    Equal statuses share one answer.
    """
    wanted = [(name, status) for name in names for status in dict.fromkeys(statuses)]
    at = str(now_ms())
    bodies = [json.dumps(inquired(*each)).encode() for each in wanted]
    headers = signed_together([Signed(PATH, CLIENT_ID, at, body) for body in bodies])
    made = {
        each: _response(at, signature, body)
        for each, signature, body in zip(wanted, headers, bodies, strict=True)
    }
    return {name: [made[name, status] for status in statuses] for name in names}


def signed_together(messages: Iterable[Signed]) -> list[str]:
    """The gateway's signatures; OpenSSL lets two threads work at once."""

    def sign(message: Signed) -> str:
        return signature_header(message, private_key("alipay_v1"), 1)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(sign, messages))


def question(name: str) -> Signed:
    """What is signed to ask about a payment."""
    return Signed(PATH, CLIENT_ID, str(now_ms()), inquiry_body(name))


def _response(at: str, signature: str, body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=UTF-8\r\n"
        f"client-id: {CLIENT_ID}\r\nresponse-time: {at}\r\nSignature: {signature}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# The process


class Server:
    """What is common to its connections."""

    def __init__(self, given: Answers, count: mmap.mmap, delay: float) -> None:
        self._given = {name.encode(): list(each) for name, each in given.items()}
        self._asked = dict.fromkeys(self._given, 0)
        self._count, self._total = count, 0
        self._waiting: list[Connection] = []
        self.kept: list[bytes] = []
        self.delay = delay

    def holds(self, connection: "Connection") -> bool:
        """Whether the next answer waits until the measuring has begun; it is given then."""
        hold = _COUNT.unpack_from(self._count, _HOLD)[0]
        if not hold or self._total < hold:
            return False
        if not self._waiting:
            asyncio.get_running_loop().call_later(HELD_SECONDS, self._look_again)
        self._waiting.append(connection)
        return True

    def _look_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for connection in waiting:
            connection.data_received(b"")

    def answer(self, request: bytes, body_at: int) -> bytes:
        start = request.index(_MARK, body_at) + len(_MARK)
        name = request[start : request.index(b'"', start)]
        asked = self._asked[name]
        self._asked[name] = asked + 1
        if self._total % KEPT_EVERY == 0:
            self.kept.append(request)
        self._total += 1
        _COUNT.pack_into(self._count, _ANSWERED, self._total)
        given = self._given[name]
        return given[min(asked, len(given) - 1)]


class Connection(asyncio.Protocol):
    """HTTP/1.1 as our client speaks it: one request at a time, with a Content-Length."""

    def __init__(self, server: Server) -> None:
        self._server, self._got = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (head := self._got.find(b"\r\n\r\n")) >= 0:
            end = head + 4 + _length(self._got[:head])
            if len(self._got) < end or self._server.holds(self):
                return
            request, self._got = self._got[:end], self._got[end:]
            self._say(self._server.answer(request, head))

    def _say(self, answer: bytes) -> None:
        if self._server.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(self._server.delay, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + len(b"content-length:")
    return int(head[at:].split(b"\r\n", 1)[0])


async def _serve(folder: Path, delay: float) -> None:
    given = pickle.loads((folder / "answers").read_bytes())
    with (folder / "count").open("r+b") as file, mmap.mmap(file.fileno(), 2 * _COUNT.size) as count:
        server = Server(given, count, delay)
        listening = await asyncio.get_running_loop().create_server(
            lambda: Connection(server), "127.0.0.1", 0, backlog=1024
        )
        print(listening.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until it is closed
        (folder / "kept").write_bytes(pickle.dumps(server.kept))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    args = parser.parse_args()
    asyncio.run(_serve(args.folder, args.delay))


# From outside


@dataclass
class Gateway:
    """A running one."""

    url: str
    pid: int
    _count: mmap.mmap
    checked: int = 0  #: requests whose signatures were looked at, once it has ended

    @property
    def answered(self) -> int:
        total: int = _COUNT.unpack_from(self._count, _ANSWERED)[0]
        return total

    def release(self) -> None:
        """Hold no answer back any more."""
        _COUNT.pack_into(self._count, _HOLD, 0)


def check_request(raw: bytes) -> None:
    """Raise unless the request is a signed one of the merchant's."""
    head, _, body = raw.partition(b"\r\n\r\n")
    _, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    said = {name.lower(): value for name, value in pairs}
    signed = Signed(PATH, said["client-id"], said["request-time"], body)
    keys = {1: public_key("merchant_v1")}
    verify(signed, said["signature"], client_id=CLIENT_ID, keys=keys)


@contextmanager
def running(given: Answers, *, delay: float = 0.0, hold_at: int = 0) -> Iterator[Gateway]:
    """A gateway that gives these answers, each `delay` seconds after it was asked, and no more than
    `hold_at` until it is released (0: as many as it is asked for). At the end it raises if what it
    was asked was not signed by the merchant."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as name:
        folder = Path(name)
        (folder / "answers").write_bytes(pickle.dumps(given))
        (folder / "count").write_bytes(_COUNT.pack(0) + _COUNT.pack(hold_at))
        words = [sys.executable, "-m", "tests.bench.gateway", str(folder), f"--delay={delay}"]
        with (
            (folder / "count").open("r+b") as file,
            mmap.mmap(file.fileno(), 2 * _COUNT.size) as count,
            subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process,
        ):
            assert process.stdin and process.stdout
            port = int(process.stdout.readline())
            gateway = Gateway(f"http://127.0.0.1:{port}", process.pid, count)
            try:
                yield gateway
            finally:
                process.stdin.close()
                process.wait(10)
            kept: list[bytes] = pickle.loads((folder / "kept").read_bytes())
            for request in kept:
                check_request(request)
            gateway.checked = len(kept)


if __name__ == "__main__":
    main()
