"""One payment's page: how it stands, what happens next, what has happened, and its record."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jobs.model import Act, Aftercare, Ms, Payment, Status
from worker import story
from worker.page import words
from worker.page.data import Odd, OnePayment
from worker.page.frame import (
    badge,
    count,
    document,
    facts,
    length,
    moment,
    payment_link,
    prose,
    section,
    status_badge,
    table,
)
from worker.page.markup import Child, Html, join, tag

ROOT = "../"
SHOWN = 500  #: characters of one text; ours are shorter

#: Of `views.look_up`'s record: what the facts above the raw record have told already, or what a
#: page should not show: an address may hold a token.
HIDDEN = ("callbackUrl", "payRequest")


def render(seen: OnePayment, retention: Ms) -> str:
    """The page of one payment that is tracked."""
    client_id, _, request_id = seen.key.partition(":")
    return document(
        request_id,
        tag("p", f"Payment of {client_id}", class_="about"),
        tag("h1", request_id or "(no id)", class_="id"),
        _stands(seen),
        _next(seen, retention),
        _facts(seen.payment, seen.now) if isinstance(seen.payment, Payment) else None,
        _timeline(seen.timeline),
        _record(seen.record),
        root=ROOT,
    )


def not_found(asked: str, found: Iterable[str] = (), root: str = "") -> str:
    """There is none of this name, or there are several."""
    links = [tag("li", payment_link(key, root)) for key in found]
    several = tag("div", tag("p", "Several accounts have one of this name:"), tag("ul", *links))
    nothing = tag(
        "p",
        "No payment of this name is tracked: it never was, it was forgotten, or it ended so long"
        " ago that its record has expired. Give the paymentRequestId, or the client id, a colon and"
        " the paymentRequestId.",
    )
    title = "Which one?" if links else "Not tracked"
    shown = tag("p", cut(asked), class_="id") if asked else None
    return document(
        title, tag("h1", title), shown, several if links else nothing, root=root, asked=cut(asked)
    )


# How it stands


def _stands(seen: OnePayment) -> Html:
    if isinstance(seen.payment, Odd):
        said = "Its record cannot be read, and every worker of this version leaves it alone: "
        why = tag("code", seen.payment.why)
        return tag("div", badge("unreadable", "odd"), tag("p", said, why), class_="banner look")
    payment = seen.payment
    level = "look" if payment.needs_a_person else "plain"
    marks = [" ", prose("; ".join(story.MARKS.get(mark, cut(mark)) for mark in payment.marks))]
    cause = f" Cause: {payment.cause.replace('_', ' ')}." if payment.cause else ""
    return tag(
        "div",
        status_badge(payment),
        tag("p", words.meaning(payment), cause, marks if payment.marks else None),
        *_need(payment, seen.now),
        class_=f"banner {level}",
    )


def _need(payment: Payment, now: Ms) -> Iterable[Html]:
    if payment.needs_a_person:
        why, what = words.need(payment)
        since = moment(words.needs_since(payment), now)
        yield tag(
            "p",
            prose(why),
            " ",
            tag("strong", prose(what)),
            " A person is needed since: ",
            since,
            ".",
        )
        yield tag("p", "Then: ", tag("code", cut(words.resolve_command(payment))))


# What happens next


def _next(seen: OnePayment, retention: Ms) -> Html:
    mail = None
    if seen.unread:
        one = "notification is received and not applied yet"
        mail = tag("p", count(seen.unread, one, one.replace("is", "are", 1)), ".")
    if isinstance(seen.payment, Odd):
        return section(
            "What happens next", "next", tag("p", "Nothing, until a person mends it."), mail
        )
    return section("What happens next", "next", _plan(seen.payment, seen.now, retention), mail)


def _plan(payment: Payment, now: Ms, retention: Ms) -> Html:
    then = words.what_then(payment)
    if payment.next_at is None:
        return tag("p", "Nothing is asked any more. ", _rest(payment, now, retention, then))
    late = now - payment.next_at
    due = f"This was due {length(late)} ago. " if late > LATE else None
    calls = {Act.CANCEL: "A cancel is sent", Act.PAY: "Our pay is sent"}
    what = calls.get(payment.next_act, "The gateway is asked")
    closing = None
    if payment.status is Status.PENDING:
        closing = join(" Closing time: ", moment(payment.closing_time, now), ".")
    return tag("p", what, " ", moment(payment.next_at, now), ". ", due, then, closing)


LATE: Ms = 30_000  #: beyond a lease and a sweep: whoever should have taken it up did not


def _rest(payment: Payment, now: Ms, retention: Ms, then: str) -> Child:
    if payment.needs_a_person:
        return "It stays listed until a person decides."
    if payment.final_at is None:
        return then
    return join("The record is kept until about ", moment(payment.final_at + retention, now), ".")


# Facts


def _facts(payment: Payment, now: Ms) -> Html:
    p = payment
    via = f"by {p.via.value}" if p.via else ""
    return section(
        "Facts",
        "facts",
        facts(
            ("Amount, in the smallest unit", str(p.amount)),
            ("Reference", cut(p.reference)),
            ("Tracked", moment(p.tracked_at, now)),
            ("Closing time", moment(p.closing_time, now)),
            ("When its time is up", p.on_timeout.value),
            ("Id at the gateway", cut(p.payment_id)),
            ("Paid at", _maybe(p.paid_at, now)),
            ("Ended", join(_maybe(p.final_at, now), f" {via}") if p.final_at is not None else None),
            ("Questions asked", f"{p.attempts:,}"),
            ("Last asked", _maybe(p.asked_at, now)),
            ("Without an answer since", f"{p.unanswered:,} tries" if p.unanswered else None),
            ("Last code of the gateway", cut(p.result_code)),
            ("Pays sent", _pays(p)),
            ("Cancels sent", _cancels(p)),
            ("Last cancel", _maybe(p.last_cancel_at, now)),
            ("After its end", _aftercare(p)),
            ("Resolved by", cut(p.reason) if not p.needs_a_person else None),
        ),
    )


def _maybe(at: Ms | None, now: Ms) -> Html | None:
    return None if at is None else moment(at, now)


def _pays(payment: Payment) -> str | None:
    if not payment.pay_attempts:
        return None
    return f"{payment.pay_attempts:,}; {_SUBMIT_STATES[payment.submit_state]}"


_SUBMIT_STATES = {
    "none": "none is open",
    "open": "no answer yet",
    "created": "the order is made",
    "refused": "refused",
}


def _cancels(payment: Payment) -> str | None:
    if not payment.cancel_attempts:
        return None
    return f"{payment.cancel_attempts:,}; {_CANCEL_STATES[payment.cancel_state]}"


_CANCEL_STATES = {
    "none": "none is open",
    "open": "no answer yet",
    "refused": "refused",
    "confirmed": "confirmed",
}


def _aftercare(payment: Payment) -> str | None:
    care = payment.aftercare
    return None if care is Aftercare.NONE else care.value.replace("_", " ")


# What has happened


def _timeline(lines: list[dict[str, Any]]) -> Html:
    items = [_line(line) for line in lines]
    shown = tag("ol", *items, class_="timeline") if items else tag("p", "Nothing is written.")
    return section("What has happened", "timeline", shown, note=f"{len(items):,}")


def _line(line: Mapping[str, Any]) -> Html:
    """A line of the timeline as a sentence."""
    again = None
    if line.get("count"):
        times = f" {cut(line['count'])} times, until "
        again = tag("span", times, _time(line.get("until", "")), class_="again")
    source = cut(line["source"]) or "unreadable"
    return tag(
        "li",
        _time(line["at"]),
        " ",
        tag("span", source, class_="source"),
        " ",
        tag("span", cut(story.sentence(line)), again, class_="what"),
        class_=f"from-{source}" if source in SOURCES else None,
    )


SOURCES = ("notification", "inquiry", "pay", "cancel", "command", "status")


def _time(said: object) -> Html:
    """A time as `views` writes it, day and all; what is none is shown as it is."""
    stamp = cut(said)
    if not _RFC3339.fullmatch(stamp):
        return tag("span", stamp or "no time")
    return tag(
        "time",
        f"{stamp[:10]} {stamp[11:19]}",
        tag("span", stamp[19:23], class_="ms"),
        datetime=stamp,
    )


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


# The record


def _record(record: Mapping[str, str]) -> Html | None:
    if not record:
        return None
    rows: list[list[Child]] = [
        [cut(name), cut(value)]
        for name, value in sorted(record.items())[:MOST]
        if name not in HIDDEN
    ]
    shown = table("The record", ["Field", "Value"], rows)
    return tag("details", tag("summary", "The record as it is stored"), shown)


MOST = 100  #: fields; a record of ours has fewer than fifty


def cut(said: object) -> str:
    """Text from outside, as far as it is shown."""
    text = str(said)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
