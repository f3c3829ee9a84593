"""The admin port of a process: is it alive, is it ready, how does it fare.

    GET /healthz   whether the process runs at all: nothing is asked
    GET /readyz    whether it can do its work; 503 and what is wrong, if not
    GET /metrics   for Prometheus
    GET /          a page to look at, of the worker
    /v1/...        the worker's command API, see `worker.api`; it is off without ADMIN_TOKEN

Everything but the first two wants ADMIN_TOKEN, where there is one. A browser is led astray by a
name that points here (DNS rebinding), so nobody is answered under a name that is not allowed.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from redis.asyncio import Redis

from worker import api, connect, logs, page
from worker.health import Health
from worker.http_server import serve
from worker.keys import Keys
from worker.logs import log
from worker.metrics import CONTENT_TYPE, Metrics
from worker.readings import Readings, read_for_receiver, read_for_worker
from worker.rights import Role
from worker.settings import Settings
from worker.tasks import end

OPEN_TO_ALL = ("/healthz", "/readyz")
METHODS = ("GET", "HEAD")
HELP = "there are /healthz, /readyz and /metrics"
#: For answers under way when the process stops: it has done its work by then.
DRAIN_SECONDS = 0.5

#: A page may set another Content-Security-Policy; what is no page needs nothing.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


Routes = Sequence[web.AbstractRouteDef]


# Wiring


@contextlib.asynccontextmanager
async def admin_port(settings: Settings, role: Role, health: Health) -> AsyncIterator[None]:
    """The admin port of a receiver or worker, as long as the `with` lasts; nothing if it is 0."""
    port = settings.worker_admin_port if role is Role.WORKER else settings.receiver_admin_port
    if not port:
        yield
        return
    redis = connect.client(settings.redis_url, tries=0)
    readings = Readings(redis, health, _question(role, redis, settings))
    metrics = _metrics(role, health, lambda: (readings.last, readings.up))
    # The receiver faces the internet: its user of Redis may not read payments.
    pages, commands = _of_worker(redis, settings, health) if role is Role.WORKER else ([], None)
    app = create_app(settings, health, metrics.render if metrics else None, pages, commands)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(end, [asyncio.create_task(readings.run())])
        if metrics:
            logs.watchers.append(metrics.count)
            stack.callback(logs.watchers.remove, metrics.count)
        await _open(stack, app, settings.admin_host, port)
        yield


def _of_worker(redis: Redis, settings: Settings, health: Health) -> tuple[Routes, Routes]:
    """Pages, and commands where there is a token: without one any site's page could give some."""
    commands = api.routes(redis, settings, health) if settings.admin_token else []
    return page.routes(redis, settings), commands


def _question(role: Role, redis: Redis, settings: Settings) -> Callable[[], Any]:
    keys = Keys(settings.key_prefix)
    if role is Role.WORKER:
        return partial(read_for_worker, redis, keys, settings.accounts)
    return partial(read_for_receiver, redis, keys)


def _metrics(role: Role, health: Health, reading: Callable[[], Any]) -> Metrics | None:
    try:
        return Metrics(role, health, reading)
    except ModuleNotFoundError as missing:  # the extra is not installed
        if missing.name != "prometheus_client":
            raise
        return None


async def _open(
    stack: contextlib.AsyncExitStack, app: web.Application, host: str, port: int
) -> None:
    """Without an admin port a process still does its work."""
    try:
        runner = await serve(app, host, port, crowded="admin.crowded", patience=DRAIN_SECONDS)
    except OSError as fault:
        log.warning("admin.unavailable", address=f"{host}:{port}", fault=str(fault))
        return
    stack.push_async_callback(runner.cleanup)
    log.info("admin.started", addresses=[str(a) for a in runner.addresses])


# The application


