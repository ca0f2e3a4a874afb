"""Parameter groups: which parameters decay, and what all of them share."""

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


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every parameter group, for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def match_layouts(optimizer: torch.optim.Optimizer) -> None:
    """Give moments of any memory format, as a checkpoint may bring them, the strides of their parameters.

    Fused kernels on a CPU walk raw memory: a contiguous moment beside a channels-last parameter would be read in the
    wrong order, silently.
    """
    for parameter, state in optimizer.state.items():
        for name, moment in state.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(moment)


def _layer_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights of convolutions and FC layers; attention's fused input projection is an FC layer."""
    weights = [module.weight for module in model.modules() if isinstance(module, _ConvNd | nn.Linear | nn.Bilinear)]
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    projections = [getattr(attention, name) for attention in attentions for name in names]
    return weights + [weight for weight in projections if weight is not None]
