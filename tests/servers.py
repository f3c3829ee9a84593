"""What stands around our shells in tests: raw HTTP, a gateway that does as told, real processes.

Everything listens on loopback. Messages are signed with the throw-away keys of `vectors/`.
"""

import asyncio
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from jobs.model import Ms, Payment
from tests.keys import CLIENT_ID, key_text, private_key, public_key
from worker import records
from worker.embedded import EmbeddedServer
from worker.keys import Keys
from worker.receiver import Trust, start_receiver
from worker.settings import SETTINGS
from worker.signature import Signed, signature_header
from worker.store import Store

ROOT = Path(__file__).parent.parent
_LOOPBACK = ipaddress.ip_address("127.0.0.1")


def now_ms() -> Ms:
    return time.time_ns() // 1_000_000


def wait_until(happened: Callable[[], Any], seconds: float = 20) -> Any:
    """What `happened` returns, as soon as that is anything; a failure if it stays nothing."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


async def until(happened: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """The same for something that is asked by `await`."""
    deadline = time.monotonic() + seconds
    while not (found := await happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
    return found


async def end(task: "asyncio.Task[Any]") -> None:
    """Cancel a task until it ends: Python 3.11 may lose a cancel on its way through redis-py."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


def put(pipe: Any, keys: Keys, payment: Payment, *timeline: dict[str, Any]) -> None:
    """Write a payment as it stands, through a pipeline of an async or a plain client."""
    pipe.hset(keys.payment(payment.key), mapping=records.to_hash(payment))
    pipe.zadd(keys.open, {payment.key: payment.next_at or "inf"})
    for entry in timeline:
        pipe.rpush(keys.timeline(payment.key), json.dumps(entry))


# Raw HTTP: what a library would not send, and nothing that a library would add.


