"""What stands around the page in tests: its server, and payments of every kind in Redis."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from redis.asyncio import Redis

from jobs.model import (
    Act,
    Aftercare,
    CancelState,
    Cause,
    Event,
    Money,
    Ms,
    Payment,
    Status,
    Via,
)
from jobs.outcome import outcome
from jobs.schedule import HOUR, MINUTE, SECOND
from tests.fakes import CLIENT, USD
from tests.servers import environ, put
from worker import page
from worker.admin import create_app
from worker.health import Health
from worker.http_server import serve
from worker.keys import Keys
from worker.replies import now_of
from worker.settings import Settings, load


@cache
def _settings() -> Settings:
    return load(environ("redis://not-used", "none", "http://127.0.0.1:1", ALIPAY_CLIENT_ID=CLIENT))


def settings_for(prefix: str) -> Settings:
    return replace(_settings(), key_prefix=prefix)


@asynccontextmanager
async def showing(redis: Redis, settings: Settings) -> AsyncIterator[str]:
    """The address of the page, as the admin port has it."""
    app = create_app(settings, Health(), None, page.routes(redis, settings))
    runner = await serve(app, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def payment(name: str, now: Ms, age: Ms, **changes: Any) -> Payment:
    """One that is asked about, tracked so long ago."""
    asked = Payment(
        client_id=CLIENT,
        payment_request_id=name,
        amount=USD,
        tracked_at=now - age,
        closing_time=now - age + 14 * MINUTE,
        next_at=now + 5 * SECOND,
        updated_at=now,
    )
    return replace(asked, **changes)


def line(at: Ms, source: str, what: str, detail: str = "", **more: Any) -> dict[str, Any]:
    """Of a timeline."""
    return {"at": at, "source": source, "what": what, "detail": detail, **more}


def unresolved(name: str, now: Ms, reason: str, **changes: Any) -> Payment:
    """One that has needed a person for twenty minutes."""
    about: dict[str, Any] = {
        "status": Status.UNRESOLVED,
        "reason": reason,
        "phase_since": now - 20 * MINUTE,
        "next_at": None,
    }
    return payment(name, now, HOUR, **about | changes)


def to_refund(name: str, now: Ms, **changes: Any) -> Payment:
    """One that was told as cancelled, and then the money was there."""
    about: dict[str, Any] = {
        "status": Status.CANCELLED,
        "cause": Cause.TIMED_OUT,
        "via": Via.CANCEL,
        "cancel_state": CancelState.REFUSED,
        "cancel_attempts": 4,
        "last_cancel_at": now - 30 * MINUTE,
        "aftercare": Aftercare.REFUND_REQUIRED,
        "final_at": now - 45 * MINUTE,
        "phase_since": now - 30 * MINUTE,
        "next_at": now + 10 * MINUTE,
        "attempts": 31,
        "marks": ("late",),
        "payment_id": "20261124190741010007000000XXXX",
        "result_code": "ORDER_STATUS_INVALID",
    }
    return payment(name, now, HOUR, **about | changes)


async def fill(redis: Redis, keys: Keys) -> None:
    """Something of everything, as on a busy day on which somebody is needed."""
    now = await now_of(redis)
    async with redis.pipeline(transaction=False) as pipe:
        for i in range(60):
            age = (i * i % 800) * SECOND
            late = {"status": Status.CANCELLING, "cause": Cause.TIMED_OUT, "next_act": Act.CANCEL}
            one = payment(f"order-2026-{i:06}", now, age + (HOUR if i % 20 == 0 else 0))
            put(pipe, keys, replace(one, **late) if i % 20 == 0 else one)  # type: ignore[arg-type]
        for i, reason in enumerate(("amount_mismatch", "cancel_limit", "brake", "no_answer")):
            put(pipe, keys, unresolved(f"order-look-{i}", now, reason))
        put(pipe, keys, to_refund("refund-me", now), *_story(now))
        long = "order_with_a_very_long_name_that_uses_all_of_its_64_characters_x"
        big = to_refund(long, now, amount=Money("JPY", 9_876_543_210), reference="Order 4711")
        put(pipe, keys, big, *_story(now))
        pipe.hset(keys.payment(f"{CLIENT}:damaged"), mapping={"schema": "1", "status": "odd"})
        pipe.zadd(keys.open, {f"{CLIENT}:damaged": now})
        pipe.set(keys.swept, now - 4 * SECOND)
        pipe.xgroup_create(keys.outcomes, "shop", "0", mkstream=True)
        await pipe.execute()
    await publish(redis, keys, now)


def _story(now: Ms) -> list[dict[str, Any]]:
    at = now - HOUR
    return [
        line(at, "command", "payment.track", "USD 599"),
        line(at + 2000, "inquiry", "not_yet", "SUCCESS", count=28, until=at + 837_000),
        line(at + 838_000, "inquiry", "no_answer", "timeout", count=2, until=at + 842_000),
        line(at + 845_000, "inquiry", "not_yet", "SUCCESS"),
        line(at + 845_100, "status", "cancelling", "timed_out"),
        line(at + 845_100, "cancel", "sent"),
        line(at + 846_000, "cancel", "cancel_confirmed", "SUCCESS"),
        line(at + 846_000, "status", "cancelled"),
        line(at + 1_450_000, "notification", "hint"),
        line(at + 1_451_000, "inquiry", "paid", "SUCCESS"),
        line(at + 1_452_000, "cancel", "sent"),
        line(at + 1_500_000, "cancel", "cancel_refused", "ORDER_STATUS_INVALID"),
    ]


async def publish(redis: Redis, keys: Keys, now: Ms, count: int = 800) -> None:
    """Outcomes over the last day, more of them lately."""
    ends = ["succeeded"] * 14 + ["cancelled"] * 3 + ["failed", "cancelling", "attention"]
    said = Event(type="payment.succeeded", name="succeeded", seq=1)
    data = json.dumps(outcome(payment("order-1", now, MINUTE), said, now))
    async with redis.pipeline(transaction=False) as pipe:
        for i in range(count):
            at = now - round(23 * HOUR * (1 - i / count) ** 1.5)
            fields: dict[Any, Any] = {"id": f"{i}", "type": f"payment.{ends[i % 20]}", "data": data}
            pipe.xadd(keys.outcomes, fields, id=f"{at}-*")
        await pipe.execute()
