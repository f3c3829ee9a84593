"""A payment told to somebody who has never read the code: what happened, what comes, what to do.

Pure: from the record and the timeline as `worker.views` reads them; times may be RFC 3339 or ms.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.model import FINAL, Ms, Status
from worker.times import parse_time

MAX_LINES = 200  #: of a timeline, see save.lua
OVERDUE: Ms = 60_000  #: a payment that is taken up this late waits for a worker

Record = Mapping[str, str]
Line = Mapping[str, Any]

# What needs a person: why, and what helps.

UNRESOLVED = {
    "report": (
        "its time is up, and report mode keeps us from cancelling it",
        "cancel it yourself if it is not paid, or set ON_TIMEOUT=cancel",
    ),
    "brake": (
        "the gateway knew none of the last payments: a wrong client id or gateway is likely",
        "run `reconciler doctor`; one good answer of the gateway releases the brake",
    ),
    "pending_expired": (
        "the buyer has paid, and the bank has never confirmed it",
        "ask the gateway's support how it ended",
    ),
    "no_answer": (
        "its time is up, the gateway does not say how it stands, and report mode forbids a cancel",
        "run `reconciler doctor`; look for it on the gateway's dashboard",
    ),
    "gateway_refuses_us": ("the gateway refuses our calls", "run `reconciler doctor`"),
    "amount_mismatch": (
        "the gateway speaks of another amount than your order",
        "compare your order with the gateway's dashboard; deliver, or refund it there",
    ),
    "payment_id_mismatch": (
        "the gateway speaks of another payment under the same id",
        "find both on the gateway's dashboard; refund the one that is not yours",
    ),
    "cancel_limit": (
        "the gateway has never confirmed the cancel",
        "look for it on the gateway's dashboard",
    ),
    "cancel_refused": (
        "the gateway refuses to cancel it, and does not say how it ended",
        "look for it on the gateway's dashboard",
    ),
    "cancel_window": (
        "the gateway cancels it no more, as it is too old, and it is not paid by now",
        "see on the gateway's dashboard that it stays so; refund it if it is paid",
    ),
}
_UNKNOWN = ("nobody can tell how it ended", "look for it on the gateway's dashboard")

MARKS = {
    "late": "after its closing time",
    "blind": "the cancel was sent without an answer to the last inquiry",
    "refunded": "the money was given back",
    "partly_refunded": "a part of the money was given back",
    "not_cancelled": "report mode kept us from cancelling it",
    "not_found": "the gateway never knew of it",
    "cancel_unconfirmed": "the cancel was never confirmed, but it had failed before",
    "resolved": "an operator decided so",
}
VIA = {
    "notification": "a notification",
    "inquiry": "an inquiry",
    "cancel": "the answer to a cancel",
    "operator": "an operator",
    "pay": "the answer to pay",
}


def tell(seen: Mapping[str, Any], now: Ms) -> str:
    """The whole: how it stands, what comes next, what to do, and what happened, in order."""
    record: Record = seen["payment"]
    lines = [_title(record), _standing(record, now), _efforts(record)]
    lines += [f"Next: {text}." for text in [_next(record, now)] if text]
    lines += [f"To do: {text}." for text in [to_do(record)] if text]
    timeline = list(_timeline(seen["timeline"], record))
    shown = {name: value for name, value in record.items() if value not in ("", "0", "none")}
    fields = [f"  {name:18} {value}" for name, value in shown.items()]
    return "\n".join([*lines, "", "What happened:", *timeline, "", "Record:", *fields])


# How it stands


def _title(record: Record) -> str:
    amount = f"{record.get('currency', '?')} {record.get('amount', '?')} in its smallest unit"
    reference = f", reference {record['reference']}" if record.get("reference") else ""
    name = record.get("paymentRequestId", "?")
    return f"Payment {name}: {amount}, account {record.get('clientId', '?')}{reference}"


def _standing(record: Record, now: Ms) -> str:
    status = record.get("status", "?")
    since = f" It was tracked {_ago(record, 'trackedAt', now)}."
    if status in FINAL:
        return f"{_end(record)}{_care(record)}"
    if status == Status.UNRESOLVED:
        return f"UNRESOLVED: {_reason(record)[0]}.{since}"
    return f"{status.upper()}: {why_open(record, now)}.{since}"


def _efforts(record: Record) -> str:
    """What was heard and asked; where no notification came, that is seen here."""
    counts = (
        (record.get("notifications", "0"), "notifications heard"),
        (record.get("attempts", "0"), "inquiries"),
        (record.get("cancelAttempts", "0"), "cancels"),
    )
    said = ", ".join(f"{count if count != '0' else 'no'} {what}" for count, what in counts)
    closing = _between(record, "trackedAt", "closingTime")
    return f"So far: {said}; its closing time is at {'?' if closing is None else _since(closing)}."


def _end(record: Record) -> str:
    took = _between(record, "trackedAt", "finalAt")
    after = f", {length(took)} after it was tracked" if took is not None else ""
    via = f", learned by {VIA[record['via']]}" if record.get("via") in VIA else ""
    marks = "; ".join(MARKS.get(mark, mark) for mark in _words(record.get("marks", "")))
    said = f" ({record['reason']})" if record.get("reason") else ""
    return f"{record['status'].upper()}{after}{via}{'; ' + marks if marks else ''}{said}."


def _care(record: Record) -> str:
    match record.get("aftercare"):
        case "cancelling":
            return " But money was taken after all: it is being sent back by a cancel."
        case "refund_required":
            return " But money stays taken, and no cancel gives it back."
        case _:
            return ""


def why_open(record: Record, now: Ms) -> str:
    """Why an open payment has not ended yet."""
    status, attempts = record.get("status"), record.get("attempts", "0")
    overdue = now - (_time(record, "nextInquiryAt") or now)
    if overdue > OVERDUE:
        return f"no worker has taken it up, {length(overdue)} after its time"
    if status == Status.UNRESOLVED:
        return f"a person must look: {_reason(record)[0]}"
    if record.get("aftercare", "none") != "none":
        return _AFTERCARE.get(record["aftercare"], record["aftercare"])
    silent = record.get("unanswered", "0")
    if status == Status.CANCELLING:
        return _why_cancelling(record, silent)
    return _why_pending(record, silent, attempts)


def _why_pending(record: Record, silent: str, attempts: str) -> str:
    if record.get("submitState") == "refused":
        return "the gateway refused our pay; it is asked whether an earlier one made the order"
    if record.get("nextAct") == "pay" or _sent(record):
        return "our pay has no answer yet" if _sent(record) else "our pay is about to leave"
    if silent != "0":
        return _no_answer(silent)
    if _mismatched(record):
        return "the gateway speaks of another payment or amount than yours"
    if record.get("confirmingSince"):
        return "the buyer has paid, the bank is confirming"
    return f"the gateway has not said that it is paid, asked {attempts} times"


def _sent(record: Record) -> bool:
    return record.get("submitState") == "open"


def _mismatched(record: Record) -> bool:
    """Whether the merchant was told so. It is no end: the gateway may still say otherwise."""
    told = record.get("told", "")
    return "attention.amount_mismatch" in told or "attention.payment_id_mismatch" in told


_AFTERCARE = {
    "watching": "it has ended; a few more questions, whether money is taken after all",
    "cancelling": "money was taken after the end: it is being sent back by a cancel",
    "refund_required": "money stays taken after the end: a person must refund it",
}
_CAUSES = {
    "failed": "it failed",
    "timed_out": "its time was up",
    "requested": "your system asked for it",
}


def _no_answer(silent: str) -> str:
    last = "our last question" if silent == "1" else f"the last {silent} of our questions"
    return f"the gateway has not answered {last}"


def _why_cancelling(record: Record, silent: str) -> str:
    cause = _CAUSES.get(record.get("cause", ""), "it was decided")
    sent = f"cancelled {record.get('cancelAttempts', '0')} times"
    match record.get("cancelState"):
        case "open":
            return f"{cause}; {sent}, not confirmed yet"
        case "refused":
            return f"{cause}; the gateway refused the cancel, and is asked how it ended"
        case _ if silent != "0":
            return f"{cause}; {_no_answer(silent)}"
        case _:
            return f"{cause}; the cancel is about to be sent"


# What comes next


def _next(record: Record, now: Ms) -> str:
    at = _time(record, "nextInquiryAt")
    if at is None:
        return "nothing" if not to_do(record) else "nothing, until a person decides"
    if now - at > OVERDUE:
        return f"it was due {length(now - at)} ago; a worker that runs takes it up at once"
    when = f"in {length(at - now)}" if at > now else "now"
    if record.get("nextAct") == "pay":
        return f"{when} our pay is sent{' again, as it was' if _sent(record) else ''}"
    if record.get("nextAct") == "cancel":
        return f"{when} the cancel is sent{_again(record)}"
    return f"{when} the gateway is asked{_then(record, now)}"


def _again(record: Record) -> str:
    return " again" if record.get("cancelAttempts", "0") != "0" else ""


def _then(record: Record, now: Ms) -> str:
    closing = _time(record, "closingTime")
    if record.get("status") == Status.SUCCEEDED:
        return " whether it stays paid"
    if record.get("status") in FINAL:
        return " whether money was taken after all"
    if record.get("status") != Status.PENDING or closing is None:
        return " how it stands"
    if _mismatched(record):
        return " again; if it says the same at the closing time, a person must look"
    what = "it is reported" if record.get("onTimeout") == "report" else "it is cancelled"
    if closing > now:
        return f" again; if it is not paid within {length(closing - now)}, {what}"
    return f" for the last time; if it is not paid, {what}"


def to_do(record: Record) -> str:
    """What a person should do; empty where nothing."""
    name = record.get("paymentRequestId", "ID")
    if record.get("status") == Status.UNRESOLVED:
        words = "succeeded|failed|cancelled"
        tried = record.get("reason", "").startswith("cancel_")
        helps = f"{_window(record) if tried else ''}{_reason(record)[1]}"
        return f"{helps}; then `reconciler resolve {name} --as {words} --reason TEXT`"
    if record.get("aftercare") == "refund_required":
        return (
            f"{_window(record)}refund it on the gateway's dashboard; we see it within hours, or say"
            f" `reconciler resolve {name} --as refunded --reason TEXT`"
        )
    return ""


def _window(record: Record) -> str:
    """When the gateway is expected to cancel no more, where it is known."""
    end = str(record.get("cancelWindowEnd", ""))
    return f"the gateway cancels until {end[:16].replace('T', ' ')} UTC; " if end else ""


def _reason(record: Record) -> tuple[str, str]:
    return UNRESOLVED.get(record.get("reason", ""), _UNKNOWN)


# What happened


def _timeline(lines: list[Line], record: Record) -> Iterator[str]:
    start = _time(record, "trackedAt")
    if len(lines) >= MAX_LINES:
        yield f"  (only the last {MAX_LINES} lines are kept)"
    closing = _time(record, "closingTime")
    for line in lines:
        at = parse_time(str(line["at"]))
        if closing is not None and at is not None and at >= closing:
            yield f"  {'':19}  {'':>13}  -- its closing time --"
            closing = None
        since = _since(at - start) if at is not None and start is not None else ""
        moment = str(line["at"])[:19].replace("T", " ")
        yield f"  {moment:19}  {since:>13}  {sentence(line)}{_count(line, start)}"


def _count(line: Line, start: Ms | None) -> str:
    if not line.get("count"):
        return ""
    until = parse_time(str(line.get("until", "")))
    last = f", the last at {_since(until - start)}" if until is not None and start else ""
    return f" ({line['count']} times{last})"


def _since(ms: Ms) -> str:
    """How long after it was tracked; a clock or a contract may say before."""
    return f"{'+' if ms >= 0 else ''}{length(ms)}"


def sentence(line: Line) -> str:
    """One line of a timeline in words."""
    source, what, detail = (str(line[name]) for name in ("source", "what", "detail"))
    match source, what:
        case (("inquiry" | "notification" | "pay" | "cancel"), "no_answer"):
            asked = {"cancel": "The cancel", "pay": "Our pay"}.get(source, "Our question")
            return f"{asked} got no answer that counts: {_silence(detail)}."
        case "status", _:
            return _changed(what, detail)
        case "cancel", "cancel_refused":
            return f"The gateway refused the cancel: {detail}."
        case "pay", "pay_refused":
            return f"The gateway refused to make the order: {detail}."
        case (("inquiry" | "pay" | "notification"), _) if what in _HEARD:
            who = "A notification says" if source == "notification" else "The gateway says"
            return f"{who}: {_HEARD[what].format(detail)}."
        case _:
            told = _TOLD.get((source, what), f"{source} {what}")
            return f"{told}: {detail}." if detail and (source, what) not in _BARE else f"{told}."


_HEARD = {
    "paid": "paid",
    "paid_back": "paid, and given back",
    "failed": "failed",
    "closed": "closed, it cannot be paid any more",
    "confirming": "the buyer has paid, the bank is confirming",
    "not_yet": "not paid yet",
    "not_exist": "there is no such order",
    "amount_mismatch": "another amount than yours, {}",
    "payment_id_mismatch": "another payment than the one we know, {}",
}
_TOLD = {
    ("command", "payment.track"): "Your system asked to have it followed",
    ("command", "payment.submit"): "Your system asked to have it submitted and followed",
    ("command", "payment.cancel"): "Your system asked to cancel it",
    ("command", "payment.recheck"): "Your system asked to look again",
    ("command", "payment.forget"): "Your system asked to follow it no more",
    ("command", "payment.resolve"): "An operator decided",
    (
        "notification",
        "hint",
    ): "A notification came that proves nothing by itself: the gateway is asked",
    ("notification", "known"): "A notification came with nothing new",
    ("pay", "sent"): "Our pay was sent",
    ("pay", "order_created"): "The gateway made the order: your system hears where the buyer pays",
    ("cancel", "sent"): "A cancel was sent",
    ("cancel", "cancel_confirmed"): "The gateway confirmed the cancel",
}
_BARE = {
    ("notification", "hint"),
    ("notification", "known"),
    ("pay", "order_created"),
    ("cancel", "cancel_confirmed"),
}


def _changed(status: str, detail: str) -> str:
    match status:
        case "cancelling":
            cause = _CAUSES.get(detail, detail)
            return (
                f"Hope is given up, as {cause}: your system hears `cancelling`, a cancel follows."
            )
        case "unresolved":
            return f"A person must look: {UNRESOLVED.get(detail, (detail,))[0]}."
        case "pending":
            return "It is waited for again, not cancelled."
        case "forgotten":
            return "It is followed no more, as your system asked."
        case _:
            marks = "; ".join(MARKS.get(mark, mark) for mark in detail.split())
            return (
                f"It ended: {status.upper()}{', ' + marks if marks else ''}. Your system hears it."
            )


_SILENCES = {
    "timeout": "it took too long",
    "not_connected": "no connection could be made",
    "connection_lost": "the connection was lost",
    "unreadable": "an answer came that cannot be read",
    "stale": "an answer came that is not of now",
    "too_large": "an answer came that is far too large",
    "asked_before_cancel_settled": "it was asked before the cancel could have had its effect",
    "older_than_heard": "a later question was answered first",
    "answer_of_another_payment": "the answer was about another payment",
    "no_redirect": "it does not say where the buyer pays",
    "payment_id_missing": "the answer does not say which payment it is about",
    "unknown_payment_status": "the answer has a status that nobody knows",
}


def _silence(why: str) -> str:
    if why.startswith("http_"):
        return f"HTTP {why.removeprefix('http_')}"
    if why.startswith("untrusted_"):
        return f"nothing proves that it is the gateway's ({why.removeprefix('untrusted_')})"
    return _SILENCES.get(why, f"it said {why}")


# Times


def length(ms: Ms) -> str:
    """`1.5 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if ms < 0:
        return f"-{length(-ms)}"
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    seconds = ms // 1000
    if seconds < 60:
        return f"{seconds} s"
    for size, name, part, rest in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            more = seconds % size // part
            return f"{seconds // size} {name}" + (f" {more} {rest}" if more else "")
    return f"{seconds} s"


def _time(record: Record, name: str) -> Ms | None:
    return parse_time(record.get(name, ""))


def _between(record: Record, first: str, last: str) -> Ms | None:
    start, end = _time(record, first), _time(record, last)
    return None if start is None or end is None else end - start


def _ago(record: Record, name: str, now: Ms) -> str:
    at = _time(record, name)
    return "at an unknown time" if at is None else f"{length(now - at)} ago"


def _words(marks: str) -> list[str]:
    """The marks of a record, a JSON list of plain words."""
    return [word for word in marks.strip("[]").replace('"', "").replace(",", " ").split() if word]
