"""The picture of a run: loss, accuracy, learning rate and throughput over steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# (title, [(kind of record, key, label)])
_PANELS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    ("loss", (("train", "loss", "train"), ("eval", "loss", "val"))),
    ("top-1 accuracy", (("train", "top1", "train"), ("eval", "top1", "val"))),
    ("learning rate", (("train", "learning_rate", ""),)),
    ("images per second, and share of time waiting for data", (("train", "images_per_s", "images/s"),)),
)


def draw_curves(records: Sequence[dict[str, Any]], title: str, file: Path) -> None:
    """Write the curves of a run as PNG.

    Args:
        records: the lines of `metrics.jsonl`.
        title: the recipe's name.
        file: where to.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, 2).flat
    for axes, (name, lines) in zip(panels, _PANELS, strict=True):
        for kind, key, label in lines:
            _line(axes, records, kind, key, label)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if any(label for _, _, label in lines):
            axes.legend(loc="best", fontsize=8)
    waiting = figure.axes[3].twinx()
    _line(waiting, records, "train", "data_wait_fraction", "waiting")
    waiting.lines[0].set_color("tab:red")
    waiting.set_ylim(0, 1)
    waiting.legend(loc="lower right", fontsize=8)
    figure.savefig(file, dpi=110)


def _line(axes: Axes, records: Sequence[dict[str, Any]], kind: str, key: str, label: str) -> None:
    points = [(record["step"], record[key]) for record in records if record["kind"] == kind and key in record]
    steps, values = zip(*points, strict=True) if points else ((), ())
    axes.plot(steps, values, marker="o" if kind == "eval" else "", markersize=3, linewidth=1.4, label=label)
