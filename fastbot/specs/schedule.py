"""The learning rate over time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from fastbot.specs.values import Duration
from pipelines.spec import Factor, Frozen


class StepDecay(Frozen):
    """The learning rate falls by `factor` at each of `milestones` (counted from the start of training)."""

    kind: Literal["step"] = "step"
    warmup: Duration = Duration(value=0)
    milestones: tuple[Duration, ...] = (Duration(value=30), Duration(value=60), Duration(value=90))
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Cosine(Frozen):
    """BoT equation 1, without the warmup: from the peak to 0 over what follows the warmup."""

    kind: Literal["cosine"] = "cosine"
    warmup: Duration = Duration(value=5)


class TimmCosine(Frozen):
    """timm 0.5.4's cosine: constant within an epoch, and not shifted by the warmup, which merely hides its beginning.

    Attributes:
        warmup: in epochs, linear from `warmup_learning_rate` to the peak.
        warmup_learning_rate: of the first epoch, where there is a warmup.
        min_learning_rate: where the cosine ends.
        cooldown: epochs at `min_learning_rate` at the end; the recipe's `epochs` counts them. timm 0.5.4 itself
            *adds* 10 to `--epochs` unless told otherwise.
    """

    kind: Literal["timm_cosine"] = "timm_cosine"
    warmup: Duration = Duration(value=5)
    warmup_learning_rate: PositiveFloat = 1e-4
    min_learning_rate: Factor = 1e-6
    cooldown: Duration = Duration(value=0)


class Linear(Frozen):
    """Up to the peak over the warmup, and down to 0 at the end, both in straight lines, as FFCV's recipes do."""

    kind: Literal["linear"] = "linear"
    warmup: Duration = Duration(value=2)


ScheduleSpec = StepDecay | Cosine | TimmCosine | Linear
