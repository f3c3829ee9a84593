"""One step of a payment: hear a message, decide, write it down. Then, and only then, act.

Any line may be the last one that runs. What is written is complete in itself; what is not written
will be heard or asked again.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from jobs.evidence import hear
from jobs.model import FINAL, Act, Decision, Ms, Payment
from jobs.news import (
    Answer,
    CancelAnswer,
    InquiryAnswer,
    Message,
    Mismatch,
    News,
    NoAnswer,
    Notification,
    Order,
    OtherKind,
    PayAnswer,
    Resolve,
    Silence,
    Tick,
    Track,
    Unusable,
)
from jobs.payment import decide
from jobs.report import report, report_command
from jobs.tools import LEASE, Entry, Loaded, Tools
from jobs.turn import name_of


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


async def write(tools: Tools, step: Step, *, heard: int = 0) -> Loaded | None:
    """The payment as it now stands written; None if another was first and nothing is changed."""
    loaded, decision = step.loaded, step.decision
    if decision.act is Act.ERASE:
        return await _erase(tools, step)
    entries = list(_entries(step, tools.store.now()))
    brake = tools.accounts[loaded.payment.client_id].brake
    saved = await tools.store.save(loaded, decision, entries, heard=heard, brake=brake)
    if saved is None:
        return None
    report(tools.log, step.message, loaded.payment, saved, decision, entries)
    return replace(loaded, payment=saved, inbox=loaded.inbox[heard:])


async def _erase(tools: Tools, step: Step) -> Loaded | None:
    if not await tools.store.erase(step.loaded):
        return None
    assert isinstance(step.message, Order)  # nothing else erases
    report_command(tools.log, step.message, step.loaded.payment, step.decision)
    return step.loaded


async def take(tools: Tools, loaded: Loaded, message: Message) -> bool:
    """Write down what `message` changes, however often another worker is first.

    The loser of a race loads again and decides again, so a message is judged by the record that
    it meets, never by one that has been replaced. False if the payment was erased meanwhile.
    """
    current: Loaded | None = loaded
    while current is not None:
        if await write(tools, judge(tools, current, message)):
            return True
        current = await tools.store.load(loaded.payment.key)
    return False


async def call(
    tools: Tools,
    loaded: Loaded,
    written_at: Ms | None,
    ask: Callable[[Payment, Ms], Awaitable[Answer]],
) -> None:
    """Make the call to the gateway that the record says is made, and hear what became of it.

    Killed before it leaves, it counts as unanswered, and is repeated: the same request again, which
    the gateway takes as the same.
    """
    asked_at = written_at or 0
    if tools.store.latest() - asked_at >= LEASE:
        return  # we were frozen: another worker holds the payment now, and may know better
    await take(tools, loaded, await ask(loaded.payment, asked_at))


# The timeline


def _entries(step: Step, now: Ms) -> Iterator[Entry]:
    if source := _source(step.message):
        what, detail = in_words(step.message, step.news)
        yield Entry(at=now, source=source, what=what, detail=detail)
    if step.decision.act is Act.CANCEL:
        yield Entry(at=now, source="cancel", what="sent")
    if step.decision.act is Act.PAY:
        yield Entry(at=now, source="pay", what="sent")
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
        case PayAnswer():
            return "pay"
        case Silence():
            return "cancel" if message.to_cancel else "pay" if message.to_pay else "inquiry"
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
            return name_of(news), str(news.amount)
        case _:
            return _snake(type(news).__name__), getattr(message, "code", "")


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).strip("_")
