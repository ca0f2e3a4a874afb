"""The picture of an ablation: top-1 of every seed, and what rows add to the baseline, and add in the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fastbot.ablation.comparison import ComparedRow, compare
from fastbot.ablation.records import Ablation

_MEASURED, _PAPER = "tab:blue", "tab:orange"
_ROW_IN = 0.5


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
    _draw_scores(left, rows)
    _draw_differences(right, rows)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    figure.savefig(file, dpi=110, format="png")


def _draw_scores(axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Draw each seed as a dot, and the mean as a bar across them."""
    for place, row in enumerate(rows):
        scores = [100 * value for value in row.values.values()]
        axes.plot(scores, [place] * len(scores), "o", color=_MEASURED, alpha=0.45, markersize=6, markeredgewidth=0)
        if scores:
            axes.vlines(100 * row.mean, place - 0.25, place + 0.25, color=_MEASURED, linewidth=2.5)
    axes.set_title("top-1 in per cent: seeds (dots) and their mean (bar)", fontsize=10)


def _draw_differences(axes: Axes, rows: Sequence[ComparedRow]) -> None:
    """Draw differences to the baseline with their intervals, and below each the paper's, hollow."""
    axes.axvline(0, color="0.4", linewidth=1)
    for place, row in enumerate(rows):
        if row.baseline is not None:
            half = 0.0 if math.isnan(row.baseline.half_width) else 100 * row.baseline.half_width
            point = 100 * row.baseline.mean
            axes.errorbar(point, place - 0.12, xerr=half, fmt="o", color=_MEASURED, capsize=3, markersize=6)
        if row.paper_baseline is not None:
            axes.plot(100 * row.paper_baseline, place + 0.16, "D", mfc="white", mec=_PAPER, mew=1.5, markersize=6)
    axes.plot([], [], "o", color=_MEASURED, label="here, with 95 % interval of pairs by seed")
    axes.plot([], [], "D", mfc="white", mec=_PAPER, mew=1.5, label="in the paper, on its own data")
    axes.set_title("difference to the baseline in percentage points", fontsize=10)
