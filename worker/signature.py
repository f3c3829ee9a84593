"""Signing and verifying messages: RSASSA-PKCS1-v1_5 with SHA-256 over the raw bytes.

One rule holds for requests, answers and notifications (docs.antom.com/ac/ams/digital_signature):

    POST <path>\\n<client-id>.<time>.<body>

`.` joins the parts and occurs inside the time too, so one signed string could be cut in several
ways. `verify` makes the cut unique: the path holds no line feed, the client id must be ours, the
time has no `{`, and the body begins with one.

Nothing the sender writes chooses how it is checked: algorithm, padding and hash are ours.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

ALGORITHM = "RSA256"  #: the only one of the gateway: docs.antom.com/ac/ams/api_fund

MIN_KEY_BITS = 2048  #: what the gateway prescribes; shorter ones can be factored in our time
MAX_KEY_BITS = 8192  #: longer ones are no safer and only cost time: each check, for every sender
MIN_EXPONENT = 65537  #: below it, forgeries have been easy wherever a check was lax
MAX_HEADER_CHARS = 4096  #: room for an RSA-8192 signature, its base64 percent-encoded: about 1,500


class Reason(StrEnum):
    """Why a message is refused: the whole list, also of what is seen before its signature is."""

    METHOD = "method"
    PATH = "path"
    MEDIA_TYPE = "media_type"
    ENCODING = "encoding"
    ENCRYPTED = "encrypted"
    TOO_LARGE = "too_large"
    BODY_TIMEOUT = "body_timeout"
    BODY_CUT = "body_cut"
    HEADER_MISSING = "header_missing"
    HEADER_REPEATED = "header_repeated"
    HEADER_CHARSET = "header_charset"
    TIME_CHARSET = "time_charset"
    NOT_OBJECT = "not_object"
    SIG_SYNTAX = "sig_syntax"
    SIG_ALGORITHM = "sig_algorithm"
    CLIENT_ID = "client_id"
    KEY_VERSION = "key_version"
    SIG_MISMATCH = "sig_mismatch"


class Untrusted(Exception):
    """Nothing proves that the message is the gateway's; it must change nothing."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class BadKey(ValueError):
    """A configured key cannot be used; the message says why and what to do, never the key."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed message as it stands on the wire.

    `path` is what the caller called, raw, with its query if any; for an answer it is the path of
    the request. `time` is the request-time or response-time header, verbatim.
    """

    path: str
    client_id: str
    time: str
    body: bytes = field(repr=False)

    def content(self) -> bytes:
        """The bytes that are signed."""
        return f"POST {self.path}\n{self.client_id}.{self.time}.".encode() + self.body


def signature_header(signed: Signed, key: RSAPrivateKey, key_version: int) -> str:
    """The Signature header for a message of ours."""
    return header_of(sign(key, signed.content()), key_version)


def sign(key: RSAPrivateKey, content: bytes) -> bytes:
    """The signature, raw. It costs more than all else that a question does."""
    return key.sign(content, _PADDING, _HASH)


def header_of(signature: bytes, key_version: int) -> str:
    """The Signature header with this raw signature."""
    value = base64.b64encode(signature).decode()
    for plain, escaped in _QUOTED:
        value = value.replace(plain, escaped)
    return f"algorithm={ALGORITHM},keyVersion={key_version},signature={value}"


def verify(
    signed: Signed, header: str, *, client_id: str, keys: Mapping[int, RSAPublicKey]
) -> None:
    """Return if the message is the gateway's to `client_id`, unaltered; else raise `Untrusted`.

    `header` is the Signature header, `keys` the gateway's public keys by version. Whether the
    message is fresh, and an answer to our question, is not for a signature to say.
    """
    # 1. The path is one line, the headers are plain text.
    if not signed.path.isprintable():
        raise Untrusted(Reason.PATH)
    if not all(map(_plain, (header, signed.client_id, signed.time))):
        raise Untrusted(Reason.HEADER_CHARSET)
    # 2. The time has the characters of a time.
    if not _TIME.fullmatch(signed.time):
        raise Untrusted(Reason.TIME_CHARSET)
    # 3. The body begins like a JSON object.
    if not signed.body.startswith(b"{"):
        raise Untrusted(Reason.NOT_OBJECT)
    # 4. The signature is one.
    version, signature = parse_signature(header)
    # 5. The message is addressed to us: another account may share the gateway's key.
    if signed.client_id != client_id:
        raise Untrusted(Reason.CLIENT_ID)
    # 6. The key is known, and the signature has exactly its length.
    key = keys.get(version)
    if key is None:
        raise Untrusted(Reason.KEY_VERSION)
    if len(signature) != (key.key_size + 7) // 8:
        raise Untrusted(Reason.SIG_SYNTAX)
    # 7. The key made the signature over these bytes.
    try:
        key.verify(signature, signed.content(), _PADDING, _HASH)
    except InvalidSignature:
        raise Untrusted(Reason.SIG_MISMATCH) from None


