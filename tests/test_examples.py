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
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from redis.asyncio import Redis
from standardwebhooks import Webhook

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

    def words(self, folder: Path, *more: str) -> list[str]:
        """The command line, to be run in `folder`; without the runtime the test is skipped."""
        for program, package in self.needs:
            if not shutil.which(program):
                pytest.skip(f"{self.file} needs {program}: apt-get install {package}")
        file = FOLDER / self.file
        if file.suffix != ".java":
            return [*self.command, str(file), *more]
        if not (folder / f"{file.stem}.class").exists():  # once, not at each start
            subprocess.run(["javac", "-J-XX:TieredStopAtLevel=1", "-d", folder, file], check=True)
        return [*self.command, "-cp", str(folder), file.stem, *more]


NODE = (("node", "nodejs"),)
PHP = (("php", "php-cli"),)
JAVA = (("javac", "default-jdk-headless"), ("java", "default-jdk-headless"))
QUICK_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
SHELL = (("redis-cli", "redis-tools"), ("jq", "jq"))

MERCHANTS = [
    Example("python/merchant.py", (sys.executable,)),
    Example("python/plain.py", (sys.executable,)),
    Example("node/merchant.mjs", ("node",), NODE),
    Example("php/merchant.php", ("php",), PHP),
    Example("java/Merchant.java", QUICK_JAVA, JAVA),
    Example("shell/merchant.sh", ("sh",), SHELL),
]


RECEIVERS = [
    Example("python/callbacks.py", (sys.executable,)),
    Example("node/callbacks.mjs", ("node",), NODE),
    Example("php/callbacks.php", ("php", "-S", "127.0.0.1:{port}"), PHP),
    Example("java/Callbacks.java", QUICK_JAVA, JAVA),
]


def test_every_example_is_run_here_and_shown_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    files = {str(f.relative_to(FOLDER)) for f in FOLDER.rglob("*.*")} - {"README.md"}
    files = {file for file in files if "__pycache__" not in file}
    assert files == {example.file for example in [*MERCHANTS, *RECEIVERS]}
    assert files == set(re.findall(r"\]\(([a-z]+/[A-Za-z.]+)\)", readme))


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

    def __post_init__(self) -> None:
        self.broken = asyncio.Event()

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
        return running(example.words(self.folder, *words), self.folder, REDIS_URL=url)

    @asynccontextmanager
    async def outcomes_until(
        self, example: Example, **words: bytes
    ) -> AsyncIterator[tuple[Program, asyncio.Event]]:
        """The program at a line that breaks at such a word."""
        async with (
            line(self.port, **words) as (port, broken),
            self.run(example, "outcomes", ME, port=port) as program,
        ):
            yield program, broken

    def order(self, name: str) -> None:
        """The buyer orders, and pays at once."""
        self.mock.ledger.create(name, Money("USD", 599), now_ms())

    async def track(self, name: str, **more: Any) -> None:
        amount = {"currency": "USD", "value": "599"}
        data = {"paymentRequestId": name, "paymentAmount": amount, "expiresIn": 600, **more}
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

    async def tell_too_late(self, fields: dict[str, str]) -> None:
        """Another event of the payment that `fields` tell of, from before."""
        event = json.loads(fields["data"])
        event |= {"id": f"{event['id']}.1", "data": event["data"] | {"seq": 1}}
        late: dict[Any, Any] = fields | {"id": event["id"], "data": json.dumps(event)}
        await self.redis.xadd(KEYS.outcomes, late)

    async def tell_submitted(self, fields: dict[str, str]) -> None:
        """As the worker does once `pay` has made the order."""
        event = json.loads(fields["data"])
        said = event["data"] | {"paymentRequestId": "sub-1", "seq": 1, "redirectUrl": REDIRECT}
        event |= {"id": f"{CLIENT_ID}:sub-1:submitted", "type": "payment.submitted", "data": said}
        entry: dict[Any, Any] = fields | {"paymentRequestId": "sub-1", "data": json.dumps(event)}
        await self.redis.xadd(KEYS.outcomes, entry | {"id": event["id"], "type": event["type"]})

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
    async with opened(mock, tmp_path) as shop:
        yield shop


