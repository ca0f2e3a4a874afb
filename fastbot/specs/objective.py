"""What is minimized: losses and teachers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from fastbot.specs.values import Switchable
from pipelines.spec import Factor, Frozen


class _LossSpec(Frozen):
    """What both losses share.

    Attributes:
        label_smoothing: epsilon, what is taken from the true class.
        smoothing: who gets it: the K - 1 `others` (BoT equation 4), or `all` K classes, the true one included
            (torch, timm and GluonCV).
    """

    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    smoothing: Literal["others", "all"] = "others"


class CrossEntropySpec(_LossSpec):
    """Cross entropy of the softmax."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class BinaryCrossEntropySpec(_LossSpec):
    """RSB's loss: every class is a yes-or-no question of its own.

    Attributes:
        target_threshold: targets above it become 1, all others 0, so that of two mixed pictures both classes may
            be right. It comes after smoothing, and erases it. none leaves targets as they are.
        reduction: `mean` over batch and classes (timm 0.5.4), or the `sum` over classes of each row.
    """

    kind: Literal["bce"] = "bce"
    smoothing: Literal["others", "all"] = "all"
    target_threshold: Switchable[Annotated[float, Field(ge=0, lt=1)]] = None
    reduction: Literal["mean", "sum"] = "mean"

    @model_validator(mode="after")
    def _meaningful(self) -> BinaryCrossEntropySpec:
        if self.target_threshold is not None and self.label_smoothing > 0:
            raise ValueError(
                f"target_threshold {self.target_threshold} erases label_smoothing {self.label_smoothing}: "
                "targets become 0 or 1. Leave one of them out"
            )
        return self


LossSpec = CrossEntropySpec | BinaryCrossEntropySpec


class NoDistillation(Frozen):
    """No teacher."""

    kind: Literal["none"] = "none"


class TeacherSpec(Frozen):
    """Knowledge distillation, BoT equation 6: a teacher's softened predictions of the same pictures are a target too.

    Attributes:
        teacher: a run folder of `fastbot train` or `fastbot import`, a checkpoint folder in it, or `timm:NAME` or
            `torchvision:NAME` with the weights that library has.
        temperature: T.
        hard_weight, soft_weight: of the loss against the labels, and of T squared times the loss against the teacher.
            Both 1 in the paper; GluonCV's code has 0.5 and 0.5.
        precision: of the teacher's forward; `student` is the step's.
    """

    kind: Literal["teacher"] = "teacher"
    teacher: str
    temperature: PositiveFloat = 20.0
    hard_weight: Factor = 1.0
    soft_weight: PositiveFloat = 1.0
    precision: Literal["student", "fp32", "fp16", "bf16"] = "student"


DistillationSpec = NoDistillation | TeacherSpec
