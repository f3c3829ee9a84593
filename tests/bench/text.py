"""The tables, as they are printed and as they stand in docs/performance.md."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
_PLACE = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def figure(value: str | float | None) -> str:
    """A number with as many digits as mean something."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def markdown(table: Mapping[str, Any]) -> Iterator[str]:
    yield f"| {' | '.join(table['columns'])} |"
    yield f"|---|{'---:|' * (len(table['columns']) - 1)}"
    for row in table["rows"]:
        yield f"| {' | '.join(map(figure, row))} |"


def plain(table: Mapping[str, Any]) -> Iterator[str]:
    """For a terminal: columns as wide as what is in them."""
    rows = [list(table["columns"]), *([figure(value) for value in row] for row in table["rows"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield table["title"]
    for first, *rest in rows:
        cells = [value.rjust(width) for value, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([f"  {first.ljust(widths[0])}", *cells])


def promises(told: Mapping[str, Any]) -> dict[str, Any]:
    """Every promise of the parts that were measured, as one table."""
    rows = [_promise(each) for part in told["parts"].values() for each in part["promises"]]
    return {
        "title": "What must hold",
        "columns": ["", "measured", "must be", "goal", ""],
        "rows": rows,
    }


def _promise(told: Mapping[str, Any]) -> list[str | float | None]:
    sign = "≥" if told["at_least"] else "≤"
    wanted = f"{sign} {figure(told['bound'])}"
    goal = None if told["goal"] is None else f"{sign} {figure(told['goal'])}"
    return [told["what"], told["value"], wanted, goal, "yes" if told["holds"] else "no"]


def report(told: Mapping[str, Any]) -> Iterator[str]:
    """What is printed."""
    for part in told["parts"].values():
        for table in part["tables"]:
            yield from plain(table)
        yield from part["notes"]
        yield ""
    yield from plain(promises(told))


def blocks(told: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The lines for each place of the page, by its name."""
    made: dict[str, Sequence[str]] = {}
    for name, part in told["parts"].items():
        lines = []
        for table in part["tables"]:
            lines += [f"**{table['title']}**", "", *markdown(table), ""]
        made[name] = [*lines, *part["notes"]]
    return made | {"promises": list(markdown(promises(told))), "machine": [_machine(told)]}


def _machine(told: Mapping[str, Any]) -> str:
    of, sizes = told["machine"], told["sizes"]
    return (
        f"{of['cpus']} cores of {of['model']}, Python {of['python']}; medians of"
        f" {sizes['rounds']} rounds."
    )


def write(told: Mapping[str, Any]) -> None:
    """Renew the tables of the page between its marks; what was not measured stays."""
    made = blocks(told)

    def renewed(found: re.Match[str]) -> str:
        if found[2] not in made:
            return found[0]
        return found[1] + "\n".join(made[found[2]]).rstrip() + "\n" + found[3]

    PAGE.write_text(_PLACE.sub(renewed, PAGE.read_text()))
