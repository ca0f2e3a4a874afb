"""What an ablation shows: means over seeds, and differences between rows, paired by seed, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from fastbot.ablation.records import Ablation, RowResult
from fastbot.specs import Paper

# The 0.975 quantile of Student's t by degrees of freedom, from 1. Source: `scipy.stats.t.ppf`, to four decimals.
_T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip

BySeed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of differences between pairs, and half of its 95 % interval; nan with fewer than two pairs."""

    mean: float
    half_width: float
    num_pairs: int


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """A row of the table; accuracies are top-1 as fractions.

    Attributes:
        label, model, epochs: as trained.
        values: of the last evaluation, by seed.
        mean, std: over seeds; std with n - 1, nan with fewer than two, both nan with none.
        previous, baseline: how much better than the row before, and than the baseline; None for that row itself, and
            where no seed is finished in both.
        paper: what the source reports; None where it reports no top-1.
        paper_previous, paper_baseline: the same differences there, None where one of the two is not reported.
    """

    label: str
    model: str
    epochs: str
    values: BySeed
    mean: float
    std: float
    previous: Difference | None
    baseline: Difference | None
    paper: Paper | None
    paper_previous: float | None
    paper_baseline: float | None


def compare(ablation: Ablation) -> list[ComparedRow]:
    """Return the rows of an ablation, each compared with the one before it and with the baseline.

    The baseline is the suite's, or the first row where that one is not among them.
    """
    rows = ablation.rows
    baseline = next((row for row in rows if row.label == ablation.baseline), rows[0])
    return [_compared(row, rows[number - 1] if number else None, baseline) for number, row in enumerate(rows)]


def compare_teachers(ablation: Ablation) -> list[ComparedRow]:
    """Return the teachers of an ablation, compared with nothing."""
    return [_compared(row, None, row) for row in ablation.teachers]


def _compared(row: RowResult, before: RowResult | None, baseline: RowResult) -> ComparedRow:
    values, other = _values(row), None if row is baseline else baseline
    return ComparedRow(
        label=row.label,
        model=row.model,
        epochs=row.epochs,
        values=values,
        mean=fmean(values.values()) if values else math.nan,
        std=stdev(values.values()) if len(values) > 1 else math.nan,
        previous=_difference(row, before),
        baseline=_difference(row, other),
        paper=row.paper if _reported(row) is not None else None,
        paper_previous=_paper_difference(row, before),
        paper_baseline=_paper_difference(row, other),
    )


def paired_difference(values: BySeed, reference: BySeed) -> Difference | None:
    """Return how much larger `values` are than `reference`, over the seeds that both have; None without any.

    The interval is Student's for the mean of paired differences. Beyond 31 pairs it is up to 4 % too wide.
    """
    pairs = [values[seed] - reference[seed] for seed in values.keys() & reference.keys()]
    if not pairs:
        return None
    if len(pairs) == 1:
        return Difference(pairs[0], math.nan, 1)
    return Difference(fmean(pairs), half_width(pairs), len(pairs))


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of the mean of at least two values."""
    freedom = len(values) - 1
    return _T_975[min(freedom, len(_T_975)) - 1] * stdev(values) / math.sqrt(len(values))


def _difference(row: RowResult, other: RowResult | None) -> Difference | None:
    return None if other is None else paired_difference(_values(row), _values(other))


def _paper_difference(row: RowResult, other: RowResult | None) -> float | None:
    here, there = _reported(row), None if other is None else _reported(other)
    return None if here is None or there is None else here - there


def _values(row: RowResult) -> dict[int, float]:
    return {seed: result.final.top1 for seed, result in row.seeds.items()}


def _reported(row: RowResult) -> float | None:
    return None if row.paper is None else row.paper.top1
