"""Nothing secret is told: not in a log line, an error, a repr, an answer, a title, or in Redis.

A marker stands in every secret setting and in every part of a message that must not be told; then
the real processes go through success, failure and fault, and all that they leave is searched.
"""

import asyncio
import base64
import json
import logging
import os
import re
import signal
import ssl
import stat
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from arq.worker import Worker
from cryptography.hazmat.primitives.asymmetric import rsa
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.tools import Tools
from tests.keys import CLIENT_ID, key_text
from tests.servers import (
    ARQ_WORKER,
    Asked,
    Process,
    ScriptedGateway,
    certificate,
    environ,
    free_port,
    get,
    inquired,
    notification,
    own_server,
    paid,
    process,
    reconciler,
    scripted_gateway,
    send,
    signed_answer,
    until,
    wait_until,
)
from worker import connect, logs, main, secrecy
from worker.client import send as command
from worker.client import track
from worker.commands import CommandStream
from worker.display import visible
from worker.gateway import HttpGateway, open_session
from worker.keys import Keys
from worker.logs import log, take_over
from worker.receiver import Trust
from worker.settings import SETTINGS, BadSettings, load
from worker.signature import Signed, private_text
from worker.tools import store_of
from worker.values import LogFormat, LogLevel

# What is planted

PASSWORD = "pW-7d1f9a+c3e5b8/42"  # with what a URL must quote
TOKEN = "tK_5b8c2e9d4f6a1b3c7e"
ADMIN = "aD_9c4e7b1f3d5a8e2c6b"
WEBHOOK = "whsec_9xQ3kZ7mW1pL5vT8nB2cR6yH4jF0dS+g"  # its second half is what is secret
BUYER = "buyer-9f3e1d7c5b2a"  # in the bodies of messages
ANSWER = "answer-4c8e2a6f0d1b"  # in the bodies of the gateway's answers
NOTE = "note-3b7d9f1e5a2c"  # in the data of commands
HEADER = "header-6e2c8a4f0b7d"  # in headers of theirs and ours


def planted(name: str, redis_url: str) -> str:
    """The text of a secret setting with a marker of its own in it."""
    given = {
        "REDIS_URL": redis_url.replace("://", f"://:{quote(PASSWORD, safe='')}@", 1),
        "ALIPAY_PRIVATE_KEY": key_text("merchant_v1", "private_pkcs8_b64"),
        "ALIPAY_PUBLIC_KEYS": key_text("alipay_v1", "public_x509_b64"),
        "ALIPAY_AGENT_TOKEN": TOKEN,
        "ADMIN_TOKEN": ADMIN,
        "CALLBACK_SECRETS": f"{WEBHOOK},whsec_{'b' * 32}",
    }
    assert name in given, f"{name} is a new secret: say here how to plant a marker in it"
    return given[name]


#: Also what the search looks for: a public key is none, but what of it?
SECRETS = [entry.name for entry in SETTINGS if entry.secret and entry.name != "ALIPAY_PUBLIC_KEYS"]


def forms(secret: str) -> set[str]:
    """Plain, quoted, encoded, and cut off after twelve characters."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret, safe=""), encoded.rstrip("="), secret[:12]}


def pieces(key: str) -> set[str]:
    """A key has a beginning that all keys have: what is its own comes later."""
    return {key[at : at + 12] for at in range(64, len(key) - 12, 50)} | {quote(key, safe="")}


class Found(AssertionError):
    pass


@dataclass
class Search:
    """What must not be found, by the name under which a finding is reported."""

    wanted: dict[str, set[str]] = field(default_factory=dict)

    def also(self, name: str, *secrets: str) -> None:
        for secret in secrets:
            self.wanted.setdefault(name, set()).update(forms(secret))

    def through(self, text: str, where: str) -> None:
        for name, traces in self.wanted.items():
            for trace in traces:
                at = text.find(trace)
                if at >= 0:
                    around = text[max(0, at - 200) : at + len(trace) + 60]
                    raise Found(f"{name} is in {where}: ...{around}...")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """For passwords, tokens and keys. Bodies and signatures are put in by those who made them."""
    search = Search()
    search.also("the password", PASSWORD)
    search.also("the token", TOKEN)
    search.also("the admin token", ADMIN)
    search.wanted["the webhook secret"] = {WEBHOOK[6:18], WEBHOOK}
    search.wanted["our key"] = pieces(key_text("merchant_v1", "private_pkcs8_b64"))
    search.wanted["the TLS key"] = pieces(key_text("attacker", "private_pkcs8_b64"))
    return search


@pytest.fixture(autouse=True)
def _forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test learns is no help to another."""
    monkeypatch.setattr(secrecy, "_heads", {})