@dataclass(frozen=True, slots=True)
class Post:
    """A signed notification as an HTTP request; any part of it may be made wrong."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    path: str = "/notify"
    method: str = "POST"

    def having(self, **headers: str) -> "Post":
        """With these headers instead; `_` stands for `-`."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = tuple((n, v) for n, v in self.headers if n not in names)
        return replace(self, headers=(*kept, *names.items()))

    def also(self, name: str, value: str) -> "Post":
        """With one more header, whether or not there is one of this name."""
        return replace(self, headers=(*self.headers, (name, value)))

    def without(self, name: str) -> "Post":
        return replace(self, headers=tuple((n, v) for n, v in self.headers if n != name))

    @property
    def head(self) -> bytes:
        """Everything up to the blank line, but no length of the body."""
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: us", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join(lines).encode() + b"\r\n"

    def wire(self) -> bytes:
        return self.head + b"Content-Length: %d\r\n\r\n" % len(self.body) + self.body

    def chunked(self, size: int = 10_000) -> bytes:
        """The same in chunks, without a length."""
        parts = [self.body[i : i + size] for i in range(0, len(self.body), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        return self.head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks


def notification(
    body: bytes | Mapping[str, Any],
    *,
    path: str = "/notify",
    signed_path: str | None = None,
    client_id: str = CLIENT_ID,
    sent_at: str | None = None,
    key: str = "alipay_v1",
    key_version: int = 1,
) -> Post:
    """A notification that the gateway signs, sent now."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    at = str(now_ms()) if sent_at is None else sent_at
    signed = Signed(path if signed_path is None else signed_path, client_id, at, raw)
    headers = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Client-Id", client_id),
        ("Request-Time", at),
        ("Signature", signature_header(signed, private_key(key), key_version)),
    )
    return Post(raw, headers, path)


def paid(payment_request_id: str, **changed: Any) -> dict[str, Any]:
    """What a notification of a payment of USD 5.99 says."""
    return {
        "notifyType": "PAYMENT_RESULT",
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"},
        "paymentRequestId": payment_request_id,
        "paymentId": f"2026{payment_request_id}",
        "paymentAmount": {"currency": "USD", "value": "599"},
        "paymentCreateTime": datetime.now(UTC).isoformat(timespec="seconds"),
    } | changed


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def send(
    port: int, request: bytes, *, hang_up: bool = False, tls: ssl.SSLContext | None = None
) -> Reply | None:
    """Send these bytes and read what comes until the connection ends; None if nothing came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(request)
        if hang_up:
            writer.write_eof()
        with suppress(ConnectionError):
            return _reply(await asyncio.wait_for(reader.read(), 10))
        return None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _reply(raw: bytes) -> Reply | None:
    if not raw:
        return None
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Reply(int(status.split()[1]), {n.title(): v.strip() for n, _, v in pairs}, body)


async def get(port: int, path: str, method: str = "GET", **headers: str) -> Reply:
    """What is answered to a request; `_` in a header's name stands for `-`."""
    given = {"Host": "127.0.0.1", "Connection": "close"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in given.items() if value]
    wire = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
    reply = await send(port, wire.encode())
    assert reply is not None, "no answer came"
    return reply


def free_port() -> int:
    """One that nobody has: as an admin port, 0 means none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# Our receiver


@asynccontextmanager
async def receiving(
    store: Store, *, path: str = "/notify", tls: ssl.SSLContext | None = None, **trusted: Any
) -> AsyncIterator[int]:
    """The port of a receiver that believes the gateway's keys, versions 1 and 2."""
    keys = {CLIENT_ID: {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}}
    trust = Trust(**{"keys": keys, "path": path} | trusted)
    runner = await start_receiver(trust, store, "127.0.0.1", 0, tls)
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files in `folder`."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "for tests only")])
    host = x509.SubjectAlternativeName([x509.IPAddress(_LOOPBACK)])
    today = datetime.now(UTC)
    key = private_key("attacker")  # any key will do
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(host, critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(Encoding.PEM))
    base64 = key_text("attacker", "private_pkcs8_b64")
    key_file.write_text(f"-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n")
    return cert_file, key_file


# A gateway that does as told


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of ours as the gateway got it."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class ScriptedGateway:
    """Keeps what it was asked, and gives the answer that the test sets."""

    url: str = ""
    answer: Callable[[Asked], Awaitable[web.StreamResponse]] | None = None
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.title(): value for name, value in request.headers.items()}
        asked = Asked(request.raw_path, headers, await request.read())
        self.asked.append(asked)
        assert self.answer, "the test did not say what to answer"
        return await self.answer(asked)


@asynccontextmanager
async def scripted_gateway(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    port = runner.addresses[0][1]
    gateway.url = f"https://127.0.0.1:{port}" if tls else f"http://127.0.0.1:{port}"
    try:
        yield gateway
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_gateway(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The URL of a server whose every connection is in the hands of `talk`, then closed."""
    tasks = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(connected(reader, writer)))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)


def signed_answer(
    path: str,
    said: bytes | Mapping[str, Any],
    *,
    client_id: str = CLIENT_ID,
    answered_at: str | None = None,
    key: str = "alipay_v1",
    key_version: int = 1,
) -> web.Response:
    """An answer to a call of `path` as the gateway signs it, given now."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    at = str(now_ms()) if answered_at is None else answered_at
    signature = signature_header(Signed(path, client_id, at, body), private_key(key), key_version)
    headers = {"client-id": client_id, "response-time": at, "Signature": signature}
    return web.Response(body=body, headers=headers, content_type="application/json")


def inquired(payment_request_id: str, payment_status: str, **more: Any) -> dict[str, Any]:
    """What the gateway says of a payment of USD 5.99."""
    return {
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
        "paymentStatus": payment_status,
        "paymentRequestId": payment_request_id,
        "paymentId": f"2026{payment_request_id}",
        "paymentAmount": {"currency": "USD", "value": "599"},
    } | more


def says(payment_status: str) -> Callable[[Asked], Awaitable[web.StreamResponse]]:
    """The answer of a gateway where every payment stands so."""

    async def answer(asked: Asked) -> web.StreamResponse:
        name = json.loads(asked.body)["paymentRequestId"]
        return signed_answer(asked.path, inquired(name, payment_status))

    return answer


# Processes


def environ(redis_url: str, prefix: str, gateway_url: str, **more: str) -> dict[str, str]:
    """Settings by which everything happens within seconds."""
    return {
        "REDIS_URL": redis_url,
        "RECONCILER_KEY_PREFIX": prefix,
        "ALIPAY_GATEWAY_URL": gateway_url,
        "ALIPAY_CLIENT_ID": CLIENT_ID,
        "ALIPAY_PRIVATE_KEY": key_text("merchant_v1", "private_pkcs8_b64"),
        "ALIPAY_PUBLIC_KEYS": key_text("alipay_v1", "public_x509_b64"),
        "RECEIVER_HOST": "127.0.0.1",
        "RECEIVER_PORT": "0",
        "RECEIVER_ADMIN_PORT": "0",  # none: many run at once
        "WORKER_ADMIN_PORT": "0",
        "RECONCILER_SCHEDULE": "0.2",
        "SWEEP_SECONDS": "0.5",
        "GATEWAY_TIMEOUT_SECONDS": "2",
        "LOG_FORMAT": "json",
    } | more


class Process:
    """A process of ours that runs in `folder`, where no `.env` is; its log lines can be read."""

    def __init__(self, folder: Path, environ: Mapping[str, str], *words: str) -> None:
        self.stderr = Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with self.stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                words,
                cwd=folder,
                env={**bare(), **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        return self.stderr.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far. A line that is no JSON is a failure: nobody could watch it."""
        whole = self.said.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def find(self, event: str, **facts: Any) -> list[dict[str, Any]]:
        wanted = {"event": event, **facts}
        return [line for line in self.lines if wanted.items() <= line.items()]

    def wait_for(self, event: str, seconds: float = 20, **facts: Any) -> dict[str, Any]:
        """The first such line, once it is there."""
        try:
            line: dict[str, Any] = wait_until(lambda: self.find(event, **facts), seconds)[0]
        except AssertionError:
            raise AssertionError(f"{event} did not come; this did:\n{self.said}") from None
        return line

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self, seconds: float = 20) -> int:
        """The exit code, once it has ended."""
        return self._process.wait(seconds)

    def stdout(self) -> str:
        assert self._process.stdout
        return self._process.stdout.read().decode()

    def stdout_line(self) -> str:
        """The next line, once it is there."""
        assert self._process.stdout
        return self._process.stdout.readline().decode()

    def close(self) -> None:
        """End it by force, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()


@contextmanager
def process(folder: Path, environ: Mapping[str, str], *words: str) -> Iterator[Process]:
    """A process that ends with the `with`, whatever happens in it."""
    running = Process(folder, environ, *words)
    try:
        yield running
    finally:
        running.close()


def reconciler(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "worker.cli", *words)


#: The worker as users of arq start it.
ARQ_WORKER = (str(Path(sys.executable).parent / "arq"), "worker.main.WorkerSettings")


def bare() -> dict[str, str]:
    """Our environment without any setting of the reconciler's, and with the path to our code."""
    ours = {entry.name for entry in SETTINGS} | {f"{entry.name}_FILE" for entry in SETTINGS}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {"PYTHONPATH": str(ROOT)}


class OtherServer(EmbeddedServer):
    """A server with other options, with a configuration file, or of another make."""

    options: tuple[str, ...] = ()
    config: Path | None = None
    program: str | None = None

    def _command(self) -> list[str]:
        *start, program = (command := super()._command())[: (at := command.index("--port"))]
        config = [str(self.config)] if self.config else []
        return [*start, self.program or program, *config, *command[at:], *self.options]


@contextmanager
def own_server(
    *options: str, config: Path | None = None, program: str | None = None
) -> Iterator[OtherServer]:
    """A server that the test may stop and start again; `options` are stronger than ours."""
    # /tmp, not the test's folder: a socket's path is short
    with tempfile.TemporaryDirectory(prefix="reconciler-", dir="/tmp") as folder:
        server = OtherServer(Path(folder))
        server.options, server.config, server.program = options, config, program
        server.start()
        try:
            yield server
        finally:
            server.stop()


def debian_redis() -> str:
    """Debian's Redis 7.0, the oldest that we run on; the test is skipped where it is not."""
    found = shutil.which("redis-server")
    said = subprocess.run([found, "--version"], capture_output=True).stdout if found else b""
    if not found or b"v=7.0." not in said:
        pytest.skip("needs Redis 7.0: apt-get install redis-server on Debian 12")
    return found
