"""The receiver, over real sockets: what is genuine is kept and acknowledged, and nothing else is.

Requests are written byte by byte, so that they can be as wrong as a sender can be.
"""

import asyncio
import gzip
import json
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from tests.keys import CLIENT_ID, public_key, vector, vectors
from tests.servers import (
    Post,
    Reply,
    certificate,
    notification,
    own_server,
    paid,
    receiving,
    send,
    until,
)
from worker import connect, receiver
from worker.keys import Keys
from worker.main import tls_context
from worker.messages import ACK
from worker.receiver import MAX_BODY_BYTES, REFUSALS
from worker.scripts import Confirm
from worker.signature import Reason
from worker.store import Store
from worker.values import Durability, Persistence

PATH = "/merchant/notify"  #: of the vectors
GENUINE = notification(paid("order-1"))


@dataclass
class World:
    """A running receiver and the Redis behind it."""

    port: int
    redis: Redis
    keys: Keys

    async def send(self, post: Post) -> Reply:
        reply = await send(self.port, post.wire())
        assert reply, "hung up without an answer"
        return reply

    async def kept(self) -> set[str]:
        """The names of all keys that the receiver left, without the prefix."""
        start = f"{self.keys.prefix}:v1:"
        return {name.removeprefix(start) async for name in self.redis.scan_iter(f"{start}*")}

    async def mail(self, payment_request_id: str) -> list[dict[str, Any]]:
        name = self.keys.inbox(f"{CLIENT_ID}:{payment_request_id}")
        return [json.loads(entry) for entry in await self.redis.lrange(name, 0, -1)]  # type: ignore[misc]


@pytest.fixture
async def store(redis_url: str, redis: Redis, prefix: str) -> AsyncIterator[Store]:
    client = connect.client(redis_url, tries=1)
    yield Store(client, Keys(prefix))
    await client.aclose()


@pytest.fixture(autouse=True)
def _short_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "LINGER_SECONDS", 0.05)


@pytest.fixture
async def world(store: Store, redis: Redis) -> AsyncIterator[World]:
    async with receiving(store) as port:
        yield World(port, redis, store.keys)


@pytest.fixture
async def at_vectors(store: Store, redis: Redis) -> AsyncIterator[World]:
    """A receiver under the path that the vectors are signed for."""
    async with receiving(store, path=PATH) as port:
        yield World(port, redis, store.keys)


def post_of(message: Mapping[str, Any]) -> Post:
    headers = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Client-Id", message["client_id"]),
        ("Request-Time", message["time"]),
        ("Signature", message["signature_header"]),
    )
    return Post(message["body"].encode(), headers, message["path"])


def notifications(name: str) -> list[Any]:
    found = [v for v in vectors(name) if v["kind"] == "notification"]
    return [pytest.param(v, id=v["id"]) for v in found]


def acknowledged(reply: Reply) -> bool:
    return (reply.status, reply.headers["Content-Type"], reply.body) == (
        200,
        "application/json",
        ACK,
    )


# Genuine


OURS = [m for m in notifications("valid") + notifications("quirks") if m.id != "N07"]


@pytest.mark.parametrize("message", OURS)
async def test_what_the_gateway_signed_is_kept_as_it_came_and_acknowledged(
    at_vectors: World, message: dict[str, Any], log_lines: list[EventDict]
) -> None:
    assert acknowledged(await at_vectors.send(post_of(message)))
    [mail] = await at_vectors.mail(json.loads(message["body"])["paymentRequestId"])
    assert (mail["body"], mail["time"]) == (message["body"], message["time"])
    assert [line["event"] for line in log_lines] == ["notification.accepted"]


async def test_what_the_gateway_signed_about_a_capture_is_acknowledged_and_let_go(
    at_vectors: World, log_lines: list[EventDict]
) -> None:
    assert acknowledged(await at_vectors.send(post_of(vector("N07"))))
    assert await at_vectors.kept() == set()
    assert [line["event"] for line in log_lines] == ["notification.ignored"]


async def test_one_for_a_payment_that_nobody_tracks_yet_is_parked(world: World) -> None:
    assert acknowledged(await world.send(GENUINE))
    assert await world.redis.zrange(world.keys.parked, 0, -1) == [f"{CLIENT_ID}:order-1"]