def create_app(
    settings: Settings,
    health: Health,
    render: Callable[[], bytes] | None,
    pages: Routes = (),
    commands: Routes | None = None,
) -> web.Application:
    """The admin port as an aiohttp application; `render` gives the metrics, if they can be had.

    `commands` is the API; empty where it is off, None where the process has none.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        status = HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE
        return web.json_response({"ready": health.ready, "checks": health.checks()}, status=status)

    async def metrics(_: web.Request) -> web.Response:
        if render is None:
            hint = "install payment-reconciler[metrics], or prometheus-client, and restart"
            return _fault(HTTPStatus.NOT_IMPLEMENTED, "no_metrics", hint)
        return web.Response(body=render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    app = web.Application(middlewares=[_guard(settings, commands)])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_routes([*pages, *(commands or ())])
    app.on_response_prepare.append(_with_headers)
    return app


async def _with_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop(hdrs.SERVER, None)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)


def _fault(status: HTTPStatus, error: str, hint: str, **headers: str) -> web.Response:
    body = {"error": error, "message": hint}
    return web.json_response(body, status=status, headers=headers)


# Who is let in


def _guard(settings: Settings, commands: Routes | None) -> Any:
    """No route but a middleware: it sees every request, also one whose target is no path."""
    root = api.ROOT if commands is not None else None

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        # 1. It comes under a name that is ours.
        if not _allowed(request.headers.getall(hdrs.HOST, []), settings.admin_allowed_hosts):
            log.warning("admin.refused", peer=request.remote, reason="host")
            hint = "this name is not allowed: add it to ADMIN_ALLOWED_HOSTS, or use the address"
            return _fault(HTTPStatus.MISDIRECTED_REQUEST, "host", hint)
        # 2. It changes nothing, unless it is a command.
        commanding = root is not None and request.path.startswith(root)
        if request.method not in METHODS and not commanding:
            return _not_allowed(METHODS)
        # 3. It knows the token, where there is one. A browser sends what it knows for HTTP Basic
        #    along with what another site makes it ask: for commands that does not do.
        token = settings.admin_token
        schemes = ("bearer",) if commanding else ("bearer", "basic")
        if token and request.path not in OPEN_TO_ALL and not _shows(request, token, schemes):
            log.warning("admin.refused", peer=request.remote, reason="token")
            return _unknown(schemes)
        # 4. Without one there are no commands.
        if commanding and not commands:
            return _fault(HTTPStatus.NOT_FOUND, "api_off", api.OFF)
        return await _answer(request, handler, api.HELP if commanding else HELP)

    return guard


def _not_allowed(methods: Collection[str]) -> web.Response:
    allow = {hdrs.ALLOW: ", ".join(sorted(methods))}
    hint = f"use {' or '.join(sorted(methods))}"
    return _fault(HTTPStatus.METHOD_NOT_ALLOWED, "method", hint, **allow)


def _unknown(schemes: Collection[str]) -> web.Response:
    if "basic" in schemes:
        asked = 'Basic realm="reconciler", charset="UTF-8"'
        hint = "give ADMIN_TOKEN as a bearer token, or as the password of HTTP Basic"
    else:
        asked, hint = 'Bearer realm="reconciler"', "give ADMIN_TOKEN as a bearer token"
    return _fault(HTTPStatus.UNAUTHORIZED, "token", hint, **{hdrs.WWW_AUTHENTICATE: asked})


async def _answer(request: web.Request, handler: Handler, help_: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _fault(HTTPStatus.NOT_FOUND, "path", help_)
    except web.HTTPMethodNotAllowed as fault:
        return _not_allowed(fault.allowed_methods)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("admin.failed")
        return _fault(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "the log says why")


def _allowed(hosts: Sequence[str], names: Collection[str]) -> bool:
    """Whether the one Host header is an address, this machine, or one of `names`."""
    parts = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", "\n".join(hosts))
    if parts is None:
        return False
    name = parts[1].strip("[]").rstrip(".").lower()
    return name == "localhost" or name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _shows(request: web.Request, token: str, schemes: Collection[str]) -> bool:
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    known = len(given) == 1 and given[0].partition(" ")[0].lower() in schemes
    shown = _shown(given[0]) if known else b""
    return hmac.compare_digest(shown, token.encode())


def _shown(authorization: str) -> bytes:
    """The token in an Authorization header; empty if it holds none."""
    scheme, _, rest = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip().encode(errors="surrogateescape")
        case "basic":
            try:
                return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return b""
        case _:
            return b""
