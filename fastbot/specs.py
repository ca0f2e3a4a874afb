"""The tables of a recipe besides its data half: frozen, typed, and refusing what has no meaning.

A table whose keys depend on a choice is a union told apart by `kind`; each kind has only the keys that it uses.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from fastbot.schedules import Scaling, scaled_learning_rate
from pipelines.spec import Factor, Frozen, Probability

_DURATION = re.compile(r"^(?P<value>\d+(\.\d+)?)( (?P<unit>epochs?|steps?))?$")

_Value = TypeVar("_Value")

# TOML has no null: "none" switches off what a default or a parent switches on.
Switchable = Annotated[_Value | None, BeforeValidator(lambda raw: None if raw == "none" else raw)]

Beta = Annotated[float, Field(ge=0, lt=1)]


class Duration(Frozen):
    """A length of training, written as a number of epochs (`5`, `"0.5 epochs"`) or of steps (`"500 steps"`)."""

    value: Annotated[float, Field(ge=0)]
    unit: Literal["epochs", "steps"] = "epochs"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: object) -> object:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            return raw
        match = _DURATION.match(str(raw).strip())
        if match is None:
            raise ValueError(f'{raw!r} is not a duration: write epochs (5) or steps ("500 steps")')
        unit = match["unit"] or "epochs"
        return {"value": float(match["value"]), "unit": unit if unit.endswith("s") else unit + "s"}

    def steps(self, steps_per_epoch: int) -> int:
        """Return the duration in whole optimizer steps, rounded to the nearest."""
        return round(self.value * (steps_per_epoch if self.unit == "epochs" else 1))

    def __str__(self) -> str:
        # All digits and no exponent: run folders keep durations as text, which is parsed again.
        return f"{Decimal(repr(self.value)).normalize():f} {self.unit}"


class ModelSpec(Frozen):
    """Which network, how its weights start, and what is changed in it.

    Attributes:
        name: `resnet50d` and the like, `inception_v3`, `mobilenet`, `torchvision:NAME` or `timm:NAME`.
        init: `paper` (BoT: Xavier uniform by channel counts), `gluoncv` (its code's MSRAPrelu), `kaiming`
            (torchvision's fan-out normal), or `default` (what the model's own code does).
        zero_gamma: BoT section 3.1: gamma = 0 in the last batch norm of each residual branch.
        drop_path: stochastic depth: the probability that the last residual branch is dropped, for each sample; those
            before it linearly less, the first never.
        dropout: before the classifier; none leaves the model its own (0.5 in Inception-V3, none in ResNets).
        blur_pool: blur before every strided convolution of 16 channels or more, as FFCV's recipes do.
        aux_weight: Inception-V3: the weight of the loss of its auxiliary head; 0 builds none, as GluonCV does.
        bn_batch: the pictures a batch norm normalizes over in training: those of a micro-batch of one rank, or groups
            of so many inside it (the same groups on any number of ranks), or all of the step's (`sync`).
    """

    name: str = "resnet50v1"
    init: Literal["paper", "gluoncv", "kaiming", "default"] = "paper"
    zero_gamma: bool = False
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Switchable[Annotated[float, Field(ge=0, lt=1)]] = None
    blur_pool: bool = False
    aux_weight: Factor = 0.0
    bn_batch: Literal["micro_batch", "sync"] | PositiveInt = "micro_batch"


class _OptimizerSpec(Frozen):
    """What all optimizers share.

    Attributes:
        learning_rate: the peak; None derives it from the global batch.
        base_learning_rate, base_batch_size: the peak is the first at a global batch of the second.
        scaling: how it follows another global batch: `linear` (BoT section 3.1) or `sqrt`, or not at all (`none`).
        weight_decay: the factor of decaying parameters.
        bias_decay: decay biases and norms too; False is BoT's "no bias decay".
    """

    learning_rate: PositiveFloat | None = None
    base_learning_rate: PositiveFloat = 0.1
    base_batch_size: PositiveInt = 256
    scaling: Scaling = "linear"
    weight_decay: Factor = 1e-4
    bias_decay: bool = True

    def peak(self, global_batch_size: int) -> float:
        """Return the peak learning rate for a global batch."""
        if self.learning_rate is not None:
            return self.learning_rate
        return scaled_learning_rate(global_batch_size, self.base_learning_rate, self.base_batch_size, self.scaling)


class NagSpec(_OptimizerSpec):
    """Nesterov accelerated gradient, as BoT trains with; its text names neither momentum nor weight decay."""

    kind: Literal["nag"] = "nag"
    momentum: Probability = 0.9
    nesterov: bool = True

    @model_validator(mode="after")
    def _meaningful(self) -> NagSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true has no meaning with momentum = 0: take nesterov = false")
        return self


class LambSpec(_OptimizerSpec):
    """LAMB as timm 0.5.4 defines it, RSB's optimizer; parameters that do not decay have no trust ratio either.

    Attributes:
        max_grad_norm: one norm over all gradients, clipped to this before anything else, or none; RSB's "no gradient
            clipping" is about a further one.
        trust_clip: bound the trust ratio by 1 (timm's `lambc`).
    """

    kind: Literal["lamb"] = "lamb"
    base_learning_rate: PositiveFloat = 5e-3
    base_batch_size: PositiveInt = 2048
    scaling: Scaling = "sqrt"
    weight_decay: Factor = 0.02
    bias_decay: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: PositiveFloat = 1e-6
    max_grad_norm: Switchable[PositiveFloat] = 1.0
    trust_clip: bool = False


class AdamWSpec(_OptimizerSpec):
    """AdamW: weight decay beside the gradient, times the learning rate."""

    kind: Literal["adamw"] = "adamw"
    base_learning_rate: PositiveFloat = 1e-3
    base_batch_size: PositiveInt = 1024
    scaling: Scaling = "sqrt"
    weight_decay: Factor = 0.05
    bias_decay: bool = False
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


OptimizerSpec = NagSpec | LambSpec | AdamWSpec


class NoClip(Frozen):
    """Gradients are used as they are."""

    kind: Literal["none"] = "none"


class NormClip(Frozen):
    """Gradients are scaled down so that one norm over all of them is at most `max_norm`."""

    kind: Literal["norm"] = "norm"
    max_norm: PositiveFloat = 1.0


class ValueClip(Frozen):
    """Each gradient's elements are bounded to [-max_value, max_value]."""

    kind: Literal["value"] = "value"
    max_value: PositiveFloat = 1.0


class AdaptiveClip(Frozen):
    """AGC: each output unit's gradient norm is bounded by `factor` times the norm of its weights.

    Attributes:
        factor: of the weights' norm.
        eps: the least norm weights are taken to have.
        classifier: clip the last layer too; NFNets' authors leave it out.

    Source: Brock et al. 2021, arXiv 2102.06171; timm's `adaptive_clip_grad`.
    """

    kind: Literal["agc"] = "agc"
    factor: PositiveFloat = 0.01
    eps: PositiveFloat = 1e-3
    classifier: bool = False


ClipSpec = NoClip | NormClip | ValueClip | AdaptiveClip


class EmaSpec(Frozen):
    """An exponential moving average of the weights, which is what gets evaluated and exported.

    Attributes:
        decay: what it keeps of itself in every step.
        every: steps between two updates; each then keeps decay ** every.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.9999
    every: PositiveInt = 1


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
