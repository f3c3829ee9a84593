"""The gateway's messages: wire JSON to the values of `jobs.news`, and our requests to wire JSON.

The gateway's spelling stops here: no `paymentRequestId` or `resultStatus` is seen elsewhere. Bytes
come in only after their signature was verified, so what cannot be read here is odd, not forged.

Notifications are read strictly: an odd one is set aside, and the payment is asked about instead.
Answers are all there is to ask, so two slips of the gateway's own samples are taken in them: a
whole number where a string belongs, and a time that cannot be read.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NoReturn, TypeAlias

from jobs.model import Money, Ms
from jobs.news import (
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    Notification,
    NotifyKind,
    OtherKind,
    Return,
    Unusable,
)
from worker.signature import Signed

Json: TypeAlias = dict[str, Any]

PAYMENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  #: ours: safe in keys, logs and URLs
PAYMENT_ID = re.compile(r"[!-~]{1,64}")  #: the gateway's: at most 64 characters, never parsed

MAX_NESTING = 16  #: real messages nest five deep; keeps the JSON parser's recursion shallow
MAX_INT_DIGITS = 20  #: as long as a paymentId sent as a number; longer ones only cost time


class Unreadable(ValueError):
    """A message that cannot be understood. `why` is one of a few fixed words, safe to log."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


# Notifications


def parse_notification(
    body: bytes, sent_at: Ms | None, received_at: Ms, client_id: str
) -> Notification | Unusable | OtherKind:
    """What a notification says (docs.antom.com/ac/ams/paymentrn_online).

    `sent_at` is its request-time, None if that cannot be read. `Unusable` still names its payment;
    `Unreadable` is raised for one that does not. A kind that is no word is `?`.
    """
    said = parse_object(body)
    kind = said.get("notifyType")
    payment_request_id = _matching(PAYMENT_REQUEST_ID, said.get("paymentRequestId"))
    if kind not in _KINDS:
        return OtherKind(kind=_word(kind), payment_request_id=payment_request_id or "")
    if payment_request_id is None:
        raise Unreadable("payment_request_id")
    try:
        return _notification(said, sent_at, received_at, client_id)
    except Unreadable as unreadable:
        return Unusable(payment_request_id=payment_request_id, why=unreadable.why)


_KINDS = tuple(NotifyKind)


def _notification(said: Json, sent_at: Ms | None, received_at: Ms, client_id: str) -> Notification:
    result = _result(said)
    notification = Notification(
        kind=NotifyKind(said["notifyType"]),
        client_id=client_id,
        payment_request_id=said["paymentRequestId"],
        status=_required(_RESULT_STATUS, result.get("resultStatus"), "result_status"),
        code=_word(result.get("resultCode")),
        payment_id=_optional(PAYMENT_ID, said.get("paymentId"), "payment_id"),
        amount=_optional_amount(said.get("paymentAmount")),
        created_at=_notified_time(said.get("paymentCreateTime")),
        paid_at=_notified_time(said.get("paymentTime")),
        sent_at=sent_at,
        received_at=received_at,
    )
    success = notification.kind is NotifyKind.RESULT and notification.status == "S"
    if success and notification.amount is None:
        raise Unreadable("amount")  # a success that does not say of how much proves nothing
    return notification


def _notified_time(value: object) -> Ms | None:
    """A time may be absent, but not wrong: it decides whether a payment came too late."""
    time = _answered_time(value)
    if time is None and value is not None:
        raise Unreadable("time")
    return time


# Answers


def parse_inquiry_answer(body: bytes, asked_at: Ms, answered_at: Ms | None) -> InquiryAnswer:
    """What the gateway answered to `inquiryPayment` (docs.antom.com/ac/ams/paymentri_online).

    `result` is about the call and `paymentStatus` about the payment. Only a call that worked says
    anything about the payment: of any other the rest is not read.
    """
    said, call, code = _answer(body)
    answer = InquiryAnswer(asked_at=asked_at, answered_at=answered_at, call=call, code=code)
    if call is not Call.OK:
        return answer
    return replace(
        answer,
        payment_status=_payment_status(said.get("paymentStatus")),
        payment_request_id=_answered_request_id(said),
        payment_id=_optional(PAYMENT_ID, said.get("paymentId"), "payment_id"),
        amount=_optional_amount(said.get("paymentAmount")),
        created_at=_answered_time(said.get("paymentCreateTime")),
        paid_at=_answered_time(said.get("paymentTime")),
        returns=_returns(said.get("transactions")),
    )


def parse_cancel_answer(body: bytes, asked_at: Ms, answered_at: Ms | None) -> CancelAnswer:
    """What the gateway answered to `cancel` (docs.antom.com/ac/ams/paymentc_online)."""
    said, call, code = _answer(body)
    answer = CancelAnswer(asked_at=asked_at, answered_at=answered_at, call=call, code=code)
    if call is not Call.OK:
        return answer
    return replace(
        answer,
        payment_request_id=_answered_request_id(said),
        payment_id=_optional(PAYMENT_ID, said.get("paymentId"), "payment_id"),
    )


