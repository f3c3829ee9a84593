"""The picture of docs/schedule.md: one panel for each kind of buyers, no notification arriving.

matplotlib is in the extra `bench` alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from tests.schedules.figures import OURS, Figures, Result
from tests.schedules.text import title

OURS_COLOUR, VENDOR_COLOUR, PEER_COLOUR = "#c0392b", "#2471a3", "#566573"
LOST = 0.005  #: a share of payments never known or cut off that makes a point hollow
LABEL = (150, 11)  #: pixels that a label takes


def draw(
    results: Sequence[Result], scaled: Mapping[str, Mapping[str, Figures]], file: Path
) -> None:
    """Mean lag over inquiries, with the line that ours moves on when all delays are scaled."""
    figure, axes = pyplot.subplots(len(results), 1, figsize=(10, 5.5 * len(results)), dpi=80)
    for axis, result in zip(axes, results, strict=True):
        _line(axis, scaled.get(f"{result.buyers.name}, {result.notices.name}", {}))
        for name, one in result.figures.items():
            _point(axis, name, one)
        low = min(one.inquiries for one in result.figures.values())
        high = max(one.inquiries for one in result.figures.values())
        axis.set(xscale="log", yscale="log", xlim=(low * 0.8, high * 3.5))
        axis.set(xlabel="inquiries a payment", ylabel="mean lag, seconds")
        axis.set_title(f"{title(result)} (hollow: some never known, or cut off)", fontsize=10)
        axis.grid(visible=True, which="major", alpha=0.3)
    figure.tight_layout()
    for axis, result in zip(axes, results, strict=True):
        _labels(axis, result.figures)
    figure.savefig(file, metadata={"Software": None})
    pyplot.close(figure)


def _line(axis: Any, scaled: Mapping[str, Figures]) -> None:
    line = sorted((one.inquiries, one.mean) for one in scaled.values())
    axis.plot([x for x, _ in line], [y for _, y in line], color=OURS_COLOUR, linewidth=1)


def _point(axis: Any, name: str, one: Figures) -> None:
    hollow = one.never + one.cut_off > LOST
    axis.plot(
        one.inquiries,
        one.mean,
        marker="*" if name == OURS else "o",
        markersize=16 if name == OURS else 6,
        color=_colour(name),
        markerfacecolor="white" if hollow else _colour(name),
        zorder=3,
    )


def _labels(axis: Any, figures: Mapping[str, Figures]) -> None:
    """A name right of each point, moved down until it covers no other name."""
    taken: list[tuple[float, float]] = []
    for name, point, (x, y) in _from_the_top(axis, figures):
        down = 0
        while any(abs(x - a) < LABEL[0] and abs(y - down - b) < LABEL[1] for a, b in taken):
            down += 1
        taken.append((x, y - down))
        axis.annotate(
            name,
            point,
            (8, -3 - down * 72 / axis.figure.dpi),
            textcoords="offset points",
            fontsize=8,
            color=_colour(name),
        )


def _from_the_top(
    axis: Any, figures: Mapping[str, Figures]
) -> Iterator[tuple[str, tuple[float, float], tuple[float, float]]]:
    """Names with their points, in the figures' units and in pixels."""
    points = {name: (one.inquiries, one.mean) for name, one in figures.items()}
    for name, point in sorted(points.items(), key=lambda item: -item[1][1]):
        yield name, point, tuple(axis.transData.transform(point))


def _colour(name: str) -> str:
    if name == OURS:
        return OURS_COLOUR
    return VENDOR_COLOUR if name.startswith("VENDOR") else PEER_COLOUR
