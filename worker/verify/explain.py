"""Why a message does not verify: what is certain, and what undoing which mistakes makes it verify.

Nothing is guessed. A mistake is named if the signature verifies once it is undone, or if the
message itself shows it, as a signature that is shorter than its key.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from worker.signature import Reason
from worker.strict_json import Unreadable, parse_object
from worker.verify.message import Case, Kind, Parts, parts_of
from worker.verify.search import Origin, origin
from worker.verify.signatures import Opened, Reading, opened, readings, verifies, verifies_as_pss
from worker.verify.steps import Examined, examined
from worker.verify.strings import content

RSA_LENGTHS = (64, 128, 256, 384, 512, 1024)  #: bytes of signatures by keys as people make them
REFUSALS = ("INVALID_SIGNATURE", "SIGNATURE_INVALID", "KEY_NOT_FOUND")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that the message itself shows. `mistake` is empty where it is none."""

    mistake: str
    seen: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Mistakes, and the string over which the signature verifies once they are undone."""

    mistakes: tuple[str, ...]
    signed: Parts
    by: str  #: whose key


@dataclass(frozen=True, slots=True)
class Report:
    """All that can be said of a message."""

    case: Case
    examined: Examined
    facts: tuple[Fact, ...] = ()
    explanation: Explanation | None = None

    @property
    def verifies(self) -> bool:
        return self.examined.reason is None

    @property
    def mistakes(self) -> tuple[str, ...]:
        """Everything that is named: shown by the message, or proven by undoing it."""
        shown = [fact.mistake for fact in self.facts if fact.mistake]
        proven = self.explanation.mistakes if self.explanation else ()
        return tuple(dict.fromkeys((*shown, *proven)))


def examine(case: Case) -> Report:
    """Check a message, and explain it where it does not verify."""
    found = examined(case)
    if found.reason is None:
        return Report(case, found)
    facts = list(_plain_facts(case))
    shown: list[list[Fact]] = []
    for reading in readings(case):
        more, best = _explained(case, found, reading)
        if best is not None:
            causes = [fact for fact in facts if fact.mistake != "body.length"]
            return Report(case, found, (*causes, *more), best)
        shown.append(more)
    return Report(case, found, (*facts, *_best(shown)))


def _best(shown: list[list[Fact]]) -> list[Fact]:
    """Of several ways to read the header the one that a key opens; else the first, the exact."""
    opening = (facts for facts in shown if any(not fact.mistake for fact in facts))
    return next(opening, shown[0] if shown else [])


def _explained(
    case: Case, found: Examined, reading: Reading
) -> tuple[list[Fact], Explanation | None]:
    """What one reading of the header shows, and whether it explains everything."""
    lengths = {(known.key.key_size + 7) // 8 for known in case.keys}
    if len(reading.raw) not in lengths:
        return [_wrong_length(reading, lengths)], None
    made = opened(reading.raw, case.keys)
    if made is None:
        return _unopened(case, reading)
    mistakes = (*reading.mistakes, *_of_key(case, reading, made), *_of_hash(made))
    source = origin(case, made)
    facts = [_opening(made)]
    if source is None or not verifies(reading.raw, content(source.parts), made):
        return [*facts, *(Fact(each, "") for each in mistakes)], None
    mistakes = (*mistakes, *_rest(found, source, mistakes))
    return facts, Explanation(mistakes, source.parts, made.known.label)


def _opening(made: Opened) -> Fact:
    name = {"sha256": "SHA-256", "sha1": "SHA-1"}.get(made.hash, made.hash.upper())
    whose = made.known.label[0].upper() + made.known.label[1:]
    digest = made.digest.hex()
    return Fact("", f"{whose}, made the signature, over a string with the {name} {digest}")


def _rest(found: Examined, source: Origin, mistakes: tuple[str, ...]) -> tuple[str, ...]:
    """The mistakes of the string; one must be there, or a rule is broken that is none of it."""
    if source.mistakes:
        return source.mistakes
    if found.reason is Reason.CLIENT_ID:
        return ("client.other",)
    return () if mistakes else ("message.refused",)


# Signatures and keys


def _wrong_length(reading: Reading, lengths: set[int]) -> Fact:
    size = len(reading.raw)
    known = " or ".join(map(str, sorted(lengths))) or "no key is known"
    seen = f"the signature has {size} bytes, a signature of the known keys {known}"
    if not size:
        return Fact("signature.empty", "the Signature header holds no signature")
    cut = size not in RSA_LENGTHS and size < max(lengths, default=0)
    return Fact("signature.cut" if cut else "signature.length", seen)


def _unopened(case: Case, reading: Reading) -> tuple[list[Fact], Explanation | None]:
    """A signature that none of the keys opens; PSS has no inside that a key shows."""
    signed = parts_of(case)
    for known in case.keys:
        for path in case.paths:
            parts = replace(signed, path=path)
            if verifies_as_pss(reading.raw, content(parts), known):
                mistakes = (*reading.mistakes, "signature.pss")
                return [], Explanation(mistakes, parts, known.label)
    tried = ", ".join(known.label for known in case.keys)
    facts = [Fact("key.unknown", f"tried: {tried}")]
    if reading.version is not None and reading.version not in case.signers:
        versions = ", ".join(map(str, sorted(case.signers)))
        seen = f"the header says {reading.version}, known are {versions}"
        facts.insert(0, Fact("key.version_unknown", seen))
    return facts, None


def _of_key(case: Case, reading: Reading, made: Opened) -> Iterator[str]:
    if made.known.owner == "other":
        yield "key.other_account"
    elif made.known.owner != case.signer:
        yield "key.wrong_side"
    elif reading.version is not None and reading.version != made.known.version:
        yield "key.version"


def _of_hash(made: Opened) -> Iterator[str]:
    if made.hash != "sha256":
        yield "signature.sha1" if made.hash == "sha1" else "signature.hash"


# What the message shows without its signature


def _plain_facts(case: Case) -> Iterator[Fact]:
    yield from _of_headers(case)
    yield from _of_body(case)
    ours = {known.key.public_numbers() for known in case.keys if known.owner == "ours"}
    for known in case.keys:
        if known.owner == "gateway" and known.key.public_numbers() in ours:
            yield Fact("key.ours_for_gateways", f"version {known.version}")


def _of_headers(case: Case) -> Iterator[Fact]:
    capture = case.capture
    missing = [
        name for name in ("signature", "client-id", case.time_header) if not capture.values(name)
    ]
    if "signature" in missing and case.kind is Kind.ANSWER and _refused(capture.body):
        yield Fact("answer.refusal", _refused(capture.body))
    elif missing:
        names = ", ".join(name.title() for name in missing)
        there = ", ".join(sorted({name for name, _ in capture.headers})) or "no header at all"
        yield Fact("header.missing", f"missing: {names}; there are: {there[:300]}")
    for name in ("signature", "client-id", case.time_header):
        if len(capture.values(name)) > 1:
            yield Fact("header.repeated", f"{name.title()}: {len(capture.values(name))} times")
    if capture.values("encrypt"):
        yield Fact("message.encrypted", "it has an Encrypt header")


def _refused(body: bytes) -> str:
    """The code by which the gateway says that it could not verify our request."""
    try:
        result = parse_object(body).get("result")
    except Unreadable:
        return ""
    code = result.get("resultCode") if isinstance(result, dict) else None
    return code if code in REFUSALS else ""


def _of_body(case: Case) -> Iterator[Fact]:
    capture = case.capture
    body, said = capture.body, capture.first("content-length")
    if not body:
        yield Fact("body.empty", f"Content-Length: {said or 'none'}")
    elif _is_length(said) and int(said) != len(body) and not capture.first("content-encoding"):
        cut = len(body) < int(said) and _breaks_off(body)
        yield Fact("body.cut" if cut else "body.length", f"{len(body)} bytes of {int(said)}")


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,4})?\Z")
_HALF_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*|t(?:r|ru)?|f(?:a|al|als)?|n(?:u|ul)?|-|\.|[eE][+-]?|', re.DOTALL
)


def _breaks_off(body: bytes) -> bool:
    """Whether it is the beginning of a JSON object: there is more that would make it whole."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(body).lstrip()
        text = _HALF_ESCAPE.sub(r"\1", text)
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as fault:
        return text.startswith("{") and bool(_HALF_TOKEN.fullmatch(text, fault.pos))
    except (UnicodeDecodeError, RecursionError):
        pass
    return False
