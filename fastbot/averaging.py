"""An exponential moving average (EMA) of a model's weights, kept on its device."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import nn


class Average(Protocol):
    """Follows a model that is being trained.

    Attributes:
        model: what is evaluated and exported: the average, or the model itself.
    """

    model: nn.Module

    def update(self, step: int) -> None:
        """Take note of the weights after `step` optimizer steps."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average's own weights; nothing where there is no average."""
        ...

    def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        ...


class NoAverage:
    """The model itself."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def update(self, step: int) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return nothing: the weights are the model's."""
        return {}

    def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
        """Accept what `state_dict` returned."""
        assert not weights


class ExponentialAverage:
    """average <- decay * average + (1 - decay) * weights, in a few kernels, without a host synchronization.

    Batch norm's running statistics are averaged likewise; integer buffers are copied.

    Args:
        model: on its device; the average begins as its copy.
        decay: what the average keeps of itself in every step.
        every: steps between two updates; each then keeps decay ** every, so that the horizon stays the same.

    Source: timm 0.5.4, `utils/model_ema.py` (`every` = 1).
    """

    def __init__(self, model: nn.Module, decay: float, every: int) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self._every, self._kept = every, decay**every
        then, now = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in now.items() if tensor.is_floating_point()]
        self._then, self._now = [then[name] for name in floating], [now[name] for name in floating]
        counts = [name for name in now if name not in floating]  # of batches, in batch norms
        self._counts_then, self._counts_now = [then[name] for name in counts], [now[name] for name in counts]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights when it is time."""
        if step % self._every:
            return
        torch._foreach_lerp_(self._then, self._now, 1 - self._kept)
        if self._counts_then:
            torch._foreach_copy_(self._counts_then, self._counts_now)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average's weights."""
        return self.model.state_dict()

    def load_state_dict(self, weights: dict[str, torch.Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        self.model.load_state_dict(weights)


def build_average(model: nn.Module, decay: float | None, every: int = 1) -> Average:
    """Return the average of a model's weights; without a decay, the model itself stands for it."""
    return NoAverage(model) if decay is None else ExponentialAverage(model, decay, every)
