"""What the gateway may send as well: none of it may be refused."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from tests.hostile.cases import (
    BODY,
    GENUINE,
    HEADERS,
    ORDER,
    Case,
    Expected,
    Fate,
    accepted,
    framed,
    of,
    saying,
    signature,
)
from tests.servers import Post, notification, paid

_VALUE = HEADERS["Signature"].partition("signature=")[2]
_PLAIN = unquote(_VALUE)


def _with_plus() -> Post:
    """One whose base64 has a plus, which must not be read as a blank."""
    for turn in range(100):
        post = notification(saying(turn=turn))
        text = dict(post.headers)["Signature"]
        if "%2B" in text and "%2F" in text:
            return post.having(Signature=unquote(text))
    raise AssertionError


def _at(now: datetime, form: str) -> Post:
    return notification(BODY, sent_at=now.strftime(form))


_NOW = datetime.now(UTC)
_EXTRA = {"__proto__": {"polluted": True}, "constructor": {"prototype": 1}, "future": [1, {}]}
_LAST = framed(b"Transfer-Encoding: chunked", b"")

CASES: list[Case] = [
    accepted("as the gateway sends it", GENUINE),
    accepted(
        "percent-encoding in small letters",
        GENUINE.having(
            Signature=HEADERS["Signature"]
            .replace("%2F", "%2f")
            .replace("%2B", "%2b")
            .replace("%3D", "%3d")
        ),
    ),
    accepted("raw base64 with a plus", _with_plus()),
    accepted("raw base64", GENUINE.having(Signature=unquote(HEADERS["Signature"]))),
    accepted(
        "base64 with every character percent-encoded",
        GENUINE.having(
            Signature=HEADERS["Signature"].replace(
                _VALUE, "".join(f"%{ord(letter):02X}" for letter in _PLAIN)
            )
        ),
    ),
    accepted("half percent-encoded", signature("%3D%3D", "=%3D")),
    accepted("blanks after the commas", signature(",", ", ")),
    accepted(
        "header names in lower case",
        _renamed := replace(
            GENUINE, headers=tuple((name.lower(), value) for name, value in GENUINE.headers)
        ),
    ),
    accepted(
        "header names in capitals",
        replace(GENUINE, headers=tuple((name.upper(), value) for name, value in GENUINE.headers)),
    ),
    accepted("headers in another order", replace(GENUINE, headers=GENUINE.headers[::-1])),
    accepted(
        "blanks around header values",
        replace(GENUINE, headers=tuple((name, f"  {value} \t") for name, value in GENUINE.headers)),
    ),
    accepted(
        "no blank before header values",
        GENUINE,
        wire=GENUINE.head.replace(b": ", b":") + GENUINE.wire()[len(GENUINE.head) :],
    ),
    accepted("no Content-Type", GENUINE.without("Content-Type")),
    accepted("no charset", GENUINE.having(Content_Type="application/json")),
    accepted(
        "a charset in quotes", GENUINE.having(Content_Type='application/json; charset="utf-8"')
    ),
    accepted("a charset called utf8", GENUINE.having(Content_Type="application/json;charset=UTF8")),
    accepted("a media type in capitals", GENUINE.having(Content_Type="APPLICATION/JSON")),
    accepted(
        "a parameter more", GENUINE.having(Content_Type="application/json; charset=utf-8; v=1")
    ),
    accepted("Content-Encoding: identity", GENUINE.having(Content_Encoding="Identity")),
    accepted(
        "Upgrade: websocket",
        GENUINE.having(Upgrade="websocket").having(
            Connection="upgrade", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ=="
        ),
    ),
    accepted("Upgrade: h2c", GENUINE.having(Upgrade="h2c", Connection="Upgrade, HTTP2-Settings")),
    accepted(
        "what proxies add",
        GENUINE.having(
            X_Forwarded_For="10.0.0.1, ::1", Via="1.1 proxy", X_Request_Id="1", Cookie="a=b"
        ),
    ),
    accepted("an Authorization that nobody asked for", GENUINE.having(Authorization="Basic eDp5")),
    accepted("If-None-Match and Range", GENUINE.having(If_None_Match="*", Range="bytes=0-1")),
    accepted("method override", GENUINE.having(X_HTTP_Method_Override="DELETE")),
    accepted("absolute target", replace(GENUINE, path="http://elsewhere/notify")),
    accepted("absolute target with a port", replace(GENUINE, path="https://elsewhere:8443/notify")),
    accepted("HTTP/1.0", GENUINE, wire=GENUINE.wire().replace(b"HTTP/1.1", b"HTTP/1.0")),
    accepted(
        "HTTP/1.0 without a Host",
        GENUINE,
        wire=GENUINE.wire().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: us\r\n", b""),
    ),
    accepted("Expect: 100-continue", GENUINE.having(Expect="100-continue")),
    accepted("an Expect that there is not", GENUINE.having(Expect="the-unexpected")),
    accepted("a blank line first", GENUINE, wire=b"\r\n\r\n" + GENUINE.wire()),
    accepted("in chunks", GENUINE, wire=GENUINE.chunked(7)),
    accepted("in chunks of one byte", GENUINE, wire=GENUINE.chunked(1)),
    accepted(
        "in one chunk whose size has zeros before it",
        GENUINE,
        wire=_LAST + b"0000000%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    ),
    accepted(
        "in a chunk with an extension",
        GENUINE,
        wire=_LAST + b'%x;name="value"\r\n%b\r\n0\r\n\r\n' % (len(BODY), BODY),
    ),
    accepted(
        "with a trailer",
        GENUINE,
        wire=_LAST + b"%x\r\n%b\r\n0\r\nX-Checksum: 1\r\n\r\n" % (len(BODY), BODY),
    ),
    accepted(
        "Content-Length with zeros before it",
        GENUINE,
        wire=framed(b"Content-Length: 00000%d" % len(BODY), BODY),
    ),
    accepted("key version 2 during a rotation", notification(BODY, key="alipay_v2", key_version=2)),
    accepted("an empty query", notification(BODY, path="/notify?")),
    accepted("a query that is signed", notification(BODY, path="/notify?a=1")),
    accepted(
        "a query that is not signed", notification(BODY, path="/notify?a=1", signed_path="/notify")
    ),
    accepted("unknown fields", notification(saying(**_EXTRA))),
    accepted("text in other scripts", notification(saying(buyer="支付 🙂 فاتورة"))),
    accepted(
        "text in other scripts, raw",
        notification(json.dumps(paid(ORDER, buyer="支付 🙂 فاتورة"), ensure_ascii=False).encode()),
    ),
    accepted("a pair of surrogates, escaped", notification(saying(buyer="🙂"))),
    accepted(
        "fields in another order",
        notification(json.dumps(dict(reversed(paid(ORDER).items()))).encode()),
    ),
    accepted(
        "blanks and line feeds in the body",
        notification(json.dumps(paid(ORDER), indent=4).encode() + b"\r\n\t "),
    ),
    accepted("keys escaped", notification(saying().replace(b"notifyType", b"notify\\u0054ype"))),
    accepted("slashes escaped", notification(saying(url="x").replace(b'"x"', b'"https:\\/\\/x"'))),
    accepted(
        "a payment that failed",
        notification(
            saying(
                result={
                    "resultCode": "ORDER_IS_CLOSED",
                    "resultStatus": "F",
                    "resultMessage": "closed",
                }
            )
        ),
    ),
    accepted(
        "a failure without an amount",
        notification(
            saying(
                paymentAmount=None,
                result={"resultCode": "ORDER_IS_CLOSED", "resultStatus": "F", "resultMessage": ""},
            )
        ),
    ),
    accepted("PAYMENT_PENDING with S", notification(saying(notifyType="PAYMENT_PENDING"))),
    accepted(
        "an amount of another order",
        notification(saying(paymentAmount={"currency": "EUR", "value": "1"})),
    ),
    accepted(
        "a code that is no word",
        notification(saying(result={"resultCode": "\u001b[31m<script>", "resultStatus": "S"})),
    ),
    accepted(
        "times in milliseconds and with offsets",
        notification(
            saying(paymentTime="2026-01-02T03:04:05.678+05:30", paymentCreateTime="1767323045678")
        ),
    ),
    accepted("times in UTC", _at(_NOW, "%Y-%m-%dT%H:%M:%SZ")),
    accepted("an offset with a colon", _at(_NOW, "%Y-%m-%dT%H:%M:%S+05:30")),
    accepted("an offset without one", _at(_NOW, "%Y-%m-%dT%H:%M:%S-0800")),
    accepted("seven decimals", _at(_NOW, "%Y-%m-%dT%H:%M:%S.%f0Z")),
    of("to a payment that is tracked", accepted("", GENUINE, result="accepted"), tracked=True),
    of("a side that is ended behind it", accepted("", GENUINE), hangs_up=True),
    Case(
        "two on one connection",
        GENUINE.wire().replace(b"Connection: close\r\n", b"") + GENUINE.wire(),
        (Expected(Fate.ACCEPTED, "parked"), Expected(Fate.ACCEPTED, "duplicate")),
        mail=(BODY,),
    ),
    Case(
        "forty on one connection, all at once",
        GENUINE.wire().replace(b"Connection: close\r\n", b"") * 39 + GENUINE.wire(),
        (Expected(Fate.ACCEPTED, "parked"), *[Expected(Fate.ACCEPTED, "duplicate")] * 39),
        mail=(BODY,),
    ),
]
assert base64.b64decode(_PLAIN) and quote(_PLAIN, safe="") == _VALUE
