"""Our books against the gateway's: what one payment is there, and what it is here.

An inquiry is judged by the same rules of evidence as any other, and nothing follows from it here:
a person, or the payment's own next step, acts on a disagreement.
"""

from dataclasses import dataclass
from enum import StrEnum

from jobs.evidence import hear
from jobs.model import FINAL, Money, Ms, Payment, Status
from jobs.news import (
    Answer,
    Closed,
    Confirming,
    Failed,
    InquiryAnswer,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    NotYet,
    Paid,
    PaidBack,
)
from jobs.schedule import Policy
from jobs.step import in_words


class Verdict(StrEnum):
    """What a comparison came to; the values from `PAID_THERE_CLOSED_HERE` on are disagreements."""

    AGREES = "agrees"
    OPEN = "open"  #: not ended here, so there is nothing yet that could be wrong
    UNANSWERED = "unanswered"  #: the gateway did not say how it stands
    PAID_THERE_CLOSED_HERE = "paid_there_closed_here"
    CLOSED_THERE_PAID_HERE = "closed_there_paid_here"  #: or given back, or failed
    OPEN_THERE_PAID_HERE = "open_there_paid_here"
    OPEN_THERE_CLOSED_HERE = "open_there_closed_here"  #: the buyer may still pay
    AMOUNT_DIFFERS = "amount_differs"
    ID_DIFFERS = "id_differs"  #: the gateway knows it by another paymentId
    UNKNOWN_THERE = "unknown_there"
    UNKNOWN_HERE = "unknown_here"  #: nobody has had it tracked, or its record has expired


UNSETTLED = "asked_before_cancel_settled"  #: a cancel of ours is on its way: no answer counts yet

AGREEMENTS = frozenset({Verdict.AGREES, Verdict.OPEN, Verdict.UNANSWERED})

#: What the merchant was told about a payment that ended otherwise after all.
_TOLD = ("reversed_after_success", "paid_after_cancel", "paid_after_failure", "refund_required")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One payment here and there."""

    client_id: str
    payment_request_id: str
    verdict: Verdict
    ours: str  #: our status; `untracked` without a record
    theirs: str  #: what the gateway said, in the words of a timeline
    told: str = ""  #: the attention by which the merchant has heard of it already, if any

    @property
    def disagrees(self) -> bool:
        return self.verdict not in AGREEMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A payment to be compared, by its names; `amount` where a list gives one."""

    client_id: str
    payment_request_id: str
    amount: Money | None = None


def compare(
    asked: Asked, ours: Payment | None, answer: Answer, now: Ms, policy: Policy
) -> Comparison:
    """Our record, loaded before the question left, against the gateway's answer at `now`."""
    found = answer.amount if isinstance(answer, InquiryAnswer) else None
    news = hear(ours or stand_in(asked, found, now), answer, now, policy)
    return Comparison(
        client_id=asked.client_id,
        payment_request_id=asked.payment_request_id,
        verdict=_verdict(asked, ours, news, now),
        ours=ours.status.value if ours else "untracked",
        theirs=" ".join(filter(None, in_words(answer, news))),
        told=_told(ours) if ours else "",
    )


def stand_in(asked: Asked, found: Money | None, now: Ms) -> Payment:
    """What is asked and judged where there is no record; without an amount given, any will do."""
    return Payment(
        client_id=asked.client_id,
        payment_request_id=asked.payment_request_id,
        amount=asked.amount or found or Money("", 0),
        tracked_at=now,
        closing_time=now,
    )


def _verdict(asked: Asked, ours: Payment | None, news: News, now: Ms) -> Verdict:
    if isinstance(news, NoAnswer):
        return Verdict.OPEN if news.why == UNSETTLED else Verdict.UNANSWERED
    if ours is None:
        return Verdict.AGREES if isinstance(news, NotExist) else Verdict.UNKNOWN_HERE
    if asked.amount not in (None, ours.amount):
        return Verdict.AMOUNT_DIFFERS
    if isinstance(news, Mismatch):
        amount = news.kind == "amount_mismatch"
        return Verdict.AMOUNT_DIFFERS if amount else Verdict.ID_DIFFERS
    if ours.status is Status.SUCCEEDED:
        return _paid_here(news)
    if ours.status in (Status.FAILED, Status.CANCELLED):
        return _closed_here(news)
    return _open_here(ours, news, now)


def _paid_here(news: News) -> Verdict:
    match news:
        case Closed() | Failed():
            return Verdict.CLOSED_THERE_PAID_HERE
        case PaidBack() if news.whole:
            return Verdict.CLOSED_THERE_PAID_HERE
        case NotYet() | Confirming():
            return Verdict.OPEN_THERE_PAID_HERE
        case NotExist():
            return Verdict.UNKNOWN_THERE
        case _:
            return Verdict.AGREES


def _closed_here(news: News) -> Verdict:
    """That no money stays taken is all that we have said: an order never made is as good."""
    match news:
        case PaidBack() if news.whole:
            return Verdict.AGREES
        case Paid() | PaidBack():
            return Verdict.PAID_THERE_CLOSED_HERE
        case NotYet() | Confirming():
            return Verdict.OPEN_THERE_CLOSED_HERE
        case _:
            return Verdict.AGREES


def _open_here(ours: Payment, news: News, now: Ms) -> Verdict:
    """It may be tracked before it is made; once its time to pay is over it should be known."""
    if ours.status in FINAL:  # forgotten, as the merchant asked: not our books any more
        return Verdict.AGREES
    late = now >= ours.closing_time
    return Verdict.UNKNOWN_THERE if late and isinstance(news, NotExist) else Verdict.OPEN


def _told(ours: Payment) -> str:
    return next((kind for kind in _TOLD if ours.count_told(f"attention.{kind}")), "")
