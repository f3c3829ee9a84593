"""What the gateway says is understood exactly, or set aside; what we say is what it expects."""

import dataclasses
import json
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.model import Money
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
from tests.keys import CLIENT_ID
from worker.messages import (
    ACK,
    parse_amount,
    parse_cancel_answer,
    parse_inquiry_answer,
    parse_notification,
    parse_pay_answer,
)
from worker.requests import (
    Endpoint,
    PayRequest,
    api_path,
    cancel_body,
    finish_pay,
    inquiry_body,
    pay_body,
    request_headers,
)
from worker.signature import Signed
from worker.strict_json import Json, Unreadable, parse_object
from worker.times import MAX_TIME, format_time, parse_time

ABSENT: Any = object()
SENT, RECEIVED = 1_577_851_262_000, 1_577_851_263_000
ASKED, ANSWERED = 1_577_851_264_000, 1_577_851_265_000


def body(message: Json, **changes: Any) -> bytes:
    """The message as JSON, some of its fields changed or taken away."""
    fields = {name: value for name, value in (message | changes).items() if value is not ABSENT}
    return json.dumps(fields).encode()


def result(status: Any, code: Any = "SUCCESS") -> Json:
    return {"resultStatus": status, "resultCode": code, "resultMessage": "order not exist"}


def unreadable(body: bytes) -> str:
    with pytest.raises(Unreadable) as error:
        parse_object(body)
    assert error.value.remedy, "who wrote it is told what to write instead"
    return error.value.why


# Notifications

PAID: Json = {
    "notifyType": "PAYMENT_RESULT",
    "result": result("S"),
    "paymentRequestId": "pay_test_1106_0002",
    "paymentId": "20200101234567890132",
    "paymentAmount": {"value": "8000", "currency": "EUR"},
    "paymentCreateTime": "2020-01-01T12:01:00+08:30",
    "paymentTime": "2020-01-01T12:01:01+08:30",
}
NOTIFIED = Notification(
    kind=NotifyKind.RESULT,
    client_id=CLIENT_ID,
    payment_request_id="pay_test_1106_0002",
    status="S",
    code="SUCCESS",
    payment_id="20200101234567890132",
    amount=Money("EUR", 8000),
    created_at=1_577_849_460_000,
    paid_at=1_577_849_461_000,
    sent_at=SENT,
    received_at=RECEIVED,
)


def notified(**changes: Any) -> Notification | Unusable | OtherKind:
    return parse_notification(body(PAID, **changes), SENT, RECEIVED, CLIENT_ID)


NOTIFICATIONS: dict[str, tuple[Json, dict[str, Any]]] = {
    "paid": ({}, {}),
    "failed": (
        {"result": result("F", "USER_BALANCE_NOT_ENOUGH")},
        {"status": "F", "code": "USER_BALANCE_NOT_ENOUGH"},
    ),
    "unknown": ({"result": result("U")}, {"status": "U"}),
    "pending, which carries S too": (
        {"notifyType": "PAYMENT_PENDING"},
        {"kind": NotifyKind.PENDING},
    ),
    "unknown fields": ({"__proto__": 1, "paymentQuote": {"quotePrice": 0.064622}}, {}),
    "unknown field in the amount": (
        {"paymentAmount": {"value": "8000", "currency": "EUR", "scale": 2}},
        {},
    ),
    "no paymentId": ({"paymentId": ABSENT}, {"payment_id": ""}),
    "empty paymentId": ({"paymentId": ""}, {"payment_id": ""}),
    "no times": (
        {"paymentCreateTime": ABSENT, "paymentTime": None},
        {"created_at": None, "paid_at": None},
    ),
    "failed without amount": (
        {"result": result("F"), "paymentAmount": ABSENT},
        {"status": "F", "amount": None},
    ),
    "pending without amount": (
        {"notifyType": "PAYMENT_PENDING", "paymentAmount": None},
        {"kind": NotifyKind.PENDING, "amount": None},
    ),
    "no code": ({"result": {"resultStatus": "S"}}, {"code": "?"}),
    "code that would break a log": ({"result": result("S", "X\n{}")}, {"code": "?"}),
    "code of 65 characters": ({"result": result("S", "X" * 65)}, {"code": "?"}),
    "code of 64 characters": ({"result": result("S", "X" * 64)}, {"code": "X" * 64}),
    "longest id": ({"paymentRequestId": "x" * 64}, {"payment_request_id": "x" * 64}),
    "id of every character": (
        {"paymentRequestId": "aZ0_.:-"},
        {"payment_request_id": "aZ0_.:-"},
    ),
    "longest paymentId": ({"paymentId": "~" * 64}, {"payment_id": "~" * 64}),
    "largest amount": (
        {"paymentAmount": {"value": "9" * 16, "currency": "JPY"}},
        {"amount": Money("JPY", 9_999_999_999_999_999)},
    ),
}


@pytest.mark.parametrize("changes, expected", NOTIFICATIONS.values(), ids=NOTIFICATIONS)
def test_a_notification_is_read(changes: Json, expected: dict[str, Any]) -> None:
    assert notified(**changes) == dataclasses.replace(NOTIFIED, **expected)


