"""What the gateway writes: JSON bodies, times, and the signature over them.

Written from the vendor's pages, not from this project's parser, so that one misunderstanding is
not shared by both sides.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from jobs.model import Money, Ms
from worker.mock_gateway.order import Notice, Order, Standing
from worker.signature import Signed, signature_header

Body: TypeAlias = dict[str, Any]

CONTENT_TYPE = "application/json; charset=UTF-8"  #: docs.antom.com/ac/ams/api_fund
BEIJING = timezone(timedelta(hours=8))  #: the gateway's samples write +08:00

_STATUS = {
    Standing.UNPAID: "PROCESSING",
    Standing.CONFIRMING: "PENDING",
    Standing.PAID: "SUCCESS",
    Standing.FAILED: "FAIL",
    Standing.CLOSED: "CANCELLED",
}
_MESSAGES = {
    "SUCCESS": "success",
    "ORDER_NOT_EXIST": "order not exist",
    "REQUEST_TRAFFIC_EXCEED_LIMIT": "The request traffic exceeds the limit.",
    "UNKNOWN_EXCEPTION": "An API call has failed, which is caused by unknown reasons.",
    "USER_BALANCE_NOT_ENOUGH": "user balance not enough",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Somebody who signs for a client id: the gateway, or an attacker who would like to be it."""

    client_id: str
    key: RSAPrivateKey
    key_version: int
    encoding: Literal["upper", "lower", "plain"] = "upper"

    def headers(self, path: str, time_name: str, time: str, body: bytes) -> dict[str, str]:
        """The headers of a signed message, the time under `time_name`."""
        signed = Signed(path, self.client_id, time, body)
        header = signature_header(signed, self.key, self.key_version)
        return {
            "Content-Type": CONTENT_TYPE,
            "Client-Id": self.client_id,
            time_name: time,
            "Signature": _recode(header, self.encoding),
        }


def _recode(header: str, encoding: str) -> str:
    match encoding:
        case "lower":
            return re.sub(r"%[0-9A-F]{2}", lambda each: each[0].lower(), header)
        case "plain":
            return unquote(header)
        case _:
            return header


def to_bytes(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def to_time(ms: Ms) -> str:
    """`2019-05-28T12:12:14+08:00`: whole seconds, as the samples of bodies and answers are."""
    return datetime.fromtimestamp(ms // 1000, BEIJING).isoformat()


def to_request_time(ms: Ms) -> str:
    """`2019-07-12T12:08:56.253+08:00`, as the sample of a notification's header."""
    exact = datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)
    return exact.astimezone(BEIJING).isoformat(timespec="milliseconds")


def result(status: str, code: str, message: str | None = None) -> Body:
    """A body with a `result` and nothing else: what every answer that is not S is."""
    text = message or _MESSAGES.get(code) or code.replace("_", " ").lower()
    return {"result": {"resultCode": code, "resultStatus": status, "resultMessage": text}}


def pay_answer(order: Order) -> Body:
    """The Entry Code order exists; nothing is paid: docs.antom.com/ac/ams/ec."""
    return result("S", "SUCCESS") | {
        "paymentRequestId": order.payment_request_id,
        "paymentId": order.payment_id,
        "paymentAmount": _amount(order.amount),
        "paymentCreateTime": to_time(order.created_at),
        "redirectActionForm": {
            "method": "GET",
            "redirectUrl": f"https://cashier.invalid/pay?paymentId={order.payment_id}",
        },
    }


def inquiry_answer(order: Order, spelling: str = "SUCCESS") -> Body:
    """How the order stands, its paymentStatus in the given spelling of SUCCESS.

    docs.antom.com/ac/ams/paymentri_online. The paymentResultCode says as little of the payment as
    the vendor's own mocks do.
    """
    status = _payment_status(order)
    body = result("S", "SUCCESS") | {
        "paymentStatus": status if spelling.isupper() else status.capitalize(),
        "paymentResultCode": "SUCCESS" if status == "SUCCESS" else "UNKNOWN_EXCEPTION",
        "paymentResultMessage": status.lower(),
        "paymentRequestId": order.payment_request_id,
        "paymentId": order.payment_id,
        "paymentAmount": _amount(order.amount if order.paid_at is None else order.paid_amount),
        "paymentCreateTime": to_time(order.created_at),
        "transactions": _transactions(order),
    }
    if status == "SUCCESS" and order.paid_at is not None:
        body["paymentTime"] = to_time(order.paid_at)
    return body


def cancel_answer(order: Order, now: Ms) -> Body:
    """docs.antom.com/ac/ams/paymentc_online"""
    return result("S", "SUCCESS") | {
        "paymentRequestId": order.payment_request_id,
        "paymentId": order.payment_id,
        "cancelTime": to_time(now),
    }


def notification(notice: Notice) -> Body:
    """docs.antom.com/ac/ams/paymentrn_online: there is no paymentStatus in a notification."""
    order = notice.order
    body = result(notice.status, notice.code) | {
        "notifyType": notice.notify_type,
        "paymentRequestId": order.payment_request_id,
        "paymentId": order.payment_id,
        "paymentAmount": _amount(order.amount if order.paid_at is None else order.paid_amount),
        "paymentCreateTime": to_time(order.created_at),
    }
    if (notice.notify_type, notice.status) == ("PAYMENT_RESULT", "S"):
        body["paymentTime"] = to_time(order.paid_at or notice.at)
    return body


def claiming(body: Mapping[str, Any], status: str) -> Body:
    """An inquiry answer that says the payment has this status, whatever is true."""
    return dict(body) | {"paymentStatus": status, "paymentResultCode": status}


def _payment_status(order: Order) -> str:
    if order.returned is not None:
        # A cancel makes the payment CANCELLED; a refund leaves it SUCCESS with a transaction.
        return "CANCELLED" if order.returned.kind == "CANCEL" else "SUCCESS"
    return _STATUS[order.standing]


def _transactions(order: Order) -> list[Body] | None:
    if order.returned is None:
        return None
    return [
        {
            "transactionType": order.returned.kind,
            "transactionStatus": "SUCCESS",
            "transactionId": f"{order.payment_id}1",
            "transactionAmount": _amount(order.paid_amount),
            "transactionTime": to_time(order.returned.at),
            "transactionResult": result("S", "SUCCESS")["result"],
        }
    ]


def _amount(money: Money) -> Body:
    return {"currency": money.currency, "value": str(money.value)}
