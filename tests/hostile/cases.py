"""What a hostile case is: the bytes that are sent, and what must come of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tests.servers import Post, notification, paid
from worker.receiver import REFUSALS
from worker.signature import Reason


class Fate(StrEnum):
    """What becomes of a request; its one log line is named after it."""

    ACCEPTED = "notification.accepted"
    IGNORED = "notification.ignored"
    QUARANTINED = "notification.quarantined"
    REJECTED = "notification.rejected"
    ENCRYPTED = "notification.encrypted"
    MALFORMED = "http.malformed"
    STORE_DOWN = "receiver.store_down"


KEPT = {Fate.ACCEPTED, Fate.IGNORED, Fate.QUARANTINED}


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer to one request, and its line in the log."""

    fate: Fate
    reason: str  #: in the log: why it was refused or set aside, or what was done with it

    @property
    def status(self) -> int:
        if self.fate in KEPT:
            return 200
        if self.fate is Fate.MALFORMED:
            return 400
        if self.fate is Fate.STORE_DOWN:
            return 503
        return REFUSALS[Reason(self.reason)][0].value


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    wire: bytes
    expected: tuple[Expected, ...]  #: one for each request in `wire`
    mail: tuple[bytes, ...] = ()  #: the bodies that must then wait for the payment order-1
    aside: tuple[bytes, ...] = ()  #: the bodies that must then be in quarantine
    before: tuple[Post, ...] = ()  #: what is sent, and accepted, first
    tracked: bool = False  #: whether order-1 is a payment that we follow
    later: bytes = b""  #: sent once `wire` has been read
    slow: bool = False  #: waits for a time limit, which is made short
    hangs_up: bool = False  #: ends its side once it has sent all

    @property
    def genuine(self) -> bool:
        return all(each.fate in KEPT for each in self.expected)


ORDER = "order-1"
GENUINE = notification(paid(ORDER))
BODY = GENUINE.body
HEADERS = dict(GENUINE.headers)
MINIMAL = {"notifyType": "PAYMENT_RESULT", "paymentRequestId": ORDER}


def accepted(name: str, post: Post, *, wire: bytes = b"", result: str = "parked") -> Case:
    """It is kept as it came, and acknowledged."""
    expected = Expected(Fate.ACCEPTED, result)
    return Case(name, wire or post.wire(), (expected,), mail=(post.body,))


def refused(name: str, reason: Reason, post: Post | None, *, wire: bytes = b"") -> Case:
    """Nothing proves it: it is answered with its reason, and leaves nothing but a line."""
    fate = Fate.ENCRYPTED if reason is Reason.ENCRYPTED else Fate.REJECTED
    raw = wire or (post.wire() if post else b"")
    return Case(name, raw, (Expected(fate, reason.value),))


def malformed(name: str, wire: bytes, error: str = "BadHttpMessage") -> Case:
    """It is no HTTP request: `error` is what aiohttp calls it."""
    return Case(name, wire, (Expected(Fate.MALFORMED, error),))


def quarantined(name: str, body: bytes, why: str, *, hint: bool = False) -> Case:
    """Genuine, and not understood: kept whole. If it names its payment, that is asked about."""
    wire = notification(body).wire()
    expected = Expected(Fate.QUARANTINED, why)
    return Case(name, wire, (expected,), mail=(body,) if hint else (), aside=(body,))


def odd(name: str, why: str, **changed: Any) -> Case:
    """A notification with these fields, which names its payment and still is not understood."""
    return quarantined(name, saying(**changed), why, hint=True)


def saying(**changed: Any) -> bytes:
    """The body of a notification with these fields changed."""
    return json.dumps(paid(ORDER, **changed)).encode()


def with_amount(value: Any, currency: Any = "USD") -> Mapping[str, Any]:
    return {"currency": currency, "value": value}


def signature(old: str, new: str) -> Post:
    """The genuine message, its Signature header changed."""
    assert old in HEADERS["Signature"]
    return GENUINE.having(Signature=HEADERS["Signature"].replace(old, new))


def framed(headers: bytes, body: bytes, post: Post = GENUINE) -> bytes:
    """The genuine head with these headers instead of its own Content-Length, and any body."""
    return post.head + headers + b"\r\n\r\n" + body


def of(name: str, case: Case, **changed: Any) -> Case:
    return replace(case, name=name, **changed)