UNUSABLE: dict[str, tuple[str, Json]] = {
    "no result": ("result", {"result": ABSENT}),
    "result a text": ("result", {"result": "S"}),
    "no status": ("result_status", {"result": {"resultCode": "SUCCESS"}}),
    "status X": ("result_status", {"result": result("X")}),
    "status s": ("result_status", {"result": result("s")}),
    "status true": ("result_status", {"result": result(True)}),
    "status a list": ("result_status", {"result": result(["S"])}),
    "status with a line feed": ("result_status", {"result": result("S\n")}),
    "no amount": ("amount", {"paymentAmount": ABSENT}),
    "amount null": ("amount", {"paymentAmount": None}),
    "paymentId a number": ("payment_id", {"paymentId": 20200101}),
    "paymentId with a blank": ("payment_id", {"paymentId": "2020 0101"}),
    "paymentId not ASCII": ("payment_id", {"paymentId": "２０２０"}),
    "paymentId of 65 characters": ("payment_id", {"paymentId": "1" * 65}),
    "no such day": ("time", {"paymentTime": "2020-02-30T12:01:01+08:30"}),
    "time without offset": ("time", {"paymentTime": "2020-01-01T12:01:01"}),
    "24 o'clock": ("time", {"paymentTime": "2020-01-01T24:00:00Z"}),
    "leap second": ("time", {"paymentTime": "2020-01-01T23:59:60Z"}),
    "time empty": ("time", {"paymentTime": ""}),
    "time a number": ("time", {"paymentTime": 1577849461000}),
    "creation time unreadable": ("time", {"paymentCreateTime": "yesterday"}),
}
BAD_AMOUNTS: dict[str, Any] = {
    "a number": {"value": 8000, "currency": "EUR"},
    "a decimal": {"value": 80.00, "currency": "EUR"},
    "a decimal text": {"value": "8000.0", "currency": "EUR"},
    "negative": {"value": "-8000", "currency": "EUR"},
    "signed": {"value": "+8000", "currency": "EUR"},
    "with an exponent": {"value": "8e3", "currency": "EUR"},
    "with a blank": {"value": " 8000", "currency": "EUR"},
    "with a line feed": {"value": "8000\n", "currency": "EUR"},
    "with a separator": {"value": "8_000", "currency": "EUR"},
    "in full-width digits": {"value": "８０００", "currency": "EUR"},
    "of 17 digits": {"value": "1" * 17, "currency": "EUR"},
    "with a leading zero": {"value": "08000", "currency": "EUR"},
    "zero": {"value": "0", "currency": "EUR"},
    "empty": {"value": "", "currency": "EUR"},
    "without value": {"currency": "EUR"},
    "true": {"value": True, "currency": "EUR"},
    "without currency": {"value": "8000"},
    "in small letters": {"value": "8000", "currency": "eur"},
    "of four letters": {"value": "8000", "currency": "EURO"},
    "of another script": {"value": "8000", "currency": "ЕUR"},
    "a text": "EUR 8000",
    "a list": ["EUR", "8000"],
}
UNUSABLE |= {
    f"amount {name}": ("amount", {"paymentAmount": amount}) for name, amount in BAD_AMOUNTS.items()
}


@pytest.mark.parametrize("why, changes", UNUSABLE.values(), ids=UNUSABLE)
def test_a_notification_not_to_be_understood_still_names_its_payment(
    why: str, changes: Json
) -> None:
    assert notified(**changes) == Unusable(payment_request_id="pay_test_1106_0002", why=why)


BAD_IDS: dict[str, Any] = {
    "absent": ABSENT,
    "null": None,
    "empty": "",
    "a number": 102775745075669,
    "a list": ["x"],
    "65 characters": "x" * 65,
    "path": "../../etc",
    "glob": "*",
    "blank": "a b",
    "CR LF": "x\r\n",
    "line feed at the end": "x\n",
    "log line": 'x\n{"event":"fake"}',
    "escape sequence": "\x1b[31m",
    "other digits": "\u0661\u0662",
}


@pytest.mark.parametrize("name", BAD_IDS.values(), ids=BAD_IDS)
def test_a_notification_that_names_no_payment_is_unreadable(name: Any) -> None:
    with pytest.raises(Unreadable, match="^payment_request_id$"):
        notified(paymentRequestId=name)


@pytest.mark.parametrize(
    "kind, known_as",
    [
        ("CAPTURE_RESULT", "CAPTURE_RESULT"),
        ("REFUND_RESULT", "REFUND_RESULT"),
        ("UPDATE_AMOUNT_RESULT", "UPDATE_AMOUNT_RESULT"),
        ("AAA", "AAA"),
        ("payment_result", "?"),
        ("PAYMENT_RESULT\n", "?"),
        ("", "?"),
        (ABSENT, "?"),
        (None, "?"),
        (["PAYMENT_RESULT"], "?"),
        ({}, "?"),
        (1, "?"),
    ],
)
def test_a_kind_that_is_not_ours_is_told_apart(kind: Any, known_as: str) -> None:
    assert notified(notifyType=kind) == OtherKind(
        kind=known_as, payment_request_id="pay_test_1106_0002"
    )


@pytest.mark.parametrize("name", BAD_IDS.values(), ids=BAD_IDS)
def test_a_kind_that_is_not_ours_may_name_no_payment(name: Any) -> None:
    kind = {"notifyType": "CAPTURE_RESULT", "result": ABSENT}
    assert notified(**kind, paymentRequestId=name) == OtherKind(
        kind="CAPTURE_RESULT", payment_request_id=""
    )


def test_an_unreadable_request_time_is_none_and_no_fault() -> None:
    said = parse_notification(body(PAID), None, RECEIVED, CLIENT_ID)
    assert said == dataclasses.replace(NOTIFIED, sent_at=None)


# Answers

INQUIRED: Json = {
    "result": result("S"),
    "paymentStatus": "SUCCESS",
    "paymentRequestId": "pay_test_1106_0002",
    "paymentId": "20200101234567890132",
    "paymentAmount": {"value": "8000", "currency": "EUR"},
    "paymentCreateTime": "2020-01-01T12:01:00+08:30",
    "paymentTime": "2020-01-01T12:01:01+08:30",
}
ANSWER = InquiryAnswer(
    asked_at=ASKED,
    answered_at=ANSWERED,
    call=Call.OK,
    code="SUCCESS",
    payment_status=GatewayStatus.SUCCESS,
    payment_request_id="pay_test_1106_0002",
    payment_id="20200101234567890132",
    amount=Money("EUR", 8000),
    created_at=1_577_849_460_000,
    paid_at=1_577_849_461_000,
)


def inquired(**changes: Any) -> InquiryAnswer:
    return parse_inquiry_answer(body(INQUIRED, **changes), ASKED, ANSWERED)


