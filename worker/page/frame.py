"""What every page has: its frame, its style, its headers, and how times and lengths are written."""

import base64
import hashlib
from importlib import resources
from urllib.parse import quote

from jobs.model import Aftercare, Ms, Payment
from jobs.outcome import rfc3339
from jobs.schedule import DAY, HOUR, MINUTE, SECOND
from worker import times
from worker.page.markup import Child, Html, join, tag

REFRESH_SECONDS = 30

_STYLE = Html((resources.files("worker.page") / "page.css").read_text())
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: Nothing is loaded from anywhere, nothing is run, and no other site may frame the page or learn
#: from it which payment was looked at. The one picture is the empty icon of the page itself.
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def document(title: str, *content: Child, root: str = "", asked: str = "", refresh: int = 0) -> str:
    """A whole page. `root` leads from it to the overview's folder, `asked` was searched for."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=refresh) if refresh else None,
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title} · payment reconciler"),
        tag("style", _STYLE),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", class_="skip", href="#content"),
        tag("header", tag("a", "Payment reconciler", href=f"{root}./"), _search(root, asked)),
        tag("main", *content, id="content"),
        tag("footer", "Times are UTC, amounts in the smallest unit. This page changes nothing."),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def _search(root: str, asked: str) -> Html:
    field = tag(
        "input",
        type="search",
        name="id",
        id="id",
        value=asked,
        maxlength=129,
        required=True,
        autocomplete="off",
        spellcheck="false",
    )
    return tag(
        "form",
        tag("label", "Find a payment by its id", for_="id"),
        field,
        tag("button", "Find"),
        action=f"{root}payments",
        role="search",
    )


def payment_link(key: str, root: str = "", *, named: bool = True) -> Html:
    """The way to a payment's page, from one of ours; `named` shows the client id as well."""
    client_id, _, request_id = key.partition(":")
    shown = tag("span", f"{client_id}:", class_="client") if named else None
    return tag("a", shown, request_id or "(no id)", href=f"{root}{payment_path(key)}", class_="id")


def payment_path(key: str) -> str:
    """Relative to the overview. Whatever the key holds, it is one part of a path."""
    return "payments/" + quote(key, safe=":", errors="replace")


def moment(at: Ms | None, now: Ms) -> Html:
    """How far away a time is, and the time."""
    if at is None:
        return tag("span", "never", class_="muted")
    if not 0 <= at <= times.MAX_TIME:
        return tag("span", f"{at} (no time)", class_="muted")
    stamp = rfc3339(at)
    day, clock = stamp[:10], stamp[11:19]
    shown = clock if day == rfc3339(now)[:10] else f"{day} {clock}"
    there = tag("span", away(at, now), class_="away")
    return join(there, " ", tag("time", f"({shown})", datetime=stamp))


def clock(at: Ms) -> str:
    """The time of day, UTC."""
    return rfc3339(at)[11:19]


def away(at: Ms, now: Ms) -> str:
    """`4 s ago`, `in 12 min`."""
    if abs(at - now) < SECOND:
        return "just now"
    return f"{length(now - at)} ago" if at < now else f"in {length(at - now)}"


def length(ms: Ms) -> str:
    """A length of time in its largest fitting unit, never more than there was."""
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if ms >= 2 * unit or (ms >= unit and unit is not DAY):
            return f"{ms // unit} {name}"
    return f"{max(ms, 0) // SECOND} s"


def count(number: int, one: str, many: str = "") -> str:
    """`1 payment`, `1,234 payments`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def section(title: str, name: str, *content: Child, note: str = "") -> Html:
    counted = join(" ", tag("span", note, class_="note")) if note else None
    heading = tag("h2", title, counted, id=name)
    return tag("section", heading, *content, aria_labelledby=name)


def facts(*pairs: tuple[str, Child]) -> Html:
    """Names and values; what has no value is left out."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value]
    return tag("dl", *rows)


def table(caption: str, names: list[str], rows: list[list[Child]], numbers: int = 0) -> Html:
    """A table whose first column names its rows; the last `numbers` columns are numbers.

    On a narrow screen each row becomes a card; the roles keep it a table for screen readers.
    """
    kinds = [None] * (len(names) - numbers) + ["number"] * numbers
    head = [
        tag("th", name, scope="col", role="columnheader", class_=kind)
        for name, kind in zip(names, kinds, strict=True)
    ]
    lines = [tag("tr", *_cells(names, row, len(row) - numbers), role="row") for row in rows]
    return tag(
        "table",
        tag("caption", caption, class_="hidden"),
        tag("thead", tag("tr", *head, role="row"), role="rowgroup"),
        tag("tbody", *lines, role="rowgroup"),
        role="table",
        class_="numbers" if numbers else None,
    )


def _cells(names: list[str], row: list[Child], first_number: int) -> list[Html]:
    cells = [tag("th", row[0], scope="row", role="rowheader")]
    for i, (name, value) in enumerate(zip(names[1:], row[1:], strict=True), 1):
        kind = "number" if i >= first_number else None
        cells.append(tag("td", value, role="cell", data_label=name, class_=kind))
    return cells


def prose(said: str) -> Html:
    """A clause of our own as a sentence, its `commands` as such."""
    parts = f"{said[:1].upper()}{said[1:]}.".split("`")
    return join([tag("code", part) if i % 2 else part for i, part in enumerate(parts)])


def badge(said: str, kind: str) -> Html:
    return tag("span", said, class_=f"badge {kind}")


def status_badge(payment: Payment) -> Html:
    """The status; loud where a person is needed, or money is on its way back."""
    loud = payment.needs_a_person or payment.aftercare is Aftercare.CANCELLING
    return badge(payment.status.value, "loud" if loud else payment.status.value)
