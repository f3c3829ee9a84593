"""One step of a payment: hear a message, decide, write it down. Then, and only then, act.

Any line may be the last one that runs. What is written is complete in itself; what is not written
will be heard or asked again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jobs.evidence import hear
from jobs.model import FINAL, Act, Decision, Event, Ms, Payment, Rejected
from jobs.news import (
    CancelAnswer,
    InquiryAnswer,
    Message,
    Mismatch,
    News,
    NoAnswer,
    Notification,
    Order,
    OtherKind,
    Resolve,
    Silence,
    Tick,
    Track,
    Unusable,
)
from jobs.payment import decide
from jobs.tools import Entry, Loaded, Tools


@dataclass(frozen=True, slots=True)
class Step:
    """What a message is worth to a payment as it was loaded, and what becomes of it."""

    loaded: Loaded
    message: Message
    news: News
    decision: Decision


def judge(tools: Tools, loaded: Loaded, message: Message) -> Step:
    """Hear and decide; nothing is written yet."""
    now, policy = tools.store.now(), tools.policy(loaded)
    news = hear(loaded.payment, message, now, policy)
    return Step(loaded, message, news, decide(loaded.payment, news, now, policy))


async def write(tools: Tools, step: Step, *, heard: int = 0, wake: bool = False) -> Loaded | None:
    """The payment as it now stands written; None if another was first and nothing is changed."""
    loaded, decision = step.loaded, step.decision
    if decision.act is Act.ERASE:
        return loaded if await tools.store.erase(loaded) else None
    entries = list(_entries(step, tools.store.now()))
    saved = await tools.store.save(loaded, decision, entries, heard=heard, wake=wake)
    if saved is None:
        return None
    _report(tools, loaded.payment, saved, decision, entries)
    return replace(loaded, payment=saved, inbox=loaded.inbox[heard:])


async def take(tools: Tools, loaded: Loaded, message: Message, *, wake: bool = False) -> bool:
    """Write down what `message` changes, however often another worker is first.

    The loser of a race loads again and decides again, so a message is judged by the record that
    it meets, never by one that has been replaced. False if the payment was erased meanwhile.
    """
    current: Loaded | None = loaded
    while current is not None:
        if await write(tools, judge(tools, current, message), wake=wake):
            return True
        current = await tools.store.load(loaded.payment.key)
    return False


# The timeline


def _entries(step: Step, now: Ms) -> Iterator[Entry]:
    if source := _source(step.message):
        what, detail = in_words(step.message, step.news)
        yield Entry(at=now, source=source, what=what, detail=detail)
    if step.decision.act is Act.CANCEL:
        yield Entry(at=now, source="cancel", what="sent")
    after = step.decision.payment
    if after.status is not step.loaded.payment.status:
        why = " ".join(after.marks) if after.status in FINAL else after.reason or after.cause or ""
        yield Entry(at=now, source="status", what=after.status.value, detail=why)


def _source(message: Message) -> str:
    match message:
        case Notification() | Unusable() | OtherKind():
            return "notification"
        case InquiryAnswer():
            return "inquiry"
        case CancelAnswer():
            return "cancel"
        case Silence():
            return "cancel" if message.to_cancel else "inquiry"
        case Track() | Order() | Resolve():
            return "command"
        case Tick():
            return ""


def in_words(message: Message, news: News) -> tuple[str, str]:
    """What was heard, in the words of `jobs.news`, and the gateway's own code."""
    match news:
        case NoAnswer():
            return "no_answer", news.why
        case Mismatch():
            return news.kind, news.value
        case Order():
            return news.ask.value, news.reason
        case Resolve():
            asked = f" (gateway: {news.heard})" if news.heard else ""
            return "payment.resolve", f"{news.who}: {news.why}{asked}"
        case Track():
            return "payment.track", str(news.amount)
        case _:
            return _snake(type(news).__name__), getattr(message, "code", "")


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).strip("_")


# The log


def _report(
    tools: Tools, before: Payment, after: Payment, decision: Decision, entries: list[Entry]
) -> None:
    """Say what was written, after it was written."""
    about = {"client_id": after.client_id, "payment_request_id": after.payment_request_id}
    for entry in entries:
        _report_entry(tools, entry, about, after)
    for alarm in decision.alarms:
        tools.log.error("payment.alarmed", alarm=alarm, status=after.status.value, **about)
    for event in decision.events:
        _report_event(tools, event, about)
    if after.final_at is not None and before.final_at is None:
        _report_final(tools, after, about)


def _report_entry(tools: Tools, entry: Entry, about: dict[str, str], after: Payment) -> None:
    match entry.source, entry.what:
        case "inquiry", "no_answer":
            tools.log.warning(
                "inquiry.unanswered", why=entry.detail, in_a_row=after.unanswered, **about
            )
        case "inquiry", _:
            tools.log.info("inquiry.completed", heard=entry.what, code=entry.detail, **about)
        case "cancel", "sent":
            tools.log.info("cancel.sent", attempt=after.cancel_attempts, **about)
        case "cancel", _:
            tools.log.info("cancel.completed", heard=entry.what, code=entry.detail, **about)
        case "notification", _:
            tools.log.info("notification.applied", heard=entry.what, code=entry.detail, **about)
        case "status", _:
            tools.log.info("payment.changed", status=entry.what, why=entry.detail, **about)
        case _:
            pass  # commands have their own line


def _report_event(tools: Tools, event: Event | Rejected, about: dict[str, str]) -> None:
    if isinstance(event, Rejected):
        tools.log.warning(
            "command.rejected",
            command=event.command,
            command_id=event.command_id,
            reason=event.reason,
            **about,
        )
        return
    tools.log.info("outcome.published", type=event.type, name=event.name, seq=event.seq, **about)


def _report_final(tools: Tools, payment: Payment, about: dict[str, str]) -> None:
    """The canonical line of a payment: its whole story in one."""
    ended = payment.final_at or 0
    tools.log.info(
        "payment.final",
        status=payment.status.value,
        marks=list(payment.marks),
        cause=payment.cause,
        via=payment.via,
        payment_id=payment.payment_id,
        amount=str(payment.amount),
        inquiries=payment.attempts,
        cancels=payment.cancel_attempts,
        result_code=payment.result_code,
        followed_ms=ended - payment.tracked_at,
        past_closing_ms=max(0, ended - payment.closing_time),
        **about,
    )
