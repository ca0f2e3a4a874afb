"""Drawings that go into a page as they are: SVG as text, coloured by the page's style sheet.

Heights are in pixels and widths in per cent of the page's column, so that a drawing fits a phone and its letters keep
their size. Nothing here knows what is drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LINE_PX = 16
_CHARACTERS = 42  # of a label and a figure that stand on one line of a phone


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing with what stands around it.

    Attributes:
        title: above it.
        caption: below it: units, and how to read it.
        svg: itself.
    """

    title: str
    caption: str
    svg: str


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """Return an element.

    Args:
        tag: its name.
        content: between its tags, as it is.
        attributes: written with hyphens in place of underscores, and `class_` as `class`; they are escaped.
    """
    written = "".join(f' {_hyphened(name)}="{escape(str(value))}"' for name, value in attributes.items())
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def text(words: str, x: float, y: float, class_: str = "label", anchor: str = "start") -> str:
    """Return words whose baseline begins (or has its middle, or ends) at a point.

    Args:
        words: they are escaped.
        x: in per cent.
        y: in pixels.
        class_: of the style sheet.
        anchor: start, middle or end.
    """
    return element("text", escape(words), x=percent(x), y=f"{y:g}", class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """Return a line; x in per cent, y in pixels."""
    ends = {"x1": percent(x1), "y1": f"{y1:.1f}", "x2": percent(x2), "y2": f"{y2:.1f}"}
    return element("line", class_=class_, **ends)


def box(x: float, y: float, width: float, height: float, class_: str) -> str:
    """Return a filled box; x and width in per cent, the rest in pixels. It is never too narrow to be seen."""
    shape = {"x": percent(x), "y": f"{y:g}", "width": percent(max(width, 0.3)), "height": f"{height:g}", "rx": 2}
    return element("rect", class_=class_, **shape)


def dot(x: float, y: float, class_: str) -> str:
    """Return a dot; x in per cent, y in pixels."""
    return element("circle", cx=percent(x), cy=f"{y:.1f}", r=4, class_=class_)


def drawing(height: float, description: str, content: Sequence[str]) -> str:
    """Return a whole drawing.

    Args:
        height: in pixels.
        description: for who cannot see it.
        content: its elements.
    """
    words = element("title", escape(description))
    return element("svg", words + "".join(content), class_="drawing", role="img", height=f"{height:g}", width="100%")


def label(words: str, figure: str, y: float, class_: str = "label") -> tuple[str, float]:
    """Return a label at the left, wrapped, and a figure at the right of its last line.

    Args:
        words: of the label.
        figure: what it comes to.
        y: its upper edge, in pixels.
        class_: of the label.

    Returns:
        The elements, and their lower edge.
    """
    lines = textwrap.wrap(words, _CHARACTERS - len(figure)) or [""]
    parts = [text(part, 0, y + LINE_PX * (place + 0.8), class_) for place, part in enumerate(lines)]
    bottom = y + LINE_PX * len(lines)
    parts.append(text(figure, 100, bottom - 0.2 * LINE_PX, "figure", "end"))
    return "".join(parts), bottom


def percent(x: float) -> str:
    """Write a share of the column's width."""
    return f"{x:.2f}%"


def _hyphened(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
