from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from benchmark_results import ROUNDS, line, result

from benchmarks.lines import Line, load
from benchmarks.pages.compare import check, remarks
from benchmarks.pages.comparison import Change, Shift, Verdict, compare
from benchmarks.pages.documents import RESULTS
from fastbot.errors import RunError

SLOWER = tuple(0.8 * value for value in ROUNDS)


def of(change: float, *, unit: str = "images/s", **settings: object) -> Line:
    """A case whose figure and ratio are `change` times the usual ones."""
    samples = [change * value for value in ROUNDS]
    return line(result("ours", samples=samples, ratios=samples, unit=unit), **settings)


def only(before: Line, after: Line) -> Change:
    (change,) = compare([before], [after]).changes
    return change


@pytest.mark.parametrize(("num_before", "num_after"), [(1, 1), (2, 3), (3, 3), (3, 4), (4, 4), (3, 5), (5, 5), (2, 8)])
def test_too_few_samples_are_those_that_chance_would_order_so(num_before: int, num_after: int) -> None:
    """Against all orders: in how many of them does one set lie wholly below the other?"""
    ranks = range(num_before + num_after)
    orders = list(combinations(ranks, num_before))
    apart = [first for first in orders if max(first) < num_before or min(first) >= num_after]
    chance = Fraction(len(apart), len(orders))
    shift = Shift((1.0,) * num_before, (2.0,) * num_after, more_is_better=True)
    assert (shift.verdict is Verdict.too_few) == (chance > Fraction(1, 20))


@pytest.mark.parametrize(
    ("after", "more_is_better", "verdict"),
    [
        ((1.1, 1.2, 1.3, 1.4, 1.5), True, Verdict.better),
        ((1.1, 1.2, 1.3, 1.4, 1.5), False, Verdict.worse),
        ((0.5, 0.6, 0.7, 0.8, 0.85), True, Verdict.worse),
        ((0.5, 0.6, 0.7, 0.8, 0.85), False, Verdict.better),
        ((0.9, 2.0, 2.0, 2.0, 2.0), True, Verdict.noise),  # the ends touch
        ((0.5, 0.6, 2.0, 2.1, 2.2), True, Verdict.noise),
    ],
)
def test_beyond_noise_are_ranges_that_do_not_touch(
    after: tuple[float, ...], more_is_better: bool, verdict: Verdict
) -> None:
    assert Shift((0.9, 0.95, 1.0, 1.02, 1.05), after, more_is_better).verdict is verdict


def test_a_gain_is_of_what_is_better() -> None:
    assert Shift((2.0,), (1.0,), more_is_better=True).gain == 0.5
    assert Shift((2.0,), (1.0,), more_is_better=False).gain == 2.0
    assert math.isnan(Shift((0.0,), (1.0,), more_is_better=True).factor)
    assert Shift((1.0,), (0.0,), more_is_better=False).gain == math.inf


def test_a_change_has_its_figure_and_its_ratio() -> None:
    before = line(result("ours", samples=ROUNDS, ratios=ROUNDS))
    after = line(result("ours", samples=[2 * value for value in ROUNDS], ratios=ROUNDS))
    change = only(before, after)
    assert change.ratio is not None
    assert (change.figure.factor, change.figure.verdict) == (2.0, Verdict.better)
    assert (change.ratio.factor, change.ratio.verdict) == (1.0, Verdict.noise)


def test_a_peer_itself_has_no_ratio_to_change() -> None:
    peer = line(result("theirs"))
    assert only(peer, peer).ratio is None
    without = line(result("ours", ratios=[math.nan] * 5))
    assert only(without, without).ratio is None


def test_what_is_in_one_file_alone_is_named() -> None:
    before = [of(1), line(result("old"))]
    after = [of(1), line(result("new")), line(result("new", peer="another"))]
    comparison = compare(before, after)
    assert len(comparison.changes) == 1
    said = remarks(comparison)
    assert "only before: loader: old (theirs)" in said
    assert {"only after: loader: new (theirs)", "only after: loader: new (another)"} <= {*said}


def test_other_settings_are_not_the_same_work() -> None:
    change = only(of(1, batch_size=64, size=224), of(0.5, batch_size=256, size=224))
    assert change.differing == {"batch_size": ("64", "256")}
    comparison = compare([of(1, batch_size=64)], [of(0.5, batch_size=256)])
    assert "not the same work: batch_size 64 before, 256 after" in remarks(comparison)[0]
    with pytest.raises(RunError, match="no ratio can be judged"):
        check(comparison, 0.1)


def test_equal_settings_find_each_other_among_several() -> None:
    before = [of(1, batch_size=64), of(1, batch_size=256)]
    after = [of(2, batch_size=256), of(3, batch_size=64)]
    found = {change.after.conditions["batch_size"]: change.figure.factor for change in compare(before, after).changes}
    assert found == {64: 3.0, 256: 2.0}


def test_another_unit_is_another_measurement() -> None:
    comparison = compare([of(1, unit="s")], [of(1, unit="ms")])
    assert (len(comparison.changes), len(comparison.only_before), len(comparison.only_after)) == (0, 1, 1)


