"""The rows of a benchmark's table: a case with its figure, and its ratio to each of its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lines import Line
from benchmarks.measure import Result
from benchmarks.pages.groups import is_ours
from benchmarks.pages.measurements import settings


@dataclass(frozen=True, slots=True)
class Row:
    """A case at one setting on one device.

    Attributes:
        lines: its lines, one for each peer.
    """

    lines: tuple[Line, ...]

    @property
    def result(self) -> Result:
        """What it came to; its ratios are those to the first peer."""
        return self.lines[0].result

    @property
    def ours(self) -> bool:
        """Whether it is fastbot's."""
        return any(is_ours(line) for line in self.lines)

    @property
    def noisy(self) -> bool:
        """Whether its rounds differ too much for its figure to be quoted alone."""
        return self.result.is_noisy

    @property
    def beside(self) -> list[Result]:
        """Its results beside other cases; none for a peer itself."""
        return [line.result for line in self.lines if line.result.peer != line.result.case]


def peer_words(result: Result) -> str:
    """Return what a peer is called beside its case: without what both names share."""
    own = result.case.split(", ")
    return ", ".join(part for part in result.peer.split(", ") if part not in own) or result.peer


def rows(lines: Sequence[Line]) -> list[Row]:
    """Put the lines of a benchmark into rows, in their order."""
    found: dict[tuple[object, ...], list[Line]] = {}
    for line in lines:
        result = line.result
        key = (line.device, result.case, result.unit, result.samples, *sorted(settings(line).items()))
        found.setdefault(key, []).append(line)
    return [Row(tuple(of_case)) for of_case in found.values()]
