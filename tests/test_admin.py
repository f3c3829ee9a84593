"""The admin port tells how a process is to whom it may, and nothing more to anybody."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis
from structlog.typing import EventDict

from tests.servers import Reply, environ, free_port, get, send
from worker import http_server
from worker.admin import HEADERS, admin_port, create_app
from worker.health import Health
from worker.http_server import serve
from worker.rights import Role
from worker.settings import Settings, load
from worker.watch import Pulse

TOKEN = "a-token-of-20-signs!"
PATHS = ("/healthz", "/readyz", "/metrics", "/nowhere", "/")


def given(**more: str) -> Settings:
    return load(environ("redis://127.0.0.1:1/0", "p", "http://127.0.0.1:9", **more))


@dataclass
class Admin:
    """An application of its own, without a process around it."""

    port: int = 0
    health: Health = field(default_factory=lambda: Health(admitted=True, redis_up=True))

    async def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        return await get(self.port, path, method, **headers)


@asynccontextmanager
async def opened(
    settings: Settings | None = None,
    render: Callable[[], bytes] | None = lambda: b"a_metric 1\n",
    *pages: web.AbstractRouteDef,
) -> AsyncIterator[Admin]:
    admin = Admin()
    app = create_app(settings or given(), admin.health, render, pages)
    runner = await serve(app, "127.0.0.1", 0, crowded="admin.crowded")
    admin.port = runner.addresses[0][1]
    try:
        yield admin
    finally:
        await runner.cleanup()


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    async with opened() as admin:
        yield admin


@pytest.fixture
async def guarded() -> AsyncIterator[Admin]:
    async with opened(given(ADMIN_TOKEN=TOKEN)) as admin:
        yield admin


def said(reply: Reply) -> Any:
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    return json.loads(reply.body)


# What is told


async def test_a_process_that_runs_is_healthy_whatever_else_is_wrong(admin: Admin) -> None:
    admin.health = Health()
    reply = await admin.get("/healthz")
    assert (reply.status, said(reply)) == (200, {"status": "ok"})


async def test_readiness_is_told_check_by_check(admin: Admin) -> None:
    reply = await admin.get("/readyz")
    checks = {"redis": "ok", "probes": "ok", "process": "ok"}
    assert (reply.status, said(reply)) == (200, {"ready": True, "checks": checks})
    admin.health.redis_up = False
    reply = await admin.get("/readyz")
    assert reply.status == 503
    assert said(reply) == {"ready": False, "checks": checks | {"redis": "does not answer"}}
    admin.health.redis_up = True
    assert (await admin.get("/readyz")).status == 200


async def test_a_worker_is_asked_for_its_sweep(admin: Admin) -> None:
    admin.health.sweeps = True
    assert said(await admin.get("/readyz"))["checks"]["sweep"] == "has not begun"
    admin.health.pulse = Pulse(1000)
    assert (await admin.get("/readyz")).status == 200


async def test_metrics_are_text_for_prometheus(admin: Admin) -> None:
    reply = await admin.get("/metrics")
    assert (reply.status, reply.body) == (200, b"a_metric 1\n")
    assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_where_metrics_cannot_be_had_it_is_said_what_to_install() -> None:
    async with opened(None, None) as admin:
        reply = await admin.get("/metrics")
        assert reply.status == 501
        assert "payment-reconciler[metrics]" in said(reply)["message"]
        assert (await admin.get("/readyz")).status == 200


async def test_head_is_get_without_the_body(admin: Admin) -> None:
    for path in PATHS:
        got, head = await admin.get(path), await admin.get(path, "HEAD")
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


# What is refused


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
)
async def test_nothing_can_be_changed(admin: Admin, method: str) -> None:
    for path in PATHS:
        reply = await admin.get(path, method)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
        assert said(reply)["error"] == "method"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/metrics/",
        "//metrics",
        "/healthz/x",
        "/%2e%2e/etc/passwd",
        "/<script>",
        "/" + "x" * 4000,
    ],
)
async def test_what_is_not_there_is_said_without_repeating_it(admin: Admin, path: str) -> None:
    reply = await admin.get(path)
    assert (reply.status, said(reply)["error"]) == (404, "path")
    assert reply.body == (await admin.get("/another")).body


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "shown",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"BEARER  {TOKEN}",
        basic("", TOKEN),
        basic("anybody", TOKEN),
        basic("prometheus", TOKEN).replace("Basic", "basic"),
    ],
)
async def test_whoever_shows_the_token_is_let_in(guarded: Admin, shown: str) -> None:
    assert (await guarded.get("/metrics", Authorization=shown)).status == 200
    assert (await guarded.get("/nowhere", Authorization=shown)).status == 404


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Token {TOKEN}",
        TOKEN,
        f"Basic {TOKEN}",
        basic(TOKEN, ""),
        basic(TOKEN, "x"),
        basic("x", f"x:{TOKEN}"),
        "Basic ====",
        "Basic é",
        "Bearer é",
        f"Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}",
        "Bearer " + "x" * 4000,
    ],
)
async def test_whoever_does_not_is_not(guarded: Admin, shown: str) -> None:
    for path in ("/metrics", "/", "/nowhere", "/healthz/", "//healthz", "/x?/healthz"):
        reply = await guarded.get(path, Authorization=shown)
        assert (reply.status, said(reply)["error"]) == (401, "token")
        assert reply.headers["Www-Authenticate"].startswith("Basic realm=")
        assert TOKEN.encode() not in reply.body


async def test_probes_need_no_token(guarded: Admin) -> None:
    for path in ("/healthz", "/readyz", "/readyz?x"):
        assert (await guarded.get(path)).status == 200


async def test_where_there_is_no_token_none_is_asked_for(admin: Admin) -> None:
    assert (await admin.get("/metrics", Authorization="Bearer whatever")).status == 200


HERE = [
    "127.0.0.1",
    "127.0.0.1:9102",
    "10.1.2.3",
    "[::1]",
    "[::1]:9102",
    "[2001:db8::1]",
    "localhost",
    "localhost:9102",
    "LOCALHOST",
    "localhost.",
    "worker",
    "worker:9102",
    "Worker.svc",
]
ELSEWHERE = [
    "",
    "evil.example",
    "evil.example:9102",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example.localhost",
    "worker.evil.example",
    "xworker",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "127.0.0.1:9102:1",
    "127.0.0.1:x",
    "[::1",
    "::1",
    "[evil.example]",
    "2130706433",
    "0x7f000001",
    "127.1",
    "worker,evil.example",
    "evil.example\r\nHost: 127.0.0.1",
    "127.0.0.1\r\nHost: evil.example",
    "127.0.0.1\r\nHost: 127.0.0.1",
    "locaIhost",
]


@pytest.fixture
async def named() -> AsyncIterator[Admin]:
    async with opened(given(ADMIN_ALLOWED_HOSTS="worker,worker.svc")) as admin:
        yield admin


@pytest.mark.parametrize("host", HERE)
async def test_under_an_address_or_a_name_of_ours_we_answer(named: Admin, host: str) -> None:
    assert (await named.get("/metrics", Host=host)).status == 200


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_under_any_other_name_nothing_is_told(named: Admin, host: str) -> None:
    """A page of another site may point a name of its own at us: then a browser lets it read."""
    for path in ("/metrics", "/healthz"):
        reply = await named.get(path, Host=host)
        assert reply.status in (400, 421)
        assert b"a_metric" not in reply.body and b"evil" not in reply.body
        if reply.status == 421:
            assert "ADMIN_ALLOWED_HOSTS" in said(reply)["message"]


async def test_who_says_no_name_is_told_nothing(named: Admin) -> None:
    reply = await send(named.port, b"GET /metrics HTTP/1.0\r\n\r\n")
    assert reply is not None and reply.status == 421


async def test_a_target_with_an_origin_goes_by_the_host_all_the_same(named: Admin) -> None:
    target = "http://evil.example/metrics"
    assert (await named.get(target, Host="evil.example")).status == 421
    assert (await named.get(target, Host="127.0.0.1")).status == 200


async def test_every_answer_keeps_browsers_from_mischief(guarded: Admin) -> None:
    shown: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": f"Bearer {TOKEN}"},
        {"Host": "evil.example"},
    )
    for path, headers, method in product(PATHS, shown, ("GET", "HEAD", "POST")):
        reply = await guarded.get(path, method, **headers)
        found = {name: reply.headers.get(name.title()) for name in HEADERS}
        assert found == HEADERS
        assert "Server" not in reply.headers
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert HEADERS["Cache-Control"] == "no-store"
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


async def test_who_is_refused_stands_in_the_log_without_what_was_shown(
    guarded: Admin, log_lines: list[EventDict]
) -> None:
    await guarded.get("/metrics", Authorization="Bearer not-the-token-at-all")
    await guarded.get("/metrics", Host="evil.example")
    lines = [(line["event"], line["peer"], line["reason"]) for line in log_lines]
    assert lines == [
        ("admin.refused", "127.0.0.1", "token"),
        ("admin.refused", "127.0.0.1", "host"),
    ]
    assert "not-the-token" not in str(log_lines) and "evil" not in str(log_lines)


# What goes wrong


async def test_a_page_that_breaks_says_nothing_of_how(log_lines: list[EventDict]) -> None:
    async def breaks(_: web.Request) -> web.Response:
        raise RuntimeError("secret-detail")

    async with opened(None, None, web.get("/", breaks)) as admin:
        reply = await admin.get("/")
        assert (reply.status, said(reply)["error"]) == (500, "failed")
        assert b"secret" not in reply.body and b"Traceback" not in reply.body
        assert (await admin.get("/healthz")).status == 200
    assert [line["event"] for line in log_lines] == ["admin.failed"]


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: x\r\n" * 100 + b"\r\n", 400),
        (
            b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n",
            400,
        ),
    ],
)
async def test_what_is_no_request_is_refused_and_not_repeated(
    admin: Admin, wire: bytes, status: int
) -> None:
    reply = await send(admin.port, wire)
    assert reply is not None and reply.status == status
    assert len(reply.body) < 200 and b"evil" not in reply.body and b"xxx" not in reply.body
    assert (await admin.get("/healthz")).status == 200


async def test_a_body_is_not_read(admin: Admin) -> None:
    head = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n"
    async with asyncio.timeout(5):
        reply = await send(admin.port, head + b"x" * 1000)
    assert reply is not None and reply.status == 200


async def test_a_crowd_is_told_of_under_its_own_name(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 1)
    first = await asyncio.open_connection("127.0.0.1", admin.port)
    await asyncio.sleep(0.05)
    assert (await admin.get("/healthz")).status == 200
    first[1].close()
    assert [line["event"] for line in log_lines] == ["admin.crowded"]


# Pages


def a_page(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A page in place of the real one."""
    made: list[Any] = []

    async def page(_: web.Request) -> web.Response:
        policy = {"Content-Security-Policy": "default-src 'self'"}
        return web.Response(text="<p>hello", content_type="text/html", headers=policy)

    def routes(redis: Redis, settings: Settings) -> list[web.AbstractRouteDef]:
        made.append((redis, settings))
        return [web.get("/", page)]

    monkeypatch.setattr("worker.page.routes", routes)
    return made


