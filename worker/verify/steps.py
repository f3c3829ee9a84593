"""The checks that a message must pass, in the order of `worker.signature.verify`, and how far it
came: the verdict is that function's own."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.http_server import says_json
from worker.receiver import MAX_BODY_BYTES
from worker.signature import Reason, Signed, Untrusted, parse_signature, verify
from worker.verify.message import Case, Kind, Parts, parts_of


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Step:
    """One check of the list; `seen` is what it looked at."""

    number: int
    rule: str
    seen: str
    verdict: Verdict = Verdict.NOT_REACHED


@dataclass(frozen=True, slots=True)
class Examined:
    """How far a message came. `parts` is the string that was verified last, or would have been."""

    steps: tuple[Step, ...]
    parts: Parts
    reason: Reason | None  #: None: it verifies


#: In which step a message is refused for which reason.
STEP_OF = {
    Reason.PATH: 1,
    Reason.HEADER_CHARSET: 1,
    Reason.TIME_CHARSET: 2,
    Reason.NOT_OBJECT: 3,
    Reason.SIG_SYNTAX: 4,
    Reason.SIG_ALGORITHM: 4,
    Reason.CLIENT_ID: 5,
    Reason.KEY_VERSION: 6,
    Reason.SIG_MISMATCH: 7,
}


def examined(case: Case) -> Examined:
    """What is said of the first path under which the message verifies, else of the likeliest."""
    refused = _before(case)
    if refused is not None:
        return _told(case, parts_of(case), refused)
    reasons = [(path, _verified(case, path)) for path in case.paths]
    path, reason = next((each for each in reasons if each[1] is None), reasons[0])
    return _told(case, replace(parts_of(case), path=path), reason)


def _verified(case: Case, path: str) -> Reason | None:
    """Why the message is refused on this path; None if it is not."""
    parts = replace(parts_of(case), path=path)
    signed = Signed(parts.path, parts.client_id, parts.time, parts.body)
    header = case.capture.first("signature")
    try:
        verify(signed, header, client_id=case.client_id, keys=case.signers)
    except Untrusted as doubt:
        return doubt.reason
    return None


# Before the signature


def _before(case: Case) -> Reason | None:
    """What the receiver, or the one who asked, refuses before it looks at the signature."""
    capture = case.capture
    if case.kind is not Kind.ANSWER and capture.method not in ("", "POST"):
        return Reason.METHOD
    if capture.values("encrypt"):
        return Reason.ENCRYPTED
    if capture.first("content-encoding").lower() not in ("", "identity"):
        return Reason.ENCODING
    content_type = capture.first("content-type") or "application/json"
    if case.kind is Kind.NOTIFICATION and not says_json(content_type):
        return Reason.MEDIA_TYPE
    counts = [len(capture.values(name)) for name in ("signature", "client-id", case.time_header)]
    if min(counts) == 0:
        return Reason.HEADER_MISSING
    if max(counts) > 1:
        return Reason.HEADER_REPEATED
    too_large = case.kind is Kind.NOTIFICATION and len(capture.body) > MAX_BODY_BYTES
    return Reason.TOO_LARGE if too_large else None


# Telling


def _told(case: Case, parts: Parts, reason: Reason | None) -> Examined:
    failed = len(RULES) if reason is None else _step_of(case, reason)
    steps = tuple(
        Step(number, rule, seen, _verdict(number, failed))
        for number, (rule, seen) in enumerate(zip(RULES, _seen(case, parts), strict=True))
    )
    return Examined(steps, parts, reason)


def _step_of(case: Case, reason: Reason) -> int:
    if reason is Reason.SIG_SYNTAX and _version(case) is not None:
        return 6  # the header is well written, but the signature has not the key's length
    return STEP_OF.get(reason, 0)


def _verdict(number: int, failed: int) -> Verdict:
    if number == failed:
        return Verdict.FAILED
    return Verdict.OK if number < failed else Verdict.NOT_REACHED


RULES = (
    "It comes the right way: POST, as JSON, neither encrypted nor compressed, each header once.",
    "The path is one line, the headers are plain text.",
    "The time has the characters of a time.",
    "The body begins like a JSON object.",
    "The Signature header holds a signature.",
    "The message is addressed to us.",
    "The key is known, and the signature has exactly its length.",
    "The key made the signature over these bytes.",
)


def _seen(case: Case, parts: Parts) -> Iterator[str]:
    """What each rule looked at; nothing of it may be well formed."""
    capture = case.capture
    encoding = capture.first("content-encoding") or "identity"
    yield (
        f"{capture.method or 'no method'}, {capture.first('content-type') or 'no Content-Type'},"
        f" encoding {encoding}{', Encrypt' * bool(capture.values('encrypt'))};"
        f" {_counted(case)}"
    )
    yield ", then ".join(case.paths)
    yield parts.time or "there is none"
    yield _beginning(parts.body)
    yield from _of_signature(case)
    yield _of_key(case)
    yield "RSASSA-PKCS1-v1_5 with SHA-256 over the string below"


def _counted(case: Case) -> str:
    names = ("Signature", "Client-Id", case.time_header.title())
    return ", ".join(f"{name}: {len(case.capture.values(name.lower()))}" for name in names)


def _beginning(body: bytes) -> str:
    if not body:
        return "there is none"
    shown = body[:24].decode("utf-8", "backslashreplace")
    return f"{shown}{'...' if len(body) > 24 else ''} ({len(body)} bytes)"


def _of_signature(case: Case) -> Iterator[str]:
    header = case.capture.first("signature")
    try:
        version, raw = parse_signature(header)
        yield f"algorithm RSA256, key version {version}, {len(raw)} bytes"
    except Untrusted:
        yield f"{header[:60]}{'...' if len(header) > 60 else ''}" or "there is none"
    yield f"{case.capture.first('client-id') or 'nobody'}; we are {case.client_id}"


def _of_key(case: Case) -> str:
    version = _version(case)
    for known in case.keys:
        if known.owner == case.signer and known.version == version:
            return f"{known.label}, {known.key.key_size} bits"
    versions = ", ".join(map(str, sorted(case.signers))) or "none"
    return f"key version {'unknown' if version is None else version}; known: {versions}"


def _version(case: Case) -> int | None:
    try:
        return parse_signature(case.capture.first("signature"))[0]
    except Untrusted:
        return None
