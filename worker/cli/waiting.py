"""What becomes of a command: whoever gave it may wait until that is seen."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.cli.base import FAILURE, OK, UNAVAILABLE

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.keys import Keys

LOOK_SECONDS = 0.2
ENDED = ("succeeded", "failed", "cancelled", "forgotten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a command, and the exit code that says so."""

    code: int
    result: str  #: done, rejected, ended (otherwise than was asked for) or waiting
    message: str
    status: str = ""  #: of the payment
    more: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        told = {"result": self.result, "status": self.status, "message": self.message}
        return told | dict(self.more or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command in the stream, and the payment that it is about."""

    type: str
    id: str
    key: str
    before: str  #: the payment's status just before it was written; empty: not tracked

    @property
    def at(self) -> int:
        return int(self.id.partition("-")[0])


async def wait(redis: "Redis", keys: "Keys", command: Command, seconds: float) -> Seen:
    """What became of the command, or that nothing was seen in time."""
    deadline = time.monotonic() + seconds
    after = f"{command.at - 1}-{2**64 - 1}"  # outcomes go by the same clock
    while True:
        events, after = await _events(redis, keys, after)
        record = await record_of(redis, keys, command.key)
        if seen := _told(command, events) or _effect(command, record):
            return seen
        if time.monotonic() > deadline:
            message = f"nothing was seen of it in {seconds:g} s; it stays in the stream"
            status = record.get("status", "")
            return Seen(code=UNAVAILABLE, result="waiting", message=message, status=status)
        await asyncio.sleep(LOOK_SECONDS)


async def record_of(redis: "Redis", keys: "Keys", key: str) -> dict[str, str]:
    """A payment's record; empty if it is not tracked."""
    return _texts(await redis.hgetall(keys.payment(key)))  # type: ignore[misc]


async def _events(redis: "Redis", keys: "Keys", after: str) -> tuple[list[dict[str, Any]], str]:
    """The outcomes after an entry, and the last entry read."""
    found = await redis.xread({keys.outcomes: after}, count=1000)
    entries = found[0][1] if found else []
    events = [_texts(fields) for _, fields in entries]
    last = entries[-1][0] if entries else after
    return events, last.decode() if isinstance(last, bytes) else last


def _told(command: Command, events: list[dict[str, Any]]) -> Seen | None:
    """What the merchant was told."""
    for event in events:
        if event.get("id") == f"command:{command.id}":
            said = json.loads(event["data"])["data"]
            message = f"{said['reason']}: {said['message']}"
            more = {"reason": said["reason"], "advice": said["advice"]}
            return Seen(code=FAILURE, result="rejected", message=message, more=more)
        if command.type == "payment.submit" and event.get("id") == f"{command.key}:submitted":
            said = json.loads(event["data"])["data"]
            more = {name: said.get(name, "") for name in ("redirectUrl", "redirectMethod")}
            message = f"send the buyer to {more['redirectUrl']}"
            return Seen(code=OK, result="done", message=message, status="pending", more=more)
        if command.type == "payment.submit" and (status := _end_told(command, event)):
            code = json.loads(event["data"])["data"].get("resultCode", "")
            return _ended(status, "succeeded", code)
    return None


def _end_told(command: Command, event: Mapping[str, Any]) -> str:
    """The final status that an event tells; it is told again to who submits what has ended."""
    told = {f"{command.key}:{status}": status for status in ENDED}
    return told.get(event.get("id", ""), "")


def _effect(command: Command, record: Mapping[str, str]) -> Seen | None:
    """What is seen of it in the payment's record.

    An end from before the command is no effect of it: `_told` hears what became of that.
    """
    status = record.get("status", "")
    match command.type:
        case "payment.cancel" if command.before not in ("succeeded", "forgotten"):
            return _ended(status, "cancelled", record.get("resultCode", ""))
        case "payment.recheck":
            acted = max(int(record.get(name) or 0) for name in ("askedAt", "lastCancelAt"))
            return _done(status, f"the payment is {status}") if acted >= command.at else None
        case "payment.forget" if status == "forgotten" != command.before:
            return _done(status, "it is no longer followed")
        case "payment.forget" if command.before and not record:
            return _done(status, "its record is erased")
        case "payment.submit" if command.before not in ENDED:
            return _ended(status, "succeeded", record.get("resultCode", ""))
        case _:
            return None


def _ended(status: str, wanted: str, result_code: str) -> Seen | None:
    """An end as it was wanted, or another one and the gateway's word for why."""
    if status not in ENDED:
        return None
    if status == wanted:
        return _done(status, f"the payment is {status}")
    message = f"the payment is {status}" + (f" ({result_code})" if result_code else "")
    more = {"resultCode": result_code}
    return Seen(code=FAILURE, result="ended", message=message, status=status, more=more)


def _done(status: str, message: str) -> Seen:
    return Seen(code=OK, result="done", message=message, status=status)


def _texts(found: Mapping[Any, Any]) -> dict[str, str]:
    from worker.replies import text_of

    return {text_of(name, "replace"): text_of(value, "replace") for name, value in found.items()}
