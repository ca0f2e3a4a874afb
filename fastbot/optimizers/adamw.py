"""AdamW: Adam with weight decay beside the gradient."""

from __future__ import annotations

import torch
from torch import nn

from fastbot.optimizers.groups import match_layouts, parameter_groups


def adamw(
    model: nn.Module,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.05,
    bias_decay: bool = False,
) -> torch.optim.AdamW:
    """Return AdamW over a model's parameters, fused, so that loss scaling can stay on the device.

    Fused AdamW begins its moments and counts at zero itself, and takes a skipped step back from the counts.

    Args:
        model: floating-point parameters on one device.
        learning_rate: the first step's; schedules overwrite it through `set_learning_rate`.
        betas: what the moments keep of themselves in each step.
        eps: added to the root of the second moment.
        weight_decay: times the learning rate, what a decaying parameter loses of itself in each step.
        bias_decay: let every parameter decay, see `parameter_groups`.

    Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; `torch.optim.AdamW`.
    """
    groups = parameter_groups(model, weight_decay, bias_decay)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=eps, fused=True)
    optimizer.register_load_state_dict_post_hook(match_layouts)
    return optimizer