async def test_one_for_a_tracked_payment_wakes_its_job_now(world: World, redis: Redis) -> None:
    key = f"{CLIENT_ID}:order-1"
    await redis.hset(world.keys.payment(key), mapping={"version": 1})  # type: ignore[misc]
    await redis.zadd(world.keys.open, {key: 9e12})
    assert acknowledged(await world.send(GENUINE))
    seconds, _ = await redis.time()
    assert await redis.zscore(world.keys.open, key) <= (seconds + 1) * 1000
    assert await redis.zscore(world.keys.queue, world.keys.job(key)) <= (seconds + 1) * 1000
    assert await redis.zcard(world.keys.parked) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda post: post.without("Content-Type"), id="no content type"),
        pytest.param(lambda post: post.having(Content_Type="application/json"), id="no charset"),
        pytest.param(
            lambda post: post.having(Content_Type="Application/JSON; Charset=utf-8"), id="case"
        ),
        pytest.param(lambda post: post.having(Content_Encoding="identity"), id="identity"),
        pytest.param(lambda post: post.having(Upgrade="websocket"), id="upgrade"),
        pytest.param(lambda post: post.having(X_Forwarded_For="10.0.0.1"), id="proxy"),
        pytest.param(
            lambda post: replace(
                post, headers=tuple((name.lower(), value) for name, value in post.headers)
            ),
            id="names in lower case",
        ),
        pytest.param(
            lambda post: post.having(Signature=dict(post.headers)["Signature"].replace(",", ", ")),
            id="blanks in the signature header",
        ),
        pytest.param(
            lambda post: replace(post, path=f"http://elsewhere{post.path}"), id="absolute target"
        ),
    ],
)
async def test_what_changes_no_word_of_it_does_not_matter(
    world: World, change: Callable[[Post], Post]
) -> None:
    assert acknowledged(await world.send(change(GENUINE)))
    assert len(await world.mail("order-1")) == 1


async def test_a_body_in_chunks_is_the_same_body(world: World) -> None:
    reply = await send(world.port, GENUINE.chunked(7))
    assert reply and acknowledged(reply)
    assert len(await world.mail("order-1")) == 1


async def test_a_sender_that_asks_first_is_told_to_go_on(world: World) -> None:
    reply = await send(world.port, GENUINE.having(Expect="100-continue").wire())
    assert reply and reply.status == 100
    assert reply.body.endswith(ACK)


@pytest.mark.parametrize("at", ["1685599933880", "2019-07-12T12:08:56+05:30", "0000000000"])
async def test_age_refuses_nothing_that_is_genuine(world: World, at: str) -> None:
    assert acknowledged(await world.send(notification(paid("order-1"), sent_at=at)))
    assert [mail["time"] for mail in await world.mail("order-1")] == [at]


async def test_a_key_of_another_version_is_believed_under_its_version(world: World) -> None:
    rotated = notification(paid("order-1"), key="alipay_v2", key_version=2)
    assert acknowledged(await world.send(rotated))


# The path that was signed


@pytest.mark.parametrize("signed", ["/notify?shop=42&x=%E4%B8%AD", "/notify"])
async def test_a_query_may_be_signed_or_not(world: World, signed: str) -> None:
    post = notification(paid("order-1"), path="/notify?shop=42&x=%E4%B8%AD", signed_path=signed)
    assert acknowledged(await world.send(post))


@pytest.mark.parametrize("signed", ["/notify?shop=43", "/notify?", "/", "/notify/", "/%6eotify"])
async def test_no_other_path_will_do(world: World, signed: str) -> None:
    post = notification(paid("order-1"), path="/notify?shop=42", signed_path=signed)
    assert (await world.send(post)).status == 401
    assert await world.kept() == set()


@pytest.mark.parametrize(
    ("signed", "status"),
    [
        ("/public/alipay", 200),
        ("/public/alipay?shop=42", 200),
        ("/old/alipay", 200),
        ("/notify", 401),
        ("/notify?shop=42", 401),
    ],
)
async def test_behind_a_proxy_the_paths_that_the_gateway_called_are_believed_and_no_other(
    store: Store, signed: str, status: int
) -> None:
    post = notification(paid("order-1"), path="/notify?shop=42", signed_path=signed)
    async with receiving(store, signed_paths=("/public/alipay", "/old/alipay")) as port:
        reply = await send(port, post.wire())
    assert reply and reply.status == status


