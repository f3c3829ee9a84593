"""What came out over the last day, as a small chart and as a table."""

from collections.abc import Mapping

from jobs.model import Ms
from jobs.outcome import rfc3339
from jobs.schedule import HOUR
from worker.page.data import Fault
from worker.page.frame import section, table
from worker.page.hours import TYPES, Day
from worker.page.markup import Child, Html, tag

#: What the chart tells apart, from the bottom up. The table below tells all types apart.
SERIES: Mapping[str, tuple[str, ...]] = {
    "succeeded": ("payment.succeeded",),
    "cancelled": ("payment.cancelled",),
    "failed": ("payment.failed",),
    "needs a person": ("payment.unresolved", "payment.attention"),
    "other": (
        "payment.forgotten",
        "payment.cancelling",
        "payment.submitted",
        "command.rejected",
        "other",
    ),
}

STEP, WIDTH = 10, 8  #: of a bar, in a drawing that is stretched to the width there is


def chart(day: Day | Fault) -> Html:
    title, name = "Outcomes of the last 24 hours", "outcomes"
    if isinstance(day, Fault):
        why = tag("code", day.why)
        return section(title, name, tag("p", "This cannot be read: ", why, class_="broken"))
    sums = {hour: _by_series(counts) for hour, counts in day.hours.items()}
    peak = max(sum(numbers) for numbers in sums.values())
    if not peak:
        return section(title, name, tag("p", "None.", class_="muted"), _partial(day), note="0")
    totals = [sum(column) for column in zip(*sums.values(), strict=True)]
    bars = [_bar(i, hour, numbers, peak) for i, (hour, numbers) in enumerate(sums.items())]
    drawing = tag(
        "svg",
        *bars,
        viewBox=f"0 0 {STEP * len(bars)} 100",
        preserveAspectRatio="none",
        role="img",
        aria_label="Outcomes by hour. The table below has the same numbers.",
    )
    figure = tag(
        "figure",
        tag("figcaption", _legend(totals)),
        tag("p", f"{peak:,} an hour at most", class_="note peak"),
        drawing,
        _axis(list(day.hours)),
        class_="chart",
    )
    return section(title, name, _partial(day), figure, _table(day), note=f"{sum(totals):,}")


def _by_series(counts: Mapping[str, int]) -> list[int]:
    return [sum(counts.get(type_, 0) for type_ in types) for types in SERIES.values()]


def _bar(place: int, hour: Ms, numbers: list[int], peak: int) -> Html:
    """One hour: a pile, with its numbers for who points at it."""
    said = ", ".join(f"{n:,} {name}" for name, n in zip(SERIES, numbers, strict=True) if n)
    top, parts = 100.0, []
    for i, number in enumerate(numbers):
        height = 100 * number / peak
        top -= height
        x = place * STEP + (STEP - WIDTH) / 2
        parts += (
            [
                tag(
                    "rect",
                    x=x,
                    y=round(top, 2),
                    width=WIDTH,
                    height=round(height, 2),
                    class_=f"s{i}",
                )
            ]
            if number
            else []
        )
    return tag("g", tag("title", f"{_hour(hour)}: {said or 'none'}"), *parts)


def _hour(hour: Ms) -> str:
    return f"{rfc3339(hour)[11:16]} to {rfc3339(hour + HOUR)[11:16]}"


def _legend(totals: list[int]) -> Html:
    items = [
        tag("li", tag("span", class_=f"key s{i}"), f"{name} ", tag("b", f"{total:,}"))
        for i, (name, total) in enumerate(zip(SERIES, totals, strict=True))
    ]
    return tag("ul", *items, class_="legend")


def _axis(hours: list[Ms]) -> Html:
    marks = [*hours[::6], hours[-1] + HOUR]
    labels = [tag("time", rfc3339(at)[11:16], datetime=rfc3339(at)) for at in marks]
    return tag("div", *labels, class_="axis")


def _table(day: Day) -> Html:
    """All the numbers, the newest hour first."""
    types = [type_ for type_ in (*TYPES, "other") if day.total(type_)]
    rows: list[list[Child]] = [
        [_hour(hour), *(f"{counts.get(type_, 0):,}" for type_ in types)]
        for hour, counts in reversed(list(day.hours.items()))
    ]
    names = ["Hour (UTC)", *(type_.removeprefix("payment.") for type_ in types)]
    numbers = table("Outcomes by hour and type", names, rows, len(types))
    return tag("details", tag("summary", "The numbers by hour and type"), numbers)


def _partial(day: Day) -> Html | None:
    if day.counted_to is None:
        return None
    said = f"Counting: up to {rfc3339(day.counted_to)[11:19]} so far. Look again in some seconds."
    return tag("p", said, class_="note")
