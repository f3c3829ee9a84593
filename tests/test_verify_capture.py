"""A captured message is read in every form in which people have one; what is none is said to be."""

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given
from hypothesis import strategies as st

from tests.keys import CLIENT_ID, public_key, vector
from tests.servers import Post
from tests.verify_page import settings_of
from worker.verify import BadCapture, Kind, examine, read_capture, with_parts
from worker.verify.capture import MAX_CAPTURE
from worker.verify.case import NoKey, Said, case_of

SETTINGS = settings_of()
NOTIFIED, ANSWERED, ASKED = vector("N02"), vector("P01"), vector("V06")


def post(message: dict[str, Any]) -> Post:
    headers = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Client-Id", message["client_id"]),
        ("Request-Time", message["time"]),
        ("Signature", message["signature_header"]),
    )
    return Post(message["body"].encode(), headers, message["path"])


POST = post(NOTIFIED)
HEADERS = dict(POST.headers)
BODY = NOTIFIED["body"]
ANSWER_HEADERS = (
    f"client-id: {CLIENT_ID}\r\nresponse-time: {ANSWERED['time']}\r\n"
    f"signature: {ANSWERED['signature_header']}\r\nContent-Length: {len(ANSWERED['body'])}\r\n"
)
CURL = (
    "*   Trying 127.0.0.1:9100...\n* Connected to localhost\n"
    f"> POST {ANSWERED['path']} HTTP/1.1\r\n> Host: localhost\r\n> Client-Id: {CLIENT_ID}\r\n"
    "> \r\n} [42 bytes data]\n* upload completely sent off\n"
    "< HTTP/1.1 200 OK\r\n"
    + "".join(f"< {line}\r\n" for line in ANSWER_HEADERS.splitlines())
    + "< \r\n{ [344 bytes data]\n"
    f"{ANSWERED['body']}* Connection #0 to host localhost left intact\n"
)
HAR_ENTRY = {
    "request": {
        "method": "POST",
        "url": "https://shop.example" + NOTIFIED["path"],
        "headers": [{"name": name, "value": value} for name, value in HEADERS.items()],
        "postData": {"text": BODY},
    },
    "response": {"status": 200, "headers": [], "content": {}},
}
OTHER_ENTRY = {
    "request": {"method": "GET", "url": "https://shop.example/", "headers": []},
    "response": {"status": 200, "headers": [], "content": {"text": "<html>"}},
}

CAPTURES: dict[str, bytes] = {
    "raw": POST.wire(),
    "raw, saved by an editor": POST.wire() + b"\n",
    "raw, with line feeds alone": POST.wire().replace(b"\r\n", b"\n"),
    "raw, with BOM": b"\xef\xbb\xbf" + POST.wire(),
    "raw, in chunks": POST.chunked(50),
    "raw, of tcpdump": b"22:01 IP a > b: Flags [P.]\nE..x@.@.....\x00\x9c..P...." + POST.wire(),
    "raw, without a length": POST.head + b"\r\n" + POST.body,
    "raw, whole URL": POST.wire().replace(b"POST /", b"POST http://shop.example/", 1),
    "raw, HTTP/2's names": b":method: POST\n:path: /merchant/notify\n"
    + POST.wire().split(b"\r\n", 1)[1],
    "raw, a folded header": POST.wire().replace(b"algorithm=RSA256,", b"algorithm=RSA256,\r\n  "),
    "PHP's names": POST.wire()
    .replace(b"Client-Id:", b"HTTP_CLIENT_ID:")
    .replace(b"Signature:", b"HTTP_SIGNATURE:")
    .replace(b"Request-Time:", b"HTTP_REQUEST_TIME:"),
    "JSON": json.dumps(
        {"method": "POST", "path": NOTIFIED["path"], "headers": HEADERS, "body": BODY}
    ).encode(),
    "JSON, body in base64": json.dumps(
        {
            "path": NOTIFIED["path"],
            "headers": list(HEADERS.items()),
            "bodyBase64": base64.b64encode(BODY.encode()).decode(),
        }
    ).encode(),
    "AWS Lambda": json.dumps(
        {
            "httpMethod": "POST",
            "rawPath": NOTIFIED["path"],
            "rawQueryString": "",
            "headers": {name.lower(): [value] for name, value in HEADERS.items()},
            "isBase64Encoded": True,
            "body": base64.b64encode(BODY.encode()).decode(),
        }
    ).encode(),
    "nginx log": json.dumps(
        {
            "request_method": "POST",
            "request_uri": NOTIFIED["path"],
            "request_body": BODY,
            "status": 401,
            "http_signature": HEADERS["Signature"],
            "http_client_id": CLIENT_ID,
            "http_request_time": NOTIFIED["time"],
        }
    ).encode(),
    "HAR": json.dumps({"log": {"entries": [OTHER_ENTRY, HAR_ENTRY]}}).encode(),
}