# Refused


TAMPERED = {
    "I01": Reason.SIG_MISMATCH,
    "I02": Reason.SIG_MISMATCH,
    "I03": Reason.PATH,
    "I06": Reason.CLIENT_ID,
    "I07": Reason.SIG_MISMATCH,
    "I09": Reason.SIG_MISMATCH,
    "I10": Reason.SIG_SYNTAX,
    "I11": Reason.SIG_MISMATCH,
    "I12": Reason.SIG_MISMATCH,
    "I14": Reason.SIG_MISMATCH,
    "I18": Reason.SIG_SYNTAX,
    "I19": Reason.SIG_SYNTAX,
    "I24": Reason.SIG_MISMATCH,
}


@pytest.mark.parametrize(("id_", "reason"), TAMPERED.items())
async def test_what_was_tampered_with_is_refused(
    store: Store,
    redis: Redis,
    id_: str,
    reason: Reason,
    log_lines: list[EventDict],
) -> None:
    message = vector(id_)
    keys = {CLIENT_ID: {int(message["key_version"]): public_key(message["verify_key"])}}
    async with receiving(store, path=PATH, keys=keys) as port:
        await refused(World(port, redis, store.keys), post_of(message), reason, log_lines)


def test_every_message_that_was_tampered_with_is_in_the_table() -> None:
    assert set(TAMPERED) == {message["id"] for message in vectors("invalid")}


async def test_one_bit_of_what_is_signed_is_enough_to_refuse_it(world: World) -> None:
    wire, draw = GENUINE.wire(), random.Random(1)
    at = [wire.index(dict(GENUINE.headers)["Client-Id"].encode()), wire.index(b"Time: ") + 6]
    places = [range(at[0], at[0] + 24), range(at[1], at[1] + 13), range(len(wire) - 200, len(wire))]
    for _ in range(150):
        altered = bytearray(wire)
        altered[draw.choice(draw.choice(places))] ^= 1 << draw.randrange(8)
        reply = await send(world.port, bytes(altered))
        assert reply and 400 <= reply.status < 500, bytes(altered)
    assert await world.kept() == set()


def header(**changed: str) -> Callable[[Post], Post]:
    return lambda post: post.having(**changed)


def signature(old: str, new: str) -> Callable[[Post], Post]:
    return lambda post: post.having(Signature=dict(post.headers)["Signature"].replace(old, new))


def another(name: str) -> Callable[[Post], Post]:
    """The same header once more, as it is."""
    return lambda post: post.also(name, dict(post.headers)[name])


def signed_anew(body: bytes, **changed: Any) -> Callable[[Post], Post]:
    return lambda _: notification(body, **changed)