def _answer(body: bytes) -> tuple[Json, Call, str]:
    """The body, and what became of the call."""
    said = parse_object(body, ints_as_text=True)
    result = _result(said)
    code = _word(result.get("resultCode"))
    return said, _call(result.get("resultStatus"), code), code


def _call(status: object, code: str) -> Call:
    """The class by resultStatus; the code, an open list, only refines an F.

    A message is never read: a PROCESS_FAIL that says "order not exist" is any other refusal.
    """
    if status == "S":
        return Call.OK
    if status != "F":
        return Call.UNKNOWN
    if code in _MISCONFIGURED:
        return Call.MISCONFIGURED
    return _REFUSALS.get(code, Call.REFUSED)


_REFUSALS = {"ORDER_NOT_EXIST": Call.NOT_EXIST, "CANCEL_WINDOW_EXCEED": Call.WINDOW_EXCEEDED}
#: Keys, client id, contract or token: the same request will be refused until a person acts.
_MISCONFIGURED = frozenset(
    {
        "ACCESS_DENIED",
        "CLIENT_FORBIDDEN_ACCESS_API",
        "CLIENT_INVALID",
        "EXPIRED_AGENT_TOKEN",
        "INVALID_ACCESS_TOKEN",
        "INVALID_AGENT_TOKEN",
        "INVALID_API",
        "INVALID_CLIENT",
        "INVALID_CLIENT_STATUS",
        "INVALID_SIGNATURE",
        "KEY_NOT_FOUND",
        "MEDIA_TYPE_NOT_ACCEPTABLE",
        "METHOD_NOT_SUPPORTED",
        "NO_INTERFACE_DEF",
        "OAUTH_FAILED",
        "SIGNATURE_INVALID",
        "UNKNOWN_CLIENT",
    }
)


def _payment_status(value: object) -> GatewayStatus:
    """Compared without case: the gateway's own sample prints `Success`."""
    try:
        return GatewayStatus(_word(_upper(value)))
    except ValueError:
        return GatewayStatus.UNKNOWN


def _returns(transactions: object) -> tuple[Return, ...]:
    """The transactions that give money back. `transactions` may be absent or null."""
    if transactions is None:
        return ()
    if not isinstance(transactions, list):
        raise Unreadable("transactions")
    returns = (_return(transaction) for transaction in transactions)
    return tuple(back for back in returns if back is not None)


def _return(transaction: object) -> Return | None:
    """Money that goes back, or None. One under way counts: a payment half returned is not paid.

    A return whose status is no word of the protocol makes the answer unreadable, for it would
    be a guess either way.
    """
    if not isinstance(transaction, dict):
        raise Unreadable("transactions")
    kind = _word(_upper(transaction.get("transactionType")))
    if kind not in _GIVES_BACK:
        return None
    status = _payment_status(transaction.get("transactionStatus"))
    if status is GatewayStatus.UNKNOWN:
        raise Unreadable("transactions")
    if status in (GatewayStatus.FAIL, GatewayStatus.CANCELLED):
        return None
    return Return(kind, _optional_amount(transaction.get("transactionAmount")))


_GIVES_BACK = ("REFUND", "CANCEL", "VOID")


def _answered_request_id(said: Json) -> str:
    return _optional(PAYMENT_REQUEST_ID, said.get("paymentRequestId"), "payment_request_id")


def _answered_time(value: object) -> Ms | None:
    return parse_time(value) if isinstance(value, str) else None


# Requests

Endpoint: TypeAlias = Literal["pay", "inquiryPayment", "cancel"]

#: The answer to every genuine notification: it means "received", also for a failed payment, and
#: need not be signed (docs.antom.com/ac/ams/paymentrn_online).
ACK = b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'


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
    notify_url: str
    redirect_url: str = ""
    expiry_time: Ms | None = None  #: None: as the contract says; sent in whole seconds
    settlement_currency: str = ""  #: needed when several settlement contracts apply

    def __post_init__(self) -> None:
        for name, (pattern, shape) in _SHAPES.items():
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
_SHAPES = {
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
    "notify_url": (re.compile(_URL), "an http or https URL of at most 2048 characters"),
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
        "paymentNotifyUrl": request.notify_url,
    }
    if request.redirect_url:
        body["paymentRedirectUrl"] = request.redirect_url
    if request.expiry_time is not None:
        # Some documents write paymentExpireTime; every official client sends this name.
        body["paymentExpiryTime"] = _seconds(request.expiry_time)
    if request.settlement_currency:
        body["settlementStrategy"] = {"settlementCurrency": request.settlement_currency}
    return _wire(body)


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


# Fields


def parse_amount(value: object) -> Money:
    """`{"currency": "USD", "value": "599"}`: a string of the smallest unit, never zero.

    docs.antom.com/ac/ref/cc
    """
    if not isinstance(value, dict):
        raise Unreadable("amount")
    currency = _required(_CURRENCY, value.get("currency"), "amount")
    return Money(currency, int(_required(_MINOR_UNITS, value.get("value"), "amount")))