ANSWERS: dict[str, tuple[Json, dict[str, Any]]] = {
    "paid": ({}, {}),
    "Success, as a sample prints it": ({"paymentStatus": "Success"}, {}),
    "failed": ({"paymentStatus": "FAIL"}, {"payment_status": GatewayStatus.FAIL}),
    "cancelled": ({"paymentStatus": "CANCELLED"}, {"payment_status": GatewayStatus.CANCELLED}),
    "processing": ({"paymentStatus": "processing"}, {"payment_status": GatewayStatus.PROCESSING}),
    "pending": ({"paymentStatus": "PENDING"}, {"payment_status": GatewayStatus.PENDING}),
    "unknown status": ({"paymentStatus": "CLOSED"}, {"payment_status": GatewayStatus.UNKNOWN}),
    "status ?": ({"paymentStatus": "?"}, {"payment_status": GatewayStatus.UNKNOWN}),
    "status true": ({"paymentStatus": True}, {"payment_status": GatewayStatus.UNKNOWN}),
    "status in another script": (
        {"paymentStatus": "\u017fuccess"},
        {"payment_status": GatewayStatus.UNKNOWN},
    ),
    "no status": ({"paymentStatus": ABSENT}, {"payment_status": GatewayStatus.UNKNOWN}),
    "a payment result code says nothing": ({"paymentResultCode": "UNKNOWN_EXCEPTION"}, {}),
    "no amount": ({"paymentAmount": ABSENT}, {"amount": None}),
    "amount a number": ({"paymentAmount": {"value": 8000, "currency": "EUR"}}, {}),
    "paymentId a number": ({"paymentId": 20200101234567890132}, {}),
    "paymentRequestId a number": ({"paymentRequestId": 102775}, {"payment_request_id": "102775"}),
    "no ids": (
        {"paymentRequestId": ABSENT, "paymentId": None},
        {"payment_request_id": "", "payment_id": ""},
    ),
    "unreadable times": (
        {"paymentCreateTime": "yesterday", "paymentTime": ["now"]},
        {"created_at": None, "paid_at": None},
    ),
    "time a number": ({"paymentTime": 1577849461000}, {}),
    "unknown fields": ({"quotePrice": 0.064622, "metadata": {"a": [1, None]}}, {}),
    "no transactions": ({"transactions": None}, {}),
    "no transaction": ({"transactions": []}, {}),
}


@pytest.mark.parametrize("changes, expected", ANSWERS.values(), ids=ANSWERS)
def test_an_inquiry_answer_is_read(changes: Json, expected: dict[str, Any]) -> None:
    assert inquired(**changes) == dataclasses.replace(ANSWER, **expected)


def transaction(kind: Any, status: Any = "SUCCESS", amount: Any = "3000") -> Json:
    money = None if amount is None else {"currency": "EUR", "value": amount}
    return {"transactionType": kind, "transactionStatus": status, "transactionAmount": money}


BACK = Money("EUR", 3000)
RETURNS: dict[str, tuple[list[Json], tuple[Return, ...]]] = {
    "refund": ([transaction("REFUND")], (Return("REFUND", BACK),)),
    "cancel": ([transaction("CANCEL")], (Return("CANCEL", BACK),)),
    "void": ([transaction("VOID")], (Return("VOID", BACK),)),
    "mixed case": ([transaction("Refund", "Success")], (Return("REFUND", BACK),)),
    "under way": ([transaction("REFUND", "PROCESSING")], (Return("REFUND", BACK),)),
    "pending": ([transaction("REFUND", "PENDING")], (Return("REFUND", BACK),)),
    "failed": ([transaction("REFUND", "FAIL")], ()),
    "cancelled": ([transaction("REFUND", "CANCELLED")], ()),
    "no amount": ([transaction("CANCEL", amount=None)], (Return("CANCEL", None),)),
    "amount a number": ([transaction("REFUND", amount=3000)], (Return("REFUND", BACK),)),
    "payment": ([transaction("PAYMENT")], ()),
    "capture": ([transaction("CAPTURE")], ()),
    "authorisation": ([transaction("AUTHORIZATION"), transaction("INCREMENTAL")], ()),
    "no type": ([{}], ()),
    "several": (
        [transaction("PAYMENT"), transaction("REFUND"), transaction("REFUND", amount="1")],
        (Return("REFUND", BACK), Return("REFUND", Money("EUR", 1))),
    ),
}


@pytest.mark.parametrize("transactions, returns", RETURNS.values(), ids=RETURNS)
def test_money_given_back_is_found_among_the_transactions(
    transactions: list[Json], returns: tuple[Return, ...]
) -> None:
    assert inquired(transactions=transactions).returns == returns


UNREADABLE_ANSWERS: dict[str, tuple[str, Json]] = {
    "no result": ("result", {"result": ABSENT}),
    "result a list": ("result", {"result": ["S"]}),
    "paymentRequestId with a blank": ("payment_request_id", {"paymentRequestId": "a b"}),
    "paymentRequestId true": ("payment_request_id", {"paymentRequestId": True}),
    "paymentId with a line feed": ("payment_id", {"paymentId": "2020\n"}),
    "amount a decimal": ("amount", {"paymentAmount": {"value": 80.0, "currency": "EUR"}}),
    "amount zero": ("amount", {"paymentAmount": {"value": 0, "currency": "EUR"}}),
    "amount negative": ("amount", {"paymentAmount": {"value": -8000, "currency": "EUR"}}),
    "amount true": ("amount", {"paymentAmount": {"value": True, "currency": "EUR"}}),
    "amount a text": ("amount", {"paymentAmount": "EUR 8000"}),
    "currency a number": ("amount", {"paymentAmount": {"value": 8000, "currency": 978}}),
    "transactions an object": ("transactions", {"transactions": {}}),
    "transaction a text": ("transactions", {"transactions": ["REFUND"]}),
    "refund without status": ("transactions", {"transactions": [transaction("REFUND", None)]}),
    "refund of unknown status": ("transactions", {"transactions": [transaction("VOID", "DONE")]}),
    "refund of odd amount": ("amount", {"transactions": [transaction("REFUND", amount="x")]}),
}


