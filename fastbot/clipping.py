"""Bounds on gradients, between backward and the optimizer's step, without a host synchronization.

A clip takes the loss scale off first, so that its bound is about the true gradients. That is also when the scaler looks
for what is not finite: no clip can hide an overflow from it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Protocol

import torch
from torch import Tensor, nn

from fastbot import specs
from fastbot.errors import ModelError

# The least gradient norm a bound is divided by. Source: timm 0.5.4, `adaptive_clip_grad`.
_MIN_GRADIENT_NORM = 1e-6


class Clip(Protocol):
    """Changes the gradients of an optimizer's parameters in place."""

    def __call__(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """Bound the gradients.

        Args:
            scaler: whose scale the gradients carry; one that looks at them takes it off first (`unscale_`).
            optimizer: whose gradients.
        """
        ...


class NoClip:
    """Gradients stay as they are."""

    def __call__(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """Do nothing."""


class NormClip:
    """All gradients are scaled by one factor, so that one norm over all of them is at most `max_norm`."""

    def __init__(self, max_norm: float) -> None:
        self._max_norm = max_norm

    def __call__(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """Bound the gradients' norm."""
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(_with_gradients(optimizer), self._max_norm)


class ValueClip:
    """Each element of a gradient is bounded to [-max_value, max_value]."""

    def __init__(self, max_value: float) -> None:
        self._max_value = max_value

    def __call__(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """Bound the gradients' elements."""
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_value_(_with_gradients(optimizer), self._max_value)


class AdaptiveClip:
    """AGC: the gradient norm of each output unit is bounded by `factor` times the norm of the unit's weights.

    A unit is a row along a weight's first axis, or the whole of a bias, gamma or beta. Three kernels for each parameter
    (two norms and the scaling), and a few for all: torch has no multi-tensor norm by rows.

    Args:
        factor: of the weights' norm.
        eps: the least norm weights are taken to have.
        exclude: parameters whose gradients stay as they are.

    Source: Brock et al. 2021, arXiv 2102.06171, equation 3; timm 0.5.4, `adaptive_clip_grad`.
    """

    def __init__(self, factor: float, eps: float, exclude: Collection[nn.Parameter] = ()) -> None:
        self._factor, self._eps = factor, eps
        self._excluded = {id(parameter) for parameter in exclude}

    @torch.no_grad()
    def __call__(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """Bound the gradients' norms, unit by unit."""
        scaler.unscale_(optimizer)
        parameters = [p for p in _with_gradients(optimizer) if id(p) not in self._excluded]
        if not parameters:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = torch.cat([_unit_norms(gradient) for gradient in gradients])
        bounds = torch.cat([_unit_norms(parameter) for parameter in parameters])
        bounds.clamp_(min=self._eps).mul_(self._factor)
        factors = torch.where(norms < bounds, 1.0, bounds / norms.clamp(min=_MIN_GRADIENT_NORM))
        units = [_unit_shape(gradient) for gradient in gradients]
        split = torch.split(factors, [math.prod(shape) for shape in units])
        torch._foreach_mul_(gradients, [factor.view(shape) for factor, shape in zip(split, units, strict=True)])


def build_clip(spec: specs.ClipSpec, model: nn.Module) -> Clip:
    """Return what bounds the gradients of a model.

    Raises:
        ModelError: AGC without the classifier, and no classifier is to be found.
    """
    if isinstance(spec, specs.NormClip):
        return NormClip(spec.max_norm)
    if isinstance(spec, specs.ValueClip):
        return ValueClip(spec.max_value)
    if isinstance(spec, specs.AdaptiveClip):
        layers = [] if spec.classifier else [model.get_submodule(name) for name in classifier_names(model)]
        return AdaptiveClip(spec.factor, spec.eps, [p for layer in layers for p in layer.parameters()])
    return NoClip()


def classifier_names(model: nn.Module) -> list[str]:
    """Return the name of a model's last layer: what timm's `get_classifier` returns, or the last fully connected one.

    Layers are taken in the order in which the model registers them. timm 0.5.4 itself (`exclude_head`) takes the last
    two *parameters*, whatever they belong to.

    Returns:
        One name; two for timm's models that end in a pair of heads.

    Raises:
        ModelError: there is no such layer.
    """
    last = getattr(model, "get_classifier", lambda: None)()
    if last is None:
        last = ([None] + [module for module in model.modules() if isinstance(module, nn.Linear)])[-1]
    ends = last if isinstance(last, tuple) else (last,)
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    if not names:
        raise ModelError(
            f"clip.classifier is false, and {type(model).__name__} has no fully connected layer to leave out: "
            "set clip.classifier to true, or clip by norm or value"
        )
    return names


def _with_gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def _unit_norms(tensor: Tensor) -> Tensor:
    """Return the norms of a parameter's or gradient's units, 1-D."""
    axes = tuple(range(1, tensor.ndim)) or None
    norms: Tensor = torch.linalg.vector_norm(tensor, dim=axes)
    return norms.view(-1)


def _unit_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape that units' factors need for multiplying their tensor."""
    return (tensor.shape[0], *[1] * (tensor.ndim - 1)) if tensor.ndim > 1 else (1,)
