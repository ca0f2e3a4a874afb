"""The method of every benchmark: warm-up, interleaved repeats, medians with their spread, ratios to a named peer."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import watching
from benchmarks.progress import progress

# A spread beyond this says the machine was too noisy for the figure to be quoted alone.
NOISY = 0.10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much measuring a rung does.

    Attributes:
        repeats: counted rounds, in each of which every case has its turn.
        at_least_s: a case runs as often in a turn as it takes to fill so many seconds, found in the warm-up.
        warmups: rounds before, not counted.
    """

    repeats: int = 5
    at_least_s: float = 0.0
    warmups: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time.

    Args:
        name: of the case, unique in its benchmark.
        run: does the work once and returns how many pictures it handled.
        peer: the name of the case it is compared with; its own name when it is a peer itself.
        per: divides the rate, for example the cores it may use.
        other_peers: further cases that it is compared with, each in a row of its own.
        before: called before each turn, outside the time.
        at_once: does the work so many times without a stop in between, and returns the same; None where that is what
            calling `run` as often comes to.
    """

    name: str
    run: Callable[[], int]
    peer: str
    per: float = 1.0
    other_peers: tuple[str, ...] = ()
    before: Callable[[], object] = lambda: None
    at_once: Callable[[int], int] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to.

    Attributes:
        benchmark, case: names.
        peer: the case it is compared with; its own name where it is a peer itself.
        unit: of the samples, a key of `benchmarks.units.UNITS`.
        samples: the figure of each counted round.
        ratios: of each round, this case's figure to its peer's in the same round.
        notes: a few words for a table.
        details: what belongs to this case alone, by name.
    """

    benchmark: str
    case: str
    peer: str
    unit: str
    samples: tuple[float, ...]
    ratios: tuple[float, ...]
    notes: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """(max - min) / median of the samples; 0 where all are 0."""
        return _spread(self.samples)

    @property
    def ratio(self) -> float:
        """The median of the ratios; nan where the peer's figure is 0."""
        return statistics.median(self.ratios)

    @property
    def ratio_spread(self) -> float:
        """(max - min) / median of the ratios: what is left of the noise when both cases meet the same machine."""
        return _spread(self.ratios)

    @property
    def is_noisy(self) -> bool:
        """Whether the samples differ too much for the figure to be quoted alone."""
        return self.spread > NOISY


def measure(
    benchmark: str,
    cases: Sequence[Case],
    effort: Effort = Effort(),
    *,
    unit: str = "images/s",
    synchronize: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Time cases in turn (A B C C B A A B C ...), so that a drift of the machine meets all of them alike.

    Every other round is the other way about: or each case would have the same neighbour before it throughout, and with
    it the heat that this one leaves.

    Args:
        benchmark: its name.
        cases: with every case's peer among them.
        effort: how many rounds, and how long a turn.
        unit: of the rates.
        synchronize: called before each reading of the clock; a GPU's synchronize.
    """
    times = dict.fromkeys((case.name for case in cases), 1)
    figures: dict[str, list[float]] = {case.name: [] for case in cases}
    with progress(benchmark, len(cases) * (effort.warmups + effort.repeats)) as tell:
        for _ in range(effort.warmups):
            for case in cases:
                tell(case.name)
                took = _turn(case, times[case.name], synchronize)[1]
                times[case.name] = max(1, math.ceil(times[case.name] * effort.at_least_s / max(took, 1e-9)))
        for turn in range(effort.repeats):
            for case in cases if turn % 2 == 0 else reversed(cases):
                tell(case.name)
                count, took = _turn(case, times[case.name], synchronize)
                figures[case.name].append(count / took / case.per)
            watching.look()
    return [
        compared(benchmark, case.name, peer, figures, unit) for case in cases for peer in (case.peer, *case.other_peers)
    ]


def compared(benchmark: str, case: str, peer: str, figures: Mapping[str, Sequence[float]], unit: str) -> Result:
    """Return a case's figures, and their ratios to a peer's of the same rounds.

    Args:
        benchmark, case, peer: names.
        figures: by case, one a round.
        unit: of the figures.
    """
    ratios = tuple(own / other if other else math.nan for own, other in zip(figures[case], figures[peer], strict=True))
    return Result(benchmark, case, peer, unit, tuple(figures[case]), ratios)


def _turn(case: Case, times: int, synchronize: Callable[[], object]) -> tuple[int, float]:
    """Run a case `times` times; return how many pictures it handled and how many seconds that took."""
    case.before()
    synchronize()
    started = time.perf_counter()
    count = case.at_once(times) if case.at_once else sum(case.run() for _ in range(times))
    synchronize()
    return count, time.perf_counter() - started


def _spread(figures: Sequence[float]) -> float:
    median = statistics.median(figures)
    return (max(figures) - min(figures)) / median if median else 0.0
