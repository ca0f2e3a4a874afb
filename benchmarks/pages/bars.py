"""Bars: cases of one unit beside each other, the best first, ours in colour, the range of their rounds as whiskers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress

from benchmarks.lines import Line
from benchmarks.pages import svg
from benchmarks.pages.groups import Group, is_ours
from benchmarks.units import UNITS, figure

_BAR_PX = 12
_GAP_PX = 10
# Of the longest bar of ours; a bar of others that is longer is named, not drawn.
_MOST_TIMES = 8.0
_TITLES = {"s": "Time", "ms": "Time", "min": "Time", "MB": "Memory"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: what it is of.
        value: its length, at least 0.
        low, high: the ends of its whisker.
        ours: drawn in colour.
    """

    label: str
    value: float
    low: float
    high: float
    ours: bool

    @classmethod
    def of(cls, line: Line, label: str) -> Bar:
        """Return the bar of a line."""
        result = line.result
        return cls(label, result.value, min(result.samples), max(result.samples), is_ours(line))


def draw(bars: Sequence[Bar], description: str, write: Callable[[float], str] = figure, limit: float = 0.0) -> str:
    """Return the drawing of bars, from the top.

    Args:
        bars: in their order.
        description: for who cannot see it.
        write: how a value is written.
        limit: what the whole width is at least.
    """
    widest = max([limit, *(bar.high for bar in bars)]) or 1.0
    elements: list[str] = []
    y = 0.0
    for bar in bars:
        words, y = svg.label(bar.label, write(bar.value), y, "label ours" if bar.ours else "label")
        elements += [words, *_bar(bar, y + 2, 100 / widest)]
        y += _BAR_PX + _GAP_PX
    return svg.drawing(y, description, elements)


def _bar(bar: Bar, y: float, scale: float) -> list[str]:
    middle, low, high = y + _BAR_PX / 2, bar.low * scale, bar.high * scale
    ends = [svg.line(end, middle - 3, end, middle + 3, "whisker") for end in (low, high)]
    whisker = [svg.line(low, middle, high, middle, "whisker"), *ends] if bar.low < bar.high else []
    return [
        svg.box(0, y, 100, _BAR_PX, "track"),
        svg.box(0, y, bar.value * scale, _BAR_PX, "bar ours" if bar.ours else "bar"),
        *whisker,
    ]


def picture(group: Group) -> svg.Picture:
    """Return the bars of cases that are compared with each other.

    A limit that is far beyond all others, as a copy within the processor's cache is, would leave them no room: it is
    named below instead.
    """
    better = "more" if UNITS[group.unit].more_is_better else "less"
    order = sorted(group.cases, key=lambda case: case[1].result.value, reverse=better == "more")
    shown, beyond = _within_scale([Bar.of(line, label) for label, line in order])
    spoken = ", ".join(f"{bar.label} {figure(bar.value)}" for bar in shown)
    rounds = sorted({len(line.result.samples) for _, line in order})
    counted = " or ".join(map(str, rounds))
    caption = f"{group.unit}; {better} is better. Bar: median, whisker: lowest to highest of {counted} rounds. "
    caption += "Blue: fastbot, grey: what it is compared with."
    if beyond:
        named = ", ".join(f"{bar.label} ({figure(bar.value)})" for bar in beyond)
        caption += f" Beyond the scale: {named}."
    title = group.title or _TITLES.get(group.unit, "Throughput")
    return svg.Picture(title, caption, draw(shown, f"{title}, in {group.unit}: {spoken}"))


def _within_scale(bars: Sequence[Bar]) -> tuple[list[Bar], list[Bar]]:
    """Divide bars into those that fit beside each other, and others' that are many times as long as our longest."""
    longest = max((bar.value for bar in bars if bar.ours), default=0.0)
    fits = [bar.ours or not longest or bar.value <= _MOST_TIMES * longest for bar in bars]
    return list(compress(bars, fits)), list(compress(bars, map(operator.not_, fits)))
