"""How throughput grows with ranks, beside the ideal: as measured, or as a model says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.pages import svg

_HEIGHT_PX, _BASE_PX, _TOP_PX = 240, 200, 28
_LEFT, _RIGHT = 8.0, 92.0  # per cent of the width
_WORD = 15.0  # what a figure takes of it on a phone
# With more ranks than this the axes are logarithmic: the ideal stays a line, and one rank is not lost in a corner.
_LINEAR_UP_TO = 16


@dataclass(frozen=True, slots=True)
class Point:
    """Throughput of so many ranks over that of one.

    Attributes:
        ranks: how many.
        speedup: of all of them.
        low, high: its range over rounds; equal to it where there is none.
    """

    ranks: int
    speedup: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where counts stand in the drawing.

    Attributes:
        highest: count that both axes show; they begin at 1 rank and at no speed-up, or both at 1 if logarithmic.
    """

    highest: float

    def x(self, ranks: float) -> float:
        """Return per cent of the width."""
        share = math.log(ranks) / math.log(self.highest) if self.logarithmic else (ranks - 1) / (self.highest - 1)
        return _LEFT + (_RIGHT - _LEFT) * share

    def y(self, speedup: float) -> float:
        """Return pixels from the top."""
        share = math.log(max(speedup, 1)) / math.log(self.highest) if self.logarithmic else speedup / self.highest
        return _BASE_PX - (_BASE_PX - _TOP_PX) * share

    def line(self, begin: tuple[float, float], end: tuple[float, float], class_: str) -> str:
        """Return a line between two points of ranks and speed-up."""
        return svg.line(self.x(begin[0]), self.y(begin[1]), self.x(end[0]), self.y(end[1]), class_)

    @property
    def logarithmic(self) -> bool:
        """Whether each doubling takes the same room."""
        return self.highest > _LINEAR_UP_TO


def picture(title: str, points: Sequence[Point], *, simulated: bool = False) -> svg.Picture:
    """Return a curve with the ideal beside it.

    Args:
        title: of the picture.
        points: at least one, by ranks.
        simulated: whether a model says so and nothing was measured.
    """
    ranks = sorted({1, *(point.ranks for point in points)})
    axes = _Axes(max([2, *ranks, *(point.high for point in points)]))
    elements = [svg.line(0, _BASE_PX, 100, _BASE_PX, "grid"), axes.line((1, 1), (ranks[-1], ranks[-1]), "ideal")]
    written = _spaced(ranks, axes)
    elements += [svg.text(f"{count:,}", axes.x(count), _BASE_PX + 16, "note", "middle") for count in written]
    class_ = "model" if simulated else "curve"
    elements += [axes.line((a.ranks, a.speedup), (b.ranks, b.speedup), class_) for a, b in pairwise(points)]
    for point in points:
        elements += _point(axes, point, named=point.ranks in written)
    elements.append(svg.text("GPUs" if simulated else "ranks", (_LEFT + _RIGHT) / 2, _HEIGHT_PX - 4, "note", "middle"))
    spoken = ", ".join(f"{point.ranks:,} ranks {point.speedup:.2f} times" for point in points)
    whose = "Simulated, not measured" if simulated else "Whisker: lowest to highest round"
    caption = f"Throughput over that of one. Dashed: ideal. {whose}."
    if axes.logarithmic:
        caption += " Both axes are logarithmic."
    return svg.Picture(title, caption, svg.drawing(_HEIGHT_PX, f"{title}: {spoken}", elements))


def _spaced(ranks: Sequence[int], axes: _Axes) -> list[int]:
    """Return the counts that have room for words, the highest first."""
    kept: list[int] = []
    for count in reversed(ranks):
        if not kept or axes.x(kept[-1]) - axes.x(count) >= _WORD:
            kept.append(count)
    return kept


def _point(axes: _Axes, point: Point, *, named: bool) -> list[str]:
    x, y = axes.x(point.ranks), axes.y(point.speedup)
    whisker = axes.line((point.ranks, point.low), (point.ranks, point.high), "whisker")
    written = f"{point.speedup:.2f}×" if point.speedup < 100 else f"{point.speedup:,.0f}×"
    words = [svg.text(written, x, y - 12, "figure", "middle")] if named else []
    return [whisker, svg.dot(x, y, "point"), *words]
