"""Learning-rate schedules: pure functions of the step, counted from 0 in optimizer updates.

Nothing here knows an optimizer, and no state is saved: a resumed run asks the same function.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from fastbot.errors import RecipeError

if TYPE_CHECKING:  # specs takes the scaling of learning rates from here
    from fastbot.specs import Duration, ScheduleSpec

Scaling = Literal["linear", "sqrt", "none"]


class Schedule(Protocol):
    """A learning rate for every step of a run."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step` (from 0)."""
        ...


@dataclass(frozen=True, slots=True)
class _WarmedUp(ABC):
    """What two schedules share: a linear warmup, then a fall over all the steps that are left."""

    learning_rate: float
    num_steps: int
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _check_learning_rate(self.learning_rate)
        _check_warmup(self.warmup_steps, self.num_steps, "steps")

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step`, 0 to `num_steps`."""
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps, self.learning_rate)
        assert step <= self.num_steps, f"step {step} is past the run's {self.num_steps}: there is no rate for it"
        return self._falling(step)

    @abstractmethod
    def _falling(self, step: int) -> float:
        """Return the learning rate of a step after the warmup."""


@dataclass(frozen=True, slots=True)
class Cosine(_WarmedUp):
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

    def _falling(self, step: int) -> float:
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


@dataclass(frozen=True, slots=True)
class Linear(_WarmedUp):
    """Rise to the peak over the warmup and fall to 0 at the end, both in straight lines.

    FFCV's rates, from the end of the warmup on. Before it FFCV's are those of a line from eta / 10,000 in step 0, ours
    those of `warmup`, which are higher by at most eta / m.

    Args:
        learning_rate: eta, the peak.
        num_steps: steps of the whole run, warmup included; 0 would be reached at this step, one after the last.
        warmup_steps: m, see `warmup`; 0 for none.

    Raises:
        RecipeError: the rate is not positive, or the warmup leaves no step.

    Source: ffcv-imagenet, `train_imagenet.py`, `get_cyclic_lr`.
    """

    def _falling(self, step: int) -> float:
        return self.learning_rate * (self.num_steps - step) / (self.num_steps - self.warmup_steps)


@dataclass(frozen=True, slots=True)
class TimmCosine:
    """timm's cosine: one rate for each epoch, and a warmup that hides the cosine's beginning instead of delaying it.

    Epoch t (from 0) has `min + 0.5 * (eta - min) * (1 + cos(pi * t / T))`, where T is the epochs before the cooldown,
    warmup included; in the warmup it has `warmup_learning_rate + t * (eta - warmup_learning_rate) / warmup_epochs`. So
    the first epoch after a warmup of 5 of 300 has 0.9993 eta, and without a cooldown `min` is never quite reached.

    Args:
        learning_rate: eta, the peak.
        num_epochs: of the whole run, warmup and cooldown included; need not be whole.
        steps_per_epoch: optimizer steps.
        warmup_epochs: 0 for none.
        warmup_learning_rate: of the first epoch, where there is a warmup.
        min_learning_rate: where the cosine ends, and what the cooldown has.
        cooldown_epochs: at the end. timm 0.5.4 counts them extra: its `--epochs` is T, and it adds 10 by default.

    Raises:
        RecipeError: the peak is not positive or is below one of the other rates, or warmup and cooldown leave no epoch.

    Source: timm 0.5.4, `scheduler/cosine_lr.py` with `warmup_prefix=False`, its default.
    """

    learning_rate: float
    num_epochs: float
    steps_per_epoch: int
    warmup_epochs: int = 0
    warmup_learning_rate: float = 1e-4
    min_learning_rate: float = 1e-6
    cooldown_epochs: int = 0

    def __post_init__(self) -> None:
        _check_learning_rate(self.learning_rate)
        starts = {"min": self.min_learning_rate, "warmup": self.warmup_learning_rate if self.warmup_epochs else 0}
        for name, rate in starts.items():
            if rate > self.learning_rate:
                raise RecipeError(
                    f"schedule.{name}_learning_rate is {rate:g}, above the peak of {self.learning_rate:g}: "
                    "the rate would move the wrong way; lower it"
                )
        _check_warmup(self.warmup_epochs, self.num_epochs - self.cooldown_epochs, "epochs before the cooldown")

    def __call__(self, step: int) -> float:
        """Return the learning rate of update `step`: that of its epoch."""
        epoch = step // self.steps_per_epoch
        if epoch < self.warmup_epochs:
            rise = (self.learning_rate - self.warmup_learning_rate) / self.warmup_epochs
            return self.warmup_learning_rate + epoch * rise
        before_cooldown = self.num_epochs - self.cooldown_epochs
        if epoch >= before_cooldown:
            return self.min_learning_rate
        height = 0.5 * (1 + math.cos(math.pi * epoch / before_cooldown))
        return self.min_learning_rate + height * (self.learning_rate - self.min_learning_rate)


def build_schedule(spec: ScheduleSpec, peak: float, epochs: Duration, steps_per_epoch: int) -> Schedule:
    """Return the schedule that a recipe asks for.

    Args:
        spec: its kind and durations.
        peak: the peak learning rate.
        epochs: length of the whole run.
        steps_per_epoch: optimizer steps.

    Raises:
        RecipeError: the durations do not fit together, or a schedule that changes once an epoch is given a warmup or
            cooldown that is not a whole number of them.
    """
    num_steps, warmup_steps = epochs.steps(steps_per_epoch), spec.warmup.steps(steps_per_epoch)
    if spec.kind == "step":
        milestones = tuple(milestone.steps(steps_per_epoch) for milestone in spec.milestones)
        return StepDecay(peak, milestones, warmup_steps, spec.factor)
    if spec.kind == "cosine":
        return Cosine(peak, num_steps, warmup_steps)
    if spec.kind == "linear":
        return Linear(peak, num_steps, warmup_steps)
    return TimmCosine(
        peak,
        num_steps / steps_per_epoch,
        steps_per_epoch,
        _whole_epochs("warmup", spec.warmup, steps_per_epoch),
        spec.warmup_learning_rate,
        spec.min_learning_rate,
        _whole_epochs("cooldown", spec.cooldown, steps_per_epoch),
    )


def scaled_learning_rate(
    global_batch_size: int, base: float = 0.1, base_batch_size: int = 256, scaling: Scaling = "linear"
) -> float:
    """Return the learning rate for a global batch.

    Args:
        global_batch_size: rows of one optimizer step over all ranks.
        base: the learning rate at `base_batch_size` rows.
        base_batch_size: see `base`.
        scaling: `linear` in the batch, by its square root (`sqrt`), or not at all (`none`).

    Source: linear: BoT section 3.1 (0.1 per 256); Goyal et al., arXiv 1706.02677. sqrt: You et al., arXiv 1904.00962
        (LAMB); of the published runs of RSB's A2, those at 1024 and 256 follow it roughly.
    """
    ratio = global_batch_size / base_batch_size
    return base * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[scaling]


def warmup(step: int, num_steps: int, learning_rate: float) -> float:
    """Return the rate of a step of the warmup: batch i of m trains at i * eta / m.

    The paper counts i from 1 to m: step 0 is i = 1, so no step is wasted at rate 0 and the warmup's last step has eta.

    Source: BoT section 3.1, "learning rate warmup"; Goyal et al., arXiv 1706.02677.
    """
    return (step + 1) * learning_rate / num_steps


def _check_learning_rate(learning_rate: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise RecipeError(f"the learning rate is {learning_rate}: it must be positive and finite")


def _check_warmup(length: int, whole: float, unit: str) -> None:
    if not 0 <= length < whole:
        raise RecipeError(
            f"schedule.warmup is {length} of {whole:g} {unit}: it must leave some; shorten it "
            "(schedule.warmup=0 is none) or train longer"
        )


def _whole_epochs(key: str, duration: Duration, steps_per_epoch: int) -> int:
    """Return a duration in epochs.

    Raises:
        RecipeError: it is not a whole number of them.
    """
    epochs = duration.value / (1 if duration.unit == "epochs" else steps_per_epoch)
    if not epochs.is_integer():
        raise RecipeError(
            f"schedule.{key} is {duration}: a timm_cosine changes the rate once an epoch "
            f"({steps_per_epoch} steps here), so it must be whole epochs; kind = cosine changes it every step"
        )
    return int(epochs)