BODY = GENUINE.body
REFUSED: list[tuple[Reason, str, Callable[[Post], Post]]] = [
    (Reason.METHOD, "GET", lambda post: replace(post, method="GET")),
    (Reason.METHOD, "PUT", lambda post: replace(post, method="PUT")),
    (Reason.METHOD, "TRACE", lambda post: replace(post, method="TRACE")),
    (Reason.PATH, "another", lambda post: replace(post, path="/")),
    (Reason.PATH, "slash behind", lambda post: replace(post, path="/notify/")),
    (Reason.PATH, "slash before", lambda post: replace(post, path="//notify")),
    (Reason.PATH, "escaped", lambda post: replace(post, path="/%6eotify")),
    (Reason.PATH, "case", lambda post: replace(post, path="/Notify")),
    (Reason.PATH, "dots", lambda post: replace(post, path="/a/../notify")),
    (Reason.PATH, "absolute", lambda post: replace(post, path="http://us")),
    (Reason.PATH, "none", lambda post: replace(post, method="OPTIONS", path="*")),
    (Reason.PATH, "a tunnel", lambda post: replace(post, method="CONNECT", path="us:443")),
    (Reason.MEDIA_TYPE, "text", header(Content_Type="text/plain")),
    (Reason.MEDIA_TYPE, "form", header(Content_Type="application/x-www-form-urlencoded")),
    (Reason.MEDIA_TYPE, "charset", header(Content_Type="application/json; charset=gbk")),
    (Reason.MEDIA_TYPE, "nonsense", header(Content_Type=";;")),
    (Reason.ENCODING, "gzip", header(Content_Encoding="gzip")),
    (Reason.ENCODING, "unknown", header(Content_Encoding="aes")),
    (
        Reason.ENCODING,
        "a bomb, signed",
        lambda _: notification(gzip.compress(b" " * 10_000_000)).having(Content_Encoding="gzip"),
    ),
    (Reason.ENCRYPTED, "", header(Encrypt="algorithm=RSA_AES,keyVersion=1,symmetricKey=x")),
    (Reason.ENCRYPTED, "empty", header(Encrypt="")),
    (Reason.TOO_LARGE, "by a byte", signed_anew(b"{%065535d" % 0 + b"}")),
    (Reason.HEADER_MISSING, "Signature", lambda post: post.without("Signature")),
    (Reason.HEADER_MISSING, "Client-Id", lambda post: post.without("Client-Id")),
    (Reason.HEADER_MISSING, "Request-Time", lambda post: post.without("Request-Time")),
    (Reason.HEADER_REPEATED, "Signature", another("Signature")),
    (Reason.HEADER_REPEATED, "Client-Id", another("Client-Id")),
    (Reason.HEADER_REPEATED, "Request-Time", another("Request-Time")),
    (
        Reason.HEADER_REPEATED,
        "a forged signature first",
        lambda post: replace(post, headers=(("Signature", "algorithm=RSA256"), *post.headers)),
    ),
    (Reason.HEADER_CHARSET, "time", header(Request_Time="١٦٨٥٥٩٩٩٣٣٨٨٠")),
    (Reason.HEADER_CHARSET, "signature", signature("RSA256", "RSA２56")),
    (Reason.TIME_CHARSET, "quote", header(Request_Time="2026-01-02T03:04:05'")),
    (Reason.TIME_CHARSET, "empty", header(Request_Time="")),
    (Reason.TIME_CHARSET, "long", header(Request_Time="1" * 41)),
    (Reason.NOT_OBJECT, "empty", signed_anew(b"")),
    (Reason.NOT_OBJECT, "array", signed_anew(b"[]")),
    (Reason.NOT_OBJECT, "null", signed_anew(b"null")),
    (Reason.NOT_OBJECT, "text", signed_anew(b'"{}"')),
    (Reason.NOT_OBJECT, "blank", signed_anew(b" " + BODY)),
    (Reason.NOT_OBJECT, "byte order mark", signed_anew(b"\xef\xbb\xbf" + BODY)),
    (Reason.NOT_OBJECT, "UTF-16", signed_anew(BODY.decode().encode("utf-16"))),
    (Reason.SIG_SYNTAX, "empty", header(Signature="")),
    (Reason.SIG_SYNTAX, "no value", header(Signature="algorithm=RSA256,keyVersion=1,signature=")),
    (Reason.SIG_SYNTAX, "no version", signature("keyVersion=1,", "")),
    (Reason.SIG_SYNTAX, "negative version", signature("keyVersion=1", "keyVersion=-1")),
    (Reason.SIG_SYNTAX, "a part more", lambda p: signature("%3D%3D", "%3D%3D,foo=bar")(p)),
    (Reason.SIG_SYNTAX, "escaped twice", signature("%3D", "%253D")),
    (Reason.SIG_SYNTAX, "no padding", signature("%3D", "")),
    (Reason.SIG_ALGORITHM, "none", signature("RSA256", "none")),
    (Reason.SIG_ALGORITHM, "HMAC256", signature("RSA256", "HMAC256")),
    (Reason.SIG_ALGORITHM, "case", signature("RSA256", "rsa256")),
    (Reason.CLIENT_ID, "unknown", header(Client_Id="SANDBOX_OTHER")),
    (Reason.CLIENT_ID, "empty", header(Client_Id="")),
    (Reason.CLIENT_ID, "digits of another script", header(Client_Id="SANDBOX_٥X00000000000000")),
    (
        Reason.CLIENT_ID,
        "of another account of the gateway, with its genuine signature",
        signed_anew(BODY, client_id="SANDBOX_5X00000000000001"),
    ),
    (Reason.KEY_VERSION, "999", signature("keyVersion=1", "keyVersion=999")),
    (Reason.SIG_MISMATCH, "another key", signed_anew(BODY, key="attacker")),
    (Reason.SIG_MISMATCH, "one key under another's version", signature("sion=1", "sion=2")),
    (Reason.SIG_MISMATCH, "a byte more", lambda post: replace(post, body=post.body + b"\n")),
    (
        Reason.SIG_MISMATCH,
        "another amount",
        lambda post: replace(post, body=post.body.replace(b'"599"', b'"999"')),
    ),
    (Reason.SIG_MISMATCH, "another time", header(Request_Time="1685599933880")),
    (Reason.SIG_MISMATCH, "another path", signed_anew(BODY, signed_path="/elsewhere")),
]