@asynccontextmanager
async def opened(mock: RunningMock, folder: Path, **given: str) -> AsyncIterator[Shop]:
    port = free_port()
    with own_server("--port", str(port), "--bind", "127.0.0.1") as server:
        redis = Redis.from_url(server.url, decode_responses=True)
        await redis.execute_command(
            "ACL", "SETUSER", "reconciler-merchant", *rights_of_a_merchant()
        )
        more = {"OUTCOME_GROUPS": GROUP} | given
        settings = load(environ(server.url, KEYS.prefix, mock.url, **more))
        stopping = asyncio.Event()
        worker = asyncio.create_task(run_worker(settings, stopping))
        yield Shop(redis, port, mock, folder)
        stopping.set()
        await worker
        await redis.aclose()


# Merchants

REDIRECT = "https://wallet.example/pay?id=1&to=a/b"
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

    async with shop.outcomes_until(example, to_client=b"payment.succeeded") as (program, broken):
        await broken.wait()
        assert await program.kill() == [], "it was killed before it knew"
    assert await shop.unacknowledged() == 1

    async with shop.outcomes_until(example, to_server=b"XACK") as (program, broken):
        assert await program.line() == "payment.succeeded paid-1: deliver"
        await broken.wait()
        assert await program.kill() == [], "it was killed before it could say so"
    assert await shop.unacknowledged() == 1

    await shop.tell_too_late(first)
    await shop.tell_submitted(first)
    await shop.track("paid-1")  # so the end is told once more, with another seq
    async with shop.run(example, "track", "bad-1", "usd", "599") as program:
        assert await program.process.wait() == 0, await program.complaint()
    async with shop.run(example, "outcomes", ME) as program:
        assert await program.line() == f"payment.submitted sub-1: send the buyer to {REDIRECT}"
        assert (await program.line()).startswith(REFUSED)
        await shop.all_acknowledged()
        assert await program.kill() == [], "nothing is handled twice"


USAGE = re.compile(r"track order-4711 USD 599 .*\n.* outcomes \[shop-1\]")
MISUSED = (
    "",
    "track",
    "outcomes shop-1 more",
    "other order-4711 USD 599",
)
NOWHERE = "redis://127.0.0.1:1"


@pytest.mark.parametrize("example", MERCHANTS, ids=lambda example: example.file)
async def test_what_it_does_not_understand_is_answered_by_its_usage(
    example: Example, tmp_path: Path
) -> None:
    for words in MISUSED:
        line = example.words(tmp_path, *words.split())
        code, said, complaint = await ended(line, tmp_path, REDIS_URL=NOWHERE)
        assert (code, said) == (2, []), words
        assert USAGE.search(complaint), words
        assert len(complaint.splitlines()) < 10, "no stack trace"


IGNORED = (
    "redis://reconciler-merchant:pw-merchant@127.0.0.1:1/orders",
    "redis://reconciler-merchant:pw-mer/chant@127.0.0.1:1/2",
    "127.0.0.1:1",
)
#: What redis-cli and the package `redis` know, and the small clients do not.
UNKNOWN = (
    "rediss://reconciler-merchant:pw-merchant@127.0.0.1:1/2",
    "redis://reconciler-merchant:pw-merchant@127.0.0.1:1?db=2",
    "redis://pw-merchant@127.0.0.1:1",
)


@pytest.mark.parametrize("example", MERCHANTS, ids=lambda example: example.file)
async def test_of_an_address_nothing_is_ignored_in_silence(
    example: Example, tmp_path: Path
) -> None:
    line = example.words(tmp_path, "track", "paid-1", "USD", "599")
    small = example.needs in (NODE, PHP, JAVA)
    for url in IGNORED + UNKNOWN * small:
        code, said, complaint = await ended(line, tmp_path, REDIS_URL=url)
        assert (code, said) == (2, []), url
        assert complaint.startswith("REDIS_URL: write redis://user:password@host:6379/0"), url
        assert "pw-mer" not in complaint