def gateways(kind: Kind | None = None) -> Said:
    return Said(kind=kind, keys={1: public_key("alipay_v1")})


@pytest.mark.parametrize("data", CAPTURES.values(), ids=CAPTURES)
def test_a_notification_verifies_in_whatever_form_it_was_captured(data: bytes) -> None:
    case = case_of(read_capture(data), gateways(), SETTINGS)
    assert case.kind is Kind.NOTIFICATION
    assert case.capture.body.decode() == BODY
    assert examine(case).verifies


@pytest.mark.parametrize(
    "data",
    [
        CURL.encode(),
        CURL.replace("\r\n", "\n").encode(),
        f"HTTP/1.1 200 OK\r\n{ANSWER_HEADERS}\r\n{ANSWERED['body']}\n".encode(),
        f"HTTP/2 200\n{ANSWER_HEADERS}\r\n{ANSWERED['body']}\n".encode(),
    ],
    ids=["curl -v", "curl -v, pasted", "raw", "HTTP/2"],
)
def test_an_answer_verifies_with_the_path_of_its_request(data: bytes) -> None:
    paths = () if data.startswith(b"*") else (ANSWERED["path"],)
    said = Said(keys={1: public_key("alipay_v1")}, paths=paths)
    case = case_of(read_capture(data), said, SETTINGS)
    assert case.kind is Kind.ANSWER
    assert examine(case).verifies


def test_a_request_of_ours_verifies_as_the_gateway_would_do_it() -> None:
    said = Said(keys={1: public_key("merchant_v1")})
    case = case_of(read_capture(post(ASKED).wire()), said, SETTINGS)
    assert case.kind is Kind.REQUEST
    assert examine(case).verifies


def test_headers_and_body_may_stand_in_files_of_their_own() -> None:
    head = POST.head.split(b"\r\n", 1)[1]
    captures = with_parts(head, POST.body)
    said = Said(keys={None: public_key("alipay_v1")}, paths=(NOTIFIED["path"],))
    assert examine(case_of(captures, said, SETTINGS)).verifies


def test_a_body_file_is_taken_to_the_byte() -> None:
    case = case_of(with_parts(POST.head, POST.body + b"\n"), gateways(), SETTINGS)
    assert examine(case).mistakes == ("body.newline_added",)


def test_the_headers_of_curl_may_have_their_body_in_a_file() -> None:
    head = CURL[: CURL.index("{ [344")].encode()
    case = case_of(with_parts(head, ANSWERED["body"].encode()), gateways(), SETTINGS)
    assert examine(case).verifies


def test_what_was_left_out_is_told() -> None:
    (capture,) = read_capture(b"noise " + POST.wire() + b"\r\n\r\n")
    assert capture.notes == (
        "left out before the message: 6 bytes",
        "left out after the body, by Content-Length: 4 bytes",
    )


def test_a_har_without_a_signature_is_refused() -> None:
    data = json.dumps({"log": {"entries": [OTHER_ENTRY]}}).encode()
    with pytest.raises(BadCapture, match="no message in this HAR has a Signature header"):
        read_capture(data)