@pytest.mark.parametrize("why, changes", UNREADABLE_ANSWERS.values(), ids=UNREADABLE_ANSWERS)
def test_an_answer_that_cannot_be_understood_is_no_answer(why: str, changes: Json) -> None:
    with pytest.raises(Unreadable, match=f"^{why}$"):
        inquired(**changes)


CALLS = [
    ("S", "SUCCESS", Call.OK),
    ("S", "ORDER_NOT_EXIST", Call.OK),
    ("U", "UNKNOWN_EXCEPTION", Call.UNKNOWN),
    ("U", "REQUEST_TRAFFIC_EXCEED_LIMIT", Call.UNKNOWN),
    ("U", "ORDER_NOT_EXIST", Call.UNKNOWN),
    ("X", "SUCCESS", Call.UNKNOWN),
    ("s", "SUCCESS", Call.UNKNOWN),
    (None, "SUCCESS", Call.UNKNOWN),
    (["S"], "SUCCESS", Call.UNKNOWN),
    ("F", "ORDER_NOT_EXIST", Call.NOT_EXIST),
    ("F", "CANCEL_WINDOW_EXCEED", Call.WINDOW_EXCEEDED),
    ("F", "PROCESS_FAIL", Call.REFUSED),
    ("F", "ORDER_STATUS_INVALID", Call.REFUSED),
    ("F", "NEVER_HEARD_OF", Call.REFUSED),
    ("F", None, Call.REFUSED),
    ("F", "INVALID_SIGNATURE", Call.MISCONFIGURED),
    ("F", "SIGNATURE_INVALID", Call.MISCONFIGURED),
    ("F", "KEY_NOT_FOUND", Call.MISCONFIGURED),
    ("F", "ACCESS_DENIED", Call.MISCONFIGURED),
    ("F", "CLIENT_FORBIDDEN_ACCESS_API", Call.MISCONFIGURED),
    ("F", "INVALID_API", Call.MISCONFIGURED),
    ("F", "NO_INTERFACE_DEF", Call.MISCONFIGURED),
    ("F", "INVALID_CLIENT", Call.MISCONFIGURED),
    ("F", "INVALID_CLIENT_STATUS", Call.MISCONFIGURED),
    ("F", "CLIENT_INVALID", Call.MISCONFIGURED),
    ("F", "UNKNOWN_CLIENT", Call.MISCONFIGURED),
    ("F", "OAUTH_FAILED", Call.MISCONFIGURED),
    ("F", "METHOD_NOT_SUPPORTED", Call.MISCONFIGURED),
    ("F", "MEDIA_TYPE_NOT_ACCEPTABLE", Call.MISCONFIGURED),
    ("F", "INVALID_ACCESS_TOKEN", Call.MISCONFIGURED),
    ("F", "INVALID_AGENT_TOKEN", Call.MISCONFIGURED),
    ("F", "EXPIRED_AGENT_TOKEN", Call.MISCONFIGURED),
]


@pytest.mark.parametrize("status, code, call", CALLS)
def test_a_call_is_classed_by_its_status_then_its_code(status: Any, code: Any, call: Call) -> None:
    answer = body({"result": result(status, code)})
    assert parse_inquiry_answer(answer, ASKED, None).call is call
    assert parse_cancel_answer(answer, ASKED, None).call is call


@pytest.mark.parametrize("status", ["F", "U", "X"])
def test_a_call_that_did_not_work_says_nothing_about_the_payment(status: str) -> None:
    odd = {"paymentAmount": 1, "transactions": 1, "paymentId": ["x"]}
    said = inquired(result=result(status, "WHATEVER"), **odd)
    assert said == InquiryAnswer(
        asked_at=ASKED, answered_at=ANSWERED, call=said.call, code="WHATEVER"
    )
    cancelled = parse_cancel_answer(body(INQUIRED, result=result(status), **odd), ASKED, None)
    assert (cancelled.payment_request_id, cancelled.payment_id) == ("", "")


def test_a_code_that_would_break_a_log_is_not_passed_on() -> None:
    assert inquired(result=result("F", 'x\n{"event": "fake"}')).code == "?"


def test_a_cancel_answer_is_read() -> None:
    said = parse_cancel_answer(body(INQUIRED, cancelTime="?", paymentId=42), ASKED, ANSWERED)
    assert said == CancelAnswer(
        asked_at=ASKED,
        answered_at=ANSWERED,
        call=Call.OK,
        code="SUCCESS",
        payment_request_id="pay_test_1106_0002",
        payment_id="42",
    )


@pytest.mark.parametrize(
    "why, changes",
    [
        ("payment_id", {"paymentId": " "}),
        ("payment_request_id", {"paymentRequestId": []}),
        ("result", {"result": 1}),
    ],
)
def test_a_cancel_answer_that_cannot_be_understood_is_no_answer(why: str, changes: Json) -> None:
    with pytest.raises(Unreadable, match=f"^{why}$"):
        parse_cancel_answer(body(INQUIRED, **changes), ASKED, ANSWERED)


# Amounts


@pytest.mark.parametrize("amount", BAD_AMOUNTS.values(), ids=BAD_AMOUNTS)
def test_an_amount_is_a_currency_and_a_text_of_minor_units(amount: Any) -> None:
    with pytest.raises(Unreadable, match="^amount$"):
        parse_amount(amount)


def test_an_amount_becomes_money_in_minor_units() -> None:
    assert parse_amount({"currency": "USD", "value": "599"}) == Money("USD", 599)


# Times

