"""Two sets of results side by side: what changed, and what of that is more than noise.

A change is called beyond noise if the two ranges of samples do not overlap at all. That is a rule of thumb and no test
of significance: the rounds of one process share its memory layout, its clocks and its neighbours, so that they are not
independent, and two runs of the same code can come out apart. Only if nothing but chance ordered the samples would
their ranges be apart in just 2 of (n + m)! / (n! m!) orders of n and m: with 5 and 5 in 2 of 252. Where it is more than
one in 20 even so, there are too few samples to say anything. What is to be trusted is measured in several processes;
the rounds of all of them count, which widens the ranges.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.lines import Line
from benchmarks.pages.measurements import Settings, merged, settings
from benchmarks.units import UNITS

_CHANCE = 0.05
# A recipe's digest changes with every key that recipes learn: it is told of, and decides nothing.
_CONDITIONS = ("python", "cores", "recipe_digest")


class Verdict(StrEnum):
    """What a change amounts to."""

    better = "better"
    worse = "worse"
    noise = "within noise"
    too_few = "too few samples"


@dataclass(frozen=True, slots=True)
class Shift:
    """A figure, or its ratio to a peer, before and after.

    Attributes:
        before, after: the samples.
        more_is_better: False for times and memory.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    more_is_better: bool

    @property
    def factor(self) -> float:
        """The median after over that before; nan where that is 0."""
        before = statistics.median(self.before)
        return statistics.median(self.after) / before if before else math.nan

    @property
    def gain(self) -> float:
        """`factor`, turned over where less is better: above 1 is an improvement."""
        if self.more_is_better:
            return self.factor
        return 1 / self.factor if self.factor else math.inf

    @property
    def verdict(self) -> Verdict:
        """Whether it changed for better or worse, beyond noise."""
        orders = math.comb(len(self.before) + len(self.after), len(self.before))
        if 2 / orders > _CHANCE:
            return Verdict.too_few
        if max(self.before) >= min(self.after) and max(self.after) >= min(self.before):
            return Verdict.noise
        return Verdict.better if self.gain > 1 else Verdict.worse


