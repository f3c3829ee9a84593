"""The figures as tables and as a plot of characters."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.schedules.figures import OURS, Figures, Result

WIDTH, HEIGHT = 72, 20  #: of a plot, in characters
SYMBOLS = "abcdefghijklmnopqrstuvwxyz"
HEAD = f"{'inquiries':>10}{'later':>7}{'mean s':>10}{'p95 s':>10}"


def summary(results: Sequence[Result]) -> Iterator[str]:
    """A line for each workload: ours, the peer that comes nearest, and who is better than we."""
    yield f"{'buyers, notifications':<28}{HEAD}  {'nearest peer':<33}margin  dominated by"
    for result in results:
        name, near = result.nearest
        row = f"{result.buyers.name:<11}{result.notices.name:<17}{_cells(result.figures[OURS])}"
        by = ", ".join(result.dominated_by) or "none"
        yield f"{row}  {f'{name} ({near.share:.0%})':<33}{near.margin:>6.3f}  {by}"
    by_p95 = [
        f"{title(one)}: {', '.join(one.dominated_by_p95)}"
        for one in results
        if one.dominated_by_p95
    ]
    yield f"By p95 instead of the mean: {'; '.join(by_p95) or 'none'}"


def table(result: Result) -> Iterator[str]:
    """Every schedule on one workload, the cheapest first; * stands on the Pareto front."""
    front = result.front
    yield title(result)
    yield f"{'':<32}{HEAD}{'never':>8}{'cut off':>9}"
    for name, one in _by_cost(result.figures):
        mark = "*" if name in front else " "
        yield f"{mark} {name:<30}{_cells(one)}{one.never:>8.1%}{one.cut_off:>9.1%}"


def scatter(result: Result) -> Iterator[str]:
    """Mean lag over inquiries, both by powers of ten; what stands left and below is better."""
    symbols = dict(
        zip((n for n, _ in _by_cost(result.figures) if n != OURS), SYMBOLS, strict=False)
    )
    symbols[OURS] = "#"  # last, so that nothing hides it
    points = {name: _point(one) for name, one in result.figures.items()}
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    columns = _scale([x for x, _ in points.values()], WIDTH)
    rows = _scale([y for _, y in points.values()], HEIGHT)
    for name, symbol in symbols.items():
        x, y = points[name]
        grid[HEIGHT - 1 - rows(y)][columns(x)] = symbol
    yield f"{title(result)}: mean lag (up) over inquiries (right), logarithmic"
    yield from ("|" + "".join(row).rstrip() for row in grid)
    yield "+" + "-" * WIDTH
    yield from _legend(symbols)


def title(result: Result) -> str:
    return f"{result.buyers.name}, notifications {result.notices.name}"


def knobs(rows: Mapping[str, Mapping[str, Figures]]) -> Iterator[str]:
    """What each setting of a knob costs and brings, workload by workload."""
    for workload, figures in rows.items():
        yield f"{workload:<32}{HEAD}"
        yield from (f"  {name:<30}{_cells(one)}" for name, one in figures.items())


def _cells(one: Figures) -> str:
    return f"{one.inquiries:>10.2f}{one.later:>7.2f}{one.mean:>10.2f}{one.p95:>10.2f}"


def _by_cost(figures: Mapping[str, Figures]) -> list[tuple[str, Figures]]:
    return sorted(figures.items(), key=lambda item: item[1].inquiries)


def _point(one: Figures) -> tuple[float, float]:
    return math.log10(max(one.inquiries, 0.1)), math.log10(max(one.mean, 0.1))


def _scale(values: Sequence[float], size: int) -> Callable[[float], int]:
    """From the range of these values to 0, 1, ..., size - 1."""
    low, span = min(values), max(values) - min(values) or 1.0
    return lambda value: round((value - low) / span * (size - 1))


def _legend(symbols: Mapping[str, str]) -> Iterator[str]:
    words = [f"{symbol} {name}" for name, symbol in symbols.items()]
    for first in range(0, len(words), 3):
        yield "  " + "".join(f"{word:<32}" for word in words[first : first + 3]).rstrip()
