"""Signed by the gateway, and odd all the same: none of it may be lost, and none believed."""

import json
from typing import Any

from tests.hostile.cases import (
    ORDER,
    Case,
    Expected,
    Fate,
    odd,
    quarantined,
    refused,
    saying,
    with_amount,
)
from tests.servers import notification, paid
from worker.signature import Reason

BODY = saying()
SUCCESS = {"resultCode": "SUCCESS", "resultStatus": "S", "resultMessage": "success"}


def more(raw: bytes) -> bytes:
    """The body with one member more, written as it stands."""
    return BODY[:-1] + b"," + raw + b"}"


def value(raw: bytes) -> bytes:
    return more(b'"x":' + raw)


def named(name: str, id_: Any) -> Case:
    """Its payment cannot be told, so there is none to ask about."""
    return quarantined(f"an id {name}", saying(paymentRequestId=id_), "payment_request_id")


def amount(name: str, value: Any, currency: Any = "USD") -> Case:
    return odd(f"an amount {name}", "amount", paymentAmount=with_amount(value, currency))


def time(name: str, text: Any) -> Case:
    return odd(f"a time {name}", "time", paymentTime=text)


def not_object(name: str, body: bytes) -> Case:
    """Signed, but it does not begin like an object: the signed string could be cut elsewhere."""
    return refused(f"signed: {name}", Reason.NOT_OBJECT, notification(body))


def ignored(name: str, kind: Any) -> Case:
    wire = notification(paid(ORDER, notifyType=kind)).wire()
    return Case(f"a kind {name}", wire, (Expected(Fate.IGNORED, "untracked"),))


def nameless(name: str, **fields: Any) -> Case:
    """Of a kind that is not ours, and of no payment: there is nothing to keep."""
    return Case(name, notification(fields).wire(), (Expected(Fate.IGNORED, ""),))