_TIME = re.compile(r"[0-9TZ:+.-]{10,40}")
# Every sender known writes this order, and the official verifiers read the value by position: a
# header in another order is not the gateway's. The documents print `,` and `, `.
_HEADER = re.compile(r"algorithm=([^,]*), *keyVersion=([^,]*), *signature=([^,]*)")
_KEY_VERSION = re.compile(r"0|[1-9][0-9]{0,8}")
_QUOTED = (("+", "%2B"), ("/", "%2F"), ("=", "%3D"))  # all of base64 that a URL escapes
_VALUE = re.compile(r"(?:[A-Za-z0-9+/=]++|%[0-9A-Fa-f]{2})++")  # it never starts over: linear time
_PADDING, _HASH = padding.PKCS1v15(), hashes.SHA256()


def parse_signature(header: str) -> tuple[int, bytes]:
    """The key version and the raw signature in a Signature header, or `Untrusted`."""
    parts = _HEADER.fullmatch(header) if len(header) <= MAX_HEADER_CHARS else None
    if parts is None:
        raise Untrusted(Reason.SIG_SYNTAX)
    algorithm, version, value = parts.groups()
    if algorithm != ALGORITHM:
        raise Untrusted(Reason.SIG_ALGORITHM)
    if not _KEY_VERSION.fullmatch(version) or not _VALUE.fullmatch(value):
        raise Untrusted(Reason.SIG_SYNTAX)
    return int(version), _unwrap(value)


def _unwrap(value: str) -> bytes:
    """Undo percent-encoding, if any, and base64.

    Senders write %2F, %2f or plain base64, so a `+` is a plus and never a blank. Only the one
    canonical base64 text is taken: no junk, no missing padding, no stray bits in the last digit.
    """
    for plain, escaped in _QUOTED:
        value = value.replace(escaped, plain)
    text = unquote_to_bytes(value)  # of what is written in another way
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Untrusted(Reason.SIG_SYNTAX) from None
    if base64.b64encode(raw) != text:
        raise Untrusted(Reason.SIG_SYNTAX)
    return raw


def _plain(value: str) -> bool:
    return value.isascii() and value.isprintable()


# Keys


def load_private_key(text: str) -> RSAPrivateKey:
    """Our private key: base64 DER (PKCS#8 or PKCS#1) without armour, or PEM."""
    pem, data = _unarmour(text, "private")
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        key = load(data, password=None)
    except TypeError:
        raise BadKey("the private key is encrypted: store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("not a private key: expected RSA, PKCS#8 or PKCS#1, base64 or PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise BadKey("the private key is not an RSA key: make an RSA key of 2048 bits")
    _check_size(key.key_size, "private")
    return key


def load_public_key(text: str) -> RSAPublicKey:
    """A key of the gateway: base64 DER as its dashboard shows it (X.509, or PKCS#1), or PEM.

    The library refuses an exponent of 1, with which anything signs itself, and an even one. Small
    ones have made forgeries easy before; every key in use has 65537 (FIPS 186-5, 5.1 asks for it).
    """
    pem, data = _unarmour(text, "public")
    load = serialization.load_pem_public_key if pem else serialization.load_der_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("not a public key: copy the gateway's from its dashboard, whole") from None
    if not isinstance(key, RSAPublicKey):
        raise BadKey("the public key is not an RSA key: copy the gateway's from its dashboard")
    _check_size(key.key_size, "public")
    exponent = key.public_numbers().e
    if exponent < MIN_EXPONENT:
        raise BadKey(
            f"the public key has the exponent {exponent}: use a key with {MIN_EXPONENT}, as the"
            " gateway's are"
        )
    return key


def public_text(key: RSAPublicKey) -> str:
    """The key as the gateway's dashboard takes it: base64 DER SubjectPublicKeyInfo."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.b64encode(der).decode()


def private_text(key: RSAPrivateKey) -> str:
    """The key as our settings take it: base64 DER PKCS#8, unencrypted."""
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return base64.b64encode(der).decode()


def _unarmour(text: str, kind: str) -> tuple[bool, bytes]:
    """Whether the text is PEM, and its bytes: PEM as it is, base64 decoded."""
    text = text.strip().replace("\\n", "\n")  # environment files often hold PEM on one line
    if text.startswith("-----BEGIN"):
        return True, text.encode(errors="replace")
    try:
        return False, base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise BadKey(f"the {kind} key is neither base64 nor PEM: copy it again, whole") from None


def _check_size(bits: int, kind: str) -> None:
    if not MIN_KEY_BITS <= bits <= MAX_KEY_BITS:
        raise BadKey(
            f"the {kind} key has {bits} bits: use one of {MIN_KEY_BITS} to {MAX_KEY_BITS} bits"
        )
