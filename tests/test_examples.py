"""The examples in deploy/examples run as they stand, beside a real worker and a real Valkey.

Each is a program of its own, with the rights that deploy/users.conf gives to a merchant. One whose
runtime is not on this machine is skipped, and says which package of Debian's has it.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from jobs.model import Money
from tests.keys import CLIENT_ID
from tests.servers import ROOT, bare, environ, free_port, now_ms, own_server, until
from worker.keys import Keys
from worker.main import run_worker
from worker.mock_gateway import RunningMock
from worker.settings import load

pytestmark = pytest.mark.once  # what is under test is not this Python

FOLDER = ROOT / "deploy" / "examples"
KEYS = Keys()
GROUP = "shop"
ME = "shop-1"


@dataclass(frozen=True)
class Example:
    """A program, and what it needs besides a Redis."""

    file: str
    command: tuple[str, ...]
    needs: tuple[tuple[str, str], ...] = ()  #: programs, and Debian's packages of them

    def words(self, *more: str) -> list[str]:
        for program, package in self.needs:
            if not shutil.which(program):
                pytest.skip(f"{self.file} needs {program}: apt-get install {package}")
        return [*self.command, str(FOLDER / self.file), *more]


NODE = (("node", "nodejs"),)
PHP = (("php", "php-cli"),)
JAVA = (("javac", "default-jdk-headless"), ("java", "default-jdk-headless"))
SHELL = (("redis-cli", "redis-tools"), ("jq", "jq"))

MERCHANTS = [
    Example("python/merchant.py", (sys.executable,)),
    Example("python/plain.py", (sys.executable,)),
    Example("node/merchant.mjs", ("node",), NODE),
    Example("php/merchant.php", ("php",), PHP),
    Example("java/Merchant.java", ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"), JAVA),
    Example("shell/merchant.sh", ("sh",), SHELL),
]


# Programs

PATIENCE = 60  #: seconds; a busy machine needs a few for a start of Java


@dataclass
class Program:
    """One that runs; what it says on stdout comes line by line."""

    process: asyncio.subprocess.Process

    async def line(self) -> str:
        assert self.process.stdout
        raw = await self.process.stdout.readline()
        if not raw:
            raise AssertionError(f"it ended: {await self.complaint()}")
        return raw.decode().rstrip("\n")

    async def complaint(self) -> str:
        assert self.process.stderr
        return (await self.process.stderr.read()).decode()

    async def rest(self) -> list[str]:
        assert self.process.stdout
        return (await self.process.stdout.read()).decode().splitlines()

    def end(self) -> None:
        """With all that it started: a shell's redis-cli."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def kill(self) -> list[str]:
        """End it as a power cut would; what it had said by then and nobody had read."""
        self.end()
        await self.process.wait()
        return await self.rest()


@asynccontextmanager
async def running(words: list[str], folder: Path, **environ: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env=bare() | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    program = Program(process)
    try:
        async with asyncio.timeout(PATIENCE):
            yield program
    finally:
        program.end()
        await process.communicate()


# Lines that break at the worst moment


@dataclass
class Line:
    """A connection to Redis that goes dead once a word passes, in one direction or the other."""

    port: int
    to_server: bytes = b""
    to_client: bytes = b""
    broken: asyncio.Event = field(default_factory=asyncio.Event)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, back, self.to_server))
                both.create_task(self._pass(there, writer, self.to_client))
        finally:
            writer.close()
            back.close()

    async def _pass(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, last: bytes
    ) -> None:
        try:
            while chunk := await source.read(65536):
                if last and last in chunk:
                    self.broken.set()
                if not self.broken.is_set():
                    to.write(chunk)
                    await to.drain()
        except OSError:
            pass
        to.close()


@asynccontextmanager
async def line(port: int, **words: bytes) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """The port of such a line, and the event that it has broken."""
    bad = Line(port, **words)
    server = await asyncio.start_server(bad.connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], bad.broken
    finally:
        server.close()


# The world around them


