"""What was told in the last days, as numbers: how payments ended, and what report mode kept from
being done."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from jobs.model import FINAL, Ms
from worker.keys import Keys
from worker.replies import text_of

PAGE = 500
UNKNOWN_THERE = "ORDER_NOT_EXIST"  #: the gateway's last word about a payment that it never had

Event = Mapping[str, Any]


async def told(redis: Redis, keys: Keys, since: Ms) -> AsyncIterator[Event]:
    """The stream of outcomes from `since` on, as far as it is kept: CloudEvents, oldest first."""
    first = f"{since}-0"
    while page := await redis.xrange(keys.outcomes, first, "+", count=PAGE):
        for _, raw in page:
            fields = {text_of(name): text_of(value) for name, value in raw.items()}
            yield json.loads(fields["data"])
        first = f"({text_of(page[-1][0])}"


@dataclass(slots=True)
class Sum:
    """So many payments, and how much money by currency, in its smallest unit."""

    payments: int = 0
    amounts: Counter[str] = field(default_factory=Counter)

    def add(self, amount: Mapping[str, str]) -> None:
        self.payments += 1
        self.amounts[amount["currency"]] += int(amount["value"])

    def to_json(self) -> dict[str, Any]:
        return {"payments": self.payments, "amounts": {c: str(v) for c, v in self.amounts.items()}}

    def __str__(self) -> str:
        money = ", ".join(f"{currency} {value}" for currency, value in self.amounts.items())
        return f"{self.payments} ({money})" if money else str(self.payments)


@dataclass(slots=True)
class _Story:
    """What was told of one payment."""

    amount: Mapping[str, str]
    ended: str = ""
    would: str = ""  #: why a cancel would have been sent first; empty if none would
    found: bool = False  #: whether the gateway knew it
    paid: bool = False  #: after the cancel would have been sent, or all the same


@dataclass(slots=True)
class Report:
    """The numbers by which to judge whether cancels may be switched on."""

    since: str = ""  #: when the oldest of the outcomes was told; empty: there is none
    ended: dict[str, Sum] = field(default_factory=lambda: defaultdict(Sum))  #: by status
    would: dict[str, Sum] = field(default_factory=lambda: defaultdict(Sum))  #: by reason
    would_all: Sum = field(default_factory=Sum)
    paid_later: Sum = field(default_factory=Sum)  #: of `would_all`: the cancel would have hurt
    never_found: Sum = field(default_factory=Sum)  #: of `would_all`: unknown to the gateway
    refused_cancels: int = 0  #: that the merchant ordered, and report mode did not carry out

    def to_json(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "ended": {status: each.to_json() for status, each in self.ended.items()},
            "wouldCancel": {
                **self.would_all.to_json(),
                "byReason": {reason: each.to_json() for reason, each in self.would.items()},
                "paidLater": self.paid_later.to_json(),
                "neverFound": self.never_found.to_json(),
            },
            "cancelCommandsRefused": self.refused_cancels,
        }


def summarise(events: Iterable[Event]) -> Report:
    """Each payment once, however often its events were published."""
    report, stories, rejected = Report(), dict[str, _Story](), set[str]()
    for event in events:
        said = event["data"]
        report.since = report.since or event["time"]
        if event["type"] == "command.rejected":
            if (said["reason"], said["command"]) == ("report_mode", "payment.cancel"):
                rejected.add(event["id"])
            continue
        key = f"{said['clientId']}:{said['paymentRequestId']}"
        _hear(stories.setdefault(key, _Story(said["paymentAmount"])), said)
    for story in stories.values():
        _count(report, story)
    report.refused_cancels = len(rejected)
    return report


def _hear(story: _Story, said: Mapping[str, Any]) -> None:
    if said["would"] and not story.would:
        story.would = said["kind"] or said["reason"] or said["status"]
        story.found = said["resultCode"] != UNKNOWN_THERE
    if said["status"] in FINAL:
        story.ended = said["status"]
    story.paid |= said["status"] == "succeeded" or said["kind"].startswith("paid_after")


def _count(report: Report, story: _Story) -> None:
    if story.ended:
        report.ended[story.ended].add(story.amount)
    if not story.would:
        return
    report.would[story.would].add(story.amount)
    report.would_all.add(story.amount)
    if story.paid:
        report.paid_later.add(story.amount)
    elif not story.found:
        report.never_found.add(story.amount)


_WORDS = {
    "failed": "the gateway said FAIL",
    "report": "not paid at its closing time",
    "no_answer": "the gateway did not answer long after its closing time",
    "paid_after_cancel": "paid although it was cancelled",
    "paid_after_failure": "paid although it had failed",
}


def in_words(report: Report) -> str:
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterable[str]:
    if not report.since:
        yield "nothing was told in that time"
        return
    yield f"what was told since {report.since}; amounts in the smallest unit"
    yield ""
    for status, each in sorted(report.ended.items()):
        yield f"ended as {status}: {each}"
    yield f"report mode kept from being cancelled: {report.would_all}"
    for reason, each in sorted(report.would.items()):
        yield f"  {_WORDS.get(reason, reason)}: {each}"
    if report.would_all.payments:
        yield f"  of these, paid later: {report.paid_later}"
        yield f"  of these, never known to the gateway: {report.never_found}"
    if report.refused_cancels:
        yield f"cancels that your system ordered and report mode refused: {report.refused_cancels}"