_CURRENCY = re.compile(r"[A-Z]{3}")
_MINOR_UNITS = re.compile(r"[1-9][0-9]{0,15}")
_RESULT_STATUS = re.compile(r"[SFU]")
_WORD = re.compile(r"[A-Z0-9_]{1,64}")


def _optional_amount(value: object) -> Money | None:
    return None if value is None else parse_amount(value)


def _result(said: Json) -> Json:
    result = said.get("result")
    if not isinstance(result, dict):
        raise Unreadable("result")
    return result


def _word(value: object) -> str:
    """A code of the gateway as it may stand in a record or a log; `?` for anything else."""
    return _matching(_WORD, value) or "?"


def _upper(value: object) -> object:
    """In capitals, if it is ASCII: other scripts have letters that become ASCII ones."""
    return value.upper() if isinstance(value, str) and value.isascii() else value


def _optional(pattern: re.Pattern[str], value: object, why: str) -> str:
    return "" if value is None or value == "" else _required(pattern, value, why)


def _required(pattern: re.Pattern[str], value: object, why: str) -> str:
    text = _matching(pattern, value)
    if text is None:
        raise Unreadable(why)
    return text


def _matching(pattern: re.Pattern[str], value: object) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


# Times

#: 9999-12-31T23:59:59.999Z. Times from 1970 to here can be printed, and are exact in a double.
MAX_TIME: Ms = 253_402_300_799_999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH_MS = re.compile(r"[1-9][0-9]{12}")
_HOUR, _MINUTE = "(?:[01][0-9]|2[0-3])", "[0-5][0-9]"
_ISO_8601 = re.compile(
    f"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T{_HOUR}:{_MINUTE}:{_MINUTE})"
    rf"(?:\.([0-9]{{1,9}}))?(?:Z|([+-])({_HOUR}):?({_MINUTE}))"
)


def parse_time(text: str) -> Ms | None:
    """A time in any format known from the gateway and its official clients, or None.

    Epoch milliseconds, or ISO 8601 with an offset, with or without colon, and up to nine decimals
    (cut, not rounded). A time without an offset could be anywhere in a day: it is no time.
    """
    if _EPOCH_MS.fullmatch(text):
        return int(text)
    iso = _ISO_8601.fullmatch(text)
    if iso is None:
        return None
    date_and_time, fraction, sign, hours, minutes = iso.groups()
    try:
        local = datetime.fromisoformat(date_and_time).replace(tzinfo=UTC)
    except ValueError:  # no such day
        return None
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) // _MILLISECOND
    time = (local - _EPOCH) // _MILLISECOND + int(f"{fraction or '':0<3}"[:3])
    time += offset if sign == "-" else -offset
    return time if 0 <= time <= MAX_TIME else None


def format_time(ms: Ms) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-01-02T03:04:05.678Z`. From 1970 to 9999."""
    return f"{_EPOCH + ms * _MILLISECOND:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def _seconds(ms: Ms) -> str:
    """As the gateway's documents write a time: ISO 8601 in seconds, never later than `ms`."""
    return f"{_EPOCH + ms * _MILLISECOND:%Y-%m-%dT%H:%M:%S}+00:00"


# Strict JSON


def parse_object(body: bytes, *, ints_as_text: bool = False) -> Json:
    """The JSON object in `body`, or `Unreadable` where two readers could see two things.

    Refused: anything but UTF-8, duplicate keys, NaN and Infinity, numbers out of all proportion,
    text with NUL or half a surrogate pair, nesting beyond `MAX_NESTING`. Takes linear time.
    Decimals become `Decimal`, never float; whole numbers become int, or their digits if
    `ints_as_text`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Unreadable("utf8") from None
    _check_nesting(text)
    whole: Callable[[str], int | str] = _digits if ints_as_text else _int
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=whole,
            parse_float=_decimal,
            parse_constant=_refuse_number,
        )
    except json.JSONDecodeError:
        raise Unreadable("json") from None
    if not isinstance(value, dict):
        raise Unreadable("not_object")
    _check_text(value)
    return value


#: Every part may be missing, so that a match never fails and never starts over: linear time.
_STRING = re.compile(r'"(?:[^"\\]+|\\.?)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_BAD_TEXT = re.compile("[\0\ud800-\udfff]")
#: Rates have decimals, also those of a double printed in full; an exponent of three digits is none.
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,2})?")


def _check_nesting(text: str) -> None:
    """Before parsing, since the parser recurses. Brackets in strings do not count."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_NESTING:
            raise Unreadable("nesting")


def _check_text(value: object) -> None:
    """Escapes can smuggle in what the bytes could not hold."""
    if isinstance(value, str):
        if _BAD_TEXT.search(value):
            raise Unreadable("text")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_text(name)
            _check_text(item)
    elif isinstance(value, list):
        for item in value:
            _check_text(item)


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("duplicate_key")
    return members


def _int(text: str) -> int:
    return int(_digits(text))


def _digits(text: str) -> str:
    if len(text.lstrip("-")) > MAX_INT_DIGITS:
        raise Unreadable("number")
    return text


def _decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise Unreadable("number")
    return Decimal(text)


def _refuse_number(_: str) -> NoReturn:
    raise Unreadable("number")
