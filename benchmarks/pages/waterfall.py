"""Where the time of one thing goes: its parts one after another, each beginning where the last has ended."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.pages import svg
from benchmarks.units import figure

_BAR_PX = 12
_GAP_PX = 8
# Parts that are measured apart never sum to the whole exactly; a rest below this share of it is not worth a row.
_LEAST_REST = 0.01


def picture(title: str, parts: Mapping[str, float], whole: float | None, unit: str) -> svg.Picture:
    """Return a waterfall.

    Args:
        title: what takes the time.
        parts: in their order, each at least 0, in `unit`.
        whole: what all of it takes; None where that was not measured.
        unit: of time.
    """
    total = sum(parts.values())
    rest = 0.0 if whole is None else whole - total
    rows = dict(parts)
    if whole is not None and rest > _LEAST_REST * whole:
        rows["the rest"] = rest
    widest = max(total, whole or 0.0) or 1.0
    elements: list[str] = []
    y = began = 0.0
    for name, took in rows.items():
        words, y = svg.label(name, f"{figure(took)} {unit}, {took / widest:.0%}", y)
        class_ = "bar rest" if name == "the rest" else "bar ours"
        elements += [words, svg.box(0, y + 2, 100, _BAR_PX, "track")]
        elements.append(svg.box(100 * began / widest, y + 2, 100 * took / widest, _BAR_PX, class_))
        began += took
        y += _BAR_PX + _GAP_PX
    words, y = svg.label("together" if whole is None else "the whole", f"{figure(whole or total)} {unit}", y)
    elements += [words, svg.box(0, y + 2, 100 * (whole or total) / widest, _BAR_PX, "bar")]
    spoken = ", ".join(f"{name} {figure(took)}" for name, took in rows.items())
    drawing = svg.drawing(y + _BAR_PX + _GAP_PX, f"{title}, in {unit}: {spoken}", elements)
    return svg.Picture(title, _caption(rest, whole, unit), drawing)


def _caption(rest: float, whole: float | None, unit: str) -> str:
    if whole is not None and rest < -_LEAST_REST * whole:
        return f"The parts, each measured apart, take {figure(-rest)} {unit} more than the whole."
    return "Each part begins where the last has ended. Per cent: of the whole."
