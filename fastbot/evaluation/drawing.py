"""A confusion matrix as a picture: numbers in the cells of few classes, shades alone of many."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fastbot.evaluation.confusion import Confusion

# With more classes than these, a cell has no room for a number, or its row none for a name.
_MOST_NUMBERS, _MOST_NAMES = 25, 60
_MAX_NAME_CHARS = 24
_DPI = 110
_CELL_IN, _MARGIN_IN, _LEAST_IN, _MOST_IN = 0.42, 2.6, 5.5, 13.0
# Shades grow with the square root of the share: that a class is taken for another one picture in a hundred must show.
_GAMMA = 0.5
# The palest shade of a cell that is not 0, which is white: a cell of a pixel must be seen on its own.
_PALEST_WITH_NAMES, _PALEST = 0.12, 0.45


def draw_confusion(confusion: Confusion, title: str, file: Path) -> None:
    """Write a confusion matrix as PNG, each row in shares of its class's samples.

    Args:
        confusion: of at most a few thousand classes; each is at least a pixel.
        title: what was scored.
        file: where to.

    Raises:
        OSError: it cannot be written.
    """
    count = confusion.num_classes
    pixels_in = count / _DPI * 1.1  # a row is a pixel at least
    side = max(_LEAST_IN, min(_MOST_IN, count * _CELL_IN), pixels_in) + _MARGIN_IN
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    matrix = confusion.matrix()
    shares = matrix / np.maximum(1, confusion.samples)[:, None]
    palest = _PALEST_WITH_NAMES if count <= _MOST_NAMES else _PALEST
    shades = ListedColormap(colormaps["Blues"](np.linspace(palest, 1, 256)))
    shown = np.ma.masked_equal(shares, 0)
    image = axes.imshow(shown, cmap=shades, norm=PowerNorm(_GAMMA, 0, 1), interpolation="nearest")
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= _MOST_NAMES:
        _write_names(axes, confusion.class_names)
    if count <= _MOST_NUMBERS:
        _write_numbers(axes, matrix, shares)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=(0, 0.01, 0.05, 0.1, 0.25, 0.5, 1), format="{x:.0%}")
    bar.set_label("share of the true class's pictures")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script the font lacks: boxes say it as well
        figure.savefig(file, dpi=_DPI, format="png")


def _write_names(axes: Axes, class_names: tuple[str, ...]) -> None:
    places = range(len(class_names))
    names = [_short(name) for name in class_names]
    size = 9 if len(names) <= _MOST_NUMBERS else 6
    axes.set_xticks(places, names, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, names, fontsize=size, parse_math=False)


def _write_numbers(axes: Axes, matrix: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    size = 9 if matrix.max(initial=0) < 1000 else 7
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.4 else "black"
        text = f"{matrix[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)


def _short(name: str) -> str:
    """Return a class's name on one line, cut to the room there is."""
    words = " ".join(name.split()) or name
    return words if len(words) <= _MAX_NAME_CHARS else words[: _MAX_NAME_CHARS - 1] + "…"
