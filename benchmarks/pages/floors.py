"""Measured time beside the floor: what the arithmetic and the bytes of a network take at the device's own rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.pages import svg
from benchmarks.units import figure

# The floors of a step by their names in a line's details, and what they are called.
FLOORS = {
    "arithmetic_ms": "arithmetic alone",
    "bytes_fused_ms": "bytes, normalization fused",
    "bytes_unfused_ms": "bytes, as written",
}
_BAR_PX = 14
_GAP_PX = 12


@dataclass(frozen=True, slots=True)
class Step:
    """A measured step.

    Attributes:
        label: of the case.
        ms: what it takes.
        floors: of it, in ms, by a name of `FLOORS`.
        ours: drawn in colour.
    """

    label: str
    ms: float
    floors: Mapping[str, float]
    ours: bool

    @property
    def share(self) -> float:
        """The largest floor over what it takes: 1 is all that the device can give."""
        return max(self.floors.values()) / self.ms


def picture(steps: Sequence[Step], shared: str = "") -> svg.Picture:
    """Return steps as bars with their floors as marks in them.

    Args:
        steps: each longer than 0, and with a floor.
        shared: what all of them are of.
    """
    widest = max(max(step.ms, *step.floors.values()) for step in steps)
    elements, y = _legend()
    for step in steps:
        words, y = svg.label(
            step.label, f"{figure(step.ms)} ms, {step.share:.0%}", y, "label ours" if step.ours else "label"
        )
        elements += [words, svg.box(0, y + 3, 100, _BAR_PX, "track")]
        elements.append(svg.box(0, y + 3, 100 * step.ms / widest, _BAR_PX, "bar ours" if step.ours else "bar"))
        for name, ms in step.floors.items():
            elements.append(svg.line(100 * ms / widest, y, 100 * ms / widest, y + _BAR_PX + 6, f"mark {name}"))
        y += _BAR_PX + _GAP_PX
    spoken = ", ".join(f"{step.label} {figure(step.ms)} ms, floor at {step.share:.0%} of it" for step in steps)
    caption = (
        "ms a step; less is better. Per cent: the highest floor's share of what the step takes; 100 % is the limit."
    )
    title = f"Steps and their floor{': ' if shared else ''}{shared}"
    return svg.Picture(title, caption, svg.drawing(y, f"{title}: {spoken}", elements))


def _legend() -> tuple[list[str], float]:
    elements: list[str] = []
    y = 0.0
    for name, words in FLOORS.items():
        elements += [svg.line(1, y + 2, 1, y + 14, f"mark {name}"), svg.text(words, 3, y + 12, "note")]
        y += svg.LINE_PX
    return elements, y + 6
