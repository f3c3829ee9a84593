"""A person decides about a payment that needs one, after the gateway was asked once more."""

from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.evidence import hear
from jobs.model import Payment, Status
from jobs.news import (
    Answer,
    Closed,
    Confirming,
    Failed,
    GatewayStatus,
    InquiryAnswer,
    Mismatch,
    News,
    NoAnswer,
    NotExist,
    NotYet,
    Paid,
    PaidBack,
    Resolve,
)
from jobs.step import in_words, judge, take, write
from jobs.tools import Loaded, Tools


class Verdict(StrEnum):
    """What became of an operator's word."""

    DONE = "done"  #: it stands
    ENDED = "ended"  #: what the gateway said just now has settled it already
    CONTRADICTED = "contradicted"  #: the gateway says otherwise
    UNANSWERED = "unanswered"  #: the gateway says nothing
    NO_NEED = "no_need"  #: the payment does not wait for a person
    OTHER_QUESTION = "other_question"  #: it waits for another word: for an end, or for a refund
    NOT_TRACKED = "not_tracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    verdict: Verdict
    payment: Payment | None = None  #: as it now stands
    heard: str = ""  #: what the gateway said


async def resolve(key: str, order: Resolve, tools: Tools, *, force: bool = False) -> Resolution:
    """Ask the gateway, then write down what the operator says, unless the gateway knows better.

    `force` lets the operator's word stand against the gateway's, or without it. Killed between two
    lines, the payment waits for a person as before, and the answer stands on its timeline.
    """
    loaded = await tools.store.load(key)
    if refusal := _refusal(order, loaded):
        return refusal
    assert loaded is not None
    answer = await tools.accounts[loaded.payment.client_id].gateway.inquire(
        loaded.payment, tools.store.now()
    )
    news = hear(loaded.payment, answer, tools.store.now(), tools.policy(loaded))
    heard = " ".join(filter(None, in_words(answer, news)))
    await take(tools, loaded, answer)
    while True:
        loaded = await tools.store.load(key)
        if loaded is None:
            return Resolution(verdict=Verdict.NOT_TRACKED, heard=heard)
        verdict = _verdict(order, loaded.payment, answer, news, force)
        if verdict is not Verdict.DONE:
            return Resolution(verdict=verdict, payment=loaded.payment, heard=heard)
        written = await write(tools, judge(tools, loaded, replace(order, heard=heard)))
        if written is not None:
            _report(tools, order, written.payment, heard, force)
            return Resolution(verdict=verdict, payment=written.payment, heard=heard)


def _refusal(order: Resolve, loaded: Loaded | None) -> Resolution | None:
    """Why there is nothing to ask the gateway about."""
    if loaded is None:
        return Resolution(verdict=Verdict.NOT_TRACKED)
    if not loaded.payment.needs_a_person:
        return Resolution(verdict=Verdict.NO_NEED, payment=loaded.payment)
    if (loaded.payment.status is Status.UNRESOLVED) != (order.status is not None):
        return Resolution(verdict=Verdict.OTHER_QUESTION, payment=loaded.payment)
    return None


def _verdict(order: Resolve, payment: Payment, answer: Answer, news: News, force: bool) -> Verdict:
    if not payment.needs_a_person or (payment.status is Status.UNRESOLVED) == (
        order.status is None
    ):
        return Verdict.ENDED
    if force:
        return Verdict.DONE
    if isinstance(news, NoAnswer):
        return Verdict.UNANSWERED
    return Verdict.CONTRADICTED if contradicts(order.status, answer, news) else Verdict.DONE


def contradicts(word: Status | None, answer: Answer, news: News) -> bool:
    """Whether the gateway's answer speaks against an operator's word.

    An order that is not paid may be closed: should money come after all, aftercare sees it.
    """
    match news:
        case Confirming():  # the buyer has paid, and nobody knows yet whether the bank will
            return True
        case Paid() | PaidBack():
            return word is not Status.SUCCEEDED
        case Mismatch():
            return (word is Status.SUCCEEDED) != _says_paid(answer)
        case Failed() | Closed() | NotYet() | NotExist():
            return word is Status.SUCCEEDED
        case _:
            return False


def _says_paid(answer: Answer) -> bool:
    """Paid, if not with the amount or the id that we know: which counts is for a person to say."""
    return isinstance(answer, InquiryAnswer) and answer.payment_status is GatewayStatus.SUCCESS


def _report(tools: Tools, order: Resolve, payment: Payment, heard: str, force: bool) -> None:
    tools.log.warning(
        "payment.resolved",
        client_id=payment.client_id,
        payment_request_id=payment.payment_request_id,
        status=payment.status.value,
        who=order.who,
        statement=order.why,
        heard=heard,
        forced=force,
    )
