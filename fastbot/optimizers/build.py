"""From a recipe's optimizer table to the optimizer."""

from __future__ import annotations

import torch
from torch import nn

from fastbot.optimizers.adamw import adamw
from fastbot.optimizers.lamb import lamb
from fastbot.optimizers.nag import nag
from fastbot.specs import AdamWSpec, NagSpec, OptimizerSpec


def build_optimizer(spec: OptimizerSpec, learning_rate: float, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a recipe.

    Args:
        spec: which one, and its constants; its own learning rate is not looked at.
        learning_rate: the first step's; schedules overwrite it through `set_learning_rate`.
        model: on its device and in its memory format.

    Raises:
        ModelError: LAMB, and parameters of several types or on several devices.
    """
    decay, bias_decay = spec.weight_decay, spec.bias_decay
    if isinstance(spec, NagSpec):
        return nag(model, learning_rate, spec.momentum, decay, bias_decay, spec.nesterov)
    if isinstance(spec, AdamWSpec):
        return adamw(model, learning_rate, spec.betas, spec.eps, decay, bias_decay)
    return lamb(
        model,
        learning_rate,
        spec.betas,
        spec.eps,
        decay,
        bias_decay,
        max_grad_norm=spec.max_grad_norm,
        trust_clip=spec.trust_clip,
    )
