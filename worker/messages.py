"""The gateway's messages: wire JSON to the values of `jobs.news`.

The gateway's spelling stops here and in `worker.requests`: no `resultStatus` is seen elsewhere.
Bytes come in only after their signature was verified: what cannot be read is odd, not forged.

Notifications are read strictly: an odd one is set aside, and the payment is asked about instead.
Answers are all there is to ask, so two slips of the gateway's own samples are taken in them: a
whole number where a string belongs, and a time that cannot be read.
"""

import re
from dataclasses import replace

from jobs.model import Money, Ms
from jobs.news import (
    Call,
    CancelAnswer,
    GatewayStatus,
    InquiryAnswer,
    Notification,
    NotifyKind,
    OtherKind,
    PayAnswer,
    Return,
    Unusable,
)
from worker.strict_json import Json, Unreadable, parse_object
from worker.times import parse_time

PAYMENT_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  #: ours: safe in keys, logs and URLs
PAYMENT_ID = re.compile(r"[!-~]{1,64}")  #: the gateway's: at most 64 characters, never parsed

#: The answer to every genuine notification: it means "received", also for a failed payment, and
#: need not be signed (docs.antom.com/ac/ams/paymentrn_online).
ACK = b'{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'

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


def parse_pay_answer(body: bytes, asked_at: Ms, answered_at: Ms | None) -> PayAnswer:
    """What the gateway answered to `pay` (docs.antom.com/ac/ams/ec).

    S means that the order exists, and U may: both say where the buyer pays. There is no
    paymentStatus, and no answer to `pay` says that anybody paid.
    """
    said, call, code = _answer(body)
    answer = PayAnswer(asked_at=asked_at, answered_at=answered_at, call=call, code=code)
    if call not in (Call.OK, Call.UNKNOWN):
        return answer
    method, url = _redirect(said)
    return replace(
        answer,
        payment_request_id=_answered_request_id(said),
        payment_id=_optional(PAYMENT_ID, said.get("paymentId"), "payment_id"),
        amount=_optional_amount(said.get("paymentAmount")),
        created_at=_answered_time(said.get("paymentCreateTime")),
        redirect_url=url,
        redirect_method=method,
    )


def _redirect(said: Json) -> tuple[str, str]:
    """Method and URL; Entry Code has a form, other products `normalUrl`. Empty: neither."""
    form = said.get("redirectActionForm")
    if form is None:
        form = {"redirectUrl": said.get("normalUrl")}
    if not isinstance(form, dict):
        raise Unreadable("redirect")
    url = _optional(_REDIRECT_URL, form.get("redirectUrl"), "redirect")
    method = _optional(_METHOD, form.get("method"), "redirect") or "GET"
    return (method, url) if url else ("", "")


#: A wallet may be called by a scheme of its own.
_REDIRECT_URL = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[!-~]{1,2040}")
_METHOD = re.compile(r"[A-Z]{1,8}")


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