# Settings


def complete(redis_url: str = "redis://127.0.0.1:1/0") -> dict[str, str]:
    secret = {entry.name: planted(entry.name, redis_url) for entry in SETTINGS if entry.secret}
    hosts = {"CALLBACK_ALLOWED_HOSTS": "shop.example"}
    return environ(redis_url, "reconciler", "https://gateway.example") | secret | hosts


@pytest.mark.parametrize("entry", SETTINGS, ids=lambda entry: entry.name)
def test_a_secret_put_into_any_setting_by_mistake_is_in_no_fault(
    entry: Any, search: Search, tmp_path: Path
) -> None:
    good = complete()
    if entry.name != "ALIPAY_PRIVATE_KEY":
        del good["ALIPAY_PRIVATE_KEY"]  # to read it is slow
    key = complete()["ALIPAY_PRIVATE_KEY"]
    wrong = [*(complete()[name] for name in SECRETS), f"x{key}", key[:-5]]
    body = "\n".join(_by_64(key))
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"
    wrong += [pem, pem.replace("\n", "\\n"), pem[:-60], f"https://user:{PASSWORD}@gateway.example"]
    search.also("a password that nobody knows", HEADER)
    wrong += [f"https://user:{HEADER}{'x' * 60}@gateway.example"]  # is shown cut off
    for value in wrong:
        for name in (entry.name, f"{entry.name}_FILE", f"{entry.name}X"):
            given = {n: v for n, v in good.items() if not name.startswith(n)} | {name: value}
            for text in _faults_of(given, tmp_path):
                search.through(text, f"a fault of {name}")


@pytest.mark.parametrize("name", [entry.name for entry in SETTINGS if entry.secret])
def test_a_secret_given_as_if_it_were_a_file_is_not_told(name: str) -> None:
    """Nothing knows it as one."""
    for value in (HEADER, HEADER * 100):
        with pytest.raises(BadSettings) as bad:
            load({**complete(), name: "", f"{name}_FILE": value})
        assert f"{name}_FILE: the file cannot be read" in str(bad.value)
        assert HEADER not in str(bad.value)


def test_a_key_given_as_the_path_of_a_file_is_refused_as_any_other() -> None:
    """No name is that long, and Python would say so with the name."""
    with pytest.raises(BadSettings) as bad:
        load(complete() | {"TLS_KEY_FILE": HEADER * 400, "TLS_CERT_FILE": "x" * 5000})
    assert str(bad.value).count("this is no path") == 2


def test_what_must_be_secret_is_declared_so() -> None:
    declared = {"REDIS_URL", "ALIPAY_PRIVATE_KEY", "ALIPAY_AGENT_TOKEN", "ADMIN_TOKEN"}
    assert set(SECRETS) >= declared


def _by_64(text: str) -> list[str]:
    return [text[at : at + 64] for at in range(0, len(text), 64)]


