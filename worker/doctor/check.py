"""One check: what was looked at, what was seen, and what to do about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from worker.probes import Finding, Level
from worker.secrecy import mask


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"  #: it works, but a person should know
    FAILED = "failed"
    SKIPPED = "skipped"  #: it could not be looked at, or was not to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    what: str
    verdict: Verdict
    seen: str
    fix: str = ""  #: empty where there is nothing to do

    def to_json(self) -> dict[str, str]:
        return {
            "check": self.what,
            "verdict": self.verdict.value,
            "seen": mask(self.seen),
            "fix": mask(self.fix),
        }


def ok(what: str, seen: str) -> Check:
    return Check(what=what, verdict=Verdict.OK, seen=seen)


def warning(what: str, seen: str, fix: str) -> Check:
    return Check(what=what, verdict=Verdict.WARNING, seen=seen, fix=fix)


def failed(what: str, seen: str, fix: str) -> Check:
    return Check(what=what, verdict=Verdict.FAILED, seen=seen, fix=fix)


def skipped(what: str, seen: str) -> Check:
    return Check(what=what, verdict=Verdict.SKIPPED, seen=seen)


def from_finding(finding: Finding) -> Check:
    """What a probe has found."""
    judged = failed if finding.level is Level.REFUSE else warning
    return judged(finding.what, finding.message, finding.remedy)


def by_account(looked: Mapping[str, Iterable[Check]]) -> list[Check]:
    """What was seen of each account, by client id: once what is so of all, else with its name."""
    if len(looked) == 1:
        return [check for checks in looked.values() for check in checks]
    found: dict[Check, list[str]] = {}
    for client_id, checks in looked.items():
        for check in dict.fromkeys(checks):
            found.setdefault(check, []).append(client_id)
    return [
        check if len(whose) == len(looked) else _named(check, whose)
        for check, whose in found.items()
    ]


def _named(check: Check, whose: Sequence[str]) -> Check:
    names = ", ".join(whose)
    return check if names in check.seen else replace(check, seen=f"{names}: {check.seen}")


def report(checks: Sequence[Check]) -> str:
    """A line for each check, and how many of each kind there are."""
    width = max(len(check.what) for check in checks)
    counts = [
        f"{sum(check.verdict is verdict for check in checks)} {verdict.value}"
        for verdict in Verdict
        if any(check.verdict is verdict for check in checks)
    ]
    return "\n".join([*(_line(check, width) for check in checks), "", ", ".join(counts)])


def _line(check: Check, width: int) -> str:
    word = check.verdict.value.upper() if check.verdict is Verdict.FAILED else check.verdict.value
    fix = f". Fix: {check.fix}" if check.fix else ""
    return mask(f"{word:7}  {check.what:{width}}  {check.seen}{fix}")
