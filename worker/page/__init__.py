"""A page to look at, on the worker's admin port: it shows how things stand, and changes nothing.

HTML is made here, by the server: no script, nothing loaded from anywhere, no data of a buyer.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from worker.keys import Keys
from worker.page import overview, payment
from worker.page.data import (
    PATIENCE_SECONDS,
    Shared,
    read_overview,
    read_payment,
    said,
    tracked,
)
from worker.page.frame import HEADERS, REFRESH_SECONDS, document, payment_path
from worker.page.hours import Hours
from worker.page.markup import tag
from worker.settings import Settings

MAX_ASKED = 200  #: characters that are looked for: an id has at most 129


def routes(redis: Redis, settings: Settings) -> list[web.RouteDef]:
    """The overview and one payment's page, to be mounted where strangers do not come."""
    page = _Page(redis, settings)
    return [
        web.get("/", _guarded(page.overview)),
        web.get("/payments", _guarded(page.find)),
        web.get("/payments/{key}", _guarded(page.payment)),
    ]


class _Page:
    """The three pages; what the overview shows is read once for all who ask within seconds."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis, self._settings = redis, settings
        self._keys = Keys(settings.key_prefix)
        hours = Hours(redis, self._keys)
        self._overview = Shared(lambda: read_overview(redis, self._keys, hours, self._clients))

    async def overview(self, request: web.Request) -> web.Response:
        seen = await self._overview.get()
        accounts = ", ".join(self._clients)
        about = f"{self._settings.key_prefix}: {accounts}"
        sweep_every, refreshing = self._settings.sweep_every, _refreshing(request)
        return _html(overview.render(seen, about, sweep_every, refreshing))

    async def payment(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            seen = await read_payment(self._redis, self._keys, key) if ":" in key else None
        if seen is None:
            return _html(payment.not_found(key, root=payment.ROOT), 404)
        return _html(payment.render(seen, self._settings.retention))

    async def find(self, request: web.Request) -> web.Response:
        """By client id and id, or by id alone."""
        asked = request.query.get("id", "").strip()[:MAX_ASKED]
        candidates = [f"{client_id}:{asked}" for client_id in self._clients]
        candidates += [asked] if ":" in asked else []
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = await tracked(self._redis, self._keys, candidates) if asked else []
        if len(found) == 1:
            return _html("", 303, Location=payment_path(found[0]))
        return _html(payment.not_found(asked, found), 200 if found else 404)

    @property
    def _clients(self) -> list[str]:
        return sorted(self._settings.client_ids)


Handler = Callable[[web.Request], Awaitable[web.Response]]


def _guarded(handler: Handler) -> Handler:
    """Where Redis cannot be asked, say so; nothing else is a reason not to show the page."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except (RedisError, OSError) as fault:  # a timeout is an OSError
            root = payment.ROOT if request.match_info else ""
            refresh = REFRESH_SECONDS if _refreshing(request) else 0
            why = said(fault) or "it did not answer in time"
            return _html(_away(why, root, refresh), 503, Retry_After="5")

    return answer


def _refreshing(request: web.Request) -> bool:
    return request.query.get("refresh") == "on"


def _away(fault: str, root: str, refresh: int) -> str:
    return document(
        "Redis does not answer",
        tag("h1", "Redis does not answer"),
        tag(
            "p",
            "Nothing can be shown, and no payment is followed until it does. What was taken up is"
            " not lost: workers go on by themselves as soon as Redis is back.",
        ),
        tag("p", tag("code", fault), class_="broken"),
        tag("p", tag("a", "Try again", href="")),
        root=root,
        refresh=refresh,
    )


def _html(text: str, status: int = 200, **headers: str) -> web.Response:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        text=text, status=status, content_type="text/html", charset="utf-8", headers=HEADERS | more
    )