@dataclass
class Shop:
    """The merchant's side: a Redis with the worker beside it, and orders at the gateway."""

    redis: Redis
    port: int
    mock: RunningMock
    folder: Path

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"redis://reconciler-merchant:pw-merchant@127.0.0.1:{port}"

    def run(self, example: Example, *words: str, port: int = 0) -> Any:
        url = self.url_at(port or self.port)
        return running(example.words(*words), self.folder, REDIS_URL=url)

    def order(self, name: str) -> None:
        """The buyer orders, and pays at once."""
        self.mock.ledger.create(name, Money("USD", 599), now_ms())

    async def track(self, name: str) -> None:
        data = {
            "paymentRequestId": name,
            "paymentAmount": {"currency": "USD", "value": "599"},
            "expiresIn": 600,
        }
        fields: dict[Any, Any] = {"type": "payment.track", "data": json.dumps(data)}
        await self.redis.xadd(KEYS.commands, fields)

    async def told(self, name: str) -> dict[str, str]:
        """The fields of a payment's success in the stream, once it is there."""

        async def found() -> dict[str, str] | None:
            entries = await self.redis.xrange(KEYS.outcomes)
            ids = {fields["id"]: fields for _, fields in entries}
            return ids.get(f"{CLIENT_ID}:{name}:succeeded")

        fields: dict[str, str] = await until(found)
        return fields

    async def unacknowledged(self) -> int:
        return int((await self.redis.xpending(KEYS.outcomes, GROUP))["pending"])

    async def all_acknowledged(self) -> None:
        async def none_left() -> bool:
            [group] = await self.redis.xinfo_groups(KEYS.outcomes)
            return not group["pending"] and group["lag"] == 0

        await until(none_left)


def rights_of_a_merchant() -> list[str]:
    """ACL SETUSER's rules, from the file that is deployed."""
    text = (ROOT / "deploy" / "users.conf").read_text()
    found = re.search(r"^user reconciler-merchant on (#\S+) (.*)$", text, re.M)
    assert found
    # A selector is one word to ACL SETUSER.
    return ["on", ">pw-merchant", *re.findall(r"\([^)]*\)|\S+", found[2])]


@pytest.fixture
async def shop(mock: RunningMock, tmp_path: Path) -> AsyncIterator[Shop]:
    port = free_port()
    with own_server("--port", str(port), "--bind", "127.0.0.1") as server:
        redis = Redis.from_url(server.url, decode_responses=True)
        await redis.execute_command(
            "ACL", "SETUSER", "reconciler-merchant", *rights_of_a_merchant()
        )
        settings = load(environ(server.url, KEYS.prefix, mock.url, OUTCOME_GROUPS=GROUP))
        stopping = asyncio.Event()
        worker = asyncio.create_task(run_worker(settings, stopping))
        yield Shop(redis, port, mock, tmp_path)
        stopping.set()
        await worker
        await redis.aclose()


# What they show

REFUSED = "command.rejected bad-1: mend the program: malformed, paymentAmount: write"


@pytest.mark.parametrize("example", MERCHANTS, ids=lambda example: example.file)
async def test_a_payment_is_tracked_and_its_outcome_handled_once_whenever_the_program_is_killed(
    shop: Shop, example: Example
) -> None:
    shop.order("paid-1")
    async with shop.run(example, "track", "paid-1", "USD", "599") as program:
        assert re.fullmatch("[0-9]+-[0-9]+", await program.line())
        assert await program.process.wait() == 0, await program.complaint()
    first = await shop.told("paid-1")

    async with line(shop.port, to_client=b"payment.succeeded") as (port, broken):
        async with shop.run(example, "outcomes", ME, port=port) as program:
            await broken.wait()
            assert await program.kill() == [], "it was killed before it knew"
    assert await shop.unacknowledged() == 1

    async with line(shop.port, to_server=b"XACK") as (port, broken):
        async with shop.run(example, "outcomes", ME, port=port) as program:
            assert await program.line() == "payment.succeeded paid-1: deliver"
            await broken.wait()
            assert await program.kill() == [], "it was killed before it could say so"
    assert await shop.unacknowledged() == 1

    data = json.loads(first["data"])
    older = data | {"id": f"{first['id']}.old", "data": data["data"] | {"seq": 1}}
    for again in (data, older):
        fields: dict[Any, Any] = first | {"id": again["id"], "data": json.dumps(again)}
        await shop.redis.xadd(KEYS.outcomes, fields)
    async with shop.run(example, "track", "bad-1", "USD", "5.99") as program:
        assert await program.process.wait() == 0, await program.complaint()
    async with shop.run(example, "outcomes", ME) as program:
        assert (await program.line()).startswith(REFUSED)
        await shop.all_acknowledged()
        assert await program.kill() == [], "nothing is handled twice"
