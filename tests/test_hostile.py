"""The receiver against all that a sender can do wrong, byte by byte over real sockets.

The cases are data, in `tests/hostile/`. Whatever comes: what is genuine is kept and acknowledged,
nothing else leaves more than one line in the log, and the next message finds all as it was.
"""

import asyncio
import gc
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from structlog.typing import EventDict

from tests.hostile import CASES, THEMES
from tests.hostile.cases import HEADERS, KEPT, ORDER, Case, Fate
from tests.keys import CLIENT_ID, public_key
from tests.servers import Reply, notification, paid, until
from worker import connect, http_server, receiver
from worker.events import EVENTS
from worker.keys import Keys
from worker.messages import ACK
from worker.receiver import REFUSALS, Trust, start_receiver
from worker.signature import Reason
from worker.store import Store

ID = f"{CLIENT_ID}:{ORDER}"
TRUST = Trust(
    keys={CLIENT_ID: {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}}, path="/notify"
)


@dataclass
class World:
    runner: web.AppRunner
    store: Store

    @property
    def port(self) -> int:
        return int(self.runner.addresses[0][1])

    async def answers(self, wire: bytes, later: bytes = b"", hangs_up: bool = False) -> list[Reply]:
        """All that is answered to these bytes until the connection ends, which it must."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(wire)
            if later:
                await asyncio.sleep(0.05)
                writer.write(later)
            if hangs_up:
                writer.write_eof()
            raw = b""
            with suppress(ConnectionError):
                async with asyncio.timeout(10):
                    while more := await reader.read(65536):
                        raw += more
            return list(replies(raw))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def kept(self) -> set[str]:
        start = f"{self.store.keys.prefix}:v1:"
        names = [name async for name in self.store.redis.scan_iter(f"{start}*", count=1000)]
        return {name.decode().removeprefix(start) for name in names}

    async def mail(self) -> list[bytes]:
        entries = await self.store.redis.lrange(self.store.keys.inbox(ID), 0, -1)  # type: ignore[misc]
        return [json.loads(entry)["body"].encode() for entry in entries]

    async def aside(self) -> list[bytes]:
        entries = await self.store.redis.xrange(self.store.keys.quarantine)
        return [fields[b"body"] for _, fields in entries]

    async def clear(self, tracked: bool) -> None:
        """Forget what came before; `tracked`: the payment is one that we follow."""
        names = [f"{self.store.keys.prefix}:v1:{name}" for name in await self.kept()]
        await self.store.redis.delete(*names, self.store.keys.queue)
        if tracked:
            await self.store.redis.hset(self.store.keys.payment(ID), mapping={"version": 1})  # type: ignore[misc]

    async def at_rest(self) -> bool:
        """Whether nobody is connected, and no task is left of those who were."""
        assert self.runner.server
        return not self.runner.server.connections and len(asyncio.all_tasks()) == 1


def replies(raw: bytes) -> Iterator[Reply]:
    """The answers in a stream of them, but for those that only say to go on."""
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.title(): value.strip() for name, _, value in pairs}
        size = int(headers.get("Content-Length", 0))
        body, raw = raw[:size], raw[size:]
        status = int(line.split()[1])
        if status != 100:
            yield Reply(status, headers, body)


@asynccontextmanager
async def world_of(redis_url: str, prefix: str) -> AsyncIterator[World]:
    client = connect.client(redis_url, tries=1)
    store = Store(client, Keys(prefix))
    runner = await start_receiver(TRUST, store, "127.0.0.1", 0)
    try:
        yield World(runner, store)
    finally:
        await runner.cleanup()
        await client.aclose()


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.05)


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Our lines go elsewhere: what a library logs beside them would hold what was sent."""
    yield
    assert [r for r in caplog.records if r.levelno >= logging.INFO] == []


@pytest.mark.parametrize("theme", THEMES)
async def test_it_is_answered_logged_and_kept_as_it_deserves_and_leaves_no_trace(
    redis_url: str,
    redis: Redis,
    prefix: str,
    theme: str,
    log_lines: list[EventDict],
    silent: None,
    subtests: pytest.Subtests,
) -> None:
    """One receiver for all the cases of a theme: what one leaves behind, the next would find."""
    async with world_of(redis_url, prefix) as world:
        for case in (case for case in THEMES[theme] if not case.slow):
            with subtests.test(case.name):
                await play(world, case, log_lines)


SLOW = [pytest.param(case, id=name) for name, case in CASES if case.slow]


@pytest.mark.parametrize("case", SLOW)
async def test_it_is_given_its_time_and_no_more(
    redis_url: str,
    redis: Redis,
    prefix: str,
    case: Case,
    log_lines: list[EventDict],
    silent: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiver, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.5)
    async with world_of(redis_url, prefix) as world:
        await play(world, case, log_lines)


