"""Our requests to the gateway, as bytes. Nothing here is sent; `worker.gateway` does that."""

import json
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from jobs.model import Money, Ms
from worker.messages import PAYMENT_REQUEST_ID, parse_amount
from worker.signature import Signed
from worker.strict_json import Json, Unreadable
from worker.times import MAX_TIME, format_seconds

Endpoint: TypeAlias = Literal["pay", "inquiryPayment", "cancel"]


def api_path(client_id: str, name: Endpoint) -> str:
    """The path to call and to sign; the client id chooses between sandbox and production."""
    prefix = "/ams/sandbox/api" if client_id.startswith("SANDBOX_") else "/ams/api"
    return f"{prefix}/v1/payments/{name}"


def request_headers(signed: Signed, signature: str, agent_token: str = "") -> dict[str, str]:
    """The headers of a request of ours (docs.antom.com/ac/ams/api_fund).

    `signed.time` is the time of sending in epoch ms; `agent_token` is sent only if there is one.
    """
    headers = {
        "Client-Id": signed.client_id,
        "Signature": signature,
        "Content-Type": "application/json; charset=UTF-8",
        "Request-Time": signed.time,
    }
    return headers | ({"Agent-Token": agent_token} if agent_token else {})


def inquiry_body(payment_request_id: str) -> bytes:
    """Asks by our id alone: were both ids given, the gateway would heed its own only."""
    return _wire({"paymentRequestId": payment_request_id})


def cancel_body(payment_request_id: str) -> bytes:
    """The same bytes every time, so a repeated cancel is the same request."""
    return _wire({"paymentRequestId": payment_request_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class PayRequest:
    """An Entry Code payment to be made (docs.antom.com/ac/ams/ec).

    Raises ValueError for a value that the gateway would refuse, naming the field.
    """

    payment_request_id: str
    amount: Money
    order_amount: Money | None = None  #: None: the same as `amount`
    reference_order_id: str
    order_description: str
    reference_merchant_id: str
    merchant_name: str
    merchant_mcc: str  #: merchant category code, ISO 18245: four digits
    reference_store_id: str
    store_name: str
    store_mcc: str
    user_agent: str  #: of the buyer's wallet: the gateway knows the wallet by it
    notify_url: str = ""  #: empty: added when it is sent
    redirect_url: str = ""
    expiry_time: Ms | None = None  #: None: as the contract says; sent in whole seconds
    settlement_currency: str = ""  #: needed when several settlement contracts apply

    def __post_init__(self) -> None:
        for name, (pattern, shape) in SHAPES.items():
            if not pattern.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be {shape}")
        _check_amount("amount", self.amount)
        _check_amount("order_amount", self.order_amount or self.amount)
        if self.expiry_time is not None and not 0 <= self.expiry_time <= MAX_TIME:
            raise ValueError("expiry_time must be epoch milliseconds")


def _check_amount(name: str, amount: Money) -> None:
    try:
        parse_amount(_amount(amount))
    except Unreadable:
        raise ValueError(f"{name} must be a currency of three letters and 1 to 16 digits") from None


def _text(limit: int) -> tuple[re.Pattern[str], str]:
    return re.compile(f"[^\0-\x1f\x7f\ud800-\udfff]{{1,{limit}}}"), f"1 to {limit} characters"


_URL = "https?://[!-~]{1,2040}"
SHAPES = {
    "payment_request_id": (PAYMENT_REQUEST_ID, "1 to 64 of letters, digits and _ . : -"),
    "reference_order_id": _text(64),
    "order_description": _text(256),
    "reference_merchant_id": _text(64),
    "merchant_name": _text(256),
    "merchant_mcc": (re.compile("[0-9]{4}"), "four digits"),
    "reference_store_id": _text(64),
    "store_name": _text(256),
    "store_mcc": (re.compile("[0-9]{4}"), "four digits"),
    "user_agent": _text(2048),
    "notify_url": (re.compile(f"({_URL})?"), "empty, or a URL of at most 2048 characters"),
    "redirect_url": (re.compile(f"({_URL})?"), "empty, or a URL of at most 2048 characters"),
    "settlement_currency": (re.compile("([A-Z]{3})?"), "empty, or three capital letters"),
}


def pay_body(request: PayRequest) -> bytes:
    """The body of `pay` for an Entry Code payment. Every value is a string, as the docs demand."""
    body: Json = {
        "productCode": "IN_STORE_PAYMENT",
        "paymentRequestId": request.payment_request_id,
        "paymentFactor": {"inStorePaymentScenario": "EntryCode"},
        "paymentMethod": {"paymentMethodType": "CONNECT_WALLET"},
        "paymentAmount": _amount(request.amount),
        "order": _order(request),
    }
    if request.notify_url:
        body["paymentNotifyUrl"] = request.notify_url
    if request.redirect_url:
        body["paymentRedirectUrl"] = request.redirect_url
    if request.expiry_time is not None:
        # Some documents write paymentExpireTime; every official client sends this name.
        body["paymentExpiryTime"] = format_seconds(request.expiry_time)
    if request.settlement_currency:
        body["settlementStrategy"] = {"settlementCurrency": request.settlement_currency}
    return _wire(body)


def finish_pay(form: str, notify_url: str | None, expiry_time: Ms) -> str:
    """The whole body, from the part of it that `pay_body` made of a merchant's own words.

    `notify_url` counts where the form has none; empty if neither is given, since the gateway
    demands one of an Entry Code payment.
    """
    body: Json = json.loads(form)
    if not body.setdefault("paymentNotifyUrl", notify_url):
        return ""
    body["paymentExpiryTime"] = format_seconds(expiry_time)
    return _wire(body).decode()


def _order(request: PayRequest) -> Json:
    return {
        "referenceOrderId": request.reference_order_id,
        "orderDescription": request.order_description,
        "orderAmount": _amount(request.order_amount or request.amount),
        "merchant": {
            "referenceMerchantId": request.reference_merchant_id,
            "merchantName": request.merchant_name,
            "merchantMCC": request.merchant_mcc,
            "store": {
                "referenceStoreId": request.reference_store_id,
                "storeName": request.store_name,
                "storeMCC": request.store_mcc,
            },
        },
        "env": {"userAgent": request.user_agent},
    }


def _amount(money: Money) -> dict[str, str]:
    return {"currency": money.currency, "value": str(money.value)}


def _wire(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
