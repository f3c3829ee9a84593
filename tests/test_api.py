"""A command by HTTP is answered once it is safe in the stream, or told at once what is wrong."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.typing import EventDict

from jobs.model import Money, Payment
from tests.keys import CLIENT_ID
from tests.servers import Reply, environ, free_port, get, own_server, put, raw_gateway, send, until
from worker import api, connect
from worker.admin import HEADERS, admin_port, create_app
from worker.health import Health
from worker.http_server import serve
from worker.keys import Keys
from worker.main import run_worker
from worker.rights import Role
from worker.scripts import Confirm
from worker.settings import Settings, load

TOKEN = "a-token-of-20-signs!"
TRACK: dict[str, Any] = {
    "paymentRequestId": "order-1",
    "paymentAmount": {"currency": "USD", "value": "599"},
}
ORDERS = ["cancel", "recheck", "forget"]
ALL = ["/v1/payments", "/v1/payments/submit", *(f"/v1/payments/order-1/{o}" for o in ORDERS)]


@dataclass
class Api:
    """The admin port of a worker, without the worker."""

    redis: Redis
    keys: Keys
    port: int = 0
    health: Health = field(default_factory=lambda: Health(admitted=True, redis_up=True))

    async def post(self, path: str, said: object = b"", **headers: str) -> Reply:
        """With the token and as JSON, unless `headers` say otherwise; an empty one is left out."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        given = {
            "Host": "127.0.0.1",
            "Connection": "close",
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in given.items() if value]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""])
        reply = await send(self.port, head.encode() + body)
        assert reply is not None, "no answer came"
        return reply

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await get(self.port, path, method, **{"Authorization": f"Bearer {TOKEN}"} | headers)

    async def written(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Id, type and data of all commands in the stream."""
        entries = await self.redis.xrange(self.keys.commands)
        assert all(set(fields) == {"type", "data"} for _, fields in entries)
        return [(id_, fields["type"], json.loads(fields["data"])) for id_, fields in entries]


def given(redis_url: str, prefix: str, **more: str) -> Settings:
    return load(environ(redis_url, prefix, "http://127.0.0.1:9", **{"ADMIN_TOKEN": TOKEN} | more))


@asynccontextmanager
async def opened(redis_url: str, prefix: str, redis: Redis) -> AsyncIterator[Api]:
    settings = given(redis_url, prefix)
    served, client = Api(redis, Keys(prefix)), connect.client(redis_url, tries=0)
    routes = api.routes(client, settings, served.health)
    app = create_app(settings, served.health, None, (), routes)
    runner = await serve(app, "127.0.0.1", 0)
    served.port = runner.addresses[0][1]
    try:
        yield served
    finally:
        await runner.cleanup()
        await client.aclose()


@pytest.fixture
async def http(redis_url: str, prefix: str, redis: Redis) -> AsyncIterator[Api]:
    async with opened(redis_url, prefix, redis) as served:
        yield served


def said(reply: Reply) -> Any:
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    return json.loads(reply.body)


def refusal(reply: Reply) -> tuple[int, str]:
    answer = said(reply)
    assert set(answer) == {"error", "message"} and answer["message"]
    return reply.status, answer["error"]


# Commands


async def test_a_payment_is_tracked(http: Api) -> None:
    reply = await http.post("/v1/payments", TRACK | {"expiresIn": 600, "reference": "支付"})
    [(command_id, type_, data)] = await http.written()
    assert reply.status == 202
    about = {"paymentRequestId": "order-1", "clientId": CLIENT_ID}
    assert said(reply) == {"commandId": command_id} | about
    assert type_ == "payment.track"
    assert data == TRACK | {"expiresIn": 600, "reference": "支付", "clientId": CLIENT_ID}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "body",
    [b"", {}, {"reason": "buyer left"}, {"clientId": CLIENT_ID}, {"paymentRequestId": "o:1"}],
)
async def test_an_order_is_about_the_payment_in_the_path(http: Api, order: str, body: Any) -> None:
    reply = await http.post(f"/v1/payments/o:1/{order}", body)
    [(command_id, type_, data)] = await http.written()
    assert reply.status == 202
    about = {"paymentRequestId": "o:1", "clientId": CLIENT_ID}
    assert said(reply) == {"commandId": command_id} | about
    assert type_ == f"payment.{order}"
    assert data == about | (body or {})


async def test_an_order_needs_no_body_and_so_no_type_of_one(http: Api) -> None:
    reply = await http.post("/v1/payments/order-1/cancel", Content_Type="", Content_Length="")
    assert reply.status == 202


async def test_the_same_command_again_is_taken_again(http: Api) -> None:
    """The worker knows a payment by its id: the second is no news to it."""
    replies = [await http.post("/v1/payments", TRACK) for _ in range(2)]
    assert [reply.status for reply in replies] == [202, 202]
    assert len({said(reply)["commandId"] for reply in replies}) == 2


async def test_a_body_may_come_in_chunks(http: Api) -> None:
    body = json.dumps(TRACK).encode()
    chunks = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])
    head = {"Content_Length": "", "Transfer_Encoding": "chunked"}
    assert (await http.post("/v1/payments", chunks, **head)).status == 202
    assert len(await http.written()) == 1


# Mistakes


@pytest.mark.parametrize(
    ("path", "body", "error", "message"),
    [
        ("/v1/payments", b"", "malformed", "the body cannot be read (json): write a JSON object"),
        ("/v1/payments", b"[]", "malformed", "the body cannot be read (not_object): write a JSON"),
        ("/v1/payments", b"\xff", "malformed", "the body cannot be read (utf8): write a JSON obj"),
        ("/v1/payments", b'{"a":1,"a":1}', "malformed", "the body cannot be read (duplicate_key)"),
        ("/v1/payments", b'{"a":"\\u0000"}', "malformed", "the body cannot be read (text): write"),
        ("/v1/payments", {}, "malformed", "paymentRequestId: write 1 to 64"),
        ("/v1/payments", TRACK | {"paymentAmount": 5.99}, "malformed", "paymentAmount: write {"),
        ("/v1/payments", TRACK | {"reference": 1.5}, "malformed", "reference: write at most"),
        ("/v1/payments", TRACK | {"amount": "1"}, "malformed", "'amount' is not a field of pay"),
        ("/v1/payments", TRACK | {"clientId": "X"}, "unknown_account", "clientId: no such acc"),
        ("/v1/payments/order-1/cancel", b"no", "malformed", "the body cannot be read"),
        ("/v1/payments/order-1/cancel", {"clientId": "X"}, "unknown_account", "clientId: no such"),
        ("/v1/payments/order-1/cancel", {"reason": 7}, "malformed", "reason: write at most"),
        ("/v1/payments/order-1/cancel", {"why": "x"}, "malformed", "'why' is not a field of"),
        ("/v1/payments/order%201/cancel", b"", "malformed", "paymentRequestId: write 1 to 64"),
        (
            "/v1/payments/order-1/cancel",
            {"paymentRequestId": "order-2"},
            "malformed",
            "paymentRequestId: the path names another",
        ),
    ],
)
async def test_a_mistake_is_answered_at_once_and_nothing_is_written(
    http: Api, path: str, body: Any, error: str, message: str
) -> None:
    reply = await http.post(path, body)
    assert refusal(reply) == (400, error)
    assert said(reply)["message"].startswith(message)
    assert await http.written() == []


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("query", ["clientId=another", f"clientId={CLIENT_ID}", "reason=", "x"])
async def test_a_command_whose_query_says_something_is_refused(
    http: Api, path: str, query: str
) -> None:
    """For another account, it would be carried out in the only one there is."""
    reply = await http.post(f"{path}?{query}", TRACK if path == ALL[0] else b"")
    assert refusal(reply) == (400, "malformed")
    assert said(reply)["message"].endswith("of a command: write it in the body")
    assert await http.written() == []


async def test_a_mistake_is_answered_though_redis_is_away(redis: Redis, prefix: str) -> None:
    async with opened("redis://127.0.0.1:1/0", prefix, redis) as http:
        assert (await http.post("/v1/payments", {})).status == 400


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"Content_Type": ""}, "media_type"),
        ({"Content_Type": "text/plain"}, "media_type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "media_type"),
        ({"Content_Type": "application/json; charset=utf-16"}, "media_type"),
        ({"Content_Encoding": "gzip"}, "encoding"),
    ],
)
async def test_a_body_is_json_and_says_so(
    http: Api, path: str, headers: dict[str, str], error: str
) -> None:
    """A form of another site can send anything but that."""
    assert refusal(await http.post(path, TRACK, **headers)) == (415, error)
    assert await http.written() == []


@pytest.mark.parametrize("path", ALL)
async def test_a_body_out_of_all_proportion_is_not_read(http: Api, path: str) -> None:
    long = b'{"reference": "' + b"x" * api.MAX_BODY_BYTES + b'"}'
    assert refusal(await http.post(path, long)) == (413, "too_large")
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(long), long)
    head = {"Content_Length": "", "Transfer_Encoding": "chunked"}
    assert refusal(await http.post(path, chunk, **head)) == (413, "too_large")
    assert await http.written() == []


async def test_who_takes_too_long_is_told_so(http: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BODY_SECONDS", 0.05)
    reply = await http.post("/v1/payments", b"{", Content_Length="100")
    assert refusal(reply) == (408, "body_timeout")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/payments", "POST"),
        ("PUT", "/v1/payments", "POST"),
        ("DELETE", "/v1/payments/order-1", "GET, HEAD"),
        ("POST", "/v1/payments/order-1", "GET, HEAD"),
        ("GET", "/v1/payments/order-1/cancel", "POST"),
    ],
)
async def test_each_path_has_its_method(http: Api, method: str, path: str, allow: str) -> None:
    reply = await http.get(path, method)
    assert refusal(reply) == (405, "method")
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize(
    "path",
    ["/v1/", "/v1/refunds", "/v1/payments/", "/v1/payments/order-1/refund", "/v1/payments//"],
)
async def test_what_is_not_there_is_answered_with_what_is(http: Api, path: str) -> None:
    reply = await http.post(path, TRACK)
    assert refusal(reply) == (404, "path")
    assert "/v1/payments/submit" in said(reply)["message"]


# Who is let in


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"me:{token}".encode()).decode()


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize(
    "shown",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, basic(TOKEN), "Bearer é"],
)
async def test_who_does_not_show_the_token_gives_no_command(
    http: Api, path: str, shown: str
) -> None:
    """HTTP Basic will not do: a browser sends it along with what another site makes it ask."""
    reply = await http.post(path, TRACK, Authorization=shown)
    assert refusal(reply) == (401, "token")
    assert reply.headers["Www-Authenticate"] == 'Bearer realm="reconciler"'
    assert refusal(await http.get("/v1/payments/order-1", Authorization=shown)) == (401, "token")
    assert await http.written() == []


async def test_under_a_name_that_is_not_ours_no_command_is_taken(http: Api) -> None:
    assert refusal(await http.post("/v1/payments", TRACK, Host="evil.example")) == (421, "host")
    assert await http.written() == []


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
@pytest.mark.parametrize("path", ["/v1/payments", "/v1/payments/order-1/cancel", "/v1/x"])
async def test_without_a_token_there_are_no_commands(
    redis_url: str, prefix: str, redis: Redis, role: Role, path: str
) -> None:
    port = free_port()
    settings = given(redis_url, prefix, ADMIN_TOKEN="", **{f"{role.name}_ADMIN_PORT": str(port)})
    async with admin_port(settings, role, Health(admitted=True)):
        http = Api(redis, Keys(prefix), port)
        refused = refusal(await http.post(path, TRACK))
    assert refused == ((404, "api_off") if role is Role.WORKER else (405, "method"))
    assert await http.written() == []


async def test_a_receiver_has_no_commands_at_all(redis_url: str, prefix: str, redis: Redis) -> None:
    """It faces the internet."""
    port = free_port()
    settings = given(redis_url, prefix, RECEIVER_ADMIN_PORT=str(port))
    async with admin_port(settings, Role.RECEIVER, Health(admitted=True)):
        http = Api(redis, Keys(prefix), port)
        assert refusal(await http.post("/v1/payments", TRACK)) == (405, "method")
        assert refusal(await http.get("/v1/payments/order-1")) == (404, "path")


async def test_a_worker_with_a_token_has_them(redis_url: str, prefix: str, redis: Redis) -> None:
    port = free_port()
    settings = given(redis_url, prefix, WORKER_ADMIN_PORT=str(port))
    async with admin_port(settings, Role.WORKER, Health(admitted=True)):
        http = Api(redis, Keys(prefix), port)
        assert (await http.post("/v1/payments", TRACK)).status == 202
        assert (await http.get("/metrics", Authorization=basic(TOKEN))).status in (200, 501)


async def test_every_answer_keeps_browsers_from_mischief(http: Api) -> None:
    replies = [
        await http.post("/v1/payments", TRACK),
        await http.post("/v1/payments", {}),
        await http.get("/v1/payments/order-1"),
    ]
    for reply in replies:
        assert {name: reply.headers.get(name.title()) for name in HEADERS} == HEADERS


# How safe it is


async def test_what_redis_does_not_confirm_as_safe_is_not_acknowledged(
    http: Api, log_lines: list[EventDict]
) -> None:
    """`replica:1` where there is no replica: the write is made, and not safe."""
    http.health.confirm = Confirm(("WAIT", 1, 1), 1)
    reply = await http.post("/v1/payments", TRACK)
    assert refusal(reply) == (503, "store_down")
    assert reply.headers["Retry-After"] == "5"
    line = {"event": "admin.store_down", "peer": "127.0.0.1", "fault": "NotDurable"}
    assert log_lines == [line | {"log_level": "warning"}]


async def test_what_redis_confirms_is_acknowledged(http: Api) -> None:
    http.health.confirm = Confirm(("WAIT", 0, 1), 0)
    assert (await http.post("/v1/payments", TRACK)).status == 202


@pytest.mark.once
async def test_a_worker_acknowledges_what_is_as_safe_as_it_has_promised(
    redis_url: str, prefix: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no replica, so nothing is."""
    monkeypatch.setattr(connect, "CONFIRM_MS", 50)
    port, stopping = free_port(), asyncio.Event()
    settings = given(redis_url, prefix, WORKER_ADMIN_PORT=str(port), DURABILITY="replica:1")
    worker = asyncio.create_task(run_worker(settings, stopping))
    http = Api(redis, Keys(prefix), port)

    async def probed() -> bool:
        try:
            return bool(json.loads((await http.get("/readyz")).body)["checks"]["probes"] == "ok")
        except OSError:
            return False

    await until(probed)
    assert refusal(await http.post("/v1/payments", TRACK)) == (503, "store_down")
    stopping.set()
    await worker


async def test_before_redis_has_passed_the_probes_nothing_is_written(http: Api) -> None:
    http.health.admitted = False
    assert refusal(await http.post("/v1/payments", TRACK)) == (503, "not_ready")
    assert await http.written() == []


async def test_while_redis_is_away_it_is_said_to_come_again_and_then_it_is_taken() -> None:
    with own_server() as server:
        async with (
            Redis.from_url(server.url, decode_responses=True) as redis,
            opened(server.url, "p", redis) as http,
        ):
            assert (await http.post("/v1/payments", TRACK)).status == 202
            await asyncio.to_thread(server.stop)
            assert refusal(await http.post("/v1/payments", TRACK)) == (503, "store_down")
            assert refusal(await http.get("/v1/payments/order-1")) == (503, "store_down")
            await asyncio.to_thread(server.start)
            assert (await http.post("/v1/payments", TRACK)).status == 202


async def test_a_redis_that_hangs_does_not_hang_us(
    redis: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "REDIS_SECONDS", 0.2)

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass

    async with raw_gateway(silent) as url:
        silent_url = url.replace("http:", "redis:")
        async with opened(f"{silent_url}/0", prefix, redis) as http, asyncio.timeout(10):
            replies = [http.post("/v1/payments", TRACK) for _ in range(2 * api.AT_ONCE)]
            statuses = [reply.status for reply in await asyncio.gather(*replies)]
    assert statuses == [503] * len(statuses)


# A payment


def tracked(**changes: Any) -> Payment:
    at = time.time_ns() // 1_000_000
    return Payment(
        client_id=CLIENT_ID,
        payment_request_id="order-1",
        amount=Money("USD", 599),
        tracked_at=at,
        closing_time=1_800_000_000_000,
        next_at=1_800_000_000_000,
        **changes,
    )


@pytest.mark.parametrize("query", ["", f"?clientId={CLIENT_ID}", "?x=1"])
async def test_a_payment_is_shown_with_its_story(http: Api, query: str) -> None:
    line = {"at": 1_800_000_000_000, "source": "command", "what": "payment.track", "detail": ""}
    async with http.redis.pipeline() as pipe:
        put(pipe, http.keys, tracked(payment_id="2026"), line)
        await pipe.execute()
    reply = await http.get(f"/v1/payments/order-1{query}")
    assert reply.status == 200
    seen = said(reply)
    wanted = {
        "paymentRequestId": "order-1",
        "clientId": CLIENT_ID,
        "status": "pending",
        "paymentId": "2026",
        "amount": "599",
        "currency": "USD",
        "closingTime": "2027-01-15T08:00:00.000Z",
    }
    assert wanted.items() <= seen["payment"].items()
    assert seen["timeline"] == [line | {"at": "2027-01-15T08:00:00.000Z"}]


async def test_what_is_not_tracked_is_said_to_be_not(http: Api) -> None:
    assert refusal(await http.get("/v1/payments/order-1")) == (404, "not_tracked")
    assert refusal(await http.get("/v1/payments/order-1?clientId=X")) == (400, "unknown_account")
    assert refusal(await http.get("/v1/payments/order%201")) == (400, "malformed")