TIMES = {
    "1685599933871": 1_685_599_933_871,
    "1000000000000": 1_000_000_000_000,
    "9999999999999": 9_999_999_999_999,
    "2026-01-02T03:04:05Z": 1_767_323_045_000,
    "2026-01-02T03:04:05+00:00": 1_767_323_045_000,
    "2026-01-02T03:04:05-00:00": 1_767_323_045_000,
    "2026-01-02T03:04:05+0000": 1_767_323_045_000,
    "2026-01-02T11:04:05+08:00": 1_767_323_045_000,
    "2026-01-02T11:04:05+0800": 1_767_323_045_000,
    "2026-01-01T19:04:05-08:00": 1_767_323_045_000,
    "2026-01-03T03:03:05+23:59": 1_767_323_045_000,
    "2026-01-01T03:05:05-23:59": 1_767_323_045_000,
    "2026-01-02T03:04:05.6Z": 1_767_323_045_600,
    "2026-01-02T03:04:05.678Z": 1_767_323_045_678,
    "2026-01-02T03:04:05.6789999Z": 1_767_323_045_678,
    "2026-01-02T03:04:05.000999999Z": 1_767_323_045_000,
    "2019-07-12T12:08:56.253+05:30": 1_562_913_536_253,
    "2024-02-29T23:59:59Z": 1_709_251_199_000,
    "1970-01-01T00:00:00Z": 0,
    "9999-12-31T23:59:59.999Z": MAX_TIME,
}


@pytest.mark.parametrize("text, ms", TIMES.items())
def test_a_time_in_any_known_format_is_read_to_the_millisecond(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "1685599933",
        "168559993387",
        "0685599933871",
        "16855999338710",
        "-685599933871",
        "1685599933.871",
        "168559993387\u0661",
        "1685599933871\n",
        "2026-01-02",
        "20260102T030405Z",
        "2026-W01-5T03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02 03:04:05Z",
        "2026-01-02t03:04:05z",
        "2026-01-02T03:04:05,678Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05.0123456789Z",
        "2026-01-02T03:04:05+08",
        "2026-01-02T03:04:05+8:00",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+99:99",
        "2026-01-02T03:04:05+08:60",
        "2026-01-02T03:04:05 +08:00",
        "2026-01-02T03:04:05Z+08:00",
        "2026-13-02T03:04:05Z",
        "2026-00-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2025-02-29T03:04:05Z",
        "2026-01-00T03:04:05Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T03:60:05Z",
        "2026-01-02T23:59:60Z",
        "0000-01-02T03:04:05Z",
        "02026-01-02T03:04:05Z",
        "\u0662026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        " 2026-01-02T03:04:05Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "0001-01-01T00:00:00+23:59",
    ],
)
def test_a_time_in_doubt_is_none(text: str) -> None:
    assert parse_time(text) is None


@settings(deadline=None)
@given(ms=st.integers(0, MAX_TIME))
def test_a_time_we_print_is_rfc_3339_and_read_again(ms: int) -> None:
    text = format_time(ms)
    assert len(text) == len("2026-01-02T03:04:05.678Z") and text.endswith("Z")
    assert parse_time(text) == ms


DAY = 86_400_000_000  # microseconds; both ends of the range are kept clear of any offset


@settings(deadline=None)
@given(microseconds=st.integers(DAY, MAX_TIME * 1000 - DAY), minutes=st.integers(-1439, 1439))
def test_a_time_is_read_as_the_standard_library_writes_it(microseconds: int, minutes: int) -> None:
    utc = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
    local = utc.astimezone(timezone(timedelta(minutes=minutes)))
    assert parse_time(local.isoformat()) == microseconds // 1000


@settings(deadline=None)
@given(text=st.text(max_size=40) | st.from_regex(r"[0-9TZ:+.-]{10,40}", fullmatch=True))
def test_whatever_the_text_a_time_is_one_that_can_be_printed_or_none(text: str) -> None:
    ms = parse_time(text)
    assert ms is None or parse_time(format_time(ms)) == ms


# Strict JSON