@pytest.mark.parametrize("example", MERCHANTS, ids=lambda example: example.file)
async def test_no_password_is_told_where_redis_does_not_take_it(
    shop: Shop, example: Example
) -> None:
    line = example.words(shop.folder, "track", "paid-1", "USD", "599")
    for url in (shop.url.replace("pw-", "no-"), shop.url.replace("pw-", "no-") + "/1"):
        code, said, complaint = await ended(line, shop.folder, REDIS_URL=url)
        assert code not in (0, 2), complaint
        assert said == []
        assert "no-merchant" not in complaint


NAME, PASSWORD = "shop:büro", "p@ss:w/rd+ %2B#?"


@pytest.mark.parametrize("example", MERCHANTS, ids=lambda example: example.file)
async def test_user_password_and_database_are_those_of_the_address(
    example: Example, tmp_path: Path
) -> None:
    port = free_port()
    at = f"{quote(NAME, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
    with own_server("--port", str(port), "--bind", "127.0.0.1") as server:
        redis = Redis.from_url(server.url, decode_responses=True)
        rights = [f">{PASSWORD}", *rights_of_a_merchant()[2:]]
        await redis.execute_command("ACL", "SETUSER", NAME, "on", *rights)
        line = example.words(tmp_path, "track", "paid-1", "USD", "599")
        code, said, complaint = await ended(line, tmp_path, REDIS_URL=f"redis://{at}/3")
        assert code not in (0, 2), "it has no right to SELECT, and takes no other database for it"
        assert "select" in complaint.lower(), complaint
        await redis.execute_command("ACL", "SETUSER", NAME, "+select")
        for database, path in ((3, "/3"), (0, "/")):
            code, said, complaint = await ended(line, tmp_path, REDIS_URL=f"redis://{at}{path}")
            assert code == 0, complaint
            async with Redis.from_url(
                f"{server.url}?db={database}", decode_responses=True
            ) as there:
                [(entry, _)] = await there.xrange(KEYS.commands)
                assert said == [entry]
                await there.delete(KEYS.commands)
        await redis.aclose()


async def ended(words: list[str], folder: Path, **environ: str) -> tuple[int, list[str], str]:
    """How a program ends that does so by itself: its exit code, and what it said and complained."""
    async with running(words, folder, **environ) as program:
        said, complaint = await asyncio.gather(program.rest(), program.complaint())
        return await program.process.wait(), said, complaint


# Receivers of callbacks

