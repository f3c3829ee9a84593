"""Signatures that are none, or prove something else. Many of them fool a lenient verifier."""

import base64
import hashlib
import hmac
import random
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.hostile.cases import (
    BODY,
    GENUINE,
    HEADERS,
    Case,
    malformed,
    refused,
    saying,
    signature,
)
from tests.keys import CLIENT_ID, key_text, private_key
from tests.servers import Post, notification
from worker.http_server import MAX_HEADER_BYTES
from worker.signature import MAX_HEADER_CHARS, Reason, Signed

KEY = private_key("alipay_v1")
SIZE = KEY.key_size // 8
RAW = base64.b64decode(unquote(HEADERS["Signature"].partition("signature=")[2]))
CONTENT = Signed("/notify", CLIENT_ID, HEADERS["Request-Time"], BODY).content()
DIGEST = hashlib.sha256(CONTENT).digest()


def raw(signature_: bytes) -> Post:
    """The genuine message with this signature instead, in good form."""
    return text(quote(base64.b64encode(signature_), safe=""))


def text(value: str) -> Post:
    return GENUINE.having(Signature=f"algorithm=RSA256,keyVersion=1,signature={value}")


def whole(header: str) -> Post:
    return GENUINE.having(Signature=header)


def over(content: bytes) -> Post:
    """Signed by the gateway's key over something that is not quite this message."""
    return raw(KEY.sign(content, padding.PKCS1v15(), hashes.SHA256()))


def encoded(block: bytes) -> Post:
    """What the gateway's private key makes of any block: encodings that no good signer writes."""
    numbers = KEY.private_numbers()
    n = numbers.public_numbers.n
    return raw(pow(int.from_bytes(block, "big"), numbers.d, n).to_bytes(SIZE, "big"))


def padded(info: bytes, kind: int = 1, filler: int = 0xFF) -> bytes:
    return bytes([0, kind]) + bytes([filler]) * (SIZE - 3 - len(info)) + b"\0" + info


_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
_SHA256_NO_NULL = bytes.fromhex("302f300b0609608648016503040201" + "0420")
_SHA1_LABEL = bytes.fromhex("3021300906052b0e03021a05000414")
_VALUE = HEADERS["Signature"].partition("signature=")[2]
_PLAIN = unquote(_VALUE)
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
_TOO_LARGE = (int.from_bytes(RAW, "big") + KEY.public_key().public_numbers().n).to_bytes(
    SIZE + 1, "big"
)