def nested(depth: int) -> bytes:
    """An object that many levels deep, itself counted."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


REFUSED_JSON = {
    "invalid UTF-8": ("utf8", b'{"a":"\xe9"}'),
    "overlong UTF-8": ("utf8", b'{"a":"\xc0\xaf"}'),
    "surrogate in UTF-8": ("utf8", b'{"a":"\xed\xa0\x80"}'),
    "UTF-16": ("utf8", '{"a":1}'.encode("utf-16")),
    "byte order mark": ("json", b'\xef\xbb\xbf{"a":1}'),
    "nothing": ("json", b""),
    "cut": ("json", b'{"a":1'),
    "cut in a text": ("json", b'{"a":"'),
    "cut after a backslash": ("json", b'{"a":"\\'),
    "two objects": ("json", b"{}{}"),
    "something behind": ("json", b"{} x"),
    "trailing comma": ("json", b'{"a":1,}'),
    "comment": ("json", b'{"a":1 // one\n}'),
    "single quotes": ("json", b"{'a':1}"),
    "NUL": ("json", b'{"a":"\0"}'),
    "NUL behind": ("json", b"{}\0"),
    "line feed in a text": ("json", b'{"a":"\n"}'),
    "leading zero": ("json", b'{"a":01}'),
    "hexadecimal": ("json", b'{"a":0x10}'),
    "wrong bracket": ("json", b'{"a":[}'),
    "an array": ("not_object", b"[]"),
    "null": ("not_object", b"null"),
    "a text": ("not_object", b'"{}"'),
    "a number": ("not_object", b"1"),
    "duplicate key": ("duplicate_key", b'{"a":"F","a":"S"}'),
    "duplicate key, escaped": ("duplicate_key", b'{"paymentId":"1","payment\\u0049d":"2"}'),
    "duplicate key, deep": ("duplicate_key", b'{"a":[{"b":{"c":1,"c":1}}]}'),
    "NaN": ("number", b'{"a":NaN}'),
    "Infinity": ("number", b'{"a":Infinity}'),
    "-Infinity": ("number", b'{"a":-Infinity}'),
    "1e999": ("number", b'{"a":1e999}'),
    "1E+100": ("number", b'{"a":1E+100}'),
    "1e-999": ("number", b'{"a":1e-999}'),
    "integer of 21 digits": ("number", b'{"a":' + b"1" * 21 + b"}"),
    "negative integer of 21 digits": ("number", b'{"a":-' + b"1" * 21 + b"}"),
    "integer of 5,000 digits": ("number", b'{"a":' + b"1" * 5000 + b"}"),
    "21 digits before the point": ("number", b'{"a":' + b"1" * 21 + b".0}"),
    "65 decimals": ("number", b'{"a":0.' + b"1" * 65 + b"}"),
    "lone high surrogate": ("text", b'{"a":"\\ud800"}'),
    "lone low surrogate": ("text", b'{"a":"\\udfff"}'),
    "surrogates in the wrong order": ("text", b'{"a":"\\udc00\\ud800"}'),
    "lone surrogate in a key": ("text", b'{"\\ud800":1}'),
    "lone surrogate in a list": ("text", b'{"a":[[{"b":"\\ud800"}]]}'),
    "escaped NUL": ("text", b'{"a":"\\u0000"}'),
    "nesting 17": ("nesting", nested(17)),
    "nesting 17, objects": ("nesting", b'{"a":' * 17 + b"1" + b"}" * 17),
    "nesting 17 behind shallow lists": (
        "nesting",
        b'{"a":[' + b"[]," * 20 + b"[" * 15 + b"]" * 15 + b"]}",
    ),
    "nesting 10,000": ("nesting", nested(10_000)),
    "never closed": ("nesting", b"[" * 100_000),
    "nesting behind a text with a quote": ("nesting", b'{"\\"":' + nested(16) + b"}"),
}


@pytest.mark.parametrize("why, body", REFUSED_JSON.values(), ids=REFUSED_JSON)
def test_json_that_two_readers_could_read_as_two_things_is_refused(why: str, body: bytes) -> None:
    assert unreadable(body) == why


ACCEPTED_JSON: dict[str, tuple[bytes, Json]] = {
    "empty": (b"{}", {}),
    "blanks around": (b" \r\n\t{ }\n", {}),
    "UTF-8": ('{"a":"支付 🙂"}'.encode(), {"a": "支付 🙂"}),
    "surrogate pair": (b'{"a":"\\ud83d\\ude42"}', {"a": "🙂"}),
    "escaped backslash before u0000": (b'{"a":"\\\\u0000"}', {"a": "\\u0000"}),
    "20 digits": (b'{"a":-12345678901234567890}', {"a": -12345678901234567890}),
    "zero": (b'{"a":-0}', {"a": 0}),
    "decimal": (b'{"a":0.064622}', {"a": Decimal("0.064622")}),
    "decimal with exponent": (b'{"a":-1.5E+2}', {"a": Decimal("-150")}),
    "64 decimals": (b'{"a":0.' + b"1" * 64 + b"}", {"a": Decimal("0." + "1" * 64)}),
    "words": (b'{"a":[true,false,null]}', {"a": [True, False, None]}),
    "brackets in a text": (b'{"a":"' + b"[{" * 100 + b'"}', {"a": "[{" * 100}),
    "quotes in a text": (b'{"a":"\\"[[[[[[[[[[[[[[[[["}', {"a": '"' + "[" * 17}),
    "nesting 16 behind shallow lists": (
        b'{"a":[[],' + b"[" * 14 + b"]" * 14 + b"]}",
        {"a": [[], [[[[[[[[[[[[[[]]]]]]]]]]]]]]]},
    ),
    "many shallow objects": (b'{"a":[' + b"{}," * 1000 + b"{}]}", {"a": [{}] * 1001}),
    "the same key in two objects": (b'{"a":{"b":1},"b":{"a":1}}', {"a": {"b": 1}, "b": {"a": 1}}),
}


@pytest.mark.parametrize("body, value", ACCEPTED_JSON.values(), ids=ACCEPTED_JSON)
def test_json_that_means_one_thing_is_read(body: bytes, value: Json) -> None:
    assert parse_object(body) == value


def test_nesting_of_exactly_16_is_read() -> None:
    value: Any = parse_object(nested(16))["a"]
    for _ in range(14):
        (value,) = value
    assert value == []


def test_a_decimal_is_never_a_float() -> None:
    assert isinstance(parse_object(b'{"a":0.1}')["a"], Decimal)


def test_integers_can_be_had_as_their_digits() -> None:
    said = parse_object(b'{"a":[8000,-1,0.5,true]}', ints_as_text=True)
    assert said == {"a": ["8000", "-1", Decimal("0.5"), True]}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b'\\"' * 100_000 + b"\\",
        b'"' * 200_001,
        b'"\\' * 100_000,
        b'{"a":"' + b"x" * 200_000,
        b"-" * 200_000,
        b'{"a":' + b"9" * 200_000,
        b'{"a":1.' + b"9" * 200_000,
        b'{"a":[' + b"[]," * 60_000,
    ],
    ids=["quotes", "only quotes", "backslashes", "text", "minus", "digits", "decimals", "lists"],
)
def test_a_body_made_to_be_slow_is_refused_in_linear_time(body: bytes) -> None:
    started = time.perf_counter()
    assert unreadable(body) in ("json", "number")
    assert time.perf_counter() - started < 10  # takes 10 ms; quadratic time would take a minute


# For all bodies

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("S"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
FIELDS = sorted(
    {
        *PAID,
        *INQUIRED,
        "redirectActionForm",
        "normalUrl",
        "transactions",
        "resultStatus",
        "value",
        "currency",
    }
)
bodies = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    st.dictionaries(st.sampled_from(FIELDS), json_values).map(
        lambda changes: json.dumps(PAID | INQUIRED | changes).encode()
    ),
    st.tuples(st.integers(0, 400), st.binary(max_size=3)).map(
        lambda cut: body(PAID)[: cut[0]] + cut[1] + body(PAID)[cut[0] + len(cut[1]) :]
    ),
)


@settings(deadline=None)
@given(body=bodies)
def test_whatever_the_body_it_is_read_or_unreadable(body: bytes) -> None:
    for parse in (
        lambda: parse_object(body),
        lambda: parse_notification(body, SENT, RECEIVED, CLIENT_ID),
        lambda: parse_inquiry_answer(body, ASKED, ANSWERED),
        lambda: parse_cancel_answer(body, ASKED, ANSWERED),
        lambda: parse_pay_answer(body, ASKED, ANSWERED),
    ):
        try:
            parse()
        except Unreadable as unreadable:
            assert unreadable.why.isidentifier()


# Answers to pay

CREATED: Json = {
    "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success."},
    "paymentRequestId": "pay_test_1106_0002",
    "paymentId": "20200101234567890132",
    "paymentAmount": {"value": "8000", "currency": "EUR"},
    "paymentCreateTime": "2020-01-01T12:01:00+08:30",
    "redirectActionForm": {"method": "POST", "redirectUrl": "https://cashier.example/1"},
}
ORDER_MADE = PayAnswer(
    asked_at=ASKED,
    answered_at=ANSWERED,
    call=Call.OK,
    code="SUCCESS",
    payment_request_id="pay_test_1106_0002",
    payment_id="20200101234567890132",
    amount=Money("EUR", 8000),
    created_at=1_577_849_460_000,
    redirect_url="https://cashier.example/1",
    redirect_method="POST",
)


def pay_answered(**changes: Any) -> PayAnswer:
    return parse_pay_answer(body(CREATED, **changes), ASKED, ANSWERED)


PAY_ANSWERS: dict[str, tuple[Json, Json]] = {
    "plain": ({}, {}),
    "without a method": (
        {"redirectActionForm": {"redirectUrl": "https://cashier.example/1"}},
        {"redirect_method": "GET"},
    ),
    "with a link alone, as other products": (
        {"redirectActionForm": None, "normalUrl": "https://cashier.example/2"},
        {"redirect_url": "https://cashier.example/2", "redirect_method": "GET"},
    ),
    "into a wallet": (
        {"redirectActionForm": {"redirectUrl": "alipays://platformapi/startapp?a=1"}},
        {"redirect_url": "alipays://platformapi/startapp?a=1", "redirect_method": "GET"},
    ),
    "with nowhere to go": (
        {"redirectActionForm": ABSENT},
        {"redirect_url": "", "redirect_method": ""},
    ),
    "with an empty link": (
        {"redirectActionForm": {"redirectUrl": "", "method": "GET"}},
        {"redirect_url": "", "redirect_method": ""},
    ),
    "in process, with a link": (
        {"result": {"resultCode": "PAYMENT_IN_PROCESS", "resultStatus": "U"}},
        {"call": Call.UNKNOWN, "code": "PAYMENT_IN_PROCESS"},
    ),
    "without an amount": ({"paymentAmount": ABSENT}, {"amount": None}),
    "without our id": ({"paymentRequestId": ABSENT}, {"payment_request_id": ""}),
}


@pytest.mark.parametrize("changes, expected", PAY_ANSWERS.values(), ids=PAY_ANSWERS)
def test_an_answer_to_pay_says_where_the_buyer_pays_and_never_that_he_has(
    changes: Json, expected: Json
) -> None:
    assert pay_answered(**changes) == dataclasses.replace(ORDER_MADE, **expected)
    assert not hasattr(pay_answered(**changes), "payment_status")


def test_of_a_refused_pay_nothing_else_is_read() -> None:
    refused = {"resultCode": "RISK_REJECT", "resultStatus": "F"}
    assert pay_answered(result=refused, redirectActionForm="?") == PayAnswer(
        asked_at=ASKED, answered_at=ANSWERED, call=Call.REFUSED, code="RISK_REJECT"
    )


@pytest.mark.parametrize(
    "form",
    [
        "https://cashier.example/1",
        [],
        {"redirectUrl": 7},
        {"redirectUrl": "/1"},
        {"redirectUrl": "javascript:alert(1)"},
        {"redirectUrl": "https://cashier.example/a b"},
        {"redirectUrl": "https://cashier.example/\n"},
        {"redirectUrl": "https://" + "x" * 2041},
        {"redirectUrl": "https://cashier.example/1", "method": "get it"},
        {"redirectUrl": "https://cashier.example/1", "method": 1},
    ],
)
def test_a_link_that_no_buyer_should_follow_makes_the_answer_unreadable(form: Any) -> None:
    with pytest.raises(Unreadable, match="^redirect$"):
        pay_answered(redirectActionForm=form)


# Requests

PAY = PayRequest(
    payment_request_id="102775745075669",
    amount=Money("USD", 599),
    reference_order_id="ORDER_1",
    order_description="Wrist strap, 支付",
    reference_merchant_id="M0000000001",
    merchant_name="cup Hu",
    merchant_mcc="1234",
    reference_store_id="S0000000001",
    store_name="UGG-2",
    store_mcc="1405",
    user_agent="Mozilla/5.0 AlipayClient/",
    notify_url="https://merchant.example/notify",
)


def test_a_plain_pay_request_has_what_the_gateway_requires_and_no_more() -> None:
    assert json.loads(pay_body(PAY)) == {
        "productCode": "IN_STORE_PAYMENT",
        "paymentRequestId": "102775745075669",
        "paymentFactor": {"inStorePaymentScenario": "EntryCode"},
        "paymentMethod": {"paymentMethodType": "CONNECT_WALLET"},
        "paymentAmount": {"currency": "USD", "value": "599"},
        "order": {
            "referenceOrderId": "ORDER_1",
            "orderDescription": "Wrist strap, 支付",
            "orderAmount": {"currency": "USD", "value": "599"},
            "merchant": {
                "referenceMerchantId": "M0000000001",
                "merchantName": "cup Hu",
                "merchantMCC": "1234",
                "store": {
                    "referenceStoreId": "S0000000001",
                    "storeName": "UGG-2",
                    "storeMCC": "1405",
                },
            },
            "env": {"userAgent": "Mozilla/5.0 AlipayClient/"},
        },
        "paymentNotifyUrl": "https://merchant.example/notify",
    }


def test_a_full_pay_request_has_the_optional_fields_too() -> None:
    full = dataclasses.replace(
        PAY,
        order_amount=Money("JPY", 900),
        redirect_url="https://merchant.example/done",
        expiry_time=1_767_323_045_678,
        settlement_currency="EUR",
    )
    said = json.loads(pay_body(full))
    plain = json.loads(pay_body(PAY))
    plain["order"]["orderAmount"] = {"currency": "JPY", "value": "900"}
    assert said == plain | {
        "paymentRedirectUrl": "https://merchant.example/done",
        "paymentExpiryTime": "2026-01-02T03:04:05+00:00",
        "settlementStrategy": {"settlementCurrency": "EUR"},
    }


FORM = pay_body(dataclasses.replace(PAY, notify_url="")).decode()


def test_what_this_side_adds_to_a_pay_is_the_address_to_notify_and_the_closing_time() -> None:
    whole = finish_pay(FORM, "https://merchant.example/notify", 1_767_323_045_678)
    expired = dataclasses.replace(PAY, expiry_time=1_767_323_045_678)
    assert whole == pay_body(expired).decode()


def test_the_merchants_own_address_to_notify_stands() -> None:
    theirs = "https://theirs.example/n"
    form = pay_body(dataclasses.replace(PAY, notify_url=theirs)).decode()
    for ours in ("https://ours.example/n", None, ""):
        assert json.loads(finish_pay(form, ours, 0))["paymentNotifyUrl"] == theirs


@pytest.mark.parametrize("nowhere", ["", None])
def test_without_an_address_to_notify_there_is_no_request(nowhere: str | None) -> None:
    assert finish_pay(FORM, nowhere, 0) == ""


def test_a_body_is_compact_utf_8() -> None:
    assert "支付".encode() in pay_body(PAY)
    assert b": " not in pay_body(PAY) and b'", ' not in pay_body(PAY)
    assert inquiry_body("a.b") == b'{"paymentRequestId":"a.b"}'
    assert cancel_body("a.b") == b'{"paymentRequestId":"a.b"}'


BAD_PAY = [
    ("payment_request_id", ""),
    ("payment_request_id", "a b"),
    ("amount", Money("usd", 599)),
    ("amount", Money("USD", 0)),
    ("amount", Money("USD", -1)),
    ("amount", Money("USD", 10**16)),
    ("order_amount", Money("USD", 0)),
    ("reference_order_id", ""),
    ("order_description", ""),
    ("order_description", "line\nfeed"),
    ("order_description", "\ud800"),
    ("reference_merchant_id", ""),
    ("merchant_name", ""),
    ("merchant_mcc", "123"),
    ("merchant_mcc", "12345"),
    ("merchant_mcc", "\u0661234"),
    ("reference_store_id", ""),
    ("store_name", "\x7f"),
    ("store_mcc", "shoe"),
    ("user_agent", ""),
    ("notify_url", "ftp://merchant.example/notify"),
    ("notify_url", "https://"),
    ("notify_url", "https://merchant.example/a b"),
    ("notify_url", "https://" + "x" * 2041),
    ("redirect_url", "/done"),
    ("expiry_time", -1),
    ("expiry_time", MAX_TIME + 1),
    ("settlement_currency", "eur"),
]


@pytest.mark.parametrize("name, value", BAD_PAY)
def test_a_pay_request_that_would_be_refused_is_not_made(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be "):
        dataclasses.replace(PAY, **{name: value})


LENGTHS = [
    ("payment_request_id", 64),
    ("reference_order_id", 64),
    ("order_description", 256),
    ("reference_merchant_id", 64),
    ("merchant_name", 256),
    ("reference_store_id", 64),
    ("store_name", 256),
    ("user_agent", 2048),
]


@pytest.mark.parametrize("name, limit", LENGTHS)
def test_a_text_of_a_pay_request_has_its_greatest_length(name: str, limit: int) -> None:
    longest: Json = {name: "x" * limit}
    pay_body(dataclasses.replace(PAY, **longest))
    too_long: Json = {name: "x" * (limit + 1)}
    with pytest.raises(ValueError, match=f"^{name} must be "):
        dataclasses.replace(PAY, **too_long)


@pytest.mark.parametrize(
    "name, value",
    [
        ("amount", Money("USD", 1)),
        ("amount", Money("USD", 10**16 - 1)),
        ("order_description", "支" * 256),
        ("notify_url", "https://" + "x" * 2040),
        ("notify_url", "http://127.0.0.1:8080/notify"),
        ("redirect_url", "https://" + "x" * 2040),
        ("expiry_time", 0),
        ("expiry_time", MAX_TIME),
    ],
)
def test_a_pay_request_at_its_limits_is_made(name: str, value: Any) -> None:
    pay_body(dataclasses.replace(PAY, **{name: value}))


@pytest.mark.parametrize(
    "client_id, name, path",
    [
        ("T_111222333", "pay", "/ams/api/v1/payments/pay"),
        ("T_111222333", "inquiryPayment", "/ams/api/v1/payments/inquiryPayment"),
        ("T_111222333", "cancel", "/ams/api/v1/payments/cancel"),
        ("SANDBOX_5X", "pay", "/ams/sandbox/api/v1/payments/pay"),
        ("SANDBOX_5X", "inquiryPayment", "/ams/sandbox/api/v1/payments/inquiryPayment"),
        ("SANDBOX_5X", "cancel", "/ams/sandbox/api/v1/payments/cancel"),
        ("sandbox_5X", "cancel", "/ams/api/v1/payments/cancel"),
        ("T_SANDBOX_5X", "cancel", "/ams/api/v1/payments/cancel"),
    ],
)
def test_the_client_id_chooses_sandbox_or_production(
    client_id: str, name: Endpoint, path: str
) -> None:
    assert api_path(client_id, name) == path


REQUEST = Signed("/ams/api/v1/payments/cancel", "T_111222333", "1685599933871", b"{}")


def test_a_requests_headers_carry_what_was_signed() -> None:
    assert request_headers(REQUEST, "algorithm=RSA256,...") == {
        "Client-Id": "T_111222333",
        "Signature": "algorithm=RSA256,...",
        "Content-Type": "application/json; charset=UTF-8",
        "Request-Time": "1685599933871",
    }


def test_an_agent_token_is_sent_if_there_is_one() -> None:
    assert request_headers(REQUEST, "s", "token")["Agent-Token"] == "token"
    assert "Agent-Token" not in request_headers(REQUEST, "s", "")


def test_the_acknowledgement_is_an_object_of_its_own_protocol() -> None:
    assert parse_object(ACK) == {
        "result": {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}
    }
