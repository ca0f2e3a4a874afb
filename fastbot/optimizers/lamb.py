"""LAMB as timm 0.5.4 defines it, in a number of kernels that does not grow with the number of parameters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from fastbot.errors import ModelError, RecipeError
from fastbot.optimizers.groups import match_layouts, parameter_groups

# Elements of a row of `Updates`. A parameter wastes half a row on average.
_ROW = 1024


def lamb(
    model: nn.Module,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.02,
    bias_decay: bool = False,
    *,
    max_grad_norm: float | None = 1.0,
    trust_clip: bool = False,
) -> Lamb:
    """Return LAMB over a model's parameters; build it once the model is on its device and in its memory format.

    Args:
        model: floating-point parameters of one type on one device.
        learning_rate: the first step's; schedules overwrite it through `set_learning_rate`.
        betas, eps, max_grad_norm, trust_clip: see `Lamb`.
        weight_decay: of decaying parameters.
        bias_decay: let every parameter decay, see `parameter_groups`; what decays has a trust ratio too.

    Raises:
        ModelError: parameters of several types or on several devices.
    """
    groups = parameter_groups(model, weight_decay, bias_decay)
    return Lamb(groups, learning_rate, betas, eps, max_grad_norm=max_grad_norm, trust_clip=trust_clip)


class Lamb(torch.optim.Optimizer):
    """LAMB: Adam's direction, with decay added, made as long as the weights of each parameter.

    With gradients g divided by max(1, |g| / max_grad_norm), |g| one norm over all of them, for each parameter w:

        m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
        u = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w
        w -= lr (|w| / |u|) u

    The trust ratio |w| / |u| is 1 where either norm is 0, and in groups with weight decay 0.

    Moments and directions are computed by torch's fused Adam, which does nothing where `found_inf` is 1. A step may
    divide the gradients in place (`grad_scale`, clipping), as timm's does.

    Args:
        params: parameters, or groups of them with a `weight_decay` each; one type, one device.
        lr: the learning rate.
        betas: what the moments keep of themselves in each step.
        eps: added to the root of the second moment.
        weight_decay: of groups that name none.
        max_grad_norm: one norm over all gradients is clipped to this first; None does not clip. As with every other
            setting, that of a state that is loaded replaces it: timm keeps it apart from the groups, and out of states.
        trust_clip: bound the trust ratio by 1 (timm's `lambc`).

    Raises:
        ModelError: parameters of several types or on several devices.
        RecipeError: groups with several `max_grad_norm`.

    Source: timm 0.5.4, `optim/lamb.py`, with its defaults (bias correction, averaging of gradients, no ratio without
        decay); You et al., arXiv 1904.00962, algorithm 2.
    """

    # torch's loss scaler then hands its tensors over, and leaves unscaling and skipping to `step`.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.02,
        *,
        max_grad_norm: float | None = 1.0,
        trust_clip: bool = False,
    ) -> None:
        self._updates: dict[int, Updates] = {}
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"max_grad_norm": max_grad_norm, "trust_clip": trust_clip})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take in a group, its moments and its count of steps at zero."""
        super().add_param_group(param_group)
        _refuse_mixed([parameter for group in self.param_groups for parameter in group["params"]])
        group = self.param_groups[-1]
        _refuse_another_bound(group["max_grad_norm"], self.param_groups[0]["max_grad_norm"])
        group["step"] = torch.zeros((), device=group["params"][0].device)
        for parameter in group["params"]:
            self.state[parameter] = {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from a state that was loaded, unpickled or copied, in whatever layout and on whatever device it was."""
        super().__setstate__(state)
        self._updates = {}
        match_layouts(self)
        for group in self.param_groups:
            group["step"] = group["step"].to(group["params"][0].device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters, without a host synchronization.

        Args:
            closure: computes the loss and the gradients anew first.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        divisor = self._divisor(grad_scale)
        for index, group in enumerate(self.param_groups):
            group["step"].add_(1 if found_inf is None else 1 - found_inf)
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["weight_decay"] == 0:
                self._adam(group, parameters, parameters, group["lr"], divisor, found_inf)
            else:
                self._adapted(index, parameters, divisor, found_inf)
        return loss

    def _divisor(self, grad_scale: Tensor | None) -> Tensor | None:
        """Return what gradients must be divided by: the loss scale, times what their true norm exceeds the bound."""
        bound = self.param_groups[0]["max_grad_norm"]  # the same in all groups
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if bound is None or not gradients:
            return grad_scale
        norm = _total_norm(gradients)
        if grad_scale is None:
            return norm.div_(bound).clamp_(min=1)
        return norm.div_(grad_scale * bound).clamp_(min=1).mul_(grad_scale)

    def _adam(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        into: list[Tensor],
        learning_rate: float,
        divisor: Tensor | None,
        found_inf: Tensor | None,
    ) -> None:
        """Update the moments of `parameters`, and subtract learning_rate times Adam's direction from `into`."""
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            into,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [group["step"]] * len(parameters),
            lr=learning_rate,
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=divisor,
            found_inf=found_inf,
        )

    def _adapted(self, index: int, parameters: list[Tensor], divisor: Tensor | None, found_inf: Tensor | None) -> None:
        """Step a group whose updates are scaled by trust ratios."""
        group = self.param_groups[index]
        updates = self._updates.get(index)
        if updates is None or not updates.belong_to(parameters):
            updates = self._updates[index] = Updates(parameters)
        updates.start_at(parameters, group["weight_decay"])
        self._adam(group, parameters, updates.views, -1.0, divisor, found_inf)
        steps = _trust_ratios(parameters, updates.views, group["trust_clip"]).mul_(-group["lr"])
        # Zero, not minus zero: then the addition below changes no bit, as the updates are still weight_decay * w.
        updates.scale(steps if found_inf is None else steps.masked_fill_(found_inf > 0, 0.0))
        torch._foreach_add_(parameters, updates.views)


class Updates:
    """One tensor for each of some parameters, all in one block of memory, so that one kernel scales each by its own.

    torch has no multi-tensor kernel that multiplies by a factor for each tensor that is on the device. Here each row
    of the block belongs to one parameter, and rows are multiplied by a column.

    Attributes:
        views: like the parameters, in shape and strides.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        rows = [-(-parameter.numel() // _ROW) for parameter in parameters]
        starts = [0, *accumulate(rows)]
        first = parameters[0]
        self._ids = [id(parameter) for parameter in parameters]
        self._block = first.new_zeros((starts[-1], _ROW))
        self._owners = torch.arange(len(rows)).repeat_interleave(torch.tensor(rows)).to(first.device)
        self.views = [
            self._block.as_strided(parameter.shape, parameter.stride(), start * _ROW)
            for parameter, start in zip(parameters, starts, strict=False)
        ]

    def belong_to(self, parameters: list[Tensor]) -> bool:
        """Return whether it was made for exactly these."""
        return self._ids == [id(parameter) for parameter in parameters]

    def start_at(self, parameters: list[Tensor], factor: float) -> None:
        """Set each to its parameter times `factor`."""
        torch._foreach_copy_(self.views, parameters)
        self._block.mul_(factor)

    def scale(self, factors: Tensor) -> None:
        """Multiply each by its own factor, of a 1-D tensor on the device."""
        self._block.mul_(factors[self._owners].unsqueeze(1))


def _trust_ratios(parameters: list[Tensor], updates: list[Tensor], clip: bool) -> Tensor:
    weight_norms = torch.stack(torch._foreach_norm(parameters))
    update_norms = torch.stack(torch._foreach_norm(updates))
    measurable = (weight_norms > 0) & (update_norms > 0)
    ratios = torch.where(measurable, weight_norms / update_norms, 1.0)
    return ratios.clamp_(max=1) if clip else ratios


def _total_norm(tensors: list[Tensor]) -> Tensor:
    """Return one float32 norm over all elements; float32 is what fused kernels take a divisor in."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm.float()


def _refuse_mixed(parameters: list[Tensor]) -> None:
    kinds = sorted({f"{parameter.dtype} on {parameter.device}" for parameter in parameters})
    if len(kinds) > 1:
        raise ModelError(
            f"LAMB found parameters that are {', '.join(kinds)}: it computes with one type on one device. "
            "Move the model with model.to(device, dtype)"
        )


def _refuse_another_bound(bound: float | None, first: float | None) -> None:
    if bound != first:
        raise RecipeError(
            f"max_grad_norm is {bound} in one group of LAMB's parameters and {first} in the first: one norm over all "
            "gradients is clipped. Give all groups the same"
        )