def test_other_conditions_are_named() -> None:
    before = replace(of(1), device="a processor", commit="aaa")
    after = replace(of(1), device="another", commit="bbb", versions={"torch": "2.14.1", "timm": "1.0"})
    said = remarks(compare([before], [after]))
    assert said == [
        "device: a processor before, another after",
        "commit: aaa before, bbb after",
        "timm: none before, 1.0 after",
    ]


@pytest.mark.parametrize(
    ("change", "unit", "tolerance", "fails"),
    [
        (1.0, "images/s", 0.1, False),
        (0.92, "images/s", 0.1, False),  # beyond noise, within the tolerance
        (0.92, "images/s", 0.05, True),
        (0.8, "images/s", 0.1, True),
        (1.3, "images/s", 0.1, False),
        (1.3, "s", 0.1, True),
        (0.8, "s", 0.1, False),
        (0.985, "images/s", 0.0, False),  # within noise
    ],
)
def test_the_check_fails_for_a_worse_ratio(change: float, unit: str, tolerance: float, fails: bool) -> None:
    comparison = compare([of(1, unit=unit)], [of(change, unit=unit)])
    if fails:
        with pytest.raises(RunError, match=r"1 of 1 ratios are worse:\n  loader: ours, beside theirs: 1\.00 before, "):
            check(comparison, tolerance)
    else:
        assert check(comparison, tolerance).startswith("no ratio of 1 is worse")


def test_the_check_does_not_judge_absolute_figures() -> None:
    """On a machine of half the speed everything is slower, and nothing is worse."""
    before = line(result("ours", samples=ROUNDS, ratios=ROUNDS))
    after = line(result("ours", samples=[value / 2 for value in ROUNDS], ratios=ROUNDS))
    assert compare([before], [after]).changes[0].figure.verdict is Verdict.worse
    assert "no ratio of 1 is worse" in check(compare([before], [after]), 0.0)


def test_a_slower_machine_does_not_make_a_small_change_of_the_ratio_large() -> None:
    before = line(result("ours", samples=ROUNDS, ratios=ROUNDS))
    after = line(result("ours", samples=[value / 2 for value in ROUNDS], ratios=[0.92 * value for value in ROUNDS]))
    assert "no ratio of 1 is worse" in check(compare([before], [after]), 0.1)


FEW = line(result("few", samples=ROUNDS[:2], ratios=SLOWER[:2]))


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ([of(1)], "loader: second, beside theirs: not measured"),
        ([of(1), line(result("second", "another"))], "loader: second, beside theirs: not measured"),
        (
            [of(1), line(result("second"), size=32)],
            "loader: second, beside theirs: other settings (size none before, 32 after)",
        ),
        ([of(1), line(result("second", ratios=[math.nan] * 5))], "loader: second, beside theirs: no ratio"),
        (
            [of(1), line(result("second", samples=ROUNDS[:2], ratios=ROUNDS[:2]))],
            "loader: second, beside theirs: too few samples",
        ),
    ],
)
def test_the_check_fails_for_a_ratio_that_is_missing_or_cannot_be_judged(after: list[Line], why: str) -> None:
    comparison = compare([of(1), line(result("second"))], after)
    with pytest.raises(RunError) as failed:
        check(comparison, 0.1)
    assert f"1 of 2 ratios before have none after to be held against them:\n  {why}\n" in str(failed.value)
    assert "--allow-missing" in str(failed.value)
    assert check(comparison, 0.1, allow_missing=True).endswith("; 1 were not measured again")


def test_two_files_that_share_nothing_are_told_so() -> None:
    assert remarks(compare([of(1)], [line(result("second"))]))[0] == "the two share no measurement"
    assert "the two share no measurement" not in remarks(compare([of(1)], [of(2)]))


def test_what_had_too_few_samples_before_is_no_loss() -> None:
    """A start with empty caches is measured once; a quick ladder's rounds are two: they are never judged."""
    few = line(result("second", samples=ROUNDS[:2], ratios=ROUNDS[:2]))
    assert check(compare([of(1), few], [of(1), few]), 0.1).endswith("; 1 have too few samples to be judged")


@pytest.mark.parametrize("file", sorted((RESULTS / "cpu-2core").glob("*.jsonl")), ids=lambda file: file.stem)
def test_committed_results_pass_beside_themselves(file: Path) -> None:
    lines = load(file)
    comparison = compare(lines, lines)
    assert comparison.missing() == []
    if comparison.judged():
        assert "is worse beyond noise" in check(comparison, 0.1)


def test_a_peer_that_is_missing_and_cases_that_are_new_are_let_pass() -> None:
    peer = line(result("theirs"))
    assert check(compare([of(1), peer], [of(1), line(result("new"))]), 0.1).startswith("no ratio of 1 is worse")


def test_a_check_of_nothing_fails_whatever_is_allowed() -> None:
    with pytest.raises(RunError, match="no ratio can be judged"):
        check(compare([FEW], [FEW]), 0.1, allow_missing=True)


def test_a_ratio_on_another_kind_of_device_is_of_other_work() -> None:
    """Whatever the two are called: another processor may be held against this one, a GPU may not."""
    gpu = line(result("ours"), device="NVIDIA H100")
    assert check(compare([of(1)], [replace(of(1), device="another processor")]), 0.1)
    with pytest.raises(RunError, match="no ratio can be judged"):
        check(compare([of(1)], [gpu]), 0.1)
