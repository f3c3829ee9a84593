"""The three calls of the API: what a verified request asks for, and the answer it deserves."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.model import Money, Ms
from worker.mock_gateway.config import Switches
from worker.mock_gateway.ledger import Inconsistent, Ledger
from worker.mock_gateway.order import CancelResult
from worker.mock_gateway.scenarios import Fault
from worker.mock_gateway.wire import Body, cancel_answer, inquiry_answer, pay_answer, result

_ID = re.compile("[!-~]{1,64}")  #: docs.antom.com/ac/ams/paymentri_online
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_LIFE: Ms = 30 * 24 * 3600 * 1000  #: far beyond any contract; keeps times printable

#: What an Entry Code payment must say, besides what it is about: docs.antom.com/ac/ams/ec.
_ENTRY_CODE = {
    ("productCode",): "IN_STORE_PAYMENT",
    ("paymentFactor", "inStorePaymentScenario"): "EntryCode",
    ("paymentMethod", "paymentMethodType"): "CONNECT_WALLET",
}
#: Faults of a call that never reaches the order.
_NOTHING_DONE = frozenset(
    {
        Fault.UNKNOWN,
        Fault.REFUSED,
        Fault.WINDOW,
        Fault.BUSY,
        Fault.DROP,
        Fault.UNAVAILABLE,
    }
)


class Illegal(ValueError):
    """The request is not one: answered with PARAM_ILLEGAL, naming the field."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The genuine answer, and how it goes wrong on its way."""

    body: Body
    fault: Fault | None = None
    wait: Ms = 0  #: before it is sent, or before its connection drops


def pay(ledger: Ledger, wish: Mapping[str, Any], now: Ms, _: Switches) -> Reply:
    """Create an Entry Code order; S means that it exists, not that anybody paid."""
    for path, value in _ENTRY_CODE.items():
        if _at(wish, *path) != value:
            raise Illegal(".".join(path))
    if not (_at(wish, "order", "env", "userAgent") or _at(wish, "env", "userAgent")):
        raise Illegal("env.userAgent")
    name, amount = read_id(wish, "paymentRequestId"), read_amount(wish.get("paymentAmount"))
    # A repeated request is answered as before, also when its expiry time has passed meanwhile.
    life = None if name in ledger else _life(wish, now)
    notify_url = _notify_url(wish)
    fault = ledger.ask_pay(name, _digest(wish), now)
    if fault in _NOTHING_DONE:
        return Reply({}, fault)
    try:
        order = ledger.create(name, amount, now, life=life, notify_url=notify_url)
    except Inconsistent:
        return Reply(result("F", "REPEAT_REQ_INCONSISTENT"))
    return Reply(pay_answer(order), *order.next_fault(order.scenario.pays, order.calls.pays, now))


def inquire(ledger: Ledger, wish: Mapping[str, Any], now: Ms, switches: Switches) -> Reply:
    """Say how an order stands; `result` is about the call, `paymentStatus` about the payment."""
    order = ledger.inquire(_which(ledger, wish), now)
    if order is None:
        return Reply(_missing(switches))
    fault, wait = order.next_fault(order.scenario.inquiries, order.calls.inquiries, now)
    return Reply(inquiry_answer(order, switches.payment_status), fault, wait)


def cancel(ledger: Ledger, wish: Mapping[str, Any], now: Ms, switches: Switches) -> Reply:
    """Close the order or give the money back: docs.antom.com/ac/ams/paymentc_online."""
    order = ledger.ask_cancel(_which(ledger, wish), now)
    if order is None:
        return Reply(_missing(switches))
    fault, wait = order.next_fault(order.scenario.cancels, order.calls.cancels, now)
    if fault in _NOTHING_DONE:
        return Reply({}, fault)
    code = ledger.cancel(order, now)
    body = cancel_answer(order, now) if code is CancelResult.DONE else result("F", code)
    return Reply(body, fault, wait)


CALLS: Mapping[str, Callable[[Ledger, Mapping[str, Any], Ms, Switches], Reply]] = {
    "pay": pay,
    "inquiryPayment": inquire,
    "cancel": cancel,
}


# Fields of requests.


def read_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Illegal("body") from None
    if not isinstance(value, dict):
        raise Illegal("body")
    return value


def read_id(wish: Mapping[str, Any], name: str) -> str:
    value = wish.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Illegal(name)
    return value


def read_amount(value: object) -> Money:
    """`{"currency": "USD", "value": "599"}`: every value is a string, docs.antom.com/ac/ref/cc."""
    currency, number = _at(value, "currency"), _at(value, "value")
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        raise Illegal("paymentAmount.currency")
    if not isinstance(number, str) or not re.fullmatch("[1-9][0-9]{0,15}", number):
        raise Illegal("paymentAmount.value")
    return Money(currency, int(number))


def _digest(wish: Mapping[str, Any]) -> str:
    """By which a request is seen to be the same as another."""
    return hashlib.sha256(json.dumps(wish).encode()).hexdigest()


def _at(value: object, *path: str) -> object:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _which(ledger: Ledger, wish: Mapping[str, Any]) -> str:
    """The paymentRequestId that is meant; the gateway's own id wins if both are there."""
    if wish.get("paymentId"):
        payment_id = read_id(wish, "paymentId")
        return ledger.request_id_of(payment_id) or f"paymentId {payment_id}"
    return read_id(wish, "paymentRequestId")


def _missing(switches: Switches) -> Body:
    return result("F", switches.missing_order, "order not exist")


def _life(wish: Mapping[str, Any], now: Ms) -> Ms | None:
    """The SDKs write paymentExpiryTime, the older documents paymentExpireTime."""
    text = wish.get("paymentExpiryTime") or wish.get("paymentExpireTime")
    if not text:
        return None
    try:
        life = (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1) - now
    except (TypeError, ValueError, OverflowError):  # also a time without an offset
        raise Illegal("paymentExpiryTime") from None
    if not 0 < life <= MAX_LIFE:
        raise Illegal("paymentExpiryTime")
    return life


def _notify_url(wish: Mapping[str, Any]) -> str | None:
    """The one in the request beats the account's: docs.antom.com/ac/ams/paymentrn_online."""
    url = wish.get("paymentNotifyUrl") or None
    if url is not None and not (isinstance(url, str) and re.match("https?://", url)):
        raise Illegal("paymentNotifyUrl")
    return url
