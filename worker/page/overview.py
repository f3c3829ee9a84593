"""The overview: is all well, who needs a person, what waits, what came out, how it runs."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from jobs.model import Aftercare, Ms, Status
from jobs.outcome import rfc3339
from jobs.schedule import DAY, MINUTE
from worker.census import Census
from worker.groups import Group
from worker.page import words
from worker.page.data import WAITING, Fault, Listed, Odd, Overview
from worker.page.day import chart
from worker.page.frame import (
    REFRESH_SECONDS,
    away,
    badge,
    clock,
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
from worker.page.machinery import Machinery
from worker.page.markup import Child, Html, join, tag
from worker.probes import FULL
from worker.watch import STALLED_AFTER

LAG_ALARM: Ms = DAY  #: outcomes that nobody has acknowledged for so long
JUST_NOW: Ms = 2 * MINUTE


class Level(StrEnum):
    """How loud the sentence on top is."""

    WELL = "well"
    LOOK = "look"  #: somebody has something to do
    WRONG = "wrong"  #: payments are not followed, or soon will not be


def render(seen: Overview, about: str, sweep_every: Ms, refreshing: bool) -> str:
    """The page. `about` says whose it is: the prefix in Redis and the accounts."""
    level, sentences = verdict(seen, sweep_every)
    return document(
        _TITLES[level],
        tag("p", about, class_="about"),
        _banner(level, sentences, seen.now, refreshing),
        _attention(seen),
        _open(seen),
        chart(seen.day),
        _machinery(seen.machinery, seen.now),
        refresh=REFRESH_SECONDS if refreshing else 0,
    )


# The sentence on top

_TITLES = {
    Level.WELL: "All is well",
    Level.LOOK: "Somebody is needed",
    Level.WRONG: "Something is wrong",
}


def verdict(seen: Overview, sweep_every: Ms) -> tuple[Level, list[str]]:
    """Whether all is well, and the sentences that say why; the worst comes first."""
    wrong = list(_wrong(seen, sweep_every))
    look = list(_to_look_at(seen))
    level = Level.WRONG if wrong else Level.LOOK if look else Level.WELL
    return level, wrong + look + list(_in_any_case(seen, sweep_every))


def _wrong(seen: Overview, sweep_every: Ms) -> Iterator[str]:
    swept = seen.machinery.swept
    if swept is None:
        yield "No worker has swept yet: payments are not followed."
    elif seen.now - swept > sweep_every + STALLED_AFTER:
        yield f"The last sweep was {away(swept, seen.now)}: payments may not be followed."
    if (share := seen.machinery.memory_share) >= FULL:
        yield f"Redis is {share:.0%} full; when it is full it takes no writes."
    if isinstance(seen.census, Fault):
        yield "The open payments cannot be read."
    elif seen.census.overdue:
        are = "payment is" if seen.census.overdue == 1 else "payments are"
        yield f"{seen.census.overdue:,} {are} still open long past the closing time."


def _to_look_at(seen: Overview) -> Iterator[str]:
    if isinstance(seen.census, Census):
        if people := needs_a_person(seen.census):
            yield f"{count(people, 'payment needs', 'payments need')} a person."
        if odd := seen.census.unreadable + seen.census.missing:
            yield f"{count(odd, 'record')} cannot be read."
    if _silent(seen):
        yield "The gateway does not answer: reconciler doctor may say why."
    for group in seen.machinery.groups or ():
        if group.since is not None and seen.now - group.since > LAG_ALARM:
            yield f"Group {group.name} has outcomes unread for {length(seen.now - group.since)}."


def _silent(seen: Overview) -> bool:
    """Whether it answered about none of those listed that were asked about just now."""
    listed = [one for one in seen.oldest if not isinstance(one, Odd)]
    asked = [one for one in listed if seen.now - (one.tried_at or 0) <= JUST_NOW]
    return all(one.unanswered for one in asked) and any(one.unanswered > 1 for one in asked)


def _in_any_case(seen: Overview, sweep_every: Ms) -> Iterator[str]:
    if isinstance(seen.census, Census):
        if waiting := waits(seen.census):
            since = min(filter(None, map(seen.census.oldest_at, WAITING)), default=seen.now)
            are = "payment is open, since" if waiting == 1 else "payments are open, the oldest for"
            yield f"{waiting:,} {are} {length(seen.now - since)}."
        else:
            yield "No payment is open."
    swept = seen.machinery.swept
    if swept is not None and seen.now - swept <= sweep_every + STALLED_AFTER:
        yield f"The last sweep was {away(swept, seen.now)}."


def needs_a_person(census: Census) -> int:
    refunds = census.by_aftercare[Aftercare.REFUND_REQUIRED]
    return census.by_status[Status.UNRESOLVED] + refunds


def waits(census: Census) -> int:
    """How many wait for the gateway."""
    return sum(census.by_status[status] for status in WAITING)


def _banner(level: Level, sentences: Sequence[str], now: Ms, refreshing: bool) -> Html:
    other, what = ("./", "Stop") if refreshing else ("./?refresh=on", "Start")
    link = tag("a", f"{what} refreshing every {REFRESH_SECONDS} seconds", href=other)
    return tag(
        "div",
        tag("h1", f"{_TITLES[level]}."),
        tag("p", " ".join(sentences)),
        tag(
            "p",
            "As of ",
            tag("time", clock(now), datetime=rfc3339(now)),
            " UTC. ",
            link,
            class_="note",
        ),
        class_=f"banner {level}",
    )


# Who needs a person


def _attention(seen: Overview) -> Html:
    title, name = "Payments that need a person", "attention"
    if isinstance(seen.census, Fault):
        return section(title, name, _broken(seen.census))
    number = needs_a_person(seen.census)
    rows = [_attention_row(one, seen) for one in (*seen.attention, *seen.odd)]
    if not rows:
        return section(title, name, tag("p", "None.", class_="muted"), note="0")
    names = ["Payment", "Status", "Why", "Since", "Amount"]
    return section(
        title,
        name,
        table(title, names, rows, 1),
        _rest(number - len(seen.attention)),
        note=f"{number:,}",
    )


def _attention_row(one: Listed, seen: Overview) -> list[Child]:
    link = payment_link(one.key, named=seen.several_accounts)
    if isinstance(one, Odd):
        return [link, badge("unreadable", "odd"), one.why, "", ""]
    why, what = words.need(one)
    return [
        link,
        status_badge(one),
        join(prose(why), " ", tag("strong", prose(what))),
        moment(words.needs_since(one), seen.now),
        str(one.amount),
    ]


def _rest(number: int) -> Html | None:
    """What a list leaves out, and who shows it."""
    if number <= 0:
        return None
    return tag("p", f"and {number:,} more: ", tag("code", "reconciler pending"), class_="note")


# What waits for the gateway

_AGES = ("under 1 min", "1 to 5 min", "5 to 15 min", "15 to 60 min", "1 to 24 h", "over a day")


def _open(seen: Overview) -> Html:
    title, name = "Open payments", "open"
    census = seen.census
    if isinstance(census, Fault):
        return section(title, name, _broken(census))
    number = waits(census)
    if not number:
        return section(title, name, tag("p", "None.", class_="muted"), _aftercare(census), note="0")
    rows = [_open_row(one, seen) for one in seen.oldest]
    names = ["Payment", "Status", "Why", "Next", "Age", "Amount"]
    return section(
        title,
        name,
        _ages(census.by_age),
        tag("h3", "The oldest" if number > len(rows) else "All of them, the oldest first"),
        table("The oldest open payments", names, rows, 2),
        _rest(number - len(rows)),
        _aftercare(census),
        note=f"{number:,}",
    )


def _ages(counts: Sequence[int]) -> Html:
    most = max(*counts, 1)
    rows: list[list[Child]] = [
        [age, tag("span", bar(number / most), f"{number:,}")]
        for age, number in zip(_AGES, counts, strict=True)
    ]
    return tag("div", table("Open payments by age", ["Age", "Payments"], rows), class_="ages")


def bar(share: float) -> Html:
    """A bar as wide as its share, at least a hair if it is anything."""
    width = max(round(100 * share, 1), 1 if share else 0)
    rect = tag("rect", width=width, height=1)
    return tag("svg", rect, viewBox="0 0 100 1", preserveAspectRatio="none", aria_hidden="true")


def _open_row(one: Listed, seen: Overview) -> list[Child]:
    link = payment_link(one.key, named=seen.several_accounts)
    if isinstance(one, Odd):
        return [link, badge("unreadable", "odd"), one.why, "", "", ""]
    then = None
    if one.next_at is not None:
        due = ", due " if one.next_at < seen.now else " "
        then = join(due, moment(one.next_at, seen.now))
    return [
        link,
        status_badge(one),
        words.why(one),
        join(words.action(one), then),
        length(seen.now - one.tracked_at),
        str(one.amount),
    ]


def _aftercare(census: Census) -> Html | None:
    """Those that have ended and are still looked after."""
    watched = census.by_aftercare[Aftercare.WATCHING]
    returned = census.by_aftercare[Aftercare.CANCELLING]
    if not watched and not returned:
        return None
    said = f"Besides, {count(watched, 'ended payment is', 'ended payments are')} still watched"
    if returned:
        said += f", and the money of {returned:,} is being sent back"
    return tag("p", f"{said}.", class_="note")


# The machinery


def _machinery(seen: Machinery, now: Ms) -> Html:
    return section(
        "Machinery",
        "machinery",
        facts(
            ("Last sweep", moment(seen.swept, now)),
            ("Commands that wait", _number(seen.commands)),
            ("Commands not carried out", _aside(seen.dead, "commands")),
            ("Messages in quarantine", _aside(seen.quarantined, "quarantine")),
            ("Unknown payments with parked notifications", _number(seen.parked)),
            ("Memory of Redis", _memory(seen)),
            *_misses(seen.misses),
        ),
        _groups(seen.groups, now),
    )


def _aside(number: int | None, what: str) -> Child:
    """What was set aside, and how one looks at it."""
    hint = tag("code", f"reconciler replay {what} --dry-run")
    return join(_number(number), " ", hint) if number else _number(number)


def _misses(misses: Mapping[str, int]) -> Iterator[tuple[str, Child]]:
    for client_id, number in misses.items():
        if number:
            yield f"Payments of {client_id} in a row that the gateway never knew", f"{number:,}"


def _number(number: int | None) -> str:
    return _UNTOLD if number is None else f"{number:,}"


def _since(group: Group, now: Ms) -> Html:
    number = _number(group.waiting)
    return (
        join(number, ", the oldest of ", moment(group.since, now)) if group.since else join(number)
    )


def _memory(seen: Machinery) -> str:
    if seen.memory_used is None:
        return _UNTOLD
    used = megabytes(seen.memory_used)
    if not seen.memory_limit:
        return f"{used}; no limit is set"
    return f"{used} of {megabytes(seen.memory_limit)}, {seen.memory_share:.0%}"


def megabytes(number: int) -> str:
    return f"{number / 2**20:,.1f} MB"


def _groups(groups: Sequence[Group] | None, now: Ms) -> Html:
    if groups is None:
        return tag("p", "Who reads outcomes cannot be told.")
    if not groups:
        return tag("p", "No consumer group reads outcomes.", class_="note")
    rows: list[list[Child]] = [[group.name, _since(group, now)] for group in groups]
    return tag(
        "div",
        tag("h3", "Who reads outcomes"),
        table("Consumer groups", ["Group", "Not acknowledged"], rows),
    )


_UNTOLD = "cannot be told"


def _broken(fault: Fault) -> Html:
    return tag("p", "This cannot be read: ", tag("code", fault.why), class_="broken")
