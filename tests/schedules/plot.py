"""The picture of docs/schedule.md: one panel for each kind of buyers, no notification arriving.

matplotlib is in the extra `bench` alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from tests.schedules.figures import OURS, Figures, Result
from tests.schedules.text import title

OURS_COLOUR, VENDOR_COLOUR, PEER_COLOUR = "#c0392b", "#2471a3", "#7f8c8d"


def draw(
    results: Sequence[Result], scaled: Mapping[str, Mapping[str, Figures]], file: Path
) -> None:
    """Mean lag over inquiries, with the line that ours moves on when all delays are scaled."""
    figure, axes = pyplot.subplots(len(results), 1, figsize=(9, 5.2 * len(results)))
    for axis, result in zip(axes, results, strict=True):
        _panel(axis, result, scaled.get(f"{result.buyers.name}, {result.notices.name}", {}))
    figure.tight_layout()
    figure.savefig(file, dpi=80, metadata={"Software": None})
    pyplot.close(figure)


def _panel(axis: Any, result: Result, scaled: Mapping[str, Figures]) -> None:
    for name, one in result.figures.items():
        colour = VENDOR_COLOUR if name.startswith("VENDOR") else PEER_COLOUR
        colour = OURS_COLOUR if name == OURS else colour
        lost = one.never + one.cut_off > 0.005
        axis.plot(
            max(one.inquiries, 0.1),
            one.mean,
            marker="*" if name == OURS else "o",
            markersize=16 if name == OURS else 6,
            color=colour,
            markerfacecolor="white" if lost else colour,
            zorder=3 if name == OURS else 2,
        )
        axis.annotate(
            name,
            (max(one.inquiries, 0.1), one.mean),
            (5, 3),
            textcoords="offset points",
            fontsize=7,
            color=colour,
        )
    line = sorted((one.inquiries, one.mean) for one in scaled.values())
    axis.plot([x for x, _ in line], [y for _, y in line], color=OURS_COLOUR, linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="inquiries a payment", ylabel="mean lag, seconds")
    axis.set_title(f"{title(result)} (hollow: some never known, 24 h, or cut off)", fontsize=10)
    axis.grid(visible=True, which="major", alpha=0.3)
