"""A picture of a store in numbers: how large its pictures are, in pixels and in bytes, and how many each class has."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from datasets_tools.exchange.class_names import wordnet_id
from datasets_tools.store import Split, Store
from datasets_tools.wording import counted

_NUM_BINS = 60
# A few pictures are far larger than the others; an axis that reached them would press the rest into a corner.
_SHOWN_SHARE = 0.995
# So many classes are drawn one by one, with their names; more of them as a curve.
_MAX_NAMED = 40
_MAX_NAME_CHARS = 26
_BLUE, _ORANGE, _INK = "#3b6ea8", "#e58a2b", "#444444"
_WIDTH_IN, _HEIGHT_IN, _BAR_IN, _TITLE_IN, _PAD_IN = 6.4, 2.8, 0.21, 0.9, 0.12
_DPI = 110
# Room above the highest bin for the legend.
_HEADROOM = 1.35
# Room beside the last bin, so that it does not lean on the frame.
_SIDE_ROOM = 1.05


def draw_histograms(store: Store, file: Path) -> None:
    """Write the histograms of a store as PNG.

    Args:
        store: the store.
        file: where to.

    Raises:
        OSError: it cannot be written.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script the font lacks: boxes say it as well
        histograms(store).savefig(file, dpi=_DPI, format="png")


def histograms(store: Store) -> Figure:
    """Draw heights and widths, bytes, and pictures per class, a column for each split.

    Args:
        store: the store.
    """
    named_in = store.num_classes * _BAR_IN + _TITLE_IN if store.num_classes <= _MAX_NAMED else 0.0
    heights_in = (_HEIGHT_IN, _HEIGHT_IN, max(_HEIGHT_IN, named_in))
    num_splits = len(store.splits)
    figure = Figure(
        figsize=(_WIDTH_IN * num_splits, sum(heights_in) + _TITLE_IN),
        layout=ConstrainedLayoutEngine(h_pad=_PAD_IN, w_pad=_PAD_IN),
    )
    parts = figure.subfigures(1, num_splits, squeeze=False)[0]
    for part, split in zip(parts, store.splits.values(), strict=True):
        title = f"{split.name}: {counted(len(split), 'picture')}"
        part.suptitle(title, fontsize=14, fontweight="bold", parse_math=False)
        sides, sizes, classes = part.subplots(3, height_ratios=heights_in)
        if len(split):
            _draw_sides(sides, split)
            _draw_bytes(sizes, split)
        _draw_classes(classes, split.record.class_counts, store.class_names)
    return figure


def _draw_sides(axes: Axes, split: Split) -> None:
    longest = np.maximum(split.heights, split.widths)
    edges = _edges(longest)
    for name, values, colour in (("width", split.widths, _BLUE), ("height", split.heights, _ORANGE)):
        _draw_bins(axes, values, edges, colour, f"{name}: median {np.median(values):,.0f}, largest {values.max():,} px")
    _finish(axes, "Width and height", "pixels" + _beyond(longest, edges), "pictures")


def _draw_bytes(axes: Axes, split: Split) -> None:
    unit, name = (1e3, "kB") if np.median(split.sizes) >= 10_000 else (1, "bytes")
    values = split.sizes / unit
    edges = _edges(values)
    _draw_bins(axes, values, edges, _BLUE, f"median {np.median(values):,.0f}, largest {values.max():,.0f} {name}")
    _finish(axes, "Stored size", f"{name} a picture{_beyond(values, edges)}", "pictures")


def _draw_classes(axes: Axes, counts: Sequence[int], class_names: Sequence[str]) -> None:
    order = np.argsort(-np.array(counts), kind="stable")
    values = np.array(counts)[order]
    spread = f"most {values[0]:,}, median {np.median(values):,.0f}, fewest {values[-1]:,}"
    if len(counts) <= _MAX_NAMED:
        bars = axes.barh(np.arange(len(counts)), values, height=0.75, color=_BLUE)
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8, color=_INK)
        axes.set_yticks(np.arange(len(counts)), [_short(class_names[label]) for label in order], parse_math=False)
        axes.set_ylim(len(counts) - 0.4, -0.6)
        axes.set_xlim(0, max(1, values[0]) * 1.12)
        _finish(axes, f"Pictures per class: {spread}", "pictures", "")
        axes.grid(visible=False, axis="y")
    else:
        axes.stairs(values, fill=True, color=_BLUE, label=spread)
        axes.set_xlim(0, len(counts))
        axes.set_ylim(0, max(1, values[0]) * _HEADROOM)
        _finish(axes, "Pictures per class", f"{len(counts):,} classes, from most to fewest pictures", "pictures")


def _edges(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the edges of bins of whole units from 0 to beyond nearly all values."""
    limit = float(np.quantile(values, _SHOWN_SHARE, method="higher"))
    step = max(1, int(np.ceil(limit / _NUM_BINS)))
    return np.arange(0, limit * _SIDE_ROOM + 2 * step, step, dtype=np.float64)


def _beyond(values: NDArray[Any], edges: NDArray[np.float64]) -> str:
    """Say how many values lie beyond the last edge."""
    count = int((values > edges[-1]).sum())
    return f" ({counted(count, 'picture is', 'pictures are')} larger than shown)" if count else ""


def _draw_bins(axes: Axes, values: NDArray[Any], edges: NDArray[np.float64], colour: str, label: str) -> None:
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=colour, alpha=0.45)
    axes.stairs(counts, edges, color=colour, linewidth=1.2, label=label)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(axes.get_ylim()[1], counts.max() * _HEADROOM))


def _finish(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Set titles, units and thousands separators; take away what carries nothing."""
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    for axis in (axes.xaxis, axes.yaxis) if y_label else (axes.xaxis,):
        axis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 2.5, 5, 10)))
        axis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=9, colors=_INK, length=0)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize=9, frameon=False, labelcolor=_INK)


def _short(class_name: str) -> str:
    """Return a class's name without its WordNet id, on one line, cut to the room there is."""
    words = " ".join(class_name.removeprefix(wordnet_id(class_name) or "").split()) or class_name
    return words if len(words) <= _MAX_NAME_CHARS else words[: _MAX_NAME_CHARS - 1] + "…"