# Settings


ENVIRON = {
    "ALIPAY_CLIENT_ID": CLIENT_ID,
    "ALIPAY_PUBLIC_KEYS": "",
    "ALIPAY_NOTIFY_SIGNED_PATH": "/a,/merchant/notify",
}


def test_the_paths_that_the_receiver_believes_are_tried_like_there() -> None:
    settings = settings_of(**ENVIRON)
    moved = post(NOTIFIED | {"path": "/notify?x=1"})
    case = case_of(read_capture(moved.wire()), gateways(), settings)
    assert case.paths == ("/a?x=1", "/a", "/merchant/notify?x=1", "/merchant/notify")
    report = examine(case)
    assert report.verifies
    assert report.examined.parts.path == "/merchant/notify"


def test_the_notify_url_of_the_settings_explains_a_path_that_a_proxy_made() -> None:
    """It gives what cannot be guessed: the whole path that the gateway called."""
    settings = settings_of(ALIPAY_NOTIFY_URL=f"https://x.example{NOTIFIED['path']}")
    moved = post(NOTIFIED | {"path": "/7e9a"})
    case = case_of(read_capture(moved.wire()), gateways(), settings)
    assert examine(case).mistakes == ("path.configured",)


def test_where_accounts_share_a_key_of_the_gateway_it_is_that_of_the_account_in_question() -> None:
    """The gateway may sign for many accounts with one key, and number it twice."""
    shared = public_key("alipay_v1")
    keys: dict[str, Mapping[int, RSAPublicKey]] = {
        "SANDBOX_OTHER": {1: shared},
        CLIENT_ID: {2: shared, 1: shared},
    }
    settings = replace(SETTINGS, public_keys=keys)
    moved = post(NOTIFIED | {"path": NOTIFIED["path"] + "/"})
    case = case_of(read_capture(moved.wire()), Said(), settings)
    assert examine(case).mistakes == ("path.slash_added",)


def test_another_accounts_key_is_named() -> None:
    keys: dict[str, Mapping[int, RSAPublicKey]] = {
        "SANDBOX_OTHER": {1: public_key("alipay_v1")},
        CLIENT_ID: {1: public_key("alipay_v2")},
    }
    case = case_of(read_capture(POST.wire()), Said(), replace(SETTINGS, public_keys=keys))
    report = examine(case)
    assert report.mistakes == ("key.other_account",)
    assert "The key of SANDBOX_OTHER, version 1, made the signature" in report.facts[0].seen


def test_without_any_key_nothing_can_be_said() -> None:
    with pytest.raises(NoKey, match="set ALIPAY_PUBLIC_KEYS, or --public-key"):
        case_of(read_capture(POST.wire()), Said(), SETTINGS)
    with pytest.raises(NoKey, match="set ALIPAY_PRIVATE_KEY, or give our --public-key"):
        case_of(read_capture(POST.wire()), Said(kind=Kind.REQUEST), SETTINGS)


# Hostile captures

