"""Answers of a gateway that is broken, hostile, or not the gateway at all: cases as data."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from jobs.model import Money
from jobs.news import Call, GatewayStatus, Return
from tests.keys import CLIENT_ID, private_key
from tests.servers import inquired, now_ms
from worker.gateway import MAX_ANSWER_BYTES
from worker.signature import Signed, signature_header

INQUIRY, CANCEL = "inquiryPayment", "cancel"
FOLDER = "/ams/sandbox/api/v1/payments/"


class After(Enum):
    """What the server does once all is written."""

    CLOSE = auto()
    HOLD = auto()  #: wait for us to end it
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer signed as it should be, before anything is made wrong."""

    body: bytes
    path: str = FOLDER + INQUIRY
    status: str = "HTTP/1.1 200 OK"
    headers: tuple[tuple[str, str], ...] = ()
    length: str | None = ""  #: of Content-Length; "": the true one, None: no such header

    def having(self, **headers: str) -> "Answer":
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = tuple((n, v) for n, v in self.headers if n not in names)
        return replace(self, headers=(*kept, *names.items()))

    def without(self, name: str) -> "Answer":
        return replace(self, headers=tuple((n, v) for n, v in self.headers if n != name))

    def wire(self) -> bytes:
        lines = [self.status, *(f"{name}: {value}" for name, value in self.headers)]
        if self.length is not None:
            lines.append(f"Content-Length: {self.length or len(self.body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body

    def chunked(self, last: bytes = b"0\r\n\r\n", size: int = 50) -> bytes:
        parts = [self.body[at : at + size] for at in range(0, len(self.body), size)]
        head = replace(self.having(Transfer_Encoding="chunked"), body=b"", length=None).wire()
        return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + last


def signed(
    said: bytes | Mapping[str, Any],
    *,
    endpoint: str = INQUIRY,
    client_id: str = CLIENT_ID,
    at: str | None = None,
    key: str = "alipay_v1",
    version: int = 1,
) -> Answer:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    path, time = FOLDER + endpoint, at or str(now_ms())
    header = signature_header(Signed(path, client_id, time, body), private_key(key), version)
    headers = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("client-id", client_id),
        ("response-time", time),
        ("signature", header),
    )
    return Answer(body, path, headers=headers)


Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    wire: bytes
    expected: str | Facts  #: why it is silence, or what an answer says
    endpoint: str = INQUIRY
    after: After = After.CLOSE
    endless: bytes = b""  #: is written again and again behind it
    slow: bool = False  #: our patience is made short


def silence(name: str, why: str, wire: bytes, after: After = After.CLOSE, **more: Any) -> Case:
    return Case(name, wire, why, after=after, **more)


def says(name: str, facts: Facts, **changed: Any) -> Case:
    """A good answer with these fields changed, and what is read in it."""
    return Case(name, signed(inquired(ORDER, "SUCCESS", **changed)).wire(), facts)


def unreadable(name: str, said: bytes | Mapping[str, Any]) -> Case:
    return silence(name, "unreadable", signed(said).wire())


def odd(name: str, **changed: Any) -> Case:
    return unreadable(name, inquired(ORDER, "SUCCESS", **changed))


def untrusted(name: str, reason: str, answer: Answer) -> Case:
    return silence(name, f"untrusted_{reason}", answer.wire())


def status(line: str, why: str) -> Case:
    body = b"" if line[:3] in ("204", "304") else GOOD.body  # these have none by definition
    answer = replace(GOOD, status=f"HTTP/1.1 {line}", body=body, length=str(len(body)))
    return silence(f"perfect, but {line}", why, answer.wire())


def call(name: str, result: object, call_: Call, code: str) -> Case:
    """Whatever the rest says: only a call that worked says anything about the payment."""
    nothing = {"payment_status": GatewayStatus.UNKNOWN, "payment_id": "", "amount": None}
    return says(name, {"call": call_, "code": code} | nothing, result=result)


def cancelled(name: str, expected: str | Facts, said: bytes | Mapping[str, Any]) -> Case:
    return Case(name, signed(said, endpoint=CANCEL).wire(), expected, endpoint=CANCEL)


ORDER = "order-1"
SAID = inquired(ORDER, "SUCCESS")
GOOD = signed(SAID)
BODY = GOOD.body
HEADER = dict(GOOD.headers)["signature"]
WIRE = GOOD.wire()
SUCCESS: Facts = {
    "call": Call.OK,
    "payment_status": GatewayStatus.SUCCESS,
    "payment_request_id": ORDER,
    "amount": Money("USD", 599),
}
DONE = {"result": SAID["result"], "paymentRequestId": ORDER, "paymentId": "1"}
LARGEST = MAX_ANSWER_BYTES