def _faults_of(given: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Read from the environment and from .env; what is said where that cannot be used."""
    dotenv = folder / ".env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    for environ_, path in ((given, None), ({}, dotenv)):
        try:
            load(environ_, path)
        except BadSettings as bad:
            yield f"{bad} {bad!r} {bad.faults}"


@pytest.mark.parametrize("words", [reconciler("worker"), reconciler("status", "x"), ARQ_WORKER])
def test_a_refused_setting_is_told_without_its_secret(
    words: tuple[str, ...], search: Search, tmp_path: Path
) -> None:
    good = complete()
    given = good | {"RECONCILER_KEY_PREFIX": TOKEN, "ALIPAY_CLIENT_ID": good["ALIPAY_PRIVATE_KEY"]}
    given |= {"REDIS_URL": good["REDIS_URL"].replace("redis:", "http:"), "LOG_LEVEL": PASSWORD}
    with process(tmp_path, given, *words) as refused:
        assert refused.ended() in (1, 3)
        assert "RECONCILER_KEY_PREFIX" in refused.said
        search.through(refused.said, "what a refused process says")


@pytest.mark.parametrize(
    "words", [("worker", "--redis-url"), ("status", "--redis-ulr"), ("keys", "generate", "--out=/")]
)
def test_a_command_line_written_wrongly_is_not_repeated_with_its_password(
    words: tuple[str, ...], search: Search, tmp_path: Path
) -> None:
    with process(tmp_path, {}, *reconciler(*words, f"redis://:{PASSWORD}@h/0")) as refused:
        assert refused.ended() == 2
        search.through(refused.said, "a usage error")


# Objects


async def test_nothing_that_is_made_from_settings_shows_a_secret(
    search: Search, tmp_path: Path
) -> None:
    settings = load(complete())
    [account] = settings.accounts.values()
    message = Signed("/notify", CLIENT_ID, "1", f'{{"x":"{BUYER}"}}'.encode())
    search.also("a body", BUYER)
    redis = connect.client(settings.redis_url)
    store = store_of(settings, redis)
    async with open_session(1) as session, redis:
        gateway = HttpGateway(session, account, 1000)
        tools = Tools(store=store, accounts={}, log=log)
        made = main.worker_settings(settings)
        worker = Worker(**made, handle_signals=False)
        stream = CommandStream(redis, store, store.keys, tools, "c")
        trust = Trust(keys=settings.public_keys, path="/notify")
        things = [settings, account, redis, redis.connection_pool, store, tools, gateway, session]
        things += [made, worker, worker.ctx, made["redis_pool"], stream, trust, message]
        things += [settings.accounts, settings.public_keys, store.confirm]
        for thing in things:
            search.through(f"{thing!r} {thing}", f"repr of a {type(thing).__name__}")


async def test_what_redis_refuses_is_told_without_the_command(search: Search) -> None:
    """redis-py's own message repeats every argument."""
    search.also("a body", BUYER)
    with own_server() as server:
        async with connect.client(server.url) as redis:
            store = store_of(load(complete(server.url)), redis)
            await redis.set(Keys().quarantine, "no stream")
            for told in (store.quarantine("c", "r", BUYER.encode()), _piped(redis)):
                with pytest.raises(RedisError) as refused:
                    await told
                assert "WRONGTYPE" in str(refused.value)
                search.through(f"{refused.value} {refused.value!r}", "an error of Redis")


async def _piped(redis: Redis) -> None:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xadd(Keys().quarantine, {"body": BUYER})
        await pipe.execute()


# Lines


@pytest.fixture(params=[LogFormat.JSON, LogFormat.CONSOLE])
def told(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], str]]:
    """What has been logged since one last looked, in both formats."""
    logs.configure(request.param, LogLevel.DEBUG)
    yield lambda: capsys.readouterr().err
    logs.configure(LogFormat.JSON, LogLevel.DEBUG, strict=True)


def test_a_secret_that_code_logs_by_mistake_is_taken_out_in_every_form(
    told: Callable[[], str], search: Search
) -> None:
    given = complete()
    load(given)
    for name in SECRETS:
        for form in (*forms(given[name]), *forms(PASSWORD), repr(given), json.dumps(given)):
            log.info("worker.started", note=form, at=[{"deep": (form, {form})}])
            log.info("worker.started", **{"x": SimpleNamespace(url=form)})
            logging.getLogger("another").warning("connecting with %s, %r", form, [form])
            try:
                raise ValueError(form) from OSError(form.encode())
            except ValueError:
                log.exception("worker.failed")
    text = told()
    search.through(text, "the log")
    assert text.count(secrecy.REDACTED) > 50