DEEP = b'{"headers":' * 100_000
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b" \n", "it is empty"),
    "huge": (b"x" * (MAX_CAPTURE + 1), "cut one message out of it"),
    "binary": (bytes(range(256)) * 8, "no blank line ends its headers"),
    "binary with a blank line": (b"\xff\xfe\n\n" * 9, "this is no header"),
    "compressed": (gzip.compress(POST.wire()), "no blank line|this is no header"),
    "an escape sequence": (b"\x1b[31mred\n\nx", r"this is no header: '\\x1b\[31mred'"),
    "headers alone": (POST.head, "no blank line ends its headers"),
    "endless headers": (b"A: " + b"x" * 70_000 + b"\n\n", "its headers have more than 64 KiB"),
    "a body alone": (BODY.encode(), "it is JSON without headers"),
    "half of JSON": (b'{"headers": ', "it begins like JSON, but is none"),
    "nested JSON": (DEEP, "it begins like JSON, but is none"),
    "JSON that is not UTF-8": (b'{"headers": "\xff"}', "it begins like JSON, but is none"),
    "a list": (b"[1]", "it is JSON without headers"),
    "headers that are none": (b'{"headers": 5}', "its headers must be an object or a list"),
    "a header that is none": (b'{"headers": [5]}', "each header must have a name and a value"),
    "a header without text": (b'{"headers": {"a": 5}}', "its headers must be names and texts"),
    "a body that was parsed": (b'{"headers": {}, "body": {}}', "body must be a text"),
    "a body that is no base64": (
        b'{"headers": {}, "bodyBase64": "!"}',
        "its body is said to be base64, but is none",
    ),
    "a HAR of nothing": (b'{"log": {"entries": 5}}', "must be an object or a list"),
    "a HAR of odd entries": (b'{"log": {"entries": [5, {}]}}', "no message in this HAR"),
}


@pytest.mark.parametrize("data, why", BAD.values(), ids=BAD)
def test_what_is_no_message_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadCapture, match=why) as bad:
        read_capture(data)
    assert len(str(bad.value)) < 300
    assert str(bad.value).isprintable()


def test_a_file_beyond_all_measure_is_refused() -> None:
    with pytest.raises(BadCapture, match="more than 4 MiB"):
        with_parts(POST.head, b"x" * (MAX_CAPTURE + 1))


ODD_HEADERS = {
    "a body that unpacks to a gigabyte": POST.having(Content_Type="application/json").head
    + b"\r\n"
    + gzip.compress(bytes(50_000_000)),
    "a million brackets": POST.head + b"\r\n" + b'{"a":' + b"[" * 1_000_000,
    "a million members": POST.head + b"\r\n{" + b'"a":1,' * 100_000 + b'"a":1}',
    "numbers beyond all measure": POST.head + b'\r\n{"a":1e999999,"b":' + b"9" * 6000 + b"}",
    "half a surrogate pair": POST.head + b'\r\n{"a":"\\ud800"}',
    "a length that is none": POST.head + b"Content-Length: \xc2\xb2\r\n\r\n{}",
    "a length beyond all measure": POST.head + b"Content-Length: " + b"9" * 99 + b"\r\n\r\n{}",
    "chunks beyond all measure": POST.head + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{}",
    "a signature of percent signs": POST.having(Signature="%25" * 1300).wire(),
    "a signature of nonsense": POST.having(Signature="signature=" * 400).wire(),
    "a time beyond all measure": POST.having(**{"Request-Time": "9999-12-31T23:59:59Z"}).wire(),
    "a time before all": POST.having(**{"Request-Time": "0001-01-01T00:00:00Z"}).wire(),
    "a time of digits": POST.having(**{"Request-Time": "9" * 4000}).wire(),
    "a path of slashes": POST.wire().replace(b"/merchant", b"/" * 4000, 1),
    "bytes in a header": POST.wire().replace(b"Client-Id: ", b"Client-Id: \xff\x00\x1b", 1),
    "bytes in the path": POST.wire().replace(b"/merchant", b"/\xff\x1b", 1),
}


@pytest.mark.once
@pytest.mark.parametrize("data", ODD_HEADERS.values(), ids=ODD_HEADERS)
def test_whatever_a_message_holds_it_is_refused_and_nothing_breaks(data: bytes) -> None:
    report = examine(case_of(read_capture(data), gateways(), SETTINGS))
    assert not report.verifies
    assert report.explanation is None


@given(data=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode()))
def test_whatever_the_bytes_they_are_a_message_or_a_bad_capture(data: bytes) -> None:
    for start in (b"", b"POST /notify HTTP/1.1\n", b"> POST / HTTP/1.1\n<", b'{"headers":'):
        try:
            captures = read_capture(start + data)
        except BadCapture as bad:
            assert str(bad).isprintable()
        else:
            assert captures
