"""`reconciler verify` names the mistake that was made, and never one that was not."""

import base64
import gzip
import hashlib
import html
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.keys import CLIENT_ID, private_key, public_key, vector, vectors
from worker.verify import Capture, Case, Kind, KnownKey, bodies, examine, search
from worker.verify.explain import _of_body
from worker.verify.message import sha256
from worker.verify.mistakes import MISTAKES
from worker.verify.strings import content
from worker.verify.telling import NONE_EXPLAINS, escaped, to_text

TIME = "1685599933880"
PATH = "/pay/notify"
TEXT = "成功 <paid> & done/over"
SAID = {
    "notifyType": "PAYMENT_RESULT",
    "paymentRequestId": "order-1",
    "resultMessage": TEXT,
    "rate": 7.0,
}
BODY = json.dumps(SAID, ensure_ascii=False, separators=(",", ":")).encode()
GATEWAY = {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}

Sign = Callable[[bytes], bytes]


def signer(
    name: str = "alipay_v1", hash_: hashes.HashAlgorithm | None = None, pad: Any = None
) -> Sign:
    key = private_key(name)
    return lambda data: key.sign(data, pad or padding.PKCS1v15(), hash_ or hashes.SHA256())


def encode(raw: bytes) -> str:
    return quote(base64.b64encode(raw), safe="")


def written(raw: bytes) -> str:
    return f"algorithm=RSA256,keyVersion=1,signature={encode(raw)}"


def joined(path: str, client_id: str, time: str, body: bytes) -> bytes:
    return f"POST {path}\n{client_id}.{time}.".encode() + body


@dataclass(frozen=True)
class Plant:
    """A message as it was signed, and as it is seen after the mistake."""

    path: str = PATH
    client_id: str = CLIENT_ID
    time: str = TIME
    body: bytes = BODY
    join: Callable[[str, str, str, bytes], bytes] = joined
    sign: Sign = field(default_factory=signer)
    header: Callable[[bytes], str] = written
    seen: Mapping[str, Any] = field(default_factory=dict)  #: parts that are not as signed
    more: tuple[tuple[str, str], ...] = ()  #: headers
    configured: tuple[str, ...] = ()

    def case(self) -> Case:
        raw = self.sign(self.join(self.path, self.client_id, self.time, self.body))
        here: dict[str, Any] = {"client_id": self.client_id, "time": self.time, "body": self.body}
        here |= {"path": self.path, "signature": self.header(raw), **self.seen}
        headers = [("client-id", here["client_id"]), ("signature", here["signature"])]
        headers += [("request-time", here["time"]), *self.more]
        return Case(
            kind=Kind.NOTIFICATION,
            capture=Capture(
                method="POST",
                target=here["path"],
                headers=tuple(each for each in headers if each[1] is not None),
                body=here["body"],
            ),
            client_id=CLIENT_ID,
            paths=(here["path"],),
            configured=self.configured,
            keys=(
                *(KnownKey("gateway", version, key) for version, key in GATEWAY.items()),
                KnownKey("ours", 1, public_key("merchant_v1")),
                KnownKey("other", 1, public_key("merchant_v2"), "SANDBOX_OTHER"),
            ),
        )


def seen(**parts: Any) -> Plant:
    return Plant(seen=parts)


def headed(header: Callable[[bytes], str]) -> Plant:
    return Plant(header=header)


def dumped(said: object = SAID, **how: Any) -> bytes:
    compact: dict[str, Any] = {"ensure_ascii": False, "separators": (",", ":")}
    return json.dumps(said, **compact | how).encode()


PHP = dumped(ensure_ascii=True).replace(b"/", b"\\/")
GO = BODY.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
NULLS = dumped(SAID | {"transactions": None})
PLAIN = "algorithm=RSA256,keyVersion=1,signature={}"

