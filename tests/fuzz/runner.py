"""A campaign: inputs by their numbers over a few connections, every answer judged."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from structlog.typing import EventDict, WrappedLogger

from tests.fuzz import oracle
from tests.fuzz.mutations import Mutation, mutation, stock
from tests.keys import CLIENT_ID
from worker import connect, http_server, logs, receiver
from worker.embedded import embedded_server
from worker.keys import Keys
from worker.messages import ACK
from worker.receiver import Trust, start_receiver
from worker.store import Store

CONNECTIONS = 48
#: What waits for bytes that never come costs this long instead of seconds.
SHORT = 0.3
ANSWER_SECONDS = 20.0
SAMPLE = 500  #: between two looks at the memory
MAX_GROWTH = 64 * 1024 * 1024  #: of it, in bytes, once a fifth is done: noise is a tenth of this

Answer = tuple[int, bytes]


@dataclass
class Report:
    seed: int
    count: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)  #: bytes, now and then
    lines: int = 0
    kept: set[bytes] = field(default_factory=set)  #: the bodies that were acknowledged

    def accuse(self, number: int, what: str) -> None:
        self.violations.append((number, what))


@dataclass
class Target:
    port: int
    store: Store


@asynccontextmanager
async def target(redis_url: str, prefix: str) -> AsyncIterator[Target]:
    """The real receiver and the real store, impatient."""
    client = connect.client(redis_url, tries=1)
    store = Store(client, Keys(prefix))
    patience = (receiver.BODY_SECONDS, http_server.HEADER_SECONDS, http_server.LINGER_SECONDS)
    receiver.BODY_SECONDS, http_server.HEADER_SECONDS = SHORT, SHORT * 10
    http_server.LINGER_SECONDS = SHORT / 10
    trust = Trust(keys={CLIENT_ID: oracle.KEYS}, path="/notify")
    runner = await start_receiver(trust, store, "127.0.0.1", 0)
    try:
        yield Target(int(runner.addresses[0][1]), store)
    finally:
        await runner.cleanup()
        await client.aclose()
        receiver.BODY_SECONDS, http_server.HEADER_SECONDS, http_server.LINGER_SECONDS = patience


async def campaign(at: Target, seed: int, count: int, connections: int = CONNECTIONS) -> Report:
    """Inputs 0 to `count` - 1 of this seed."""
    report = Report(seed)
    numbers = iter(range(count))
    started = time.monotonic()
    with counted_lines(report):
        await asyncio.gather(*(Sender(at.port, report).run(numbers) for _ in range(connections)))
    report.seconds = time.monotonic() - started
    await check_kept(at, report)
    if report.rss and report.rss[-1] - report.rss[len(report.rss) // 5] > MAX_GROWTH:
        report.accuse(-1, "the memory grows")
    if report.lines < sum(report.answers.values()):
        report.accuse(-1, "an answer left no line")
    return report


class Sender:
    """One connection at a time, that is used again as long as the answers agree."""

    def __init__(self, port: int, report: Report) -> None:
        self._port = port
        self._report = report
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            await self._send(number)
        await self._close()

    async def _send(self, number: int) -> None:
        sent = mutation(self._report.seed, number)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answers = await (self._ask(sent) if sent.framed else self._pour(sent))
        except TimeoutError:
            self._report.accuse(number, "no answer in time")
            await self._close()
            return
        judge(self._report, number, sent, answers)

    async def _ask(self, sent: Mutation) -> list[Answer]:
        """One request, one answer."""
        for _ in range(2):  # the server may have ended the connection meanwhile
            fresh = self._open is None
            reader, writer = self._open or await asyncio.open_connection("127.0.0.1", self._port)
            self._open = reader, writer
            writer.write(sent.wire)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                answer, ends = await read_answer(reader)
                if ends:
                    await self._close()
                return [answer]
            await self._close()
            if fresh:
                break
        return []

    async def _pour(self, sent: Mutation) -> list[Answer]:
        """Anything at all: read what comes until the server ends the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers = []
        try:
            writer.write(sent.wire)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    answer, ends = await read_answer(reader)
                    answers.append(answer)
                    if ends:
                        break
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return answers

    async def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            with suppress(OSError):
                await self._open[1].wait_closed()
            self._open = None


async def read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """An answer, and whether the connection ends with it."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = re.search("content-length: ([0-9]+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return (int(head.split()[1]), body), "connection: close" in head


# Judging


def judge(report: Report, number: int, sent: Mutation, answers: list[Answer]) -> None:
    report.count += 1
    report.kinds[sent.kind] += 1
    requests = list(oracle.requests_in(sent.wire))
    for position, (status, body) in enumerate(answers):
        report.answers[status, _reason(status, body)] += 1
        request = requests[position] if position < len(requests) else None
        truly = request is not None and oracle.genuine(request)
        if status >= 500:
            report.accuse(number, f"answered {status}")
        elif body == ACK and not truly:
            report.accuse(number, "believed, and nobody signed it")
        elif b'"sig_' in body and truly:
            report.accuse(number, "not believed, though it was signed")
        elif body == ACK and request is not None:
            report.kept.add(request.body)
    if not answers and sent.framed:
        report.accuse(number, "not answered")
    if report.count % SAMPLE == 0:
        report.rss.append(_rss())


def _reason(status: int, body: bytes) -> str:
    if body == ACK:
        return "believed"
    return str(json.loads(body)["error"]) if body else "-"


async def check_kept(at: Target, report: Report) -> None:
    """What was acknowledged is there once, and nothing else is."""
    redis, start = at.store.redis, f"{at.store.keys.prefix}:v1:"
    bodies = [fields[b"body"] for _, fields in await redis.xrange(at.store.keys.quarantine)]
    async for name in redis.scan_iter(f"{start}inbox:*", count=1000):
        mail = await redis.lrange(name, 0, -1)  # type: ignore[misc]
        bodies += [json.loads(entry)["body"].encode() for entry in mail]
    ours = {post.body for post in stock() if b"REFUND_RESULT" not in post.body}
    if sorted(bodies) != sorted(report.kept & ours):
        report.accuse(-1, f"{len(bodies)} are kept, {len(report.kept & ours)} were acknowledged")


@contextmanager
def counted_lines(report: Report) -> Iterator[None]:
    """Takes the log lines: each is counted, and none may hold what was sent."""

    def take(logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        logs.check_line(logger, method, line)
        report.lines += 1
        told = repr(line)
        if "signature=" in told or "paymentAmount" in told:
            report.accuse(-1, f"a line tells what was sent: {line['event']}")
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[take])
    try:
        yield
    finally:
        structlog.configure(processors=before)


def _rss() -> int:
    """Bytes of memory that this process has, as far as the system says so."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def run(seed: int, count: int) -> Report:
    """A campaign with a server of its own."""

    async def all_of_it(url: str) -> Report:
        async with target(url, "fuzz") as at:
            return await campaign(at, seed, count)

    with embedded_server() as url:
        return asyncio.run(all_of_it(url))


async def replay(url: str, seed: int, number: int) -> tuple[Mutation, list[Answer], Report]:
    """One input once more."""
    async with target(url, "fuzz") as at:
        report = Report(seed)
        sent = mutation(seed, number)
        sender = Sender(at.port, report)
        answers = await (sender._ask(sent) if sent.framed else sender._pour(sent))
        await sender._close()
        judge(report, number, sent, answers)
        return sent, answers, report
