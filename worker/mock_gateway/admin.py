"""Plain calls for whoever runs the mock gateway: make an order, read the truth. Loopback only."""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from aiohttp import web

from jobs.model import Ms
from worker.mock_gateway.calls import MAX_LIFE, Illegal, read_amount, read_id, read_object
from worker.mock_gateway.ledger import Inconsistent
from worker.mock_gateway.order import Order
from worker.mock_gateway.scenarios import SCENARIOS, SUBMITTED
from worker.mock_gateway.server import GATEWAY

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.Response]]


def add_admin(app: web.Application) -> None:
    app.router.add_post("/mock/orders", from_here(create_order))
    app.router.add_get("/mock/ledger", from_here(show_ledger))
    app.router.add_get("/mock/journal", from_here(show_journal))
    app.router.add_get("/mock/scenarios", from_here(show_scenarios))


async def create_order(request: web.Request) -> web.Response:
    """Make an order as if `pay` had been called: {paymentRequestId, amount, scenario?,
    closingSeconds?}. 201; 400 for what cannot be read, 409 for a known id with another amount.
    """
    gateway = request.app[GATEWAY]
    try:
        wish = read_object(await request.read())
        order = gateway.ledger.create(
            read_id(wish, "paymentRequestId"),
            read_amount(wish.get("amount")),
            gateway.clock(),
            scenario=_scenario(wish),
            life=_life(wish),
        )
    except Illegal as illegal:
        return web.json_response({"error": f"illegal {illegal}"}, status=400)
    except Inconsistent:
        return web.json_response({"error": "known with another amount"}, status=409)
    gateway.changed()
    return web.json_response(_order(order), status=201)


async def show_ledger(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    truths = gateway.ledger.truths(gateway.clock())
    return web.json_response([truth.to_json() for truth in truths])


async def show_journal(request: web.Request) -> web.Response:
    """Every call, every happening and every acknowledged notification, in order, with its time."""
    return web.json_response(
        [
            {
                "at": moment.at,
                "paymentRequestId": moment.payment_request_id,
                "what": moment.what,
                "detail": moment.detail,
            }
            for moment in request.app[GATEWAY].ledger.journal
        ]
    )


async def show_scenarios(_: web.Request) -> web.Response:
    return web.json_response(
        [
            {"name": row.name, "expects": row.expects, "description": row.description}
            for row in (SCENARIOS | SUBMITTED).values()
        ]
    )


def from_here(handler: Handler) -> Handler:
    """These calls are not signed, so they are taken from this machine alone."""

    async def guarded(request: web.Request) -> web.Response:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:
            return web.json_response({"error": "from loopback only"}, status=403)
        return await handler(request)

    return guarded


def _scenario(wish: dict[str, Any]) -> str | None:
    name = wish.get("scenario")
    if name is None or (isinstance(name, str) and name in SCENARIOS):
        return name
    raise Illegal("scenario: see GET /mock/scenarios")


def _life(wish: dict[str, Any]) -> Ms | None:
    seconds = wish.get("closingSeconds")
    if seconds is None:
        return None
    if not isinstance(seconds, int | float) or not 1 <= seconds * 1000 <= MAX_LIFE:
        raise Illegal("closingSeconds")
    return round(seconds * 1000)


def _order(order: Order) -> dict[str, Any]:
    return {
        "paymentRequestId": order.payment_request_id,
        "paymentId": order.payment_id,
        "scenario": order.scenario.name,
        "expects": order.scenario.expects,
        "createdAt": order.created_at,
        "closingAt": order.closing_at,
    }