CASES: list[Case] = [
    not_object("nothing", b""),
    not_object("no JSON", b"paid, really"),
    not_object("an array", b"[" + BODY + b"]"),
    not_object("null", b"null"),
    not_object("a string", b'"{}"'),
    not_object("a number", b"7"),
    not_object("a byte order mark", b"\xef\xbb\xbf" + BODY),
    not_object("UTF-16", BODY.decode().encode("utf-16")),
    not_object("a blank", b" " + BODY),
    not_object("a NUL", b"\0" + BODY),
    not_object("a form", b"notifyType=PAYMENT_RESULT"),
    not_object("XML", b"<xml/>"),
    quarantined("cut", BODY[:-1], "json"),
    quarantined("an open brace", b"{", "json"),
    quarantined("two documents", BODY + b"{}", "json"),
    quarantined("a comma too many", BODY[:-1] + b",}", "json"),
    quarantined("a comma too few", BODY.replace(b", ", b" ", 1), "json"),
    quarantined("comments", b"{// as in the document\n" + BODY[1:], "json"),
    quarantined("comments of C", b"{/* */" + BODY[1:], "json"),
    quarantined("single quotes", BODY.replace(b'"', b"'"), "json"),
    quarantined("no quotes", b"{notifyType:1}", "json"),
    quarantined("a NUL behind it", BODY + b"\0", "json"),
    quarantined("a raw line feed in a string", value(b'"a\nb"'), "json"),
    quarantined("a raw NUL in a string", value(b'"a\0b"'), "json"),
    quarantined("an escape that is none", value(b'"\\x41"'), "json"),
    quarantined("half an escape", value(b'"\\u12"'), "json"),
    quarantined("True", value(b"True"), "json"),
    quarantined("undefined", value(b"undefined"), "json"),
    quarantined("a number with a zero before it", value(b"01"), "json"),
    quarantined("a number with a plus", value(b"+1"), "json"),
    quarantined("a number without digits behind its point", value(b"1."), "json"),
    quarantined("a number in hexadecimal", value(b"0x10"), "json"),
    quarantined("a number with an underscore", value(b"1_000"), "json"),
    quarantined("another blank between", value("\u00a01".encode()), "json"),
    quarantined("latin-1", BODY.replace(b"success", b"succ\xe9s"), "utf8"),
    quarantined("overlong UTF-8", BODY.replace(b"success", b"\xc0\xaf"), "utf8"),
    quarantined("half a pair, as bytes", BODY.replace(b"success", b"\xed\xa0\x80"), "utf8"),
    quarantined("UTF-8 beyond Unicode", BODY.replace(b"success", b"\xf5\x80\x80\x80"), "utf8"),
    quarantined("UTF-8 that is cut", BODY.replace(b"success", b"\xe2\x82"), "utf8"),
    quarantined("half a pair, escaped", BODY.replace(b"success", b"\\ud800"), "text"),
    quarantined("the other half, escaped", BODY.replace(b"success", b"\\udc00"), "text"),
    quarantined("a NUL, escaped", BODY.replace(b"success", b"\\u0000"), "text"),
    quarantined("a NUL in a name", more(b'"a\\u0000":1'), "text"),
    quarantined(
        "status F, then S",
        BODY.replace(b'"resultStatus": "S"', b'"resultStatus": "F", "resultStatus": "S"'),
        "duplicate_key",
    ),
    quarantined("a name twice, once escaped", more(b'"payment\\u0049d":"1"'), "duplicate_key"),
    quarantined("a name twice, deep inside", value(b'[{"a":1,"a":2}]'), "duplicate_key"),
    quarantined("its payment twice", more(b'"paymentRequestId":"order-2"'), "duplicate_key"),
    quarantined("NaN", value(b"NaN"), "number"),
    quarantined("Infinity", value(b"Infinity"), "number"),
    quarantined("-Infinity", value(b"-Infinity"), "number"),
    quarantined("1e999", value(b"1e999"), "number"),
    quarantined("1e-999", value(b"1e-999"), "number"),
    quarantined("a number of 5,000 digits", value(b"9" * 5000), "number"),
    quarantined("a number of 5,000 digits below zero", value(b"-" + b"9" * 5000), "number"),
    quarantined("5,000 decimals", value(b"0." + b"1" * 5000), "number"),
    quarantined("nested 10,000 deep", value(b"[" * 10_000), "nesting"),
    quarantined("nested 10,000 deep in objects", value(b'{"a":' * 8_000), "nesting"),
    quarantined("nested 10,000 deep, and closed", value(b"[" * 10_000 + b"]" * 10_000), "nesting"),
    quarantined("nothing in it but one name", b"{" + b'"' * 60_000, "json"),
    quarantined("backslashes without end", value(b'"' + b"\\" * 60_000), "json"),
    quarantined("no id", saying(paymentRequestId=None), "payment_request_id"),
    named("with a carriage return and a line feed", "x\r\ny"),
    named("that is a line of the log", 'x\n{"event":"notification.accepted"}'),
    named("that climbs", "../../etc/passwd"),
    named("that is a pattern", "*"),
    named("that is a range", "[a-z]"),
    named("that colours", "\x1b[31m"),
    named("of 65 characters", "x" * 65),
    named("of 60,000 characters", "x" * 60_000),
    named("that is empty", ""),
    named("that is a number", 4711),
    named("that is true", True),
    named("that is a list", ["order-1"]),
    named("that is an object", {"$ne": None}),
    named("in letters of another script", "оrder-1"),
    named("with a blank behind it", "order-1 "),
    named("with a line feed behind it", "order-1\n"),
    named("with a slash", "order/1"),
    named("that is a template", "${jndi:ldap://x}"),
    named("that is a command", "x'); return redis.call('FLUSHALL') --"),
    odd("no result", "result", result=None),
    odd("a result that is a list", "result", result=[SUCCESS]),
    odd("a result that is a string", "result", result="S"),
    odd("an empty result", "result_status", result={}),
    odd("status X", "result_status", result=SUCCESS | {"resultStatus": "X"}),
    odd("status s", "result_status", result=SUCCESS | {"resultStatus": "s"}),
    odd("status SS", "result_status", result=SUCCESS | {"resultStatus": "SS"}),
    odd("status true", "result_status", result=SUCCESS | {"resultStatus": True}),
    odd("status in a list", "result_status", result=SUCCESS | {"resultStatus": ["S"]}),
    odd("status with a line feed", "result_status", result=SUCCESS | {"resultStatus": "S\n"}),
    odd("no amount", "amount", paymentAmount=None),
    odd("an amount that is a string", "amount", paymentAmount="599"),
    odd("an amount that is a list", "amount", paymentAmount=[{"currency": "USD", "value": "599"}]),
    odd("an amount without a value", "amount", paymentAmount={"currency": "USD"}),
    odd("an amount without a currency", "amount", paymentAmount={"value": "599"}),
    amount("with a decimal", "599.0"),
    amount("below zero", "-599"),
    amount("with a plus", "+599"),
    amount("with an exponent", "8e3"),
    amount("with a blank", " 599"),
    amount("with a comma", "8,000"),
    amount("in wide digits", "５９９"),
    amount("of 17 digits", "1" + "0" * 16),
    amount("of 30 digits", "9" * 30),
    amount("with a zero before it", "0599"),
    amount("of zero", "0"),
    amount("of nothing", ""),
    amount("in hexadecimal", "0x257"),
    amount("as a number", 599),
    amount("as a decimal number", 5.99),
    amount("that is true", True),
    amount("with a line feed", "599\n"),
    amount("in small letters", "599", "usd"),
    amount("in no currency", "599", None),
    amount("in a currency of two letters", "599", "US"),
    amount("in a currency of four letters", "599", "USDT"),
    amount("in digits for a currency", "599", "840"),
    amount("in a currency of another script", "599", "USＤ"),
    odd("a payment id with a blank", "payment_id", paymentId="20 26"),
    odd("a payment id of 65 characters", "payment_id", paymentId="1" * 65),
    odd("a payment id that is a number", "payment_id", paymentId=2026),
    time("without an offset", "2026-01-02T03:04:05"),
    time("on a day that is none", "2026-02-30T00:00:00Z"),
    time("in a month that is none", "2026-13-01T00:00:00Z"),
    time("at 24:00", "2026-01-02T24:00:00Z"),
    time("in a leap second", "2026-12-31T23:59:60Z"),
    time("with an offset that is none", "2026-01-02T03:04:05+99:99"),
    time("in year zero", "0000-01-01T00:00:00Z"),
    time("before 1970", "1969-12-31T23:59:59Z"),
    time("in a year of five digits", "10000-01-01T00:00:00Z"),
    time("that is empty", ""),
    time("that is a number", 1_767_323_045),
    time("that is a list", []),
    ignored("that sorts before ours", "AAA_NEW"),
    ignored("that sorts behind ours", "PAYMENT_RESULT_NEW"),
    ignored("of refunds", "REFUND_RESULT"),
    ignored("of captures", "CAPTURE_RESULT"),
    ignored("in small letters", "payment_result"),
    ignored("that is empty", ""),
    ignored("that is missing", None),
    ignored("that is a number", 7),
    ignored("that is a list", ["PAYMENT_RESULT"]),
    ignored("that is an object", {}),
    ignored("that is a line of the log", '\n{"event":"x"}'),
    nameless("an empty object"),
    nameless("a dispute that names no payment", notifyType="DISPUTE_CREATED"),
    nameless("a kind unknown with an id that is none", notifyType="NEW", paymentRequestId="*"),
]
assert json.loads(BODY)["paymentRequestId"] == ORDER
