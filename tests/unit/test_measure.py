"""The method of benchmarks, with a clock that stands still unless a case moves it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from benchmarks.measure import NOISY, Case, Effort, Result, compared, measure


@dataclass
class Clock:
    """Time that passes only where it is told to, and all that happened."""

    now: float = 0.0
    happened: list[str] = field(default_factory=list)

    def work(self, name: str, seconds: float, count: int = 10) -> Callable[[], int]:
        def run() -> int:
            self.happened.append(name)
            self.now += seconds
            return count

        return run

    def wait(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.happened.append(name)
            self.now += seconds

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: fake.now)
    return fake


def test_cases_have_their_turns_one_after_another(clock: Clock) -> None:
    cases = [Case(name, clock.work(name, 1), "a") for name in "abc"]
    results = measure("b", cases, Effort(repeats=2, warmups=1))
    assert clock.happened == list("abcabccba"), "a warm-up, and every other round the other way about"
    assert [(result.case, result.samples) for result in results] == [(name, (10.0, 10.0)) for name in "abc"]


def test_warm_ups_are_not_counted(clock: Clock) -> None:
    took = iter([100, 100, 2, 5])

    def run() -> int:
        clock.now += next(took)
        return 10

    (result,) = measure("b", [Case("a", run, "a")], Effort(repeats=2, warmups=2))
    assert result.samples == (5.0, 2.0)


@pytest.mark.parametrize(
    ("took_s", "at_least_s", "times"), [(0.3, 0.0, 1), (0.3, 1.0, 4), (2.0, 1.0, 1), (0.25, 1.0, 4)]
)
def test_a_turn_is_as_often_as_fills_its_time(clock: Clock, took_s: float, at_least_s: float, times: int) -> None:
    (result,) = measure("b", [Case("a", clock.work("a", took_s), "a")], Effort(3, at_least_s))
    assert len(clock.happened) == 1 + 3 * times
    assert result.samples == pytest.approx([10 / took_s] * 3)


def test_the_last_warm_up_decides_how_often(clock: Clock) -> None:
    """The first is of what is only done once, as compilation is: it takes 10 s, all others half of one."""
    took = iter([10.0])

    def run() -> int:
        clock.happened.append("a")
        clock.now += next(took, 0.5)
        return 1

    measure("b", [Case("a", run, "a")], Effort(repeats=1, at_least_s=2.0, warmups=2))
    assert len(clock.happened) == 1 + 1 + 4


def test_what_can_go_on_without_a_stop_does(clock: Clock) -> None:
    def at_once(times: int) -> int:
        clock.happened.append(f"{times} at once")
        clock.now += 1 + times
        return 10 * times

    case = Case("a", clock.work("a", 1), "a", at_once=at_once)
    (result,) = measure("b", [case], Effort(repeats=1, at_least_s=5.0))
    assert clock.happened == ["1 at once", "3 at once"]
    assert result.samples == (7.5,)


def test_a_rate_is_divided_by_what_the_case_may_use(clock: Clock) -> None:
    cases = [Case("a", clock.work("a", 1), "a"), Case("b", clock.work("b", 1, 80), "a", per=4)]
    ours, theirs = reversed(measure("b", cases, Effort(repeats=1)))
    assert (theirs.value, ours.value, ours.ratio) == (10.0, 20.0, 2.0)


def test_what_comes_before_a_turn_and_the_wait_for_it_are_outside_of_its_time(clock: Clock) -> None:
    case = Case("a", clock.work("run", 1), "a", before=clock.wait("before", 7))
    (result,) = measure("b", [case], Effort(repeats=1, warmups=0), synchronize=lambda: clock.happened.append("sync"))
    assert clock.happened == ["before", "sync", "run", "sync"]
    assert result.samples == (10.0,)


def test_the_wait_for_a_device_after_a_turn_is_within_its_time(clock: Clock) -> None:
    """Its work was only begun by then."""
    waits = iter([0.0, 4.0])

    def synchronize() -> None:
        clock.now += next(waits)

    (result,) = measure("b", [Case("a", clock.work("a", 1), "a")], Effort(1, warmups=0), synchronize=synchronize)
    assert result.samples == (2.0,)


def test_ratios_are_of_the_same_round(clock: Clock) -> None:
    """A machine that slows down by half meets both alike: the figures halve, the ratio does not change."""

    def drifting(seconds: float) -> Callable[[], int]:
        took = iter([seconds, seconds, 2 * seconds])

        def run() -> int:
            clock.now += next(took)
            return 10

        return run

    cases = [Case("a", drifting(1), "b", other_peers=("a",)), Case("b", drifting(4), "b")]
    beside_b, beside_a, _ = measure("b", cases, Effort(repeats=2))
    assert beside_b.samples == (10.0, 5.0)
    assert (beside_b.ratios, beside_b.ratio_spread) == ((4.0, 4.0), 0.0)
    assert (beside_a.peer, beside_a.ratios) == ("a", (1.0, 1.0))


def test_a_ratio_to_nothing_is_no_number() -> None:
    figures = {"a": [1.0, 2.0], "b": [0.0, 4.0]}
    ratios = compared("b", "a", "b", figures, "MB").ratios
    assert math.isnan(ratios[0])
    assert ratios[1] == 0.5


def test_figures_of_other_numbers_of_rounds_are_not_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compared("b", "a", "b", {"a": [1.0, 2.0], "b": [1.0]}, "MB")


@pytest.mark.parametrize(
    ("samples", "spread", "is_noisy"),
    [((90.0, 100.0, 110.0), 0.2, True), ((96.0, 100.0, 105.0), 0.09, False), ((0.0, 0.0), 0.0, False)],
)
def test_the_spread_is_the_range_over_the_median(samples: tuple[float, ...], spread: float, is_noisy: bool) -> None:
    result = Result("b", "a", "a", "s", samples, (1.0,) * len(samples))
    assert result.spread == pytest.approx(spread)
    assert result.is_noisy == is_noisy == (spread > NOISY)
