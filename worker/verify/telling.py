"""What was found out about a message, as text for a person and as JSON for a script."""

import itertools
from collections.abc import Iterator
from typing import Any

from worker.verify.explain import Explanation, Report
from worker.verify.message import Case, Kind, Parts, encoded, parts_of, sha256
from worker.verify.mistakes import MISTAKES, TRY_NEXT
from worker.verify.steps import Verdict
from worker.verify.strings import content

SHOWN = 3000  #: bytes of a signed string that are printed; `--string FILE` writes all of them
NONE_EXPLAINS = "none of the known mistakes explains it"

_SHORT = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}


def escaped(data: bytes) -> str:
    """Bytes on one line, to be read by `printf %b`: letters as they are, all else written out."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join(map(_escape, text))


def _escape(letter: str) -> str:
    if letter.isprintable() and letter != "\\":
        return letter
    raw = letter.encode("utf-8", "surrogateescape")
    return "".join(_SHORT.get(byte, f"\\x{byte:02x}") for byte in raw)


def _cut(data: bytes) -> str:
    if len(data) <= SHOWN:
        return escaped(data)
    left = len(data) - SHOWN
    return f"{escaped(data[:SHOWN])} ... and {left} bytes more (--string FILE writes all of them)"


def string_of(report: Report) -> bytes:
    """The exact string that was verified."""
    return content(report.examined.parts)


def _fix(report: Report, name: str) -> str:
    mistake = MISTAKES[name]
    return mistake.ours if mistake.ours and report.case.kind is Kind.REQUEST else mistake.fix


def unexplained(report: Report) -> bool:
    """Whether the message's own facts leave open why its signature does not verify."""
    if report.verifies or report.explanation is not None:
        return False
    shown = {fact.mistake for fact in report.facts}
    if shown & {"body.cut", "body.empty"}:
        return False
    return "" in shown or not shown - {"key.unknown", "body.length"}


# Text


def to_text(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    case = report.case
    yield f"This is taken as {_KINDS[case.kind.value]}."
    yield from (f"Read: {note}." for note in case.capture.notes)
    yield ""
    for step in report.examined.steps:
        yield f"{step.number}. {step.verdict:<11}  {step.rule}"
        if step.verdict is not Verdict.NOT_REACHED:
            yield f"{'':16}{escaped(encoded(step.seen))}"
    yield ""
    yield from _string("The string that was verified", string_of(report))
    yield ""
    if report.examined.reason is None:
        yield "It verifies."
        return
    yield f"It does not verify: {report.examined.reason}."
    yield from _certain(report)
    yield from _explained(report)


_KINDS = {
    "notification": "a notification: the gateway's key signed it, with Request-Time",
    "answer": "an answer: the gateway's key signed it, with Response-Time and its request's path",
    "request": "a request of ours: our key signed it, with Request-Time",
}


def _string(title: str, data: bytes) -> Iterator[str]:
    yield f"{title}, {len(data)} bytes, SHA-256 {sha256(data)}:"
    yield f"  {_cut(data)}"


def _certain(report: Report) -> Iterator[str]:
    if not report.facts:
        return
    yield ""
    yield "What is certain:"
    for fact in report.facts:
        if fact.mistake:
            mistake = MISTAKES[fact.mistake]
            yield f"  [{fact.mistake}] {mistake.what}{f' ({fact.seen})' if fact.seen else ''}"
            yield f"    Mend it: {_fix(report, fact.mistake)}."
        else:
            yield f"  {fact.seen}."


def _explained(report: Report) -> Iterator[str]:
    found = report.explanation
    yield ""
    if found is None:
        if unexplained(report):
            yield f"How the string differs: {NONE_EXPLAINS}. What to try:"
            yield from (f"  - {advice}" for advice in TRY_NEXT)
        return
    yield "It verifies when this is undone:"
    for name in found.mistakes:
        yield f"  [{name}] {MISTAKES[name].what}"
        yield f"    Mend it: {_fix(report, name)}."
    changes = list(_differences(report.case, found))
    if changes:
        yield ""
        yield from _string("The string that was signed", content(found.signed))
        yield from (f"  {part}: signed {signed}, here {here}" for part, signed, here in changes)


def _differences(case: Case, found: Explanation) -> Iterator[tuple[str, str, str]]:
    """Each part that was signed otherwise: its name, as signed, as here."""
    here, signed = parts_of(case), found.signed
    for name in ("method", "path", "client_id", "time"):
        one, other = getattr(signed, name), getattr(here, name)
        if one != other:
            yield (
                name.replace("_", " "),
                _quoted(one.encode("utf-8", "surrogateescape")),
                _quoted(other.encode("utf-8", "surrogateescape")),
            )
    if signed.rule != here.rule:
        yield "joined", f"with {signed.rule}", "as the rule is"
    if signed.body != here.body:
        at = _first_difference(signed.body, here.body)
        yield f"body, from byte {at}", _quoted(signed.body[at:]), _quoted(here.body[at:])


def _first_difference(one: bytes, other: bytes) -> int:
    pairs = itertools.zip_longest(one, other)
    return next(at for at, (a, b) in enumerate(pairs) if a != b)


def _quoted(data: bytes) -> str:
    return f'"{escaped(data[:32])}"{"..." if len(data) > 32 else ""}' if data else "nothing"


# JSON


def to_json(report: Report) -> dict[str, Any]:
    found, reason = report.explanation, report.examined.reason
    return {
        "verifies": report.verifies,
        "reason": None if reason is None else reason.value,
        "kind": report.case.kind.value,
        "notes": list(report.case.capture.notes),
        "steps": [
            {
                "number": step.number,
                "rule": step.rule,
                "verdict": step.verdict.value.replace(" ", "_"),
                "seen": step.seen,
            }
            for step in report.examined.steps
        ],
        "string": _string_json(report.examined.parts),
        "facts": [{"mistake": each.mistake or None, "seen": each.seen} for each in report.facts],
        "explained": found is not None,
        "mistakes": [
            {"mistake": name, "what": MISTAKES[name].what, "fix": _fix(report, name)}
            for name in report.mistakes
        ],
        "signedString": None if found is None else _string_json(found.signed),
        "tryNext": list(TRY_NEXT) if unexplained(report) else [],
    }


def _string_json(parts: Parts) -> dict[str, Any]:
    data = content(parts)
    return {"escaped": escaped(data), "bytes": len(data), "sha256": sha256(data)}