@dataclass(frozen=True, slots=True)
class Change:
    """A measurement that is in both sets.

    Attributes:
        before, after: its lines.
        figure: the measured figure.
        ratio: to its peer; None for a peer itself, and where a peer's figure was 0.
        differing: settings that are not the same, by name; as long as there are any, it is not the same work.
    """

    before: Line
    after: Line
    figure: Shift
    ratio: Shift | None
    differing: Mapping[str, tuple[str, str]]

    @property
    def title(self) -> str:
        """What was measured, in words."""
        return titled(self.after)

    @property
    def unjudged(self) -> str:
        """Why its ratios cannot be held against each other, in words; empty where they can."""
        if self.ratio is None:
            return "no ratio"
        if self.differing:
            return f"other settings ({differences(self.differing)})"
        return str(Verdict.too_few) if self.ratio.verdict is Verdict.too_few else ""

    @property
    def is_lost(self) -> bool:
        """Whether its ratio could be judged before and cannot any more: what had too few samples loses nothing."""
        if self.ratio is None or self.differing:
            return True
        return self.ratio.verdict is Verdict.too_few and len(self.ratio.after) < len(self.ratio.before)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of results.

    Attributes:
        changes: measurements of both.
        only_before, only_after: of one alone.
        conditions: that are not the same, by name.
    """

    changes: tuple[Change, ...]
    only_before: tuple[Line, ...]
    only_after: tuple[Line, ...]
    conditions: Mapping[str, tuple[str, str]]

    def judged(self) -> list[Change]:
        """Return the changes whose ratios can be held against each other: same settings, samples enough."""
        return [change for change in self.changes if change.ratio is not None and not change.unjudged]

    def missing(self) -> list[str]:
        """Return, in words, each ratio of the set before that the set after does not have, or of fewer samples."""
        changes = [change for change in self.changes if has_ratio(change.before) and change.is_lost]
        gone = [line for line in self.only_before if has_ratio(line)]
        return [f"{change.title}: {change.unjudged}" for change in changes] + [
            f"{titled(line)}: not measured" for line in gone
        ]

    def regressions(self, tolerance: float) -> list[Change]:
        """Return the changes whose ratio to the peer is worse beyond noise, and by more than `tolerance`."""
        return [
            change
            for change in self.judged()
            if change.ratio is not None and change.ratio.verdict is Verdict.worse and change.ratio.gain < 1 - tolerance
        ]


def titled(line: Line) -> str:
    """Return what was measured, in words."""
    result = line.result
    beside = "" if result.peer == result.case else f", beside {result.peer}"
    return f"{result.benchmark}: {result.case}{beside}"


def differences(differing: Mapping[str, tuple[str, str]]) -> str:
    """Return what differs, in words."""
    return ", ".join(f"{name} {old} before, {new} after" for name, (old, new) in differing.items())


def has_ratio(line: Line) -> bool:
    """Return whether a line has a ratio to another case."""
    return line.result.peer != line.result.case and bool(_finite(line.result.ratios))


def compare(before: Sequence[Line], after: Sequence[Line]) -> Comparison:
    """Compare two sets of results.

    Measurements with equal names belong together where their settings are equal; else those that are alone on either
    side, with what differs.

    Args:
        before, after: the lines of a file each.
    """
    changes: list[Change] = []
    only_before: list[Line] = []
    only_after: list[Line] = []
    olds, news = _by_key(before), _by_key(after)
    for key in dict.fromkeys([*olds, *news]):
        pairs, old_rest, new_rest = _paired(olds[key], news[key])
        changes += [_change(old, new) for old, new in pairs]
        only_before += old_rest
        only_after += new_rest
    return Comparison(tuple(changes), tuple(only_before), tuple(only_after), _differing_conditions(before, after))


def _by_key(lines: Sequence[Line]) -> defaultdict[tuple[str, str, str], list[Line]]:
    groups: defaultdict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in merged(lines):
        groups[line.key].append(line)
    return groups


def _paired(
    olds: Sequence[Line], news: Sequence[Line]
) -> tuple[list[tuple[Line, Line]], Sequence[Line], Sequence[Line]]:
    """Return pairs, and what is left of either side."""
    pairs = [(old, new) for old in olds for new in news if _same_work(old, new)]
    old_rest = [old for old in olds if not any(old is taken for taken, _ in pairs)]
    new_rest = [new for new in news if not any(new is taken for _, taken in pairs)]
    if len(old_rest) == len(new_rest) == 1 and old_rest[0].result.unit == new_rest[0].result.unit:
        return [*pairs, (old_rest[0], new_rest[0])], [], []
    return pairs, old_rest, new_rest


def _same_work(old: Line, new: Line) -> bool:
    return settings(old) == settings(new) and old.result.unit == new.result.unit


def _change(old: Line, new: Line) -> Change:
    more_is_better = UNITS[new.result.unit].more_is_better
    figure = Shift(old.result.samples, new.result.samples, more_is_better)
    ratio = None
    if has_ratio(old) and has_ratio(new):
        ratio = Shift(_finite(old.result.ratios), _finite(new.result.ratios), more_is_better)
    return Change(old, new, figure, ratio, _differing(settings(old), settings(new)))


def _finite(ratios: Sequence[float]) -> tuple[float, ...]:
    return tuple(ratio for ratio in ratios if math.isfinite(ratio))


def _differing_conditions(before: Sequence[Line], after: Sequence[Line]) -> Mapping[str, tuple[str, str]]:
    return _differing(_conditions(before), _conditions(after))


def _conditions(lines: Sequence[Line]) -> Settings:
    """Return what lines were measured with, by name; where they differ, all of it."""
    found: dict[str, dict[str, None]] = {}  # of each name the values, in their order
    for line in lines:
        own = {"device": line.device, "commit": line.commit, **line.versions}
        own |= {name: str(line.conditions[name]) for name in _CONDITIONS if name in line.conditions}
        for name, value in own.items():
            found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _differing(before: Settings, after: Settings) -> dict[str, tuple[str, str]]:
    values = {name: (before.get(name, "none"), after.get(name, "none")) for name in [*before, *after]}
    return {name: pair for name, pair in values.items() if pair[0] != pair[1]}