@pytest.mark.parametrize(
    ("reason", "change"),
    [pytest.param(reason, change, id=f"{reason}: {what}") for reason, what, change in REFUSED],
)
async def test_what_nothing_proves_is_refused_with_its_reason_and_leaves_a_line_alone(
    world: World, reason: Reason, change: Callable[[Post], Post], log_lines: list[EventDict]
) -> None:
    await refused(world, change(GENUINE), reason, log_lines)


#: The status is a function of the reason: 4xx, never one that the gateway takes for "received".
STATUS = {
    Reason.METHOD: 405,
    Reason.PATH: 404,
    Reason.MEDIA_TYPE: 415,
    Reason.ENCODING: 415,
    Reason.ENCRYPTED: 400,
    Reason.TOO_LARGE: 413,
    Reason.BODY_TIMEOUT: 408,
    Reason.BODY_CUT: 400,
    Reason.HEADER_MISSING: 400,
    Reason.HEADER_REPEATED: 400,
    Reason.HEADER_CHARSET: 400,
    Reason.TIME_CHARSET: 400,
    Reason.NOT_OBJECT: 400,
    Reason.SIG_SYNTAX: 400,
    Reason.SIG_ALGORITHM: 400,
    Reason.CLIENT_ID: 401,
    Reason.KEY_VERSION: 401,
    Reason.SIG_MISMATCH: 401,
}


async def refused(world: World, post: Post, reason: Reason, lines: list[EventDict]) -> None:
    """The answer names the reason, one line does too, nothing is kept and no secret is told."""
    reply = await world.send(post)
    status = STATUS[reason]
    assert (reply.status, json.loads(reply.body)["error"]) == (status, reason)
    [line] = [line for line in lines if line["event"] == "notification.rejected"]
    assert (line["reason"], line["status"], line["log_level"]) == (reason, status, "warning")
    told = repr(lines) + reply.body.decode()
    assert "signature=" not in told
    assert "paymentAmount" not in told
    assert await world.kept() == set()


async def test_head_is_refused_too_though_its_answer_has_no_body(world: World) -> None:
    reply = await world.send(replace(GENUINE, method="HEAD"))
    assert (reply.status, reply.body) == (405, b"")


async def test_an_encrypted_message_is_an_error_in_the_log(
    world: World, log_lines: list[EventDict]
) -> None:
    await world.send(GENUINE.having(Encrypt="algorithm=RSA_AES"))
    [error] = [line for line in log_lines if line["log_level"] == "error"]
    assert error["event"] == "notification.encrypted"


async def test_a_body_that_dribbles_in_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(receiver, "BODY_SECONDS", 0.1)
    reply = await send(world.port, GENUINE.wire()[:-1])
    assert reply and reply.status == 408
    assert [line["reason"] for line in log_lines] == [Reason.BODY_TIMEOUT]
    assert await world.kept() == set()


async def test_a_body_that_ends_early_is_not_taken_for_the_whole(
    world: World, log_lines: list[EventDict]
) -> None:
    await send(world.port, GENUINE.wire()[:-1], hang_up=True)
    await until(lambda: nothing(log_lines))
    assert [line["reason"] for line in log_lines] == [Reason.BODY_CUT]
    assert await world.kept() == set()


async def nothing(lines: list[EventDict]) -> bool:
    return bool(lines)


async def test_headers_that_dribble_in_are_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "KEEPALIVE_SECONDS", 0.1)
    async with receiving(store) as port:
        assert await send(port, GENUINE.head[:-40]) is None


def test_every_reason_has_its_answer_and_its_test() -> None:
    elsewhere = {Reason.BODY_TIMEOUT, Reason.BODY_CUT}
    assert {reason for reason, _, _ in REFUSED} | elsewhere == set(Reason)
    assert {reason: status for reason, (status, _) in REFUSALS.items()} == STATUS