def test_a_signature_and_a_key_are_known_by_their_look(
    told: Callable[[], str], search: Search
) -> None:
    """Nobody has told the process of these."""
    header = dict(notification(paid("p")).headers)["Signature"]
    stranger = private_text(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    search.also("a signature", header.partition("signature=")[2])
    search.wanted["a key"] = pieces(stranger)
    for text in (header, header[-200:], f"{{'x': '{header}'}}", stranger, f"k={stranger[:300]}"):
        log.info("worker.started", note=text)
        logging.getLogger("another").warning("got %s", text)
    search.through(told(), "the log")


def test_an_id_of_a_payment_is_never_taken_for_a_secret(told: Callable[[], str]) -> None:
    load(complete())
    ids = ["A" * 64, f"{CLIENT_ID}:{'0' * 64}", "MI" + "x" * 62, "pW-7d1f9"]
    for id_ in ids:
        log.info("payment.tracked", payment_request_id=id_)
    text = told()
    assert all(id_ in text for id_ in ids)


def test_a_short_password_does_not_take_words_out_of_the_log(told: Callable[[], str]) -> None:
    load(complete() | {"REDIS_URL": "redis://:worker@h/0", "ALIPAY_AGENT_TOKEN": "info"})
    log.info("worker.started", pid=1)
    text = told()
    assert "worker.started" in text and "info" in text


NASTY = ["\x1b[2J", "a\nb", "\r", "\x9b2J", "\u2028", "\u202eabc", "\u2066", "\x00", "\x7f", "\x08"]


@pytest.mark.parametrize("nasty", NASTY)
def test_what_a_stranger_wrote_neither_ends_a_line_nor_moves_a_cursor(
    told: Callable[[], str], nasty: str
) -> None:
    forged = f'{nasty}\n{{"event": "payment.final"}}\n2026-01-01T00:00:00.000Z [info] payment.final'
    log.info("payment.changed", why=forged, at={forged: [forged]})
    logging.getLogger("another").warning("it says %s", forged)
    try:
        raise ValueError(forged)
    except ValueError:
        log.exception("worker.failed")
    lines = told().splitlines(keepends=True)
    assert all(line.endswith("\n") and line[:-1].isprintable() for line in lines)
    begun = [line for line in lines if not line.startswith(" ")]
    assert len(begun) == 3
    assert not any(line.split()[2:3] == ["payment.final"] for line in begun)


@pytest.mark.parametrize("nasty", NASTY)
def test_what_is_shown_on_a_terminal_is_what_stands_there(nasty: str) -> None:
    assert all(line.isprintable() for line in visible(f"a{nasty}b").split("\n"))
    shown = visible(json.dumps({"reference": nasty + "支付"}, ensure_ascii=False))
    assert json.loads(shown) == {"reference": nasty + "支付"}
    assert "支付" in shown


def test_the_last_words_of_the_interpreter_are_lines_of_the_log(
    told: Callable[[], str], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (("sys", "excepthook"), ("sys", "unraisablehook")):
        monkeypatch.setattr(f"{module}.{name}", None)
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    load(complete())
    take_over()
    logging.captureWarnings(False)
    try:
        raise RuntimeError(f"at redis://:{PASSWORD}@h with {TOKEN}")
    except RuntimeError as fault:
        sys.excepthook(type(fault), fault, fault.__traceback__)
        given: Any = SimpleNamespace(
            exc_type=type(fault), exc_value=fault, exc_traceback=fault.__traceback__
        )
        sys.unraisablehook(given)
        threading.excepthook(given)
    text = told()
    assert text.count("RuntimeError: at redis://") == 3
    assert "process.failed" in text and "library.logged" in text
    search.through(text, "last words")


# Files


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_keys_that_we_make_are_for_their_owner_alone(tmp_path: Path, umask: int) -> None:
    kept = os.umask(umask)
    try:
        own, mock = tmp_path / "own.key", tmp_path / "mock"
        with process(tmp_path, {}, *reconciler("keys", "generate", "--out", str(own))) as made:
            assert made.ended() == 0
            assert own.read_text().strip()[64:80] not in made.said + made.stdout()
        words = ("mock-gateway", "--port", "0", "--keys", str(mock))
        with process(tmp_path, {}, *reconciler(*words)) as serving:
            assert serving.stdout_line().startswith("http://")
            search = Search({"the mock's key": pieces((mock / "merchant.key").read_text())})
            search.through(serving.said, "what the mock says")
    finally:
        os.umask(kept)
    for file in (own, mock / "merchant.key", mock / "gateway.key"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0


# Processes


@dataclass
class Scene:
    """A Redis with a password, a gateway of many moods, and all that must not be told."""

    server: Any
    gateway: ScriptedGateway
    given: dict[str, str]
    search: Search
    shop: Redis
    keys: Keys = field(default_factory=Keys)

    async def run(self, both: Process) -> None:
        """One process through all its paths, as far as one process has them."""
        started = await _line(both, "receiver.started")
        [port] = re.findall(r"127\.0\.0\.1', (\d+)\)", started)
        await self.notify(int(port))
        await self.order()
        await self.look_at_admin_ports()
        await self.break_redis(both)
        both.signal(signal.SIGTERM)
        await asyncio.to_thread(both.ended)

    async def notify(self, port: int) -> None:
        """Genuine, odd, forged and no HTTP at all."""
        buyer = {"buyerId": BUYER, "pspCustomerInfo": {"pspCustomerId": f"{BUYER}\n"}}
        odd = {"paymentAmount": {"currency": "usd", "value": f"1 {BUYER}"}}
        broken = b'{"notifyType": "PAYMENT_RESULT", "paymentRequestId": "x", ' + BUYER.encode()
        other = paid("parked-3", notifyType=f"OTHER_{BUYER}", **buyer)
        posts = [
            notification(paid("parked-1", **buyer)),
            notification(paid("parked-2", **buyer | odd)),
            notification(broken),
            notification(other),
            notification(paid("forged-1", **buyer), key="attacker"),
            notification(paid("foreign-1", **buyer), client_id="SANDBOX_OTHER"),
            notification(paid("shifted-1", **buyer)).having(Request_Time=HEADER),
            notification(paid("late-1", **buyer), key_version=9),
        ]
        replies = []
        for post in posts:
            signature = dict(post.headers)["Signature"]
            self.search.also("a signature", signature.partition("signature=")[2])
            wire = post.also("Agent-Token", HEADER).also("Authorization", HEADER).wire()
            cut = wire.replace(b"Signature:", b"Signature :")
            replies += [await self.send(port, wire), await self.send(port, cut)]
        replies.append(await self.send(port, b"GET /" + BUYER.encode() + b" HTTP/1.1\r\n\r\n"))
        for reply in replies:
            self.search.through(repr(reply), "an answer of the receiver")

    async def look_at_admin_ports(self) -> None:
        """With the token, without, with another one, by a strange name, for a strange path."""
        await until(lambda: self._metrics_have_come())
        for port in admin_ports(self.given):
            for path in ("/healthz", "/readyz", "/metrics", "/", f"/{HEADER}?{HEADER}"):
                for given in (f"Bearer {ADMIN}", "", f"Bearer x{ADMIN}", f"Basic {HEADER}"):
                    for host in ("127.0.0.1", f"{HEADER}.example"):
                        reply = await get(port, path, Authorization=given, Host=host, X=HEADER)
                        self.search.through(repr(reply), "an answer of an admin port")

    async def _metrics_have_come(self) -> bool:
        _, port = admin_ports(self.given)
        reply = await get(port, "/metrics", Authorization=f"Bearer {ADMIN}")
        return b"reconciler_payments_open{" in reply.body

    async def send(self, port: int, wire: bytes) -> Any:
        return await send(port, wire, tls=_blind())

    async def order(self) -> None:
        """Payments of every fate, and commands that nobody can read."""
        for mood in MOODS:
            await track(self.shop, mood, "USD", 599, expires_in=600, reference=NOTE)
        await command(self.shop, "payment.cancel", {"paymentRequestId": "PAID", "reason": NOTE})
        await command(self.shop, "payment.track", {"paymentRequestId": "x", "reference": [NOTE]})
        await command(self.shop, "payment.track", {"paymentRequestId": NOTE * 20})
        await command(self.shop, "payment.nothing", {"paymentRequestId": "x", "reference": NOTE})
        await self.shop.xadd(self.keys.commands, {"type": "payment.track", "data": f'{{"{NOTE}'})
        await self.shop.xadd(self.keys.commands, {"data": NOTE, NOTE: NOTE})

        async def all_asked() -> bool:
            asked = [mood for mood in MOODS if mood.encode() in b"".join(self.bodies)]
            return len(asked) == len(MOODS) and await self.shop.xlen(self.keys.dead) >= 5

        await until(all_asked)

    @property
    def bodies(self) -> list[bytes]:
        return [asked.body for asked in self.gateway.asked]

    async def break_redis(self, running: Process) -> None:
        """It takes no passwords, then is gone, then has lost them, then has them again."""
        await self.shop.config_set("requirepass", "another")
        await self.shop.client_kill_filter(_type="normal", skipme=False)
        await _line(running, "worker.redis_waiting")
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(self.server.start)
        await asyncio.sleep(0.5)
        async with Redis.from_url(self.server.url) as bare:
            await bare.config_set("requirepass", PASSWORD)
        await track(self.shop, "PAID-2", "USD", 599, reference=NOTE)
        await until(lambda: _asked(self, "PAID-2"))


async def _asked(found: Scene, name: str) -> bool:
    return any(name.encode() in body for body in found.bodies)


MOODS = ("PAID", "FAILED", "BUSY", "ERROR", "FORGED", "JUNK", "CODES", "RESET", "MOVED")


async def answer(asked: Asked) -> web.StreamResponse:
    """What each mood says, with a marker wherever one fits."""
    name = json.loads(asked.body)["paymentRequestId"]
    more = {"buyer": {"buyerId": ANSWER}, "extendInfo": f"{ANSWER}\n"}
    body = inquired(name, {"PAID": "SUCCESS", "FAILED": "FAIL"}.get(name, "PROCESSING"), **more)
    if name == "CODES":
        result = {"resultCode": f"X\x1b[2J\n{ANSWER}", "resultStatus": "U", "resultMessage": ANSWER}
        body |= {"result": result}
    if name == "ERROR":
        return web.Response(status=500, text=ANSWER, headers={"Agent-Token": HEADER})
    if name == "MOVED":
        return web.Response(status=302, headers={"Location": f"http://u:{HEADER}@127.0.0.1/"})
    if name == "RESET":
        return web.Response(body=ANSWER, headers={"Content-Length": "9999"})
    said = b'{"' + ANSWER.encode() if name == "JUNK" else json.dumps(body).encode()
    reply = signed_answer(asked.path, said, key="attacker" if name == "FORGED" else "alipay_v1")
    reply.headers["Agent-Token"] = HEADER
    return reply


@asynccontextmanager
async def scene(folder: Path, search: Search, **more: str) -> AsyncIterator[Scene]:
    cert, key = certificate(folder)
    with own_server() as server:
        async with scripted_gateway() as gateway, Redis.from_url(server.url) as bare:
            gateway.answer = answer
            await bare.config_set("requirepass", PASSWORD)
            shop = Redis.from_url(planted("REDIS_URL", server.url), decode_responses=True)
            given = environ(server.url, "reconciler", gateway.url)
            for entry in SETTINGS:
                if entry.secret:
                    (folder / entry.name).write_text(planted(entry.name, server.url))
                    given |= {entry.name: "", f"{entry.name}_FILE": str(folder / entry.name)}
            given |= {"RECEIVER_ADMIN_PORT": str(free_port())}
            given |= {"WORKER_ADMIN_PORT": str(free_port())}
            given |= {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key), "LOG_LEVEL": "debug"}
            given |= {"CALLBACK_ALLOWED_HOSTS": "shop.example"}
            given |= {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "ON_TIMEOUT": "report"}
            search.also("a buyer", BUYER)
            search.also("an answer", ANSWER)
            search.also("a command", NOTE)
            search.also("a header", HEADER)
            async with shop:
                yield Scene(server, gateway, given | more, search, shop)


def admin_ports(given: Mapping[str, str]) -> tuple[int, int]:
    return int(given["RECEIVER_ADMIN_PORT"]), int(given["WORKER_ADMIN_PORT"])


def _blind() -> Any:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _line(running: Process, event: str) -> str:
    """The first line that names the event, in whatever format."""

    def told() -> list[str]:
        return [line for line in running.said.splitlines() if event in line]

    return str((await asyncio.to_thread(wait_until, told))[0])


async def in_redis(redis: Redis) -> dict[str, str]:
    """All that stands in Redis, by key."""
    found = {}
    async for raw in redis.scan_iter(count=1000):
        found[raw] = repr([raw, await _value(redis, raw)])
    return found


async def _value(redis: Redis, key: str) -> Any:
    words: dict[str, tuple[Any, ...]] = {
        "string": ("GET", key),
        "hash": ("HGETALL", key),
        "list": ("LRANGE", key, 0, -1),
        "set": ("SMEMBERS", key),
        "zset": ("ZRANGE", key, 0, -1),
        "stream": ("XRANGE", key, "-", "+"),
    }
    return await redis.execute_command(*words[await redis.type(key)])  # type: ignore[no-untyped-call]


def without(search: Search, *names: str) -> Search:
    return Search({name: traces for name, traces in search.wanted.items() if name not in names})


async def look_into_redis(found: Scene) -> None:
    """Bodies stand in inbox and quarantine alone, a command where commands go; the rest nowhere."""
    everything = await in_redis(found.shop)
    bodies = {found.keys.quarantine}
    for key, value in everything.items():
        holds = without(found.search, "a command")
        if key in bodies or key.startswith(found.keys.inbox("")):
            holds = without(holds, "a buyer")
        holds.through(value, f"Redis at {key}")
    assert any(
        BUYER in everything[key] for key in everything if key.startswith(found.keys.inbox(""))
    )
    assert BUYER in everything[found.keys.quarantine]


def title(running: Process) -> str:
    """What others on the machine see of it, where there is such a place to see it."""
    seen = Path(f"/proc/{running.pid}/cmdline")
    return seen.read_text() if seen.exists() else ""


@pytest.mark.once
@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_through_success_failure_and_faults_nothing_secret_is_told(
    search: Search, tmp_path: Path, log_format: str
) -> None:
    async with scene(tmp_path, search, LOG_FORMAT=log_format) as found:
        with process(tmp_path, found.given, *reconciler("run")) as both:
            search.through(title(both), "a process' title")
            await found.run(both)
            _also_signatures(found)
            search.through(both.said + both.stdout(), "what the process says")
            assert "notification.quarantined" in both.said
            assert "command.dead" in both.said
            assert "untrusted_" in both.said
        await look_into_redis(found)
        await look_at_commands(found, tmp_path)


def _also_signatures(found: Scene) -> None:
    for asked in found.gateway.asked:
        assert asked.headers["Agent-Token"] == TOKEN
        found.search.also("a signature", asked.headers["Signature"].partition("signature=")[2])


async def look_at_commands(found: Scene, folder: Path) -> None:
    """Commands of the command line: what they show is the merchant's own, but no secret."""
    shown = without(found.search, "a command")
    words = [("status", "PAID", "--json"), ("pending",), ("status", "nobody")]
    codes = [0, 0, 1]
    for password in (PASSWORD, f"not-{PASSWORD}"):
        url = found.server.url.replace("://", f"://:{quote(password, safe='')}@", 1)
        (folder / "REDIS_URL").write_text(url)
        told = await asyncio.gather(
            *(asyncio.to_thread(_run, folder, found.given, each) for each in words)
        )
        assert [code for code, _ in told] == codes
        shown.through(str(told), "what a command says")
        words, codes = words[1:2], [4]


def _run(folder: Path, given: Mapping[str, str], words: Iterable[str]) -> tuple[int, str]:
    with process(folder, given, *reconciler(*words)) as ran:
        return ran.ended(), ran.stdout() + ran.said


@pytest.mark.once
async def test_the_worker_as_arq_starts_it_tells_nothing_either(
    search: Search, tmp_path: Path
) -> None:
    async with scene(tmp_path, search) as found:
        with process(tmp_path, found.given, *ARQ_WORKER, "-v") as worker:
            await _line(worker, "worker.started")
            await found.order()
            await found.shop.config_set("requirepass", "another")
            await found.shop.client_kill_filter(_type="normal", skipme=False)
            await _line(worker, "worker.redis_waiting")
            worker.signal(signal.SIGKILL)
            assert await asyncio.to_thread(worker.ended) == -signal.SIGKILL
            _also_signatures(found)
            search.through(worker.said + worker.stdout(), "what arq's worker says")
