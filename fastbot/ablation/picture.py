"""The picture of an ablation: top-1 of every seed, and what rows add to the baseline, and add in the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastbot.ablation.comparison import ComparedRow, Difference, compare
from fastbot.ablation.records import Ablation

_MEASURED, _PAPER = "tab:blue", "tab:orange"
_ROW_IN = 0.5
_REACH = 0.5  # of the points' range, beyond them on either side: they keep at least half of the axis
_MARGIN = 0.05


def draw(ablation: Ablation, file: Path) -> None:
    """Write the picture as PNG.

    Args:
        ablation: with any number of finished trainings.
        file: where to.
    """
    rows = compare(ablation)
    figure = Figure(figsize=(11, 2.1 + _ROW_IN * len(rows)), layout="constrained")
    trained = ", ".join(dict.fromkeys(row.model for row in rows))
    title = f"{ablation.about}\nhere: {trained} on {Path(ablation.store.path).name}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    left, right = figure.subplots(1, 2, sharey=True)
    left.set_yticks(range(len(rows)), [row.label for row in rows], parse_math=False)
    left.set_ylim(len(rows) - 0.5, -0.5)
    draw_scores(left, rows)
    draw_differences(right, rows)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110, format="png")


def draw_scores(axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Draw each seed as a dot, and the mean as a bar across them; where there is none, say so."""
    for place, row in enumerate(rows):
        scores = [100 * value for value in row.values.values()]
        axes.plot(scores, [place] * len(scores), "o", color=_MEASURED, alpha=0.45, markersize=6, markeredgewidth=0)
        if scores:
            axes.vlines(100 * row.mean, place - 0.25, place + 0.25, color=_MEASURED, linewidth=2.5)
        else:
            across = axes.get_yaxis_transform()  # from 0 to 1 along the axis, whatever it shows
            axes.text(0.5, place, "not finished", transform=across, ha="center", va="center", color="0.45")
    axes.set_title("top-1 in per cent: seeds (dots) and their mean (bar)", fontsize=10)


def draw_differences(axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Draw differences to the baseline with their intervals, and below each the paper's, hollow."""
    axes.axvline(0, color="0.4", linewidth=1)
    limits = difference_limits(rows)
    if limits is not None:
        margin = _MARGIN * (limits[1] - limits[0])
        axes.set_xlim(limits[0] - margin, limits[1] + margin)
    for place, row in enumerate(rows):
        if row.baseline is not None:
            axes.plot(100 * row.baseline.mean, place - 0.12, "o", color=_MEASURED, markersize=6)
            _draw_interval(axes, row.baseline, place - 0.12, limits or (-math.inf, math.inf))
        if row.paper_baseline is not None:
            axes.plot(100 * row.paper_baseline, place + 0.16, "D", mfc="white", mec=_PAPER, mew=1.5, markersize=6)
    with_interval = any(row.baseline is not None and not math.isnan(row.baseline.half_width) for row in rows)
    interval = ", with 95 % interval of pairs by seed (arrow: goes on)" if with_interval else ""
    axes.plot([], [], "o", color=_MEASURED, label=f"here{interval}")
    axes.plot([], [], "D", mfc="white", mec=_PAPER, mew=1.5, label="in the paper: its recipes, its data")
    axes.set_title("difference to the baseline in percentage points", fontsize=10)


def _draw_interval(axes: Axes, difference: Difference, height: float, limits: tuple[float, float]) -> None:
    """Draw a difference's interval as far as the limits; an end beyond them is an arrow."""
    if math.isnan(difference.half_width):
        return
    low, high = _interval(difference)
    ends = max(low, limits[0]), min(high, limits[1])
    axes.plot(ends, [height] * 2, "-", color=_MEASURED)
    for end, whole, arrow in ((ends[0], low, "<"), (ends[1], high, ">")):
        axes.plot([end], [height], "|" if end == whole else arrow, color=_MEASURED, markersize=7)


def difference_limits(rows: Sequence[ComparedRow]) -> tuple[float, float] | None:
    """Return how far the axis of differences shows intervals, in percentage points; None where nothing differs.

    It holds every point, here and in the paper, and of the intervals at most half as much again on either side: that of
    two seeds is 12.7 deviations wide, and would leave the points no room.
    """
    measured = [row.baseline for row in rows if row.baseline is not None]
    reported = [100 * row.paper_baseline for row in rows if row.paper_baseline is not None]
    points = [0.0, *(100 * difference.mean for difference in measured), *reported]
    ends = [end for difference in measured for end in _interval(difference) if not math.isnan(end)]
    low, high = min(points), max(points)
    if low == high:
        return None
    reach = _REACH * (high - low)
    return max(min(points + ends), low - reach), min(max(points + ends), high + reach)


def _interval(difference: Difference) -> tuple[float, float]:
    """Return both ends in percentage points; nan with fewer than two pairs."""
    return 100 * (difference.mean - difference.half_width), 100 * (difference.mean + difference.half_width)