# Limits


def padded(size: int) -> bytes:
    """A notification whose body has exactly this size."""
    short = json.dumps(paid("order-1", padding="")).encode()
    return short.replace(b'"padding": ""', b'"padding": "%s"' % (b"x" * (size - len(short))))


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
async def test_a_body_has_65_536_bytes_at_most(
    world: World, size: int, status: int, chunked: bool
) -> None:
    post = notification(padded(size))
    assert len(post.body) == size
    reply = await send(world.port, post.chunked() if chunked else post.wire())
    assert reply and reply.status == status
    assert len(await world.mail("order-1")) == (1 if status == 200 else 0)


async def test_a_body_announced_too_large_is_not_waited_for(world: World) -> None:
    reply = await send(world.port, GENUINE.head + b"Content-Length: 1000000000\r\n\r\n")
    assert reply and reply.status == 413


async def test_chunks_without_end_are_not_read_to_the_end(world: World) -> None:
    chunk = b"10000\r\n" + b"{" * 0x10000 + b"\r\n"
    head = GENUINE.head + b"Transfer-Encoding: chunked\r\n\r\n"
    reply = await send(world.port, head + chunk * 3)
    assert reply and reply.status == 413


MALFORMED = {
    "a blank before the colon": GENUINE.wire().replace(b"Signature:", b"Signature :"),
    "a header continued": GENUINE.wire().replace(b"signature=", b"\r\n signature=\0"),
    "a NUL": GENUINE.wire().replace(b"signature=", b"signature=\0"),
    "two lengths": GENUINE.wire().replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"),
    "a length and chunks": GENUINE.wire().replace(
        b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "a header of 10 kB": GENUINE.having(Signature="signature=" + "x" * 10_000).wire(),
    "a length with an underscore": GENUINE.head + b"Content-Length: 1_0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 200,
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_http_is_refused_without_an_echo(world: World, raw: bytes) -> None:
    reply = await send(world.port, raw)
    assert reply and reply.status == 400
    assert reply.body == b'{"error": "bad_request"}'
    assert reply.headers["Server"] == ""
    assert await world.kept() == set()


async def test_the_server_does_not_say_what_it_runs_on(world: World) -> None:
    for post in (GENUINE, GENUINE.without("Signature"), replace(GENUINE, method="GET")):
        assert "Server" not in (await world.send(post)).headers


# Genuine, and odd


def without_success(raw: bytes) -> bytes:
    return raw.replace(b'"resultStatus": "S"', b'"resultStatus": "X"')


def named(value: object) -> bytes:
    return json.dumps(paid("order-1") | {"paymentRequestId": value}).encode()


def costing(value: object, currency: object = "USD") -> bytes:
    amount = {"currency": currency, "value": value}
    return json.dumps(paid("order-1", paymentAmount=amount)).encode()


RAW = json.dumps(paid("order-1")).encode()
#: Body, reason, and whether its payment can still be named: then it is a hint as well.
ODD: dict[str, tuple[bytes, str, bool]] = {
    "cut": (RAW[:-1], "json", False),
    "two documents": (RAW + b"{}", "json", False),
    "a comma too many": (RAW[:-1] + b",}", "json", False),
    "comments": (b"{// as in the document\n" + RAW[1:], "json", False),
    "single quotes": (RAW.replace(b'"', b"'"), "json", False),
    "a NUL": (RAW + b"\0", "json", False),
    "latin-1": (RAW.replace(b"success", b"succ\xe9s"), "utf8", False),
    "overlong UTF-8": (RAW.replace(b"success", b"\xc0\xaf"), "utf8", False),
    "half a surrogate pair, raw": (RAW.replace(b"success", b"\xed\xa0\x80"), "utf8", False),
    "half a surrogate pair, escaped": (RAW.replace(b"success", b"\\ud800"), "text", False),
    "a key twice": (RAW[:-1] + b',"paymentRequestId":"order-2"}', "duplicate_key", False),
    "NaN": (RAW[:-1] + b',"x":NaN}', "number", False),
    "an enormous number": (RAW[:-1] + b',"x":' + b"9" * 5000 + b"}", "number", False),
    "1e999": (RAW[:-1] + b',"x":1e999}', "number", False),
    "nested 17 deep": (RAW[:-1] + b',"x":' + b"[" * 16 + b"]" * 16 + b"}", "nesting", False),
    "nested 10,000 deep": (RAW[:-1] + b',"x":' + b"[" * 10_000, "nesting", False),
    "no id": (named(None), "payment_request_id", False),
    "an id with a line feed": (named('x\n{"event":"fake"}'), "payment_request_id", False),
    "an id that climbs": (named("../../etc"), "payment_request_id", False),
    "an id that is a pattern": (named("*"), "payment_request_id", False),
    "an id that colours": (named("\x1b[31m"), "payment_request_id", False),
    "an id of 65 characters": (named("x" * 65), "payment_request_id", False),
    "an id that is a number": (named(4711), "payment_request_id", False),
    "no result": (json.dumps(paid("order-1", result=None)).encode(), "result", True),
    "an unknown status": (without_success(RAW), "result_status", True),
    "no amount": (json.dumps(paid("order-1", paymentAmount=None)).encode(), "amount", True),
    "an amount with decimals": (costing("5.99"), "amount", True),
    "an amount below zero": (costing("-599"), "amount", True),
    "an amount as a number": (costing(599), "amount", True),
    "an amount in other digits": (costing("５９９"), "amount", True),
    "a currency in small letters": (costing("599", "usd"), "amount", True),
    "a day that is none": (
        json.dumps(paid("order-1", paymentTime="2026-02-30T00:00:00Z")).encode(),
        "time",
        True,
    ),
}


@pytest.mark.parametrize(("body", "reason", "hint"), ODD.values(), ids=ODD)
async def test_what_is_genuine_but_odd_is_set_aside_whole_and_acknowledged(
    world: World, store: Store, body: bytes, reason: str, hint: bool, log_lines: list[EventDict]
) -> None:
    assert acknowledged(await world.send(notification(body)))
    [(_, entry)] = await store.redis.xrange(world.keys.quarantine)
    assert (entry[b"body"], entry[b"reason"].decode()) == (body, reason)
    assert entry[b"clientId"].decode() == CLIENT_ID
    assert b"signature" not in b"".join([*entry, *entry.values()]).lower().replace(body, b"")
    assert len(await world.mail("order-1")) == hint
    [line] = log_lines
    assert (line["event"], line["reason"]) == ("notification.quarantined", reason)


@pytest.mark.parametrize("kind", ["REFUND_RESULT", "CAPTURE_RESULT", "ZZZ_NEW", "", None, 7])
async def test_a_kind_that_is_not_ours_is_acknowledged_and_let_go(
    world: World, kind: object, log_lines: list[EventDict]
) -> None:
    assert acknowledged(await world.send(notification(paid("order-1", notifyType=kind))))
    assert [line["event"] for line in log_lines] == ["notification.ignored"]
    assert await world.mail("order-1") == []
    assert await world.redis.xlen(world.keys.quarantine) == 0


async def test_a_kind_that_is_not_ours_reaches_the_timeline_of_a_tracked_payment(
    world: World, redis: Redis
) -> None:
    await redis.hset(world.keys.payment(f"{CLIENT_ID}:order-1"), mapping={"version": 1})  # type: ignore[misc]
    await world.send(notification(paid("order-1", notifyType="REFUND_RESULT")))
    assert len(await world.mail("order-1")) == 1


# Again


async def test_the_same_again_is_acknowledged_and_kept_once(
    world: World, log_lines: list[EventDict]
) -> None:
    for _ in range(3):
        assert acknowledged(await world.send(GENUINE))
    assert [line["result"] for line in log_lines] == ["parked", "duplicate", "duplicate"]
    assert len(await world.mail("order-1")) == 1


async def test_the_same_many_times_at_once_is_kept_once(world: World) -> None:
    replies = await asyncio.gather(*(world.send(GENUINE) for _ in range(20)))
    assert all(map(acknowledged, replies))
    assert len(await world.mail("order-1")) == 1


async def test_a_resend_with_a_new_time_and_signature_is_the_same(world: World) -> None:
    await world.send(notification(BODY, sent_at="1685599933880"))
    assert acknowledged(await world.send(notification(BODY)))
    assert len(await world.mail("order-1")) == 1


async def test_two_results_of_one_payment_are_two(world: World) -> None:
    failed = {"resultCode": "PAYMENT_IN_PROCESS", "resultStatus": "U", "resultMessage": ""}
    await world.send(notification(paid("order-1", result=failed)))
    await world.send(GENUINE)
    assert len(await world.mail("order-1")) == 2


# Redis away


async def test_without_redis_nothing_is_acknowledged_and_all_goes_on_when_it_is_back(
    log_lines: list[EventDict],
) -> None:
    with own_server() as server:
        client = connect.client(server.url, tries=1)
        store = Store(client, Keys())
        store.confirm = await connect.check_durability(client, Durability(Persistence.FSYNC))
        async with receiving(store) as port:
            await asyncio.to_thread(server.stop)
            away = await send(port, GENUINE.wire())
            assert away and (away.status, away.headers["Retry-After"]) == (503, "5")
            assert ACK not in away.body
            await asyncio.to_thread(server.start)
            back = await send(port, GENUINE.wire())
            assert back and acknowledged(back)
            assert await World(port, client, store.keys).mail("order-1")
        await client.aclose()
    events = [(line["event"], line["log_level"]) for line in log_lines]
    assert events == [("receiver.store_down", "warning"), ("notification.accepted", "info")]


async def test_a_redis_that_is_full_acknowledges_nothing() -> None:
    with own_server() as server:
        client = connect.client(server.url, tries=1)
        await client.config_set("maxmemory", 1)
        async with receiving(Store(client, Keys())) as port:
            full = await send(port, GENUINE.wire())
            assert full and full.status == 503
            await client.config_set("maxmemory", 0)
            room = await send(port, GENUINE.wire())
            assert room and acknowledged(room)
        await client.aclose()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_redis_that_hangs_is_not_waited_for_even_if_a_cancel_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict], stubborn: bool
) -> None:
    """Up to Python 3.11 a cancel can be lost on its way through redis-py."""

    given_up = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> str:
        with suppress(asyncio.CancelledError if stubborn else KeyError):
            await asyncio.sleep(60)
        await given_up.wait()
        raise RedisConnectionError("nobody hears this")

    monkeypatch.setattr(receiver, "KEEP_SECONDS", 0.1)
    monkeypatch.setattr(store, "receive", hang)
    async with receiving(store) as port:
        reply = await send(port, GENUINE.wire())
        assert reply and reply.status == 503
        given_up.set()
    [line] = log_lines
    assert (line["event"], line["fault"]) == ("receiver.store_down", "TimeoutError")