async def play(world: World, case: Case, log_lines: list[EventDict]) -> None:
    await world.clear(case.tracked)
    for post in case.before:
        [reply] = await world.answers(post.wire())
        assert reply.body == ACK
    log_lines.clear()

    answers = await world.answers(case.wire, case.later, case.hangs_up)
    await until(world.at_rest)

    check_answers(case, answers)
    check_lines(case, log_lines)
    check_secrets(repr(log_lines) + repr(answers))
    assert await world.mail() == list(case.mail)
    assert await world.aside() == list(case.aside)
    if not case.genuine and not case.before:
        assert await world.kept() == set()
    await check_that_it_goes_on(world)


def check_answers(case: Case, answers: list[Reply]) -> None:
    wanted = [each.status for each in case.expected]
    if case.hangs_up and not answers:
        return  # it ended its side, and with it the connection
    assert [reply.status for reply in answers] == wanted
    for reply, each in zip(answers, case.expected, strict=True):
        assert (reply.body == ACK) == (each.fate in KEPT)
        assert not reply.headers.get("Server")
        if each.fate in (Fate.REJECTED, Fate.ENCRYPTED) and reply.body:
            hint = REFUSALS[Reason(each.reason)][1]
            assert json.loads(reply.body) == {"error": each.reason, "message": hint}
        if each.fate is Fate.MALFORMED:
            assert reply.body == b'{"error": "bad_request"}'


def check_lines(case: Case, lines: list[EventDict]) -> None:
    """One line for each request; it says what was answered, and how that came."""
    assert [line["event"] for line in lines] == [each.fate for each in case.expected]
    for line, each in zip(lines, case.expected, strict=True):
        assert line["log_level"] == EVENTS[each.fate].level
        names = {Fate.ACCEPTED: "result", Fate.IGNORED: "result", Fate.MALFORMED: "error"}
        assert line.get(names.get(each.fate, "reason"), "") == each.reason
        assert line["peer"] == "127.0.0.1"
        if each.fate in (Fate.REJECTED, Fate.ENCRYPTED):
            assert line["http_status"] == each.status


def check_secrets(told: str) -> None:
    """Neither a signature nor a body, whatever form it has."""
    for secret in (
        "signature=",
        "keyVersion=",
        HEADERS["Signature"][-30:],
        "paymentAmount",
        "xxxx",
    ):
        assert secret not in told


async def check_that_it_goes_on(world: World) -> None:
    async with asyncio.timeout(5):
        [reply] = await world.answers(notification(paid("order-after")).wire())
    assert reply.body == ACK


# The corpus itself


def test_there_are_at_least_250_cases_each_with_a_name_of_its_own() -> None:
    names = [name for name, _ in CASES]
    assert len(names) == len(set(names)) >= 250
    assert all(len(cases) >= 15 for cases in THEMES.values())


def test_every_reason_to_refuse_has_its_case() -> None:
    seen = {each.reason for _, case in CASES for each in case.expected}
    assert seen >= {reason.value for reason in Reason}
    assert set(REFUSALS) == set(Reason)


# All of it, over and over


@pytest.mark.once
async def test_however_often_it_comes_memory_and_connections_stay_as_they_were(
    redis_url: str, redis: Redis, prefix: str, log_lines: list[EventDict], silent: None
) -> None:
    """Measured once everything that is made only once has been made."""
    quick = [case for _, case in CASES if not case.slow][::4]  # each fourth: tracing is slow
    tracemalloc.start()
    try:
        async with world_of(redis_url, prefix) as world:
            sizes = []
            for _ in range(4):
                for case in quick:
                    await world.answers(case.wire, case.later, case.hangs_up)
                await until(world.at_rest)
                log_lines.clear()
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[1] < 200_000, sizes


async def test_many_at_once_are_all_answered(
    redis_url: str, redis: Redis, prefix: str, log_lines: list[EventDict], silent: None
) -> None:
    cases = [case for _, case in CASES if not (case.slow or case.hangs_up or case.before)]
    room = asyncio.Semaphore(200)  # more than the receiver has room for would be shown out
    async with world_of(redis_url, prefix) as world:

        async def answers_to(wire: bytes) -> Any:
            async with room:
                return await world.answers(wire)

        answers = await asyncio.gather(*(answers_to(case.wire) for case in cases))
        await until(world.at_rest)
        got = [[reply.status for reply in each] for each in answers]
        assert got == [[each.status for each in case.expected] for case in cases]
        assert len(log_lines) == sum(len(case.expected) for case in cases)
        await check_that_it_goes_on(world)
