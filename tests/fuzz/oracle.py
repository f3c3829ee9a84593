"""Who was it that signed this? Decided from the bytes alone, by the plain rule, without our code.

A request is genuine if what it claims was signed is what one of the genuine messages signed, under
the same client id and key version, and its signature verifies. Read leniently: what cannot be read
here at all cannot have been believed there.
"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.fuzz.mutations import stock
from tests.keys import CLIENT_ID, public_key

KEYS = {1: public_key("alipay_v1"), 2: public_key("alipay_v2")}
SIGNED_PATHS = ("/notify",)  #: that the receiver serves


@dataclass(frozen=True, slots=True)
class Request:
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def one(self, name: str) -> str:
        values = [value for each, value in self.headers if each == name]
        return values[0] if len(values) == 1 else ""


def requests_in(wire: bytes) -> Iterator[Request]:
    """The requests that these bytes hold, as far as they can be told apart."""
    while True:
        wire = wire.lstrip(b"\r\n")
        head, blank, rest = wire.partition(b"\r\n\r\n")
        if not blank:
            return
        line, *lines = re.split("\r?\n", head.decode("utf-8", "surrogateescape"))
        words = re.split(" +", line)
        if len(words) not in (2, 3) or words[0] != "POST":
            return
        pairs = [each.partition(":") for each in lines]
        headers = tuple((name.lower(), value.strip(" \t")) for name, _, value in pairs)
        found = _body(dict(headers), rest)
        if found is None:
            return
        body, wire = found
        yield Request(words[1], headers, body)


def _body(headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes] | None:
    """The body, and what comes behind it."""
    if "chunked" in headers.get("transfer-encoding", ""):
        return _chunks(rest)
    length = headers.get("content-length", "0")
    if not re.fullmatch("[0-9]{1,9}", length) or len(rest) < int(length):
        return None
    return rest[: int(length)], rest[int(length) :]


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while match := re.match(rb"([0-9A-Fa-f]{1,8})[^\r\n]*\r\n", rest):
        size, rest = int(match[1], 16), rest[match.end() :]
        if size == 0:
            _, end, behind = (b"\r\n" + rest).partition(b"\r\n\r\n")
            return (body, behind) if end else None
        if rest[size : size + 2] != b"\r\n":
            return None
        body, rest = body + rest[:size], rest[size + 2 :]
    return None


def genuine(request: Request) -> bool:
    """Whether the gateway signed exactly this, to us, with a key that we know."""
    signature = _signature(request.one("signature"))
    client_id, at = request.one("client-id"), request.one("request-time")
    if signature is None or client_id != CLIENT_ID:
        return False
    version, raw = signature
    path = re.sub(r"^https?://[^/?]*", "", request.target)
    for signed in {path, path.partition("?")[0]}:
        content = f"POST {signed}\n{client_id}.{at}.".encode(errors="replace") + request.body
        if (content, version) in _all_that_was_signed() and _verifies(version, raw, content):
            return True
    return False


_SIGNED: set[tuple[bytes, int]] = set()


def _all_that_was_signed() -> set[tuple[bytes, int]]:
    if not _SIGNED:
        for post in stock():
            values = dict(post.headers)
            content = f"POST {{}}\n{CLIENT_ID}.{values['Request-Time']}.".encode() + post.body
            version = int(values["Signature"].split("keyVersion=")[1].split(",")[0])
            _SIGNED.add((content.replace(b"{}", post.path.encode(), 1), version))
    return _SIGNED


def _signature(header: str) -> tuple[int, bytes] | None:
    match = re.fullmatch(
        r"algorithm=RSA256, *keyVersion=(0|[1-9][0-9]{0,8}), *signature=([^,]+)", header
    )
    if match is None:
        return None
    text = unquote(match[2])
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return (int(match[1]), raw) if base64.b64encode(raw).decode() == text else None


def _verifies(version: int, raw: bytes, content: bytes) -> bool:
    try:
        KEYS[version].verify(raw, content, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