def _other_tail() -> str:
    """Other bits where base64 has some to spare: two texts, one signature."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = _PLAIN.rstrip("=")[-1]
    other = letters[letters.index(last) ^ 1]
    return quote(_PLAIN.rstrip("=")[:-1] + other + "==", safe="")


def _shifted() -> tuple[Post, Post]:
    """One signed string cut in other places: at the dot within the time."""
    at = "2026-01-02T03:04:05.678+08:00"
    post = notification(BODY, sent_at=at)
    early, late = at.split(".")
    to_body = post.having(Request_Time=early)
    return (
        Post(late.encode() + b"." + BODY, to_body.headers),
        post.having(Client_Id=f"{CLIENT_ID}.{early}", Request_Time=late),
    )


_TO_BODY, _TO_CLIENT = _shifted()
_PUBLIC = base64.b64decode(key_text("alipay_v1", "public_x509_b64"))
_HMAC = base64.b64encode(hmac.digest(_PUBLIC, CONTENT, "sha256")).decode()
_RANDOM = random.Random(1)
_TIME = HEADERS["Request-Time"]


def mismatch(name: str, post: Post) -> Case:
    return refused(name, Reason.SIG_MISMATCH, post)


def syntax(name: str, post: Post) -> Case:
    return refused(name, Reason.SIG_SYNTAX, post)


CASES: list[Case] = [
    malformed(
        "a signature of 1 MB",
        GENUINE.having(Signature="signature=" + "A" * 1_000_000).wire(),
        "LineTooLong",
    ),
    malformed(
        "a signature over the limit by a byte",
        GENUINE.having(Signature="A" * (MAX_HEADER_BYTES + 1)).wire(),
        "LineTooLong",
    ),
    syntax(
        "a signature at the limit",
        GENUINE.having(Signature="A" * min(MAX_HEADER_BYTES, MAX_HEADER_CHARS)),
    ),
    refused("no Signature", Reason.HEADER_MISSING, GENUINE.without("Signature")),
    refused("the dot moved into the body", Reason.NOT_OBJECT, _TO_BODY),
    refused("the dot moved into the client id", Reason.CLIENT_ID, _TO_CLIENT),
    refused("algorithm none", Reason.SIG_ALGORITHM, signature("RSA256", "none")),
    refused(
        "algorithm none, no signature",
        Reason.SIG_ALGORITHM,
        whole("algorithm=none,keyVersion=1,signature="),
    ),
    refused(
        "algorithm none, key version 999",
        Reason.SIG_ALGORITHM,
        whole(f"algorithm=none,keyVersion=999,signature={_VALUE}"),
    ),
    refused(
        "HMAC256 keyed with the public key",
        Reason.SIG_ALGORITHM,
        whole(f"algorithm=HMAC256,keyVersion=1,signature={quote(_HMAC, safe='')}"),
    ),
    refused("algorithm in small letters", Reason.SIG_ALGORITHM, signature("RSA256", "rsa256")),
    refused("algorithm RSA", Reason.SIG_ALGORITHM, signature("RSA256", "RSA")),
    refused("algorithm RSA512", Reason.SIG_ALGORITHM, signature("RSA256", "RSA512")),
    refused("no algorithm", Reason.SIG_ALGORITHM, signature("RSA256", "")),
    refused("a blank behind the algorithm", Reason.SIG_ALGORITHM, signature("RSA256", "RSA256 ")),
    refused("algorithm percent-encoded", Reason.SIG_ALGORITHM, signature("RSA256", "RSA%3256")),
    syntax("an empty Signature", whole("")),
    syntax("a signature of nothing", text("")),
    syntax("a signature of one equals sign", text("%3D")),
    syntax("only the value", whole(_VALUE)),
    syntax("a negative key version", signature("keyVersion=1", "keyVersion=-1")),
    syntax("a key version with a plus", signature("keyVersion=1", "keyVersion=+1")),
    syntax("a key version with a zero before it", signature("keyVersion=1", "keyVersion=01")),
    syntax("a key version with a point", signature("keyVersion=1", "keyVersion=1.0")),
    syntax("a key version in hexadecimal", signature("keyVersion=1", "keyVersion=0x1")),
    syntax("a key version with an underscore", signature("keyVersion=1", "keyVersion=1_0")),
    syntax("a huge key version", signature("keyVersion=1", "keyVersion=1" + "0" * 500)),
    syntax("an empty key version", signature("keyVersion=1", "keyVersion=")),
    syntax("a key version with a blank", signature("keyVersion=1", "keyVersion= 1")),
    syntax("no key version", signature("keyVersion=1,", "")),
    syntax("two key versions", signature("keyVersion=1", "keyVersion=2,keyVersion=1")),
    syntax("no algorithm part", signature("algorithm=RSA256,", "")),
    syntax("parts in another order", whole(f"keyVersion=1,algorithm=RSA256,signature={_VALUE}")),
    syntax("semicolons", signature(",", ";")),
    syntax("a part before the others", signature("algorithm", "x=1,algorithm")),
    syntax("a part behind the others", signature("%3D%3D", "%3D%3D,foo=bar")),
    syntax("a comma behind all", signature("%3D%3D", "%3D%3D,")),
    syntax("names in capitals", signature("keyVersion", "KEYVERSION")),
    syntax("two signature parts", signature("signature=", "signature=AAAA,signature=")),
    syntax("signature= in the signature", signature("signature=", "signature=signature=")),
    syntax("the value in quotes", text(f'"{_VALUE}"')),
    syntax("junk inside the base64", text(_VALUE[:40] + "!!" + _VALUE[40:])),
    syntax("a blank inside the base64", text(_VALUE[:40] + " " + _VALUE[40:])),
    syntax(
        "a line feed inside the base64, percent-encoded", text(_VALUE[:40] + "%0A" + _VALUE[40:])
    ),
    syntax("a NUL inside the base64, percent-encoded", text(_VALUE[:40] + "%00" + _VALUE[40:])),
    refused("a tab inside", Reason.HEADER_CHARSET, text(_VALUE[:40] + "\t" + _VALUE[40:])),
    syntax("percent-encoded twice", signature("%3D", "%253D")),
    syntax("a bad escape", signature("%3D%3D", "%zz%3D")),
    syntax("half an escape", signature("%3D%3D", "%3D%3")),
    syntax("url-safe base64", text(_PLAIN.replace("+", "-").replace("/", "_") + "-")),
    syntax("no padding", signature("%3D%3D", "")),
    syntax("padding too much", signature("%3D%3D", "%3D%3D%3D%3D")),
    syntax("padding in the middle", text("QQ%3D%3D" + _VALUE)),
    syntax("other bits at the end of the base64", text(_other_tail())),
    syntax("in hexadecimal", text(RAW.hex())),
    syntax("a byte short", raw(RAW[:-1])),
    syntax("a byte long", raw(RAW + b"\0")),
    syntax("a zero byte before it", raw(b"\0" + RAW)),
    syntax("twice in a row", raw(RAW + RAW)),
    syntax("one byte", raw(b"\1")),
    syntax("plus the modulus", raw(_TOO_LARGE)),
    refused(
        "an unknown key version", Reason.KEY_VERSION, signature("keyVersion=1", "keyVersion=999")
    ),
    refused("key version 0", Reason.KEY_VERSION, signature("keyVersion=1", "keyVersion=0")),
    refused(
        "a key version of nine digits",
        Reason.KEY_VERSION,
        signature("keyVersion=1", "keyVersion=999999999"),
    ),
    refused("letters of another script", Reason.HEADER_CHARSET, signature("RSA256", "RSA２56")),
    refused(
        "bytes that are no UTF-8",
        Reason.HEADER_CHARSET,
        None,
        wire=GENUINE.wire().replace(b"algorithm=", b"algorithm=\xff\xfe"),
    ),
    mismatch("random bytes", raw(_RANDOM.randbytes(SIZE - 1).rjust(SIZE, b"\1"))),
    mismatch("zeros", raw(bytes(SIZE))),
    mismatch("a one", raw(b"\1".rjust(SIZE, b"\0"))),
    mismatch("ones", raw(b"\xff" * SIZE)),
    mismatch("the modulus", raw(KEY.public_key().public_numbers().n.to_bytes(SIZE, "big"))),
    mismatch(
        "the modulus less one", raw((KEY.public_key().public_numbers().n - 1).to_bytes(SIZE, "big"))
    ),
    mismatch(
        "the modulus less the signature",
        raw(
            (KEY.public_key().public_numbers().n - int.from_bytes(RAW, "big")).to_bytes(SIZE, "big")
        ),
    ),
    mismatch("the bytes reversed", raw(RAW[::-1])),
    mismatch("another key", notification(BODY, key="attacker")),
    mismatch("our own key, as in what we send ourselves", notification(BODY, key="merchant_v1")),
    mismatch("the key of version 2 under version 1", notification(BODY, key="alipay_v2")),
    mismatch("the key of version 1 under version 2", notification(BODY, key_version=2)),
    mismatch(
        "SHA-1 under the name of RSA256", raw(KEY.sign(CONTENT, padding.PKCS1v15(), hashes.SHA1()))
    ),
    mismatch(
        "MD5 under the name of RSA256", raw(KEY.sign(CONTENT, padding.PKCS1v15(), hashes.MD5()))
    ),
    mismatch(
        "SHA-512 under the name of RSA256",
        raw(KEY.sign(CONTENT, padding.PKCS1v15(), hashes.SHA512())),
    ),
    mismatch(
        "SHA3-256 under the name of RSA256",
        raw(KEY.sign(CONTENT, padding.PKCS1v15(), hashes.SHA3_256())),
    ),
    mismatch("PSS", raw(KEY.sign(CONTENT, _PSS, hashes.SHA256()))),
    mismatch("a digest without its algorithm", encoded(padded(DIGEST))),
    mismatch(
        "a digest whose algorithm has no parameters", encoded(padded(_SHA256_NO_NULL + DIGEST))
    ),
    mismatch("a digest under another's algorithm", encoded(padded(_SHA1_LABEL + DIGEST[:20]))),
    mismatch(
        "padding of the kind for encryption", encoded(padded(_SHA256 + DIGEST, kind=2, filler=7))
    ),
    mismatch("padding of zeros", encoded(padded(_SHA256 + DIGEST, kind=0, filler=0))),
    mismatch(
        "padding that is short, junk behind the digest",
        encoded(
            b"\0\1" + b"\xff" * 8 + b"\0" + _SHA256 + DIGEST + bytes(SIZE - 11 - len(_SHA256) - 32)
        ),
    ),
    mismatch("a digest of the digest", over(DIGEST)),
    mismatch("signed for another path", over(CONTENT.replace(b"/notify", b"/elsewhere"))),
    mismatch("signed for a path with a slash more", over(CONTENT.replace(b"/notify", b"/notify/"))),
    mismatch("signed for the whole URL", over(CONTENT.replace(b"/notify", b"https://us/notify"))),
    mismatch(
        "signed for a query that was not sent", over(CONTENT.replace(b"/notify", b"/notify?a=1"))
    ),
    mismatch("signed for another method", over(CONTENT.replace(b"POST", b"GET"))),
    mismatch("signed for a method in small letters", over(CONTENT.replace(b"POST", b"post"))),
    mismatch("signed with a carriage return", over(CONTENT.replace(b"\n", b"\r\n", 1))),
    mismatch("signed without the path", over(CONTENT.partition(b"\n")[2])),
    mismatch("signed without the time", over(CONTENT.replace(b"." + _TIME.encode(), b""))),
    mismatch("signed without the client id", over(CONTENT.replace(CLIENT_ID.encode(), b""))),
    mismatch("only the body signed", over(BODY)),
    mismatch("nothing signed", over(b"")),
    mismatch("signed for another client id", over(CONTENT.replace(b"SANDBOX", b"PRODUCT"))),
    mismatch(
        "signed for a client id in small letters", over(CONTENT.replace(b"SANDBOX", b"sandbox"))
    ),
    mismatch("signed for another time", over(CONTENT.replace(_TIME.encode(), b"1685599933880"))),
    mismatch("written anew after signing", Post(BODY.replace(b": ", b":"), GENUINE.headers)),
    mismatch("one byte of the body flipped", Post(BODY.replace(b"599", b"598"), GENUINE.headers)),
    mismatch("a line feed behind the body", Post(BODY + b"\n", GENUINE.headers)),
    mismatch("a NUL behind the body", Post(BODY + b"\0", GENUINE.headers)),
    mismatch("a blank within the body", Post(b"{ " + BODY[1:], GENUINE.headers)),
    mismatch("a byte of the body missing", Post(BODY[:-1], GENUINE.headers)),
    mismatch("an escape written out", Post(BODY.replace(b"USD", b"\\u0055SD"), GENUINE.headers)),
    mismatch("another payment's id", Post(BODY.replace(b"order-1", b"order-2"), GENUINE.headers)),
    mismatch(
        "another message's signature",
        GENUINE.having(Signature=dict(notification(saying(other=1)).headers)["Signature"]),
    ),
    mismatch(
        "an answer of the gateway, sent as a notification",
        notification(
            b'{"result":{"resultStatus":"S"},"paymentStatus":"SUCCESS"}',
            signed_path="/ams/sandbox/api/v1/payments/inquiryPayment",
        ),
    ),
    mismatch("another time in the header", GENUINE.having(Request_Time="1685599933880")),
]
