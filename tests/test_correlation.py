"""Lines that belong together are found together, by ids alone, across processes."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.contextvars import bound_contextvars

from tests.conftest import Lines
from tests.keys import CLIENT_ID
from tests.servers import (
    ScriptedGateway,
    environ,
    notification,
    paid,
    process,
    reconciler,
    says,
    scripted_gateway,
    send,
)
from worker import client
from worker.logs import log
from worker.store import short_digest

Line = dict[str, Any]


def having(lines: list[Line], **facts: Any) -> list[Line]:
    """The lines with these facts, as a person would search for them."""
    return [line for line in lines if facts.items() <= line.items()]


def events(lines: list[Line]) -> list[str]:
    return [line["event"] for line in lines]


@pytest.fixture
async def gateway() -> Any:
    async with scripted_gateway() as gateway:
        gateway.answer = says("PROCESSING")
        yield gateway


@pytest.mark.once
async def test_a_payment_is_followed_through_receiver_and_worker_by_ids_alone(
    redis: Redis, redis_url: str, prefix: str, gateway: ScriptedGateway, tmp_path: Path
) -> None:
    given = environ(redis_url, prefix, gateway.url, LOG_LEVEL="debug")
    with (
        process(tmp_path, given, *reconciler("worker")) as worker,
        process(tmp_path, given, *reconciler("receiver")) as receiver,
    ):
        started = await asyncio.to_thread(receiver.wait_for, "receiver.started")
        await client.track(redis, "order-2", "USD", 599, expires_in=60, prefix=prefix)
        what = {"paymentRequestId": "order-2"}
        cancelled = await client.send(redis, "payment.cancel", what, prefix)
        command_id = await client.track(redis, "order-1", "USD", 599, expires_in=60, prefix=prefix)
        await asyncio.to_thread(worker.wait_for, "cancel.sent")
        await asyncio.to_thread(worker.wait_for, "inquiry.completed", payment_request_id="order-1")
        genuine = notification(paid("order-1"))
        await send(int(started["addresses"][0].split(",")[1].strip(" )")), genuine.wire())
        await asyncio.to_thread(worker.wait_for, "payment.final", payment_request_id="order-1")
        heard, done = receiver.lines, worker.lines

    about = {"client_id": CLIENT_ID, "payment_request_id": "order-1"}
    # What the merchant's command caused.
    caused = having(done, command_id=command_id, **about)
    assert events(caused) == ["payment.tracked", "command.accepted"]
    brought = having(done, command_id=cancelled, payment_request_id="order-2")
    assert events(brought)[:4] == [
        "payment.changed",
        "outcome.published",
        "command.accepted",
        "cancel.sent",  # in a wake-up of its own
    ]
    # Each wake-up by itself.
    [asked, *_] = having(done, event="inquiry.completed", **about)
    first = having(done, wake_id=asked["wake_id"])
    assert events(first) == ["payment.woken", "inquiry.completed"]
    # From the receiver's line of the notification to what it did in the worker.
    [accepted] = having(heard, body_sha256=short_digest(genuine.body))
    assert having(heard, request_id=accepted["request_id"]) == [accepted]
    [applied] = having(done, body_sha256=accepted["body_sha256"])
    assert applied["wake_id"] != asked["wake_id"]
    last = having(done, wake_id=applied["wake_id"])
    assert events(last) == [
        "payment.woken",
        "notification.applied",
        "payment.changed",
        "outcome.published",
        "payment.final",
    ]
    assert having(last, **about) == last
    assert {line["role"] for line in having(done, **about)} == {"worker"}
    assert accepted["role"] == "receiver"


def test_what_a_library_says_in_between_has_the_ids_too(json_lines: Lines) -> None:
    with bound_contextvars(wake_id="w1"):
        log.info("payment.tracked")
        logging.getLogger("asyncio").error("Task was destroyed")
    log.info("payment.tracked")
    assert [line.get("wake_id") for line in json_lines()] == ["w1", "w1", None]


# OpenTelemetry, where it is


@pytest.fixture
def span() -> Iterator[None]:
    """A span that somebody else's tracing has opened."""
    why = "needs OpenTelemetry's API: pip install opentelemetry-api"
    trace = pytest.importorskip("opentelemetry.trace", reason=why)
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


def test_in_a_span_a_line_has_its_trace(json_lines: Lines, span: None) -> None:
    log.info("payment.tracked")
    logging.getLogger("asyncio").error("Task was destroyed")
    for line in json_lines():
        assert line["trace_id"] == "00000000000000000000000000000abc"
        assert line["span_id"] == "0000000000000def"


def test_without_a_span_or_without_tracing_a_line_has_none(
    json_lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.info("payment.tracked")
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    log.info("payment.tracked")
    assert all("trace_id" not in line for line in json_lines())
