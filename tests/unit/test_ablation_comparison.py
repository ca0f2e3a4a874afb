"""Against numpy and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ablations import ablation, trained
from scipy import stats

from fastbot.ablation.comparison import compare, compare_teachers, half_width, paired_difference

EFFICIENT = (0.81, 0.84, 0.82)
COSINE = (0.83, 0.845, 0.85)
MIXUP = (0.80, 0.86, 0.85)
TABLE = {"Efficient": EFFICIENT, "+ cosine decay": COSINE, "+ mixup w/o distill": MIXUP}


@pytest.mark.parametrize("count", range(2, 32))
def test_the_interval_is_that_of_scipys_paired_t_test(count: int) -> None:
    rng = np.random.default_rng(count)
    a, b = rng.normal(0.8, 0.02, count), rng.normal(0.79, 0.02, count)
    found = paired_difference(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())))
    assert found is not None
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found.num_pairs == count
    assert found.mean == pytest.approx(float((a - b).mean()))
    assert found.mean - found.half_width == pytest.approx(interval.low, abs=3e-5 * found.half_width + 1e-12)
    assert found.mean + found.half_width == pytest.approx(interval.high, abs=3e-5 * found.half_width + 1e-12)


def test_beyond_the_table_an_interval_is_on_the_safe_side() -> None:
    values = np.random.default_rng(0).normal(size=60)
    exact = stats.t.ppf(0.975, 59) * stats.sem(values)
    assert exact < half_width(values.tolist()) < 1.04 * exact


def test_only_seeds_that_both_have_are_paired() -> None:
    found = paired_difference({0: 0.5, 1: 0.7, 2: 0.9}, {1: 0.6, 2: 0.7, 3: 0.1})
    assert found is not None
    assert (found.num_pairs, found.mean) == (2, pytest.approx(0.15))
    assert paired_difference({0: 0.5}, {1: 0.5}) is None
    single = paired_difference({0: 0.5}, {0: 0.25})
    assert single is not None
    assert single.mean == 0.25
    assert math.isnan(single.half_width)


def test_rows_have_mean_and_deviation_and_both_differences() -> None:
    rows = compare(trained(TABLE))
    for row, values in zip(rows, TABLE.values(), strict=True):
        assert row.mean == pytest.approx(np.mean(values))
        assert row.std == pytest.approx(np.std(values, ddof=1))
    assert (rows[0].previous, rows[0].baseline) == (None, None)
    last = rows[2]
    assert last.previous is not None
    assert last.baseline is not None
    assert last.previous.mean == pytest.approx(np.subtract(MIXUP, COSINE).mean())
    assert last.baseline.mean == pytest.approx(np.subtract(MIXUP, EFFICIENT).mean())


def test_the_papers_differences_are_of_the_same_rows() -> None:
    rows = compare(trained(TABLE))
    # Bag of Tricks, table 6, ResNet-50-D: 77.16, 77.91 and 79.15.
    assert [row.paper.top1 for row in rows if row.paper] == pytest.approx([0.7716, 0.7791, 0.7915])
    assert (rows[0].paper_previous, rows[0].paper_baseline) == (None, None)
    assert (rows[2].paper_previous, rows[2].paper_baseline) == (pytest.approx(0.0124), pytest.approx(0.0199))


def test_without_the_suites_baseline_the_first_row_is_it() -> None:
    rows = compare(trained({"+ cosine decay": COSINE, "+ mixup w/o distill": MIXUP}))
    assert rows[0].baseline is None
    assert rows[1].baseline == rows[1].previous


def test_what_is_not_finished_has_no_figures() -> None:
    rows = compare(trained({"Efficient": EFFICIENT[:1], "+ cosine decay": ()}))
    assert math.isnan(rows[0].std)
    assert rows[0].mean == EFFICIENT[0]
    assert math.isnan(rows[1].mean)
    assert rows[1].baseline is None


def test_teachers_are_compared_with_nothing() -> None:
    teachers = compare_teachers(ablation("table6"))
    assert [teacher.label for teacher in teachers] == ["ResNet-152-D", "ResNet-152-D with mixup"]
    assert all(teacher.previous is teacher.baseline is None for teacher in teachers)