PLANTS: dict[str, tuple[Plant, str]] = {
    # The body
    "indented by a framework": (
        seen(body=dumped(indent=2, separators=(",", ": "))),
        "body.spacing",
    ),
    "Python's blanks": (seen(body=dumped(separators=(", ", ": "))), "body.spacing"),
    "was indented": (
        Plant(body=dumped(indent=4, separators=(",", ": ")), seen={"body": BODY}),
        "body.spacing",
    ),
    "escaped by json.dumps": (seen(body=dumped(ensure_ascii=True)), "body.unicode_escapes"),
    "was escaped": (
        Plant(body=dumped(ensure_ascii=True), seen={"body": BODY}),
        "body.unicode_escapes",
    ),
    "slashes of PHP": (seen(body=BODY.replace(b"/", b"\\/")), "body.slash_escapes"),
    "written by PHP, both": (seen(body=PHP), "body.unicode_escapes body.slash_escapes"),
    "was written by Go": (Plant(body=GO, seen={"body": BODY}), "body.html_escapes"),
    "written by Go": (seen(body=GO), "body.html_escapes"),
    "sorted by a map": (
        Plant(body=dumped(dict(reversed(SAID.items()))), seen={"body": dumped(sort_keys=True)}),
        "body.key_order",
    ),
    "signed sorted, sent unsorted": (
        Plant(body=dumped(sort_keys=True), seen={"body": BODY}),
        "body.key_order",
    ),
    "JavaScript's numbers": (seen(body=BODY.replace(b"7.0", b"7")), "body.numbers"),
    "numbers for texts": (
        Plant(body=BODY.replace(b"7.0", b'"7"'), seen={"body": BODY.replace(b"7.0", b"7")}),
        "body.numbers",
    ),
    "nulls added": (seen(body=NULLS), "body.nulls"),
    "line feed added": (seen(body=BODY + b"\n"), "body.newline_added"),
    "CR LF added": (seen(body=BODY + b"\r\n"), "body.newline_added"),
    "line feed trimmed": (Plant(body=BODY + b"\n", seen={"body": BODY}), "body.newline_lost"),
    "LF to CR LF": (
        Plant(
            body=dumped(indent=1, separators=(",", ":")),
            seen={"body": dumped(indent=1, separators=(",", ":")).replace(b"\n", b"\r\n")},
        ),
        "body.crlf_added",
    ),
    "CR LF to LF": (
        Plant(
            body=dumped(indent=1, separators=(",", ":")).replace(b"\n", b"\r\n"),
            seen={"body": dumped(indent=1, separators=(",", ":"))},
        ),
        "body.crlf_lost",
    ),
    "BOM added": (seen(body="\ufeff".encode() + BODY), "body.bom_added"),
    "BOM cut": (
        Plant(body="\ufeff".encode() + BODY, seen={"body": BODY}),
        "body.bom_lost",
    ),
    "blanks around": (seen(body=b"\n  " + BODY + b"  "), "body.blanks_around"),
    "compressed": (seen(body=gzip.compress(BODY)), "body.gzip"),
    "in chunks": (
        seen(
            body=b"10\r\n"
            + BODY[:16]
            + b"\r\n%x\r\n" % (len(BODY) - 16)
            + BODY[16:]
            + b"\r\n0\r\n\r\n"
        ),
        "body.chunked",
    ),
    "base64 of a gateway": (seen(body=base64.b64encode(BODY)), "body.base64"),
    "stringified twice": (seen(body=json.dumps(BODY.decode()).encode()), "body.quoted"),
    "nginx log": (seen(body=BODY.replace(b'"', b"\\x22")), "body.log_escaped"),
    "JSON log": (seen(body=json.dumps(BODY.decode())[1:-1].encode()), "body.log_escaped"),
    "form": (seen(body=quote(BODY).encode()), "body.url_encoded"),
    "HTML entities": (seen(body=html.escape(BODY.decode()).encode()), "body.html_entities"),
    "read as Latin-1": (seen(body=BODY.decode("latin-1").encode()), "body.charset"),
    "written as GBK": (seen(body=BODY.decode().encode("gbk")), "body.charset"),
    "signed as GBK": (
        Plant(body=BODY.decode().encode("gbk"), seen={"body": BODY}),
        "body.charset",
    ),
    # The path
    "prefix cut": (seen(path="/notify"), "path.prefix_lost"),
    "prefix put before": (seen(path="/backend/v7/pay/notify"), "path.prefix_added"),
    "query added": (seen(path=f"{PATH}?trace=1"), "path.query_added"),
    "query sorted": (
        Plant(path=f"{PATH}?z=1&a=2", seen={"path": f"{PATH}?a=2&z=1"}),
        "path.query_changed",
    ),
    "query lost": (
        Plant(path=f"{PATH}?shop=42", seen={"path": PATH}, configured=(f"{PATH}?shop=42",)),
        "path.query_lost",
    ),
    "prefix lost that only the settings know": (
        Plant(path="/7e9a/notify", seen={"path": "/notify"}, configured=("/7e9a/notify",)),
        "path.prefix_lost",
    ),
    "another path of the settings": (
        Plant(path="/7e9a", seen={"path": "/notify"}, configured=("/7e9a",)),
        "path.configured",
    ),
    "slash added": (seen(path=f"{PATH}/"), "path.slash_added"),
    "slash cut": (Plant(path=f"{PATH}/", seen={"path": PATH}), "path.slash_lost"),
    "double slash": (seen(path="//pay//notify"), "path.slash_doubled"),
    "slashes merged": (Plant(path="/pay//notify", seen={"path": PATH}), "path.slash_merged"),
    "small letters": (Plant(path="/Pay/Notify".lower(), seen={"path": "/Pay/Notify"}), "path.case"),
    "percent-decoded": (Plant(path="/pay/a%20b", seen={"path": "/pay/a b"}), "path.decoded"),
    "whole URL": (
        Plant(
            path=f"https://shop.example{PATH}",
            seen={"path": PATH},
            more=(("host", "shop.example"),),
        ),
        "path.full_url",
    ),
    "no first slash": (Plant(path=PATH[1:], seen={"path": PATH}), "path.relative"),
    "production for sandbox": (
        Plant(path="/ams/api/v1/payments/pay", seen={"path": "/ams/sandbox/api/v1/payments/pay"}),
        "path.sandbox",
    ),
    "another call": (
        Plant(
            path="/ams/sandbox/api/v1/payments/cancel",
            seen={"path": "/ams/sandbox/api/v1/payments/inquiryPayment"},
        ),
        "path.endpoint",
    ),
    # Client id and time
    "client id in small letters": (
        Plant(client_id=CLIENT_ID.lower(), seen={"client_id": CLIENT_ID}),
        "client.case",
    ),
    "client id with blanks": (seen(client_id=f'"{CLIENT_ID}"'), "client.trimmed"),
    "client id without SANDBOX_": (
        Plant(client_id=CLIENT_ID.removeprefix("SANDBOX_"), seen={"client_id": CLIENT_ID}),
        "client.sandbox",
    ),
    "client id not signed": (Plant(client_id="", seen={"client_id": CLIENT_ID}), "client.empty"),
    "another client id in the header": (seen(client_id="SANDBOX_OTHER"), "client.configured"),
    "for another account": (Plant(client_id="SANDBOX_OTHER"), "client.other"),
    "time in seconds": (seen(time=TIME[:-3]), "time.seconds"),
    "signed in seconds": (Plant(time=TIME[:-3], seen={"time": TIME}), "time.seconds"),
    "time printed again": (
        Plant(time="2023-06-01T14:12:13.880+08:00", seen={"time": "2023-06-01T06:12:13.880Z"}),
        "time.format",
    ),
    "plus of the time": (
        Plant(time="2023-06-01T14:12:13+08:00", seen={"time": "2023-06-01T14:12:13 08:00"}),
        "time.plus",
    ),
    "time of the other header": (
        Plant(seen={"time": "1685599940000"}, more=(("response-time", TIME),)),
        "time.other_header",
    ),
    "clock read twice": (Plant(seen={"time": "1685599933917"}), "time.made_twice"),
    "clock read twice, in seconds": (
        Plant(time="2023-06-01T14:12:13+08:00", seen={"time": "2023-06-01T14:12:15+08:00"}),
        "time.made_twice",
    ),
    "time in quotes": (seen(time=f"'{TIME}'"), "time.trimmed"),
    "time not signed": (Plant(time="", seen={"time": TIME}), "time.empty"),
    # The string
    "post in small letters": (
        Plant(join=lambda *parts: joined(*parts).replace(b"POST", b"post", 1)),
        "string.method",
    ),
    "backslash n": (
        Plant(join=lambda *parts: joined(*parts).replace(b"\n", b"\\n", 1)),
        "string.line_feed",
    ),
    "CR LF in the string": (
        Plant(join=lambda *parts: joined(*parts).replace(b"\n", b"\r\n", 1)),
        "string.line_feed",
    ),
    "echo": (Plant(join=lambda *parts: joined(*parts) + b"\n"), "body.newline_lost"),
    "no first line": (
        Plant(join=lambda *parts: joined(*parts).split(b"\n", 1)[1]),
        "string.first_line",
    ),
    "no dots": (
        Plant(
            join=lambda path, client_id, time, body: (
                f"POST {path}\n{client_id}{time}".encode() + body
            )
        ),
        "string.dots",
    ),
    "time before client id": (
        Plant(join=lambda path, client_id, time, body: joined(path, time, client_id, body)),
        "string.order",
    ),
    "stream was read": (
        Plant(join=lambda path, client_id, time, _: joined(path, client_id, time, b"")),
        "string.no_body",
    ),
    "body alone": (Plant(join=lambda *parts: parts[3]), "string.body_alone"),
    "digest for the body": (
        Plant(
            join=lambda path, client_id, time, body: joined(
                path, client_id, time, hashlib.sha256(body).hexdigest().encode()
            )
        ),
        "string.body_digest",
    ),
    "hashed before signing": (
        Plant(join=lambda *parts: hashlib.sha256(joined(*parts)).digest()),
        "string.hashed_twice",
    ),
    # The Signature header
    "encoded twice": (
        headed(lambda raw: PLAIN.format(quote(encode(raw)))),
        "signature.encoded_twice",
    ),
    "plus to blank": (
        Plant(
            time="1685599933881",
            header=lambda raw: PLAIN.format(base64.b64encode(raw).decode().replace("+", " ")),
        ),
        "signature.plus",
    ),
    "base64url": (
        headed(lambda raw: PLAIN.format(base64.urlsafe_b64encode(raw).decode())),
        "signature.base64url",
    ),
    "no padding": (headed(lambda raw: written(raw).replace("%3D", "")), "signature.padding"),
    "lines of 76": (
        headed(
            lambda raw: PLAIN.format(
                base64.encodebytes(raw).decode().strip().replace("\n", "\r\n ")
            )
        ),
        "signature.broken_lines",
    ),
    "quoted": (headed(lambda raw: f'"{written(raw)}"'), "signature.quoted"),
    "escaped by a log": (
        headed(lambda raw: unquote(written(raw)).replace("/", "\\/").replace("=", "\\u003d")),
        "signature.escaped",
    ),
    "another order": (
        headed(lambda raw: f"keyVersion=1,algorithm=RSA256,signature={encode(raw)}"),
        "signature.form",
    ),
    "value alone": (headed(encode), "signature.value_alone"),
    "another algorithm's name": (
        headed(lambda raw: written(raw).replace("RSA256", "SHA256withRSA")),
        "signature.algorithm",
    ),
    "hexadecimal": (headed(lambda raw: PLAIN.format(raw.hex())), "signature.hex"),
    "base64 twice": (
        headed(lambda raw: written(base64.b64encode(raw))),
        "signature.base64_twice",
    ),
    "SHA-1": (Plant(sign=signer(hash_=hashes.SHA1())), "signature.sha1"),
    "SHA-512": (Plant(sign=signer(hash_=hashes.SHA512())), "signature.hash"),
    "PSS": (
        Plant(sign=signer(pad=padding.PSS(padding.MGF1(hashes.SHA256()), 32))),
        "signature.pss",
    ),
    # Keys
    "another version's key": (Plant(sign=signer("alipay_v2")), "key.version"),
    "version that is not there": (
        headed(lambda raw: written(raw).replace("keyVersion=1", "keyVersion=3")),
        "key.version",
    ),
    "our own key": (Plant(sign=signer("merchant_v1")), "key.wrong_side"),
    "another account's key": (Plant(sign=signer("merchant_v2")), "key.other_account"),
    "another account's message, of its key": (
        Plant(client_id="SANDBOX_OTHER", sign=signer("merchant_v2")),
        "key.other_account client.other",
    ),
    # Signed so, but against a rule
    "no object": (Plant(body=b"[1]"), "message.refused"),
    # Two at once
    "proxy and framework": (
        seen(path="/notify", body=dumped(indent=2, separators=(",", ": "))),
        "path.prefix_lost body.spacing",
    ),
    "proxy and PHP": (
        seen(path=f"{PATH}/", body=PHP),
        "path.slash_added body.unicode_escapes body.slash_escapes",
    ),
    "path and time": (
        Plant(time=TIME[:-3], seen={"path": "/notify", "time": TIME}),
        "path.prefix_lost time.seconds",
    ),
    "base64, and a line feed": (
        seen(body=base64.b64encode(BODY + b"\n")),
        "body.base64 body.newline_added",
    ),
    "was indented, with a line feed": (
        Plant(body=dumped(indent=2, separators=(",", ": ")) + b"\n", seen={"body": BODY}),
        "body.spacing body.newline_lost",
    ),
    "key and path": (
        Plant(sign=signer("alipay_v2"), seen={"path": "/notify"}),
        "key.version path.prefix_lost",
    ),
    "encoded twice, and the body": (
        Plant(header=lambda raw: PLAIN.format(quote(encode(raw))), seen={"body": BODY + b"\n"}),
        "signature.encoded_twice body.newline_added",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("plant, mistakes", PLANTS.values(), ids=PLANTS)
def test_names_exactly_the_mistake_that_was_made(plant: Plant, mistakes: str) -> None:
    report = examine(plant.case())
    assert not report.verifies
    assert report.explanation is not None
    assert report.mistakes == tuple(mistakes.split())


def test_an_untouched_message_verifies() -> None:
    report = examine(Plant().case())
    assert report.verifies
    assert (report.facts, report.explanation) == ((), None)


def test_each_mistake_undone_is_a_string_that_openssl_verifies(tmp_path: Path) -> None:
    """What is named is proven by somebody else's hand, over the bytes that are shown."""
    key = tmp_path / "key.pem"
    key.write_bytes(GATEWAY[1].public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for name in ("proxy and PHP", "clock read twice", "signed as GBK"):
        plant = PLANTS[name][0]
        report = examine(plant.case())
        assert report.explanation is not None
        (tmp_path / "string").write_bytes(content(report.explanation.signed))
        raw = plant.sign(joined(plant.path, plant.client_id, plant.time, plant.body))
        (tmp_path / "raw").write_bytes(raw)
        words = f"dgst -sha256 -verify {key} -signature {tmp_path}/raw {tmp_path}/string"
        subprocess.run(["openssl", *words.split()], check=True, capture_output=True)


# What the message itself shows


def with_headers(case: Case, *, drop: str = "", add: tuple[tuple[str, str], ...] = ()) -> Case:
    headers = tuple(each for each in case.capture.headers if each[0] != drop) + add
    return replace(case, capture=replace(case.capture, headers=headers))


def refusal(code: str) -> Case:
    """An answer as the gateway gives it to a request that it cannot verify: without signature."""
    body = f'{{"result":{{"resultCode":"{code}","resultStatus":"F"}}}}'.encode()
    capture = Capture(target="/ams/api/v1/payments/cancel", status=200, body=body)
    return replace(Plant().case(), kind=Kind.ANSWER, capture=capture)


SHORT = rsa.generate_private_key(65537, 1024)
STRANGER = rsa.generate_private_key(65537, 2048)


def signed_by(key: rsa.RSAPrivateKey) -> Sign:
    return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


FACTS: dict[str, tuple[Case, str]] = {
    "no signature": (with_headers(Plant().case(), drop="signature"), "header.missing"),
    "no client id": (
        with_headers(Plant().case(), drop="client-id"),
        "header.missing client.configured",
    ),
    "the signature twice, once rightly": (
        with_headers(Plant().case(), add=(("signature", "nonsense"),)),
        "header.repeated signature.repeated",
    ),
    "a refusal": (refusal("INVALID_SIGNATURE"), "answer.refusal body.none"),
    "an empty signature": (
        seen(signature="algorithm=RSA256,keyVersion=1,signature=").case(),
        "signature.empty",
    ),
    "a header cut by a log": (
        headed(lambda raw: written(raw)[:255]).case(),
        "signature.cut",
    ),
    "a header cut in an escape": (
        headed(lambda raw: written(raw)[: written(raw).index("%") + 2]).case(),
        "signature.cut",
    ),
    "a shorter key": (Plant(sign=signed_by(SHORT)).case(), "signature.length"),
    "a stranger's key": (Plant(sign=signed_by(STRANGER)).case(), "key.unknown"),
    "a new key of the gateway": (
        Plant(
            sign=signed_by(STRANGER),
            header=lambda raw: written(raw).replace("keyVersion=1", "keyVersion=7"),
        ).case(),
        "key.version_unknown key.unknown",
    ),
    "encrypted": (
        with_headers(seen(body=b"AAAA").case(), add=(("encrypt", "algorithm=RSA_AES"),)),
        "message.encrypted",
    ),
    "no body": (
        with_headers(seen(body=b"").case(), add=(("content-length", str(len(BODY))),)),
        "body.empty",
    ),
    "half a body": (
        with_headers(seen(body=BODY[:50]).case(), add=(("content-length", str(len(BODY))),)),
        "body.cut",
    ),
    "a member taken out": (
        with_headers(
            seen(body=BODY.replace(b'"order-1"', b'"1"')).case(),
            add=(("content-length", str(len(BODY))),),
        ),
        "body.length",
    ),
    "a body that is longer than it was sent": (
        with_headers(
            seen(body=BODY.replace(b'"order-1"', b'"order-10"')).case(),
            add=(("content-length", str(len(BODY))),),
        ),
        "body.length",
    ),
    "what was compressed has another length": (
        with_headers(
            seen(body=BODY.replace(b'"order-1"', b'"1"')).case(),
            add=(("content-length", "90"), ("content-encoding", "gzip")),
        ),
        "body.none",
    ),
}


@pytest.mark.parametrize("case, mistakes", FACTS.values(), ids=FACTS)
def test_says_what_the_message_itself_shows(case: Case, mistakes: str) -> None:
    report = examine(case)
    assert not report.verifies
    assert report.mistakes == tuple(each for each in mistakes.split() if each != "body.none")


EVERY_TOKEN = (
    '{"a":[true,false,null,-1.5e+2,{}],"\\u00e4":"\\\\ü 支\\"","b":{"c":[[],0.1]},"d":""}'.encode()
)
ALTERED = {
    "a quote taken out": b'{"paymentRequestId":order-1","value":"599"}',
    "the first quote taken out": b'{paymentRequestId":"order-1","value":"599"}',
    "a colon taken out": b'{"paymentRequestId""order-1","value":"599"}',
    "no brace at the beginning": b'"paymentRequestId":"order-1","value":"599"',
    "letters of another character set": b'{"paymentRequestId":"\xfc","value":"599"',
    "something behind its end": b'{"value":"599"}tru',
    "a list": b'["599"',
    "too deep for anybody": b'{"a":' + b"[" * 100_000,
    "half of nothing that JSON has": b'{"paymentRequestId":undef',
}


def short_of(body: bytes, length: int) -> tuple[str, ...]:
    case = with_headers(seen(body=body).case(), add=(("content-length", str(length)),))
    return tuple(fact.mistake for fact in _of_body(case))


@pytest.mark.parametrize("end", range(1, len(EVERY_TOKEN)))
def test_a_body_that_breaks_off_anywhere_is_called_cut(end: int) -> None:
    assert short_of(EVERY_TOKEN[:end], len(EVERY_TOKEN)) == ("body.cut",)


@pytest.mark.parametrize("body", ALTERED.values(), ids=ALTERED)
def test_a_body_that_does_not_just_break_off_is_not_called_cut(body: bytes) -> None:
    assert short_of(body, len(body) + 1) == ("body.length",)


def test_a_length_is_no_mistake_beside_the_one_that_made_it() -> None:
    length = (("content-length", str(len(BODY))),)
    report = examine(with_headers(seen(body=dumped(indent=2)).case(), add=length))
    assert report.explanation
    assert report.mistakes == ("body.spacing",)


def test_our_own_key_in_the_place_of_the_gateways_is_seen() -> None:
    case = Plant().case()
    wrong = KnownKey("gateway", 1, public_key("merchant_v1"))
    report = examine(replace(case, keys=(wrong, KnownKey("ours", 1, public_key("merchant_v1")))))
    assert report.mistakes == ("key.ours_for_gateways", "key.unknown")


def test_every_mistake_in_the_list_has_been_made_here() -> None:
    made = {name for _, mistakes in (PLANTS | FACTS).values() for name in mistakes.split()}
    assert MISTAKES.keys() == made - {"body.none"} | {"key.ours_for_gateways"}


# The vectors

KINDS = {"request": Kind.REQUEST, "response": Kind.ANSWER, "notification": Kind.NOTIFICATION}


def vector_case(message: Mapping[str, Any]) -> Case:
    kind = KINDS[message["kind"]]
    key = public_key(message.get("verify_key", message["key"]))
    time = "response-time" if kind is Kind.ANSWER else "request-time"
    return Case(
        kind=kind,
        capture=Capture(
            method=message["method"],
            target=message["path"],
            headers=(
                ("client-id", message["client_id"]),
                ("signature", message["signature_header"]),
                (time, message["time"]),
            ),
            body=message["body"].encode(),
        ),
        client_id=CLIENT_ID,
        paths=(message["path"],),
        keys=(
            KnownKey(
                "ours" if kind is Kind.REQUEST else "gateway", int(message["key_version"]), key
            ),
        ),
    )


@pytest.mark.parametrize(
    "message", vectors("valid") + vectors("quirks"), ids=lambda message: message["id"]
)
def test_every_genuine_vector_verifies(message: dict[str, Any]) -> None:
    report = examine(vector_case(message))
    assert report.verifies
    assert {step.verdict for step in report.examined.steps} == {"ok"}
    assert sha256(content(report.examined.parts)) == message["content_to_sign_sha256"]


TAMPERED = {
    "I01": "",  # amount changed: no mistake
    "I02": "",  # F changed to S
    "I03": "",  # another path
    "I06": "client.configured",
    "I07": "time.made_twice",  # one second
    "I09": "key.unknown",  # another signature
    "I10": "signature.cut",
    "I11": "key.unknown",  # an attacker's key
    "I12": "key.unknown",  # the key of the other version, which is not given
    "I14": "body.spacing",
    "I18": "signature.empty",
    "I19": "signature.empty",
    "I24": "signature.sha1",
}


@pytest.mark.once
@pytest.mark.parametrize("message", vectors("invalid"), ids=lambda message: message["id"])
def test_every_tampered_vector_is_explained_as_far_as_it_can_be(message: dict[str, Any]) -> None:
    report = examine(vector_case(message))
    assert not report.verifies
    assert report.mistakes == tuple(TAMPERED[message["id"]].split())


# Never a false explanation

SMALL = b'{"paymentRequestId":"order-1","value":"599"}'
edits = st.tuples(
    st.integers(0, len(SMALL)), st.integers(0, 6), st.text("abcxyz0123456789", max_size=6)
)


@pytest.mark.once
@settings(deadline=None, max_examples=15)
@given(edit=edits, with_length=st.booleans())
@example(edit=(20, 2, ""), with_length=True)
def test_an_alteration_that_is_no_known_mistake_is_explained_by_none(
    edit: tuple[int, int, str], with_length: bool
) -> None:
    at, cut, put = edit
    altered = SMALL[:at] + put.encode() + SMALL[at + cut :]
    length = (("content-length", str(len(SMALL))),) * with_length
    report = examine(Plant(body=SMALL, seen={"body": altered}, more=length).case())
    if altered == SMALL:
        assert report.verifies
    else:
        other = ("body.length",) * (with_length and len(altered) != len(SMALL))
        cut = with_length and len(altered) < len(SMALL) and not is_json(altered)
        assert report.explanation is None
        assert report.mistakes in {other, ("body.cut",) if cut else other}
        assert NONE_EXPLAINS in to_text(report) or report.mistakes == ("body.cut",)


def is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=25)
@given(bit=st.integers(0, 2047))
def test_a_signature_with_one_bit_changed_is_nobodys(bit: int) -> None:
    def changed(raw: bytes) -> str:
        number = int.from_bytes(raw, "big") ^ (1 << bit)
        return written(number.to_bytes(256, "big"))

    assert examine(headed(changed).case()).mistakes == ("key.unknown",)


def test_whose_key_and_which_digest_are_certain_also_where_the_message_is_altered() -> None:
    report = examine(vector_case(vector("I01")))
    digest = vector("N01")["content_to_sign_sha256"]
    assert [fact.mistake for fact in report.facts] == [""]
    assert report.facts[0].seen.endswith(f"SHA-256 {digest}")


def test_what_is_tried_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long body is hashed for some seconds, and no longer."""
    case = PLANTS["proxy and framework"][0].case()
    monkeypatch.setattr(search, "MAX_HASHED", 10 * len(case.capture.body))
    assert examine(case).explanation is None


def test_what_unpacks_to_a_gigabyte_is_not_unpacked() -> None:
    packed = gzip.compress(bytes(64 * 1024 * 1024))
    assert max(len(body) for _, body in bodies.candidates(packed)) < 4 * len(packed)


# The text


@given(data=st.binary(max_size=60))
def test_the_string_is_shown_so_that_printf_gives_it_back(data: bytes) -> None:
    shown = escaped(data)
    assert shown.isprintable() or not shown
    plain = re.sub(rb"\\(x..|[ntr\\])", lambda found: _unescape(found[1]), shown.encode())
    assert plain == data


def _unescape(code: bytes) -> bytes:
    short = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\"}
    return short.get(code) or bytes([int(code[1:], 16)])
