"""Nesterov accelerated gradient (NAG) as the papers' code has it, and its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd


def parameter_groups(model: nn.Module, weight_decay: float, bias_decay: bool) -> list[dict[str, Any]]:
    """Split trainable parameters into those that decay and those that do not.

    Without `bias_decay`, weight decay applies to the weights of convolutions and fully connected layers only:
    biases, batch norm's gammas and betas, and everything else are spared. The split goes by module type, not by
    parameter name, so a batch norm is recognized wherever it stands (`downsample.1.weight`).

    Args:
        model: any module; frozen parameters are left out, shared ones appear once.
        weight_decay: the L2 factor of decaying parameters.
        bias_decay: let every parameter decay.

    Returns:
        torch parameter groups, in the order of `model.parameters()`: the decaying one, and where something is
        spared, the one with weight decay 0.

    Source: BoT section 3.1, "no bias decay". timm goes by shape and name instead (1-D or ending in `.bias`).
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decaying = {id(parameter) for parameter in (trainable if bias_decay else _layer_weights(model))}
    groups = [
        {"params": [p for p in trainable if id(p) in decaying], "weight_decay": weight_decay},
        {"params": [p for p in trainable if id(p) not in decaying], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def nag(
    model: nn.Module, learning_rate: float, momentum: float = 0.9, weight_decay: float = 1e-4, bias_decay: bool = True
) -> torch.optim.SGD:
    """Return Nesterov SGD over a model's parameters, fused, so that loss scaling can stay on the device.

    Weight decay joins the gradient *before* momentum (L2, not decoupled) and the learning rate stays outside the
    momentum buffer. Build it once the model is on its device and in its memory format.

    Args:
        model: floating-point parameters on one device.
        learning_rate: the first step's; schedules overwrite it through `set_learning_rate`.
        momentum: m; BoT's text names none, 0.9 is GluonCV's default and in all its logs.
        weight_decay: the L2 factor; BoT's text names none, 1e-4 is GluonCV's default and in all its logs.
        bias_decay: False for the paper's "no bias decay", see `parameter_groups`.

    Source: BoT section 2.1; MXNet 1.3 `optimizer.py`, class NAG: mom = m * mom + (g + wd * w);
        w -= lr * ((g + wd * w) + m * mom).
    """
    optimizer = torch.optim.SGD(
        parameter_groups(model, weight_decay, bias_decay),
        lr=learning_rate,
        momentum=momentum,
        nesterov=True,
        # On a CPU of 2 cores fused is also 5 times faster than the default loop (ResNet-50: 15 against 82 ms).
        fused=True,
    )
    _start_momentum_at_zero(optimizer)
    optimizer.register_load_state_dict_post_hook(_match_layouts)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group, for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _layer_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights of convolutions and FC layers; attention's fused input projection is an FC layer."""
    weights = [module.weight for module in model.modules() if isinstance(module, _ConvNd | nn.Linear | nn.Bilinear)]
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    projections = [getattr(attention, name) for attention in attentions for name in names]
    return weights + [weight for weight in projections if weight is not None]


def _start_momentum_at_zero(optimizer: torch.optim.SGD) -> None:
    """Give every parameter a momentum buffer of zeros.

    From zero, the first step sets buffer = gradient, as torch's first step does. Left to itself, fused SGD allocates
    the buffers *uninitialized* in its first step and, where loss scaling makes it skip that step (common: the first
    scales overflow), takes whatever memory held for momentum in the second.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded momentum buffers the strides of their parameters.

    Fused SGD on a CPU walks raw memory: a contiguous buffer beside a channels-last parameter would be read in the
    wrong order, silently.
    """
    for parameter, state in optimizer.state.items():
        buffer = state["momentum_buffer"]
        if buffer.stride() != parameter.stride():
            state["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
