"""The receiver, over real sockets: whom it believes, what it keeps, and when it acknowledges.

All that a sender can do wrong is in `test_hostile.py`.
"""

import asyncio
import gc
import hashlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.typing import EventDict

from tests.keys import CLIENT_ID, public_key, vector, vectors
from tests.servers import (
    Post,
    Reply,
    certificate,
    notification,
    now_ms,
    own_server,
    paid,
    receiving,
    send,
)
from worker import connect, deliveries, http_server, receiver
from worker.events import EVENTS
from worker.keys import Keys
from worker.messages import ACK
from worker.receiver import REFUSALS, Trust, Visit, start_receiver
from worker.receiving import tls_context
from worker.scripts import Confirm
from worker.signature import Reason
from worker.store import Store, digest
from worker.values import Durability, Persistence

PATH = "/merchant/notify"  #: of the vectors
GENUINE = notification(paid("order-1"))
BODY = GENUINE.body


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
    monkeypatch.setattr(http_server, "LINGER_SECONDS", 0.05)


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


async def test_a_body_that_comes_in_pieces_is_put_together(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    wire = GENUINE.wire()
    for piece in (wire[:-200], wire[-200:-100], wire[-100:]):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)
    assert (await reader.read()).endswith(ACK)
    writer.close()
    await writer.wait_closed()
    [mail] = await world.mail("order-1")
    assert mail["body"].encode() == GENUINE.body


async def test_a_message_is_kept_with_the_time_when_it_was_received(
    world: World, store: Store
) -> None:
    before = store.now()
    await world.send(GENUINE)
    [mail] = await world.mail("order-1")
    assert before <= mail["at"] <= store.now()


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


# The path that was signed


@pytest.mark.parametrize("signed", ["/notify?shop=42&x=%E4%B8%AD", "/notify"])
async def test_a_query_may_be_signed_or_not(world: World, signed: str) -> None:
    post = notification(paid("order-1"), path="/notify?shop=42&x=%E4%B8%AD", signed_path=signed)
    assert acknowledged(await world.send(post))


async def test_a_query_begins_at_the_first_question_mark(world: World) -> None:
    post = notification(paid("order-1"), path="/notify?a=1?b=2?c=3")
    assert acknowledged(await world.send(post))


async def test_a_target_with_its_origin_is_its_whole_path(at_vectors: World) -> None:
    post = notification(paid("order-1"), path=f"http://us{PATH}", signed_path=PATH)
    assert acknowledged(await at_vectors.send(post))


async def test_an_origin_without_a_path_is_the_path_of_the_root(store: Store) -> None:
    post = notification(paid("order-1"), path="http://us", signed_path="/")
    async with receiving(store, path="/") as port:
        reply = await send(port, post.wire())
    assert reply and acknowledged(reply)


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


def test_the_paths_of_an_account_hold_for_it_alone() -> None:
    own = {"B": {"notify_path": "/b", "notify_signed_paths": ("/was/b",)}, "C": {}}
    trust = Trust(keys={}, path="/a", signed_paths=("/was/a",), own=own)
    assert [trust.path_of(client_id) for client_id in "ABC"] == ["/a", "/b", "/a"]
    signed = [trust.signed_paths_of(client_id) for client_id in "ABC"]
    assert signed == [("/was/a",), ("/was/b",), ("/was/a",)]
    assert [path for path in ("/a", "/b", "/was/a", "/c", "") if trust.listens_on(path)] == [
        "/a",
        "/b",
    ]


@pytest.mark.parametrize(("path", "status"), [("/own", 200), ("/notify", 404)])
async def test_an_account_with_a_path_of_its_own_is_believed_there_alone(
    store: Store, path: str, status: int
) -> None:
    async with receiving(store, own={CLIENT_ID: {"notify_path": "/own"}}) as port:
        reply = await send(port, notification(paid("order-1"), path=path).wire())
    assert reply and reply.status == status


async def test_the_path_that_the_gateway_called_may_be_an_accounts_own(store: Store) -> None:
    post = notification(paid("order-1"), path="/notify", signed_path="/was/notify")
    async with receiving(store, own={CLIENT_ID: {"notify_signed_paths": ("/was/notify",)}}) as port:
        reply = await send(port, post.wire())
    assert reply and reply.status == 200


@pytest.mark.parametrize("forwards", [(), (CLIENT_ID,)])
async def test_what_is_to_be_passed_on_is_written_down_as_it_came(
    store: Store, redis: Redis, forwards: tuple[str, ...]
) -> None:
    async with receiving(store, forwards=forwards) as port:
        reply = await send(port, GENUINE.wire())
    assert reply and reply.status == 200
    lane = deliveries.forward_lane(CLIENT_ID, digest(BODY))
    entries = await redis.lrange(store.keys.delivery(lane), 0, -1)  # type: ignore[misc]
    waiting = list(map(deliveries.read, entries))
    assert [(each.about, each.body, each.headers) for each in waiting] == [
        ("order-1", BODY, GENUINE.headers) for _ in forwards
    ]


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


