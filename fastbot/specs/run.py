"""Arithmetic, record keeping, and what the source of a recipe reports."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from fastbot.specs.values import Duration
from pipelines.spec import Frozen, Probability


class PrecisionSpec(Frozen):
    """Arithmetic of the step: `fp32` (with TF32 matrix units on or off), `fp16` with loss scaling, or `bf16`."""

    kind: Literal["fp32", "fp16", "bf16"] = "fp32"
    tf32: bool = False

    @model_validator(mode="after")
    def _meaningful(self) -> PrecisionSpec:
        if self.tf32 and self.kind != "fp32":
            raise ValueError(f"tf32 = true has no effect with kind = {self.kind}: it concerns fp32 only")
        return self


class RunSpec(Frozen):
    """How the run keeps its records; changes nothing about the training itself.

    Attributes:
        log_every: steps between two readings of the on-device metrics.
        checkpoint_minutes, checkpoint_steps: a checkpoint whenever either has passed (and after every evaluation).
        eval_every: how often the validation split is scored; the end always is.
        eval_flip: score the mean of the logits of each picture and of its mirror image.
    """

    log_every: PositiveInt = 20
    checkpoint_minutes: PositiveFloat = 15.0
    checkpoint_steps: PositiveInt | None = None
    eval_every: Duration = Duration(value=1)
    eval_flip: bool = False

    @field_validator("eval_every")
    @classmethod
    def _positive(cls, duration: Duration) -> Duration:
        if duration.value == 0:
            raise ValueError("eval_every must be more than 0")
        return duration


class Paper(Frozen):
    """What the source of a recipe reports, printed beside what the run reaches. Never a gate.

    Attributes:
        row: where it stands, for example `BoT table 4, baseline`.
        bn_batch: pictures a batch norm normalizes over there.
        top1, top5: fractions.
        real, v2: top-1 on ImageNet-ReaL and ImageNet-V2, fractions.
        standing: how these figures are known: `verified` in the source itself, `second_hand` in a transcription or
            another's code, or `unverified`.
    """

    row: str
    bn_batch: PositiveInt | None = None
    top1: Probability | None = None
    top5: Probability | None = None
    real: Probability | None = None
    v2: Probability | None = None
    standing: Literal["verified", "second_hand", "unverified"] = "verified"