async def test_the_worker_has_pages_and_the_receiver_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The receiver faces the internet, and its Redis user may not read payments."""
    made, ports = a_page(monkeypatch), [free_port(), free_port()]
    names = ("RECEIVER_ADMIN_PORT", "WORKER_ADMIN_PORT")
    settings = given(**{name: str(port) for name, port in zip(names, ports, strict=True)})
    async with admin_port(settings, Role.RECEIVER, Health()):
        assert (await get(ports[0], "/")).status == 404
    assert made == []
    async with admin_port(settings, Role.WORKER, Health()):
        reply = await get(ports[1], "/")
    assert (reply.status, reply.body) == (200, b"<p>hello")
    assert reply.headers["Content-Security-Policy"] == "default-src 'self'"
    assert reply.headers["X-Frame-Options"] == "DENY"
    assert made[0][1] is settings and isinstance(made[0][0], Redis)


async def test_pages_want_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    a_page(monkeypatch)
    port = free_port()
    settings = given(WORKER_ADMIN_PORT=str(port), ADMIN_TOKEN=TOKEN)
    async with admin_port(settings, Role.WORKER, Health()):
        assert (await get(port, "/")).status == 401
        assert (await get(port, "/", Authorization=basic("me", TOKEN))).status == 200


# The port


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
async def test_port_0_is_none(role: Role, log_lines: list[EventDict]) -> None:
    async with admin_port(given(), role, Health()):
        pass
    assert log_lines == []


@pytest.mark.parametrize("role", [Role.RECEIVER, Role.WORKER])
async def test_a_port_that_cannot_be_had_is_a_warning_and_the_work_goes_on(
    role: Role, log_lines: list[EventDict]
) -> None:
    async with opened() as other:
        settings = given(**{f"{role.name}_ADMIN_PORT": str(other.port)})
        worked = False
        async with admin_port(settings, role, Health()):
            worked = True
    assert worked
    [line] = [line for line in log_lines if line["event"] == "admin.unavailable"]
    assert line["log_level"] == "warning"
    assert line["address"] == f"127.0.0.1:{other.port}"
    assert "in use" in line["fault"]


async def test_an_address_that_is_none_of_ours_is_a_warning_too(
    log_lines: list[EventDict],
) -> None:
    settings = given(WORKER_ADMIN_PORT="9102", ADMIN_HOST="192.0.2.1", ADMIN_TOKEN=TOKEN)
    async with admin_port(settings, Role.WORKER, Health()):
        pass
    assert "admin.unavailable" in {line["event"] for line in log_lines}


async def test_without_the_extra_everything_else_is_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    port = free_port()
    async with admin_port(given(WORKER_ADMIN_PORT=str(port)), Role.WORKER, Health()):
        assert (await get(port, "/metrics")).status == 501
        assert (await get(port, "/healthz")).status == 200
        assert said(await get(port, "/readyz"))["checks"]["redis"] == "does not answer"