def test_every_reason_has_its_status() -> None:
    assert {reason: status for reason, (status, _) in REFUSALS.items()} == STATUS


async def refused(world: World, post: Post, reason: Reason, lines: list[EventDict]) -> None:
    """The answer names the reason, one line does too, nothing is kept and no secret is told."""
    reply = await world.send(post)
    status = STATUS[reason]
    assert (reply.status, reply.headers["Content-Type"]) == (
        status,
        "application/json; charset=utf-8",
    )
    assert json.loads(reply.body) == {"error": reason, "message": REFUSALS[reason][1]}
    [line] = lines
    assert (line["event"], line["log_level"]) == ("notification.rejected", "warning")
    assert (line["reason"], line["http_status"]) == (reason, status)
    told = repr(lines) + reply.body.decode()
    assert "signature=" not in told
    assert "paymentAmount" not in told
    assert await world.kept() == set()


async def test_after_a_refusal_the_connection_serves_the_next_message(world: World) -> None:
    forged = GENUINE.having(Signature="none").wire().replace(b"Connection: close\r\n", b"")
    first = await send(world.port, forged + GENUINE.wire())
    assert first and first.status == 400
    assert b"HTTP/1.1 200 OK" in first.body
    assert first.body.endswith(ACK)


async def test_a_refusal_that_leaves_a_body_unread_says_that_the_connection_ends(
    world: World,
) -> None:
    long = GENUINE.head.replace(b"Connection: close\r\n", b"") + b"Content-Length: 65537\r\n\r\n"
    reply = await send(world.port, long)
    assert reply and (reply.status, reply.headers["Connection"]) == (413, "close")


# What is told of each


