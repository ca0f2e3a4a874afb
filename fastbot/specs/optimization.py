"""How weights move: optimizer, bounds on gradients, averages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from fastbot.schedules import Scaling, scaled_learning_rate
from fastbot.specs.values import Beta, Switchable
from pipelines.spec import Factor, Frozen, Probability


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
