"""What a Signature header may have been meant to say, and what a signature says by itself.

An RSA signature can be opened with the public key of whoever made it: inside stand the hash's name
and the digest that was signed (RFC 8017, 9.2). With any other key it opens to nothing. So it is
known whose key made a signature, and over which digest, also where the message is altered.
"""

import base64
import binascii
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from worker.signature import ALGORITHM, Untrusted, parse_signature
from worker.verify.message import Case, KnownKey

MAX_UNWRAPS = 4  #: times that percent-encoding is undone


@dataclass(frozen=True, slots=True)
class Reading:
    """A signature taken out of a header, and the mistakes that had to be undone for it."""

    mistakes: tuple[str, ...]
    version: int | None
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """Who made a signature, and over what."""

    known: KnownKey
    hash: str  #: as `hashlib` calls it
    digest: bytes


# The header


def readings(case: Case) -> Iterator[Reading]:
    """The signatures that the captured headers may hold, the likeliest first."""
    values = case.capture.values("signature")
    for value in values:
        more = ("signature.repeated",) if len(values) > 1 else ()
        for reading in _of_header(value):
            yield Reading((*more, *reading.mistakes), reading.version, reading.raw)


def stated_version(case: Case) -> int:
    """The key version that the message names; 1, the first, where it names none."""
    versions = (reading.version for reading in readings(case) if reading.version is not None)
    return next(versions, 1)


def _of_header(header: str) -> Iterator[Reading]:
    """The exact reading first; what is meant may be another: hexadecimal is base64, too."""
    try:
        exact = Reading((), *parse_signature(header))
    except Untrusted:
        yield from _meant(header)
    else:
        yield exact
        yield from (reading for reading in _meant(header) if reading != exact)


_PART = re.compile(r"""["']?\b(algorithm|key_?version|signature)["']?\s*[=:]\s*""", re.IGNORECASE)
_EXACT = re.compile(r"algorithm=[^,]*, *keyVersion=[^,]*, *signature=[^,]*")


def _meant(header: str) -> Iterator[Reading]:
    """As somebody would read it who knows what is meant."""
    mistakes, text = _unescaped(header)
    parts = _parts(text)
    if not parts:
        mistakes.append("signature.value_alone")
        parts = {"signature": text, "algorithm": ALGORITHM}
    elif not _EXACT.fullmatch(text):
        mistakes.append("signature.form")
    if parts.get("algorithm", ALGORITHM) != ALGORITHM:
        mistakes.append("signature.algorithm")
    version = parts.get("keyversion", "")
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None
    for more, raw in _values(parts.get("signature", "")):
        yield Reading((*mistakes, *more), number, raw)


def _unescaped(header: str) -> tuple[list[str], str]:
    mistakes, text = [], header
    if "\\" in text or "&" in text:
        try:
            text = html.unescape(json.loads(f'"{text}"'))
        except ValueError:
            text = html.unescape(text.replace("\\", ""))
        mistakes.append("signature.escaped")
    bare = text.strip().strip("\"'").strip()
    if bare != text:
        mistakes.append("signature.quoted")
    return mistakes, bare


def _parts(text: str) -> dict[str, str]:
    """Each part's value, by its name in small letters; a value ends where the next part begins."""
    found = list(_PART.finditer(text))
    ends = [*(each.start() for each in found), len(text)][1:]
    return {
        part[1].lower().replace("_", ""): text[part.end() : end].strip(" ,;&\t\r\n")
        for part, end in zip(found, ends, strict=True)
    }


def _values(value: str) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """The bytes that a signature's text may stand for, each way with its mistakes."""
    mistakes, text = [], value
    bare = text.strip("\"'")
    if bare != text:
        mistakes.append("signature.quoted")
    times, text = _decoded(bare)
    if times > 1:
        mistakes.append("signature.encoded_twice")
    if not re.search(r"\s", text):
        yield from _alphabets(tuple(mistakes), text)
        return
    yield from _alphabets((*mistakes, "signature.plus"), text.strip().replace(" ", "+"))
    yield from _alphabets((*mistakes, "signature.broken_lines"), "".join(text.split()))


def _decoded(text: str) -> tuple[int, str]:
    """How often it was percent-encoded, and the text below, without half an escape at its end."""
    for times in range(MAX_UNWRAPS):
        decoded = unquote(text)
        if decoded == text:
            return times, re.sub("%.?$", "", text)
        text = decoded
    return MAX_UNWRAPS, text


def _alphabets(mistakes: tuple[str, ...], text: str) -> Iterator[tuple[tuple[str, ...], bytes]]:
    if re.fullmatch("[0-9a-fA-F]{256,}", text) and len(text) % 2 == 0:
        yield (*mistakes, "signature.hex"), bytes.fromhex(text)
    if "-" in text or "_" in text:
        mistakes, text = (*mistakes, "signature.base64url"), text.translate(_STANDARD)
    raw = _padded(text)
    if raw is None:
        return
    exact = base64.b64encode(raw).decode() == text
    yield (*mistakes, *(() if exact else ("signature.padding",))), raw
    if re.fullmatch(rb"[A-Za-z0-9+/]{100,}={0,2}", raw):
        again = _padded(raw.decode())
        if again is not None:
            yield (*mistakes, "signature.base64_twice"), again


_STANDARD = str.maketrans("-_", "+/")


def _padded(text: str) -> bytes | None:
    """The bytes of base64 whose padding is not looked at; a last digit alone is dropped."""
    digits = text.rstrip("=")
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


# The signature

#: What stands before a digest (RFC 8017, 9.2, note 1), by the hash's name in `hashlib`.
_PREFIXES = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "md5": bytes.fromhex("3020300c06082a864886f70d020505000410"),
    "sha224": bytes.fromhex("302d300d06096086480165030402040500041c"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


def opened(raw: bytes, keys: Iterable[KnownKey]) -> Opened | None:
    """Which of the keys made the signature, and over which digest; None if it was none of them."""
    for known in keys:
        try:
            inside = known.key.recover_data_from_signature(raw, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            continue
        for name, prefix in _PREFIXES.items():
            if inside.startswith(prefix):
                return Opened(known, name, inside.removeprefix(prefix))
    return None


def verifies_as_pss(raw: bytes, content: bytes, known: KnownKey) -> bool:
    """Whether the key made it with PSS padding, which does not open to a digest."""
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
    try:
        known.key.verify(raw, content, pss, hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


_HASHES: Mapping[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha1": hashes.SHA1,
    "md5": hashes.MD5,
    "sha224": hashes.SHA224,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def verifies(raw: bytes, content: bytes, found: Opened) -> bool:
    """The last word: whether the signature verifies over these bytes, with its own hash."""
    try:
        found.known.key.verify(raw, content, padding.PKCS1v15(), _HASHES[found.hash]())
    except (InvalidSignature, ValueError):
        return False
    return True