NEW, OLD, FOREIGN = (f"whsec_{b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3))
ID = f"{CLIENT_ID}:paid-1:succeeded"
EVENT = {
    "specversion": "1.0",
    "id": ID,
    "type": "payment.succeeded",
    "data": {"reference": 'Bücher "支付"', "paymentRequestId": "paid-1", "clientId": CLIENT_ID},
}
BODY = json.dumps(EVENT, ensure_ascii=False)


def signed(secret: str = NEW, age: timedelta = timedelta(), **changed: str) -> dict[str, str]:
    """The headers of a callback, as the standard's own package signs it."""
    at = datetime.now(UTC) - age
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    return {
        "webhook-id": ID,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(ID, at, BODY),
        "content-type": "application/cloudevents+json",
    } | names


def without(name: str) -> dict[str, str]:
    return {n: value for n, value in signed().items() if n != name}


def genuine() -> dict[str, dict[str, str]]:
    both = f"{signed(FOREIGN)['webhook-signature']} {signed()['webhook-signature']}"
    return {
        "new secret": signed(),
        "old secret": signed(OLD),
        "one of two signatures": signed(webhook_signature=both),
        "a minute on its way": signed(age=timedelta(minutes=1)),
    }


def forged() -> dict[str, tuple[dict[str, str], str]]:
    return {
        "another body": (signed(), BODY.replace("succeeded", "cancelled")),
        "another id": (signed(webhook_id=f"{ID}.2"), BODY),
        "another time": (signed(webhook_timestamp=str(int(time.time()) + 9)), BODY),
        "foreign secret": (signed(FOREIGN), BODY),
        "ten minutes old": (signed(age=timedelta(minutes=10)), BODY),
        "from the future": (signed(age=timedelta(minutes=-10)), BODY),
        "no time": (without("webhook-timestamp"), BODY),
        "no id": (without("webhook-id"), BODY),
        "not signed": (without("webhook-signature"), BODY),
        "empty signature": (signed(webhook_signature="v1,"), BODY),
        "odd signature": (signed(webhook_signature="v1,é v2 , v1"), BODY),
        "odd time": (signed(webhook_timestamp="now"), BODY),
    }


@pytest.mark.parametrize("example", RECEIVERS, ids=lambda example: example.file)
async def test_a_callback_is_taken_when_it_is_signed_by_the_reconciler_and_only_then(
    example: Example, tmp_path: Path
) -> None:
    port = free_port()
    words = [word.format(port=port) for word in example.words(tmp_path)]
    settings = {"CALLBACK_SECRETS": f"{NEW},{OLD}", "PORT": str(port)}
    url = f"http://127.0.0.1:{port}/callbacks"
    async with running(words, tmp_path, **settings) as program, ClientSession() as session:
        await until(partial(listens, port), PATIENCE)
        for why, (headers, body) in forged().items():
            assert await posted(session, url, headers, body) == 401, why
        for why, headers in genuine().items():
            assert await posted(session, url, headers, BODY) == 204, why
        said = [said for said in await program.kill() if said != "listening"]
        assert said == ["payment.succeeded paid-1"] * len(genuine())


@pytest.mark.parametrize("example", RECEIVERS, ids=lambda example: example.file)
@pytest.mark.parametrize("secrets", ["", f"{NEW},"], ids=["none", "comma"])
async def test_without_secrets_that_are_secret_no_callback_is_taken(
    example: Example, secrets: str, tmp_path: Path
) -> None:
    """Anybody can sign with an empty one, as a comma too many makes it."""
    port = free_port()
    words = [word.format(port=port) for word in example.words(tmp_path)]
    async with running(words, tmp_path, PORT=str(port), CALLBACK_SECRETS=secrets) as program:
        if example.needs == PHP:  # its server starts in any case
            await until(partial(listens, port), PATIENCE)
            url = f"http://127.0.0.1:{port}/callbacks"
            async with ClientSession() as session:
                assert await posted(session, url, signed(), BODY) == 500
            return
        assert await program.process.wait() != 0
        assert (await program.complaint()).startswith("CALLBACK_SECRETS: write whsec_")


async def test_the_worker_s_own_callback_is_taken(mock: RunningMock, tmp_path: Path) -> None:
    port, receiver = free_port(), RECEIVERS[0]
    host = f"http://localhost:{port}"
    settings = {"CALLBACK_SECRETS": f"{NEW},{OLD}", "CALLBACK_ALLOWED_HOSTS": host}
    words = receiver.words(tmp_path)
    async with (
        running(words, tmp_path, CALLBACK_SECRETS=OLD, PORT=str(port)) as program,
        opened(mock, tmp_path, **settings) as shop,
    ):
        await until(partial(listens, port), PATIENCE)
        shop.order("paid-1")
        await shop.track("paid-1", callbackUrl=f"{host}/callbacks")
        assert await program.line() == "listening"
        assert await program.line() == "payment.succeeded paid-1"


async def posted(session: ClientSession, url: str, headers: dict[str, str], body: str) -> int:
    async with session.post(url, data=body.encode(), headers=headers) as response:
        return response.status


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
