"""Learning-rate schedules: pure functions of the step, counted from 0 in optimizer updates.

Durations are steps; a recipe turns epochs into steps. Nothing here knows an optimizer, and no state is saved: a
resumed run asks the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from fastbot.errors import RecipeError


class Schedule(Protocol):
    """A learning rate for every step of a run."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step` (from 0)."""
        ...


@dataclass(frozen=True, slots=True)
class Cosine:
    """Warm up linearly, then fall along half a cosine to 0.

    After warmup the rate is 0.5 * (1 + cos(pi * t / T)) * eta, where both t and T exclude the warmup: the first step
    after it has eta, and 0 would be reached at step `num_steps`, one after the last.

    Args:
        learning_rate: eta, the peak.
        num_steps: steps of the whole run, warmup included.
        warmup_steps: m, see `warmup`; 0 for none.

    Raises:
        RecipeError: the rate is not positive, or the warmup leaves no step.

    Source: BoT section 5.1, equation 1. timm counts warmup in T unless told otherwise (`warmup_prefix`).
    """

    learning_rate: float
    num_steps: int
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _check_learning_rate(self.learning_rate)
        if not 0 <= self.warmup_steps < self.num_steps:
            raise RecipeError(
                f"schedule.warmup is {self.warmup_steps} steps of a run of {self.num_steps}: "
                "it must leave at least one step; shorten it or train longer"
            )

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step`, 0 to `num_steps`."""
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps, self.learning_rate)
        assert step <= self.num_steps, f"step {step} is past the run's {self.num_steps}: the cosine would rise again"
        progress = (step - self.warmup_steps) / (self.num_steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress)) * self.learning_rate


@dataclass(frozen=True, slots=True)
class StepDecay:
    """Warm up linearly, then multiply the rate by `factor` at each milestone.

    Args:
        learning_rate: eta, before the first milestone.
        milestones: increasing steps from which the next lower rate holds, counted from the start of training,
            warmup included.
        warmup_steps: m, see `warmup`; 0 for none.
        factor: in (0, 1).

    Raises:
        RecipeError: the rate is not positive, the factor is outside (0, 1), or milestones do not increase or begin
            before the warmup ends.

    Source: BoT section 2.1 (divided by 10 at epochs 30, 60 and 90); GluonCV counts its epochs the same way.
    """

    learning_rate: float
    milestones: tuple[int, ...]
    warmup_steps: int = 0
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_learning_rate(self.learning_rate)
        if not 0 < self.factor < 1:
            raise RecipeError(f"schedule.factor is {self.factor}: it must lie between 0 and 1")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise RecipeError(f"schedule.milestones are {list(self.milestones)}: each must exceed the one before")
        if self.milestones and not 0 <= self.warmup_steps <= self.milestones[0]:
            raise RecipeError(
                f"the first milestone is step {self.milestones[0]}, warmup ends at step {self.warmup_steps}: "
                "the rate cannot drop before it has risen; move the milestone or shorten the warmup"
            )

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step`."""
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps, self.learning_rate)
        return self.learning_rate * self.factor ** sum(step >= milestone for milestone in self.milestones)


def scaled_learning_rate(global_batch_size: int, base: float = 0.1) -> float:
    """Return the learning rate of the linear scaling rule, `base * global_batch_size / 256`.

    Args:
        global_batch_size: rows of one optimizer step over all ranks.
        base: the learning rate at 256 rows.

    Source: BoT section 3.1, "linear scaling learning rate"; Goyal et al., arXiv 1706.02677.
    """
    return base * global_batch_size / 256


def warmup(step: int, num_steps: int, learning_rate: float) -> float:
    """Return the rate of a step of the warmup: batch i of m trains at i * eta / m.

    The paper counts i from 1 to m: step 0 is i = 1, so no step is wasted at rate 0 and the warmup's last step has eta.

    Source: BoT section 3.1, "learning rate warmup"; Goyal et al., arXiv 1706.02677.
    """
    return (step + 1) * learning_rate / num_steps


def _check_learning_rate(learning_rate: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise RecipeError(f"the learning rate is {learning_rate}: it must be positive and finite")