def told_of(body: bytes, **more: str) -> dict[str, Any]:
    """What the line of any message says whose body was read."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return {
        "peer": "127.0.0.1",
        "client_id": CLIENT_ID,
        "bytes": len(body),
        "body_sha256": digest,
        **more,
    }


REFUND = paid("order-1", notifyType="REFUND_RESULT")
NAMELESS = {k: v for k, v in REFUND.items() if k != "paymentRequestId"}


@pytest.mark.parametrize(
    ("post", "facts"),
    [
        (
            GENUINE,
            {
                "event": "notification.accepted",
                "payment_request_id": "order-1",
                "kind": "PAYMENT_RESULT",
                "result": "parked",
            },
        ),
        (
            notification(REFUND),
            {
                "event": "notification.ignored",
                "payment_request_id": "order-1",
                "kind": "REFUND_RESULT",
                "result": "untracked",
            },
        ),
        (
            notification(NAMELESS),
            {"event": "notification.ignored", "payment_request_id": "", "kind": "REFUND_RESULT"},
        ),
        (
            notification(BODY.replace(b'"S"', b'"X"')),
            {
                "event": "notification.quarantined",
                "payment_request_id": "order-1",
                "kind": "",
                "result": "parked",
                "reason": "result_status",
            },
        ),
        (
            notification(BODY[:-1]),
            {"event": "notification.quarantined", "reason": "json", "result": "untracked"},
        ),
        (
            GENUINE.having(Signature="none"),
            {"event": "notification.rejected", "reason": "sig_syntax", "http_status": 400},
        ),
    ],
    ids=["accepted", "ignored", "ignored, of nobody", "odd", "odd, of nobody", "rejected"],
)
async def test_one_line_tells_what_it_was_and_how_long_it_took(
    world: World, post: Post, facts: dict[str, Any], log_lines: list[EventDict]
) -> None:
    await world.send(post)
    [line] = log_lines
    level = line.pop("log_level")
    assert level == EVENTS[facts["event"]].level
    took = line.pop("ms")
    assert 0 < took < 10_000
    assert round(took, 1) == took
    if "http_status" not in facts:
        age = now_ms() - int(dict(post.headers)["Request-Time"])
        assert age - 10_000 < line.pop("age_ms") <= age + 1000
        facts = facts | {"key_version": 1}
    assert line == told_of(post.body) | facts


def test_the_time_that_a_request_took_is_told_in_milliseconds(log_lines: list[EventDict]) -> None:
    request = make_mocked_request("POST", "/notify")
    Visit(request, started=time.monotonic() - 1000).tell("notification.accepted")
    assert 1_000_000 <= log_lines[0]["ms"] < 1_000_900
    assert isinstance(log_lines[0]["ms"], float), "to a tenth"


# Again, and of other kinds


async def test_a_kind_that_is_not_ours_reaches_the_timeline_of_a_tracked_payment(
    world: World, redis: Redis
) -> None:
    await redis.hset(world.keys.payment(f"{CLIENT_ID}:order-1"), mapping={"version": 1})  # type: ignore[misc]
    await world.send(notification(paid("order-1", notifyType="REFUND_RESULT")))
    assert len(await world.mail("order-1")) == 1


async def test_the_same_many_times_at_once_is_kept_once(world: World) -> None:
    replies = await asyncio.gather(*(world.send(GENUINE) for _ in range(20)))
    assert all(map(acknowledged, replies))
    assert len(await world.mail("order-1")) == 1


async def test_what_was_heard_is_remembered_by_its_digest_not_by_its_words(
    world: World, redis: Redis
) -> None:
    await world.send(GENUINE)
    heard = [name for name in await world.kept() if "heard" in name]
    digests = await redis.smembers(f"{world.keys.prefix}:v1:{heard[0]}")  # type: ignore[misc]
    assert digests == {hashlib.sha256(GENUINE.body).hexdigest()}


async def test_what_cannot_be_read_is_set_aside_whole_with_who_it_was_for(world: World) -> None:
    assert acknowledged(await world.send(notification(BODY[:-1])))
    [(_, fields)] = await world.redis.xrange(world.keys.quarantine)
    assert (fields["clientId"], fields["reason"]) == (CLIENT_ID, "json")
    assert fields["body"].encode() == BODY[:-1]


async def test_it_listens_where_it_is_told_to_and_nowhere_else(store: Store) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runner = await start_receiver(Trust(keys={}, path="/notify"), store, "127.0.0.1", port)
    assert runner.addresses == [("127.0.0.1", port)]
    await runner.cleanup()


async def test_a_body_that_comes_byte_by_byte_is_cut_off_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is that of the whole: each byte is no new chance."""
    monkeypatch.setattr(receiver, "BODY_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    answer = asyncio.ensure_future(reader.readline())
    writer.write(GENUINE.head + b"Content-Length: 1000\r\n\r\n{")
    dribbled = 0
    while not answer.done():
        writer.write(b"x")
        dribbled += 1
        await asyncio.sleep(0.02)
        assert dribbled < 400
    assert dribbled > 3
    assert await answer == b"HTTP/1.1 408 Request Timeout\r\n"
    writer.close()


# Redis away


async def test_without_redis_nothing_is_acknowledged_and_all_goes_on_when_it_is_back(
    log_lines: list[EventDict],
) -> None:
    with own_server() as server:
        client = connect.client(server.url, tries=1)
        store = Store(client, Keys())
        store.confirm = connect.confirmation(Durability(Persistence.FSYNC))
        async with receiving(store) as port:
            await asyncio.to_thread(server.stop)
            away = await send(port, GENUINE.wire())
            assert away and (away.status, away.headers["Retry-After"]) == (503, "5")
            assert json.loads(away.body) == {
                "error": "store_down",
                "message": "send it again later",
            }
            await asyncio.to_thread(server.start)
            back = await send(port, GENUINE.wire())
            assert back and acknowledged(back)
            assert await World(port, client, store.keys).mail("order-1")
        await client.aclose()
    events = [(line["event"], line["log_level"]) for line in log_lines]
    assert events == [("receiver.store_down", "warning"), ("notification.accepted", "info")]
    assert log_lines[0]["fault"] == "ConnectionError"


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


async def test_a_redis_that_is_frozen_is_not_waited_for_longer_than_the_gateway_listens(
    monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(receiver, "KEEP_SECONDS", 0.3)
    monkeypatch.setattr(connect, "SOCKET_SECONDS", 60)
    with own_server() as server:
        client = connect.client(server.url, tries=1)
        async with receiving(Store(client, Keys())) as port:
            assert server.pid
            os.kill(server.pid, signal.SIGSTOP)
            try:
                frozen = await send(port, GENUINE.wire())
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert frozen and frozen.status == 503
            assert [line["fault"] for line in log_lines] == ["TimeoutError"]
            monkeypatch.setattr(receiver, "KEEP_SECONDS", 10)
            again = await send(port, GENUINE.wire())
            assert again and acknowledged(again)
        await client.aclose()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_redis_that_hangs_is_not_waited_for_even_if_a_cancel_is_lost(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[EventDict],
    caplog: pytest.LogCaptureFixture,
    stubborn: bool,
) -> None:
    """Up to Python 3.11 a cancel can be lost on its way through redis-py."""

    given_up, cancels = asyncio.Event(), 0

    async def hang(*_: Any, **__: Any) -> str:
        nonlocal cancels
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancels += 1
            if not stubborn:
                raise
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
    await asyncio.sleep(0.05)
    gc.collect()  # with its task, asyncio complains of a failure that nobody asked for
    assert cancels == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


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
        pytest.param(BODY.replace(b'"S"', b'"X"'), id="odd, of a payment"),
        pytest.param(BODY[:-1], id="odd, of nobody knows what"),
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