async def test_so_many_and_no_more_are_on_their_way_into_redis(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0

    async def slow(*_: Any, **__: Any) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return "accepted"

    monkeypatch.setattr(receiver, "KEEPS_AT_ONCE", 3)
    monkeypatch.setattr(store, "receive", slow)
    async with receiving(store) as port:
        replies = await asyncio.gather(*(send(port, GENUINE.wire()) for _ in range(12)))
    assert all(reply and acknowledged(reply) for reply in replies)
    assert most == 3


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BODY, id="event"),
        pytest.param(without_success(RAW), id="odd, of a payment"),
        pytest.param(RAW[:-1], id="odd, of nobody knows what"),
    ],
)
async def test_what_redis_does_not_confirm_as_safe_is_not_acknowledged(
    store: Store, body: bytes, log_lines: list[EventDict]
) -> None:
    """`replica:1` where there is no replica: the write is made, and not safe."""
    store.confirm = Confirm(("WAIT", 1, 20), 1)
    async with receiving(store) as port:
        reply = await send(port, notification(body).wire())
    assert reply and reply.status == 503
    assert [line["fault"] for line in log_lines] == ["NotDurable"]


# TLS


async def test_it_speaks_tls_with_its_certificate_and_nothing_else(
    store: Store, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    async with receiving(store, tls=tls_context(cert, key)) as port:
        reply = await send(port, GENUINE.wire(), tls=trusting)
        assert reply and acknowledged(reply)
        assert await send(port, GENUINE.wire()) is None


@pytest.mark.parametrize("given", ["cert", "key", "none"])
def test_without_certificate_and_key_there_is_no_tls(tmp_path: Path, given: str) -> None:
    cert, key = certificate(tmp_path)
    assert tls_context(cert if given == "cert" else None, key if given == "key" else None) is None