def resigned(how: Callable[[bytes], bytes]) -> Answer:
    """The same with a signature of another kind."""
    time = dict(GOOD.headers)["response-time"]
    content = Signed(GOOD.path, CLIENT_ID, time, BODY).content()
    value = base64.b64encode(how(content)).decode()
    return GOOD.having(signature=f"algorithm=RSA256,keyVersion=1,signature={value}")


def refund(**changed: Any) -> dict[str, Any]:
    return {
        "transactionType": "REFUND",
        "transactionStatus": "SUCCESS",
        "transactionAmount": {"currency": "USD", "value": "100"},
    } | changed


KEY = private_key("alipay_v1")
OTHER_KINDS: list[Any] = ["PAYMENT", "CAPTURE", "", None, 7, [], "ſEFUND"]
PAID_BACK = Return("REFUND", Money("USD", 100))
HEAD = b"HTTP/1.1 200 OK\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
UNENDED = replace(GOOD, body=b"", length=None).wire()
CHUNKED = replace(GOOD.having(Transfer_Encoding="chunked"), body=b"", length=None).wire()
REDIRECT = ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent")


HTTP: list[Case] = [
    Case("perfect", WIRE, SUCCESS),
    Case("go on, first", b"HTTP/1.1 100 Continue\r\n\r\n" + WIRE, SUCCESS),
    Case("early hints, first", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WIRE, SUCCESS),
    Case("in chunks", GOOD.chunked(), SUCCESS, after=After.HOLD),
    Case("in chunks with a trailer", GOOD.chunked(b"0\r\nX: y\r\n\r\n"), SUCCESS),
    Case("without a length, closed", replace(GOOD, length=None).wire(), SUCCESS),
    Case("HTTP/1.0", replace(GOOD, status="HTTP/1.0 200 OK").wire(), SUCCESS),
    Case("no reason", replace(GOOD, status="HTTP/1.1 200").wire(), SUCCESS),
    Case("header names in capitals", WIRE.replace(b"signature:", b"SIGNATURE:"), SUCCESS),
    Case("no Content-Type", GOOD.without("Content-Type").wire(), SUCCESS),
    Case("text/html, it says", GOOD.having(Content_Type="text/html").wire(), SUCCESS),
    Case("a cookie", GOOD.having(Set_Cookie="a=b; Domain=.com").wire(), SUCCESS),
    Case(
        "raw base64",
        GOOD.having(
            signature=HEADER.replace("%2F", "/").replace("%2B", "+").replace("%3D", "=")
        ).wire(),
        SUCCESS,
    ),
    Case("a connection kept open", WIRE, SUCCESS, after=After.HOLD),
    silence("go on, for ever", "timeout", b"", endless=GO_ON, slow=True),
    silence("go on, and no more", "timeout", GO_ON, After.HOLD, slow=True),
    *(
        status(line, f"http_{line[:3]}")
        for line in (
            "202 Accepted",
            "203 Other",
            "204 No Content",
            "206 Partial Content",
            "226 IM Used",
            "300 Multiple",
            "304 Not Modified",
            "305 Use Proxy",
            "400 Bad Request",
            "401 Unauthorized",
            "403 Forbidden",
            "405 Method Not Allowed",
            "407 Proxy Authentication Required",
            "408 Request Timeout",
            "409 Conflict",
            "413 Too Large",
            "421 Misdirected",
            "425 Too Early",
            "429 Too Many Requests",
            "451 Unavailable",
            "501 Not Implemented",
            "502 Bad Gateway",
            "504 Gateway Timeout",
            "511 Network Authentication Required",
            "520 Odd",
            "599 Odd",
        )
    ),
    *(
        silence(
            f"a redirect {line}",
            f"http_{line[:3]}",
            replace(GOOD, status=f"HTTP/1.1 {line}").having(Location="http://127.0.0.1:9/").wire(),
        )
        for line in REDIRECT
    ),
    silence(
        "another protocol from here",
        "http_101",
        replace(GOOD, status="HTTP/1.1 101 Switching Protocols")
        .having(Upgrade="websocket", Connection="upgrade")
        .wire(),
    ),
    silence("a status of two digits", "connection_lost", b"HTTP/1.1 20 OK\r\n\r\n"),
    silence("a status that is a word", "connection_lost", b"HTTP/1.1 OK\r\n\r\n"),
    silence("HTTP/0.9", "connection_lost", BODY),
    silence("HTML", "connection_lost", b"<html><h1>It works!</h1></html>"),
    silence("SSH", "connection_lost", b"SSH-2.0-OpenSSH_9.9\r\n"),
    silence("TLS", "connection_lost", b"\x15\x03\x01\x00\x02\x02\x28"),
    silence("HTTP/2", "connection_lost", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    silence("our own request", "connection_lost", b"POST / HTTP/1.1\r\nHost: us\r\n\r\n"),
    silence("a status line, and the end", "connection_lost", HEAD),
    silence("a status line, and silence", "timeout", HEAD, After.HOLD, slow=True),
    silence(
        "all headers but the blank line, and silence",
        "timeout",
        WIRE[: -len(BODY) - 2],
        After.HOLD,
        slow=True,
    ),
    silence("headers for ever", "connection_lost", HEAD, endless=b"X-0: 1\r\n" * 100),
    silence("one header for ever", "connection_lost", HEAD + b"X: ", endless=b"x" * 1000),
    silence("a name for ever", "connection_lost", HEAD, endless=b"x" * 1000),
    silence("a status line for ever", "connection_lost", b"HTTP/1.1 200 ", endless=b"x" * 1000),
    silence("a header of 9 kB", "connection_lost", GOOD.having(X="x" * 9000).wire()),
    silence(
        "200 headers",
        "connection_lost",
        replace(GOOD, headers=(*GOOD.headers, *(("X", "1"),) * 200)).wire(),
    ),
    silence("a NUL in a header", "connection_lost", WIRE.replace(b"algorithm", b"\0algorithm")),
    silence("no colon", "connection_lost", WIRE.replace(b"signature:", b"signature")),
    silence("a reset before the headers' end", "connection_lost", HEAD + b"X: y\r\n", After.RESET),
    silence("a reset within the body", "connection_lost", WIRE[:-20], After.RESET),
    silence("a reset before anything", "connection_lost", b"", After.RESET),
    silence("the end within the body", "connection_lost", WIRE[:-1]),
    silence("silence within the body", "timeout", WIRE[:-1], After.HOLD, slow=True),
    silence("silence", "timeout", b"", After.HOLD, slow=True),
    silence("the last chunk missing", "connection_lost", GOOD.chunked(b"")),
    silence(
        "the last chunk missing, and silence", "timeout", GOOD.chunked(b""), After.HOLD, slow=True
    ),
    silence(
        "a chunk whose size is no number",
        "connection_lost",
        replace(GOOD.having(Transfer_Encoding="chunked"), body=b"xyz\r\n{", length=None).wire(),
    ),
    silence(
        "a chunk of 68 bits",
        "connection_lost",
        replace(
            GOOD.having(Transfer_Encoding="chunked"), body=b"f" * 17 + b"\r\n{", length=None
        ).wire(),
    ),
    silence(
        "cut where nothing says how long it is",
        "untrusted_sig_mismatch",
        replace(GOOD, body=BODY[:-1], length=None).wire(),
    ),
    silence(
        "a length too short",
        "connection_lost",
        replace(GOOD, length=str(len(BODY) - 1)).wire(),
    ),
    silence("no body", "untrusted_not_object", replace(GOOD, body=b"").wire()),
    silence(
        "a length too long", "connection_lost", replace(GOOD, length=str(len(BODY) + 1)).wire()
    ),
    silence("a length that is a word", "connection_lost", replace(GOOD, length="many").wire()),
    silence("a length with a plus", "connection_lost", replace(GOOD, length="+5").wire()),
    silence("a length beyond 64 bits", "connection_lost", replace(GOOD, length="9" * 30).wire()),
    silence("a body for ever", "too_large", UNENDED, endless=b" " * 60_000),
    silence(
        "ten gigabytes announced",
        "too_large",
        replace(GOOD, body=b"", length="10000000000").wire(),
        endless=b" " * 60_000,
    ),
    silence("chunks for ever", "too_large", CHUNKED, endless=b"ea60\r\n" + b" " * 60_000 + b"\r\n"),
    silence("chunks of a byte for ever", "timeout", CHUNKED, endless=b"1\r\n \r\n", slow=True),
    silence(
        "a chunk's extension for ever", "timeout", CHUNKED + b"1;", endless=b"x" * 999, slow=True
    ),
]

TRUST: list[Case] = [
    untrusted("nothing signed, OK", "header_missing", Answer(BODY)),
    untrusted("an empty object, nothing signed", "header_missing", Answer(b"{}")),
    untrusted(
        "request-time in response-time's place",
        "header_missing",
        replace(
            GOOD, headers=tuple((n.replace("response", "request"), v) for n, v in GOOD.headers)
        ),
    ),
    untrusted("an empty signature", "sig_syntax", GOOD.having(signature="")),
    untrusted(
        "algorithm none", "sig_algorithm", GOOD.having(signature=HEADER.replace("RSA256", "none"))
    ),
    untrusted(
        "junk in the base64", "sig_syntax", GOOD.having(signature=HEADER[:80] + "!" + HEADER[80:])
    ),
    untrusted("a signature that is cut", "sig_syntax", GOOD.having(signature=HEADER[:-20])),
    untrusted(
        "SHA-1",
        "sig_mismatch",
        resigned(lambda content: KEY.sign(content, padding.PKCS1v15(), hashes.SHA1())),
    ),
    untrusted(
        "PSS",
        "sig_mismatch",
        resigned(
            lambda content: KEY.sign(
                content, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()
            )
        ),
    ),
    untrusted("zeros", "sig_mismatch", resigned(lambda _: bytes(256))),
    untrusted(
        "headers in no charset",
        "header_charset",
        GOOD.having(signature="\udcff", client_id="\udcff", response_time="\udcff"),
    ),
    untrusted("the other key's version", "sig_mismatch", signed(SAID, version=2)),
    untrusted("the answer to a cancel", "sig_mismatch", signed(SAID, endpoint=CANCEL)),
    untrusted("a notification", "sig_mismatch", signed(SAID, endpoint="notify")),
    untrusted(
        "another account's, under our id",
        "sig_mismatch",
        signed(SAID, client_id="SANDBOX_OTHER").having(client_id=CLIENT_ID),
    ),
    untrusted(
        "another payment's signature",
        "sig_mismatch",
        GOOD.having(signature=dict(signed(inquired("order-2", "SUCCESS")).headers)["signature"]),
    ),
    untrusted("another time", "sig_mismatch", GOOD.having(response_time="1685599933880")),
    untrusted("an empty time", "time_charset", GOOD.having(response_time="")),
    untrusted(
        "a time that is a date of HTTP",
        "time_charset",
        signed(SAID, at="Fri, 02 Jan 2026 03:04:05 GMT"),
    ),
    untrusted("other words", "sig_mismatch", replace(GOOD, body=BODY.replace(b"599", b"998"))),
    untrusted("a blank more", "sig_mismatch", replace(GOOD, body=BODY + b" ")),
    untrusted("written anew", "sig_mismatch", replace(GOOD, body=BODY.replace(b": ", b":"))),
    untrusted("an array", "not_object", signed(b"[" + BODY + b"]")),
    untrusted("null", "not_object", signed(b"null")),
    untrusted("a byte order mark", "not_object", signed(b"\xef\xbb\xbf" + BODY)),
    untrusted("UTF-16", "not_object", signed(BODY.decode().encode("utf-16"))),
    untrusted(
        "gzip, the text signed",
        "not_object",
        replace(GOOD, body=gzip.compress(BODY)).having(Content_Encoding="gzip"),
    ),
    untrusted(
        "deflate, signed as it comes",
        "not_object",
        signed(zlib.compress(BODY)).having(Content_Encoding="deflate"),
    ),
    untrusted(
        "a bomb of 100 MB",
        "not_object",
        signed(gzip.compress(bytes(100_000_000))).having(Content_Encoding="gzip"),
    ),
]

BODIES: list[Case] = [
    unreadable("cut", BODY[:-1]),
    unreadable("two documents", BODY + BODY),
    unreadable("latin-1", BODY.replace(b"success", b"succ\xe9s")),
    unreadable("half a surrogate pair", BODY.replace(b"success", b"\\ud800")),
    unreadable(
        "a status twice",
        BODY.replace(b'"paymentStatus"', b'"paymentStatus": "FAIL", "paymentStatus"'),
    ),
    unreadable("a result twice, once escaped", BODY[:-1] + b',"resul\\u0074":{}}'),
    unreadable("17 brackets deep", BODY[:-1] + b',"x":' + b"[" * 16 + b"]" * 16 + b"}"),
    unreadable("10,000 brackets deep", BODY[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    unreadable("500,000 brackets", BODY[:-1] + b',"x":' + b"[" * 500_000),
    unreadable("NaN", BODY.replace(b'"599"', b"NaN")),
    unreadable("a number of 5,000 digits", BODY.replace(b'"599"', b"9" * 5000)),
    unreadable("an empty object", {}),
    odd("a result that is a string", result="S"),
    odd("a result that is a list", result=[SAID["result"]]),
    odd("a result of null", result=None),
    odd("an amount with a decimal", paymentAmount={"currency": "USD", "value": "5.99"}),
    odd("an amount that is a decimal", paymentAmount={"currency": "USD", "value": 5.99}),
    odd("an amount below zero", paymentAmount={"currency": "USD", "value": -599}),
    odd("an amount of zero", paymentAmount={"currency": "USD", "value": "0"}),
    odd("an amount with a zero before it", paymentAmount={"currency": "USD", "value": "0599"}),
    odd("an amount that is true", paymentAmount={"currency": "USD", "value": True}),
    odd("an amount that is a string", paymentAmount="599"),
    odd("an amount in small letters", paymentAmount={"currency": "usd", "value": "599"}),
    odd("an amount without a currency", paymentAmount={"value": "599"}),
    odd("an id that climbs", paymentRequestId="../order-1"),
    odd("an id that is a list", paymentRequestId=["order-1"]),
    odd("a payment id with a blank", paymentId="20 26"),
    odd("a payment id of 65 digits", paymentId="1" * 65),
    odd("transactions that are a string", transactions="REFUND"),
    odd("transactions that are an object", transactions=refund()),
    odd("a transaction of null", transactions=[None]),
    odd("a transaction that is a string", transactions=["REFUND"]),
    odd("a refund whose status nobody knows", transactions=[refund(transactionStatus="MAYBE")]),
    odd("a refund without a status", transactions=[refund(transactionStatus=None)]),
    odd("a refund whose amount is odd", transactions=[refund(transactionAmount="100")]),
    says(
        "a number for an amount",
        {"amount": Money("USD", 599)},
        paymentAmount={"currency": "USD", "value": 599},
    ),
    says("a number for a payment id", {"payment_id": "2026"}, paymentId=2026),
    says("a number for our id", {"payment_request_id": "4711"}, paymentRequestId=4711),
    says("no amount", {"amount": None}, paymentAmount=None),
    says("no id", {"payment_request_id": ""}, paymentRequestId=None),
    says("another payment", {"payment_request_id": "order-2"}, paymentRequestId="order-2"),
    says(
        "another amount",
        {"amount": Money("EUR", 1)},
        paymentAmount={"currency": "EUR", "value": "1"},
    ),
    says(
        "Success, in mixed case", {"payment_status": GatewayStatus.SUCCESS}, paymentStatus="Success"
    ),
    *(
        says(f"status {value!r}", {"payment_status": GatewayStatus.UNKNOWN}, paymentStatus=value)
        for value in (
            None,
            "",
            "SUCCESS ",
            "SUCCESS\n",
            "SUCCESſ",
            "ſUCCESS",
            "SUCCEEDED",
            "S",
            1,
            True,
            ["SUCCESS"],
            {"value": "SUCCESS"},
        )
    ),
    says("a time that is none", {"paid_at": None}, paymentTime="2026-02-30T00:00:00Z"),
    says("a time that is a number", {"paid_at": None}, paymentTime=1_767_323_045),
    says("a time in year 10000", {"paid_at": None}, paymentTime="10000-01-01T00:00:00Z"),
    says("transactions of null", {"returns": ()}, transactions=None),
    says("no transactions", {"returns": ()}, transactions=[]),
    says("a refund", {"returns": (PAID_BACK,)}, transactions=[refund()]),
    says(
        "a refund in small letters",
        {"returns": (PAID_BACK,)},
        transactions=[refund(transactionType="refund", transactionStatus="processing")],
    ),
    says("a refund that failed", {"returns": ()}, transactions=[refund(transactionStatus="FAIL")]),
    says(
        "a refund of nobody knows how much",
        {"returns": (Return("REFUND", None),)},
        transactions=[refund(transactionAmount=None)],
    ),
    says(
        "transactions of other kinds",
        {"returns": ()},
        transactions=[{"transactionType": kind} for kind in OTHER_KINDS],
    ),
    says("two thousand refunds", {"returns": (PAID_BACK,) * 2000}, transactions=[refund()] * 2000),
    says("fields nobody knows", SUCCESS, __proto__={}, future=[1, {"a": None}]),
    call(
        "U",
        {"resultStatus": "U", "resultCode": "UNKNOWN_EXCEPTION"},
        Call.UNKNOWN,
        "UNKNOWN_EXCEPTION",
    ),
    call(
        "a status that is none",
        {"resultStatus": "X", "resultCode": "SUCCESS"},
        Call.UNKNOWN,
        "SUCCESS",
    ),
    call("a small s", {"resultStatus": "s", "resultCode": "SUCCESS"}, Call.UNKNOWN, "SUCCESS"),
    call("a status in a list", {"resultStatus": ["S"]}, Call.UNKNOWN, "?"),
    call("no status", {"resultCode": "SUCCESS"}, Call.UNKNOWN, "SUCCESS"),
    call("F", {"resultStatus": "F", "resultCode": "PROCESS_FAIL"}, Call.REFUSED, "PROCESS_FAIL"),
    call(
        "F, and a message that says otherwise",
        {"resultStatus": "F", "resultCode": "PROCESS_FAIL", "resultMessage": "ORDER_NOT_EXIST"},
        Call.REFUSED,
        "PROCESS_FAIL",
    ),
    call(
        "F, not known",
        {"resultStatus": "F", "resultCode": "ORDER_NOT_EXIST"},
        Call.NOT_EXIST,
        "ORDER_NOT_EXIST",
    ),
    call(
        "F, our signature, signed",
        {"resultStatus": "F", "resultCode": "INVALID_SIGNATURE"},
        Call.MISCONFIGURED,
        "INVALID_SIGNATURE",
    ),
    call(
        "F, a code with a line of the log in it",
        {"resultStatus": "F", "resultCode": 'X\n{"event":1}'},
        Call.REFUSED,
        "?",
    ),
    call(
        "F, a code in small letters",
        {"resultStatus": "F", "resultCode": "order_not_exist"},
        Call.REFUSED,
        "?",
    ),
    call(
        "F, a code of 65 letters", {"resultStatus": "F", "resultCode": "X" * 65}, Call.REFUSED, "?"
    ),
    cancelled("cancelled", {"call": Call.OK, "payment_request_id": ORDER, "payment_id": "1"}, DONE),
    cancelled(
        "another payment, cancelled",
        {"payment_request_id": "order-2"},
        DONE | {"paymentRequestId": "order-2"},
    ),
    cancelled(
        "cancelled, and names nobody",
        {"payment_request_id": "", "payment_id": ""},
        {"result": SAID["result"]},
    ),
    cancelled("cancelled, an id that is odd", "unreadable", DONE | {"paymentRequestId": "*"}),
    cancelled(
        "too late to cancel",
        {"call": Call.WINDOW_EXCEEDED, "payment_request_id": ""},
        DONE | {"result": {"resultStatus": "F", "resultCode": "CANCEL_WINDOW_EXCEED"}},
    ),
    cancelled(
        "cancelled, perhaps", {"call": Call.UNKNOWN}, DONE | {"result": {"resultStatus": "U"}}
    ),
    cancelled("cancelled, says nobody", "unreadable", {"paymentStatus": "CANCELLED"}),
    cancelled("cancelled, cut", "unreadable", json.dumps(DONE).encode()[:-1]),
    silence("the answer to an inquiry", "untrusted_sig_mismatch", WIRE, endpoint=CANCEL),
    silence(
        "a cancel that is never answered", "timeout", b"", After.HOLD, slow=True, endpoint=CANCEL
    ),
    silence("a cancel whose answer is cut off", "connection_lost", WIRE[:-1], endpoint=CANCEL),
    silence(
        "a cancel that is redirected",
        "http_307",
        replace(GOOD, status="HTTP/1.1 307 Elsewhere").having(Location="/").wire(),
        endpoint=CANCEL,
    ),
]

TIMES: list[Case] = [
    Case(
        "an hour ago",
        signed(SAID, at="2026-01-01T00:00:00Z").wire(),
        {"answered_at": 1767225600000},
    ),
    Case(
        "in a year",
        signed(SAID, at="2030-01-01T00:00:00+00:00").wire(),
        {"answered_at": 1893456000000},
    ),
    Case("at no time that can be read", signed(SAID, at="1" * 40).wire(), {"answered_at": None}),
    Case("on February 30", signed(SAID, at="2026-02-30T00:00:00Z").wire(), {"answered_at": None}),
]

CASES = [*HTTP, *TRUST, *BODIES, *TIMES]
assert len(GOOD.body) < LARGEST
