"""How large a model is: parameters, multiply-adds and activations of one picture."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fastbot.errors import ModelError

_aten = torch.ops.aten
# What fvcore's `ActivationCountAnalysis` counts, and so timm's tables.
_ACTIVATIONS = {_aten.convolution, _aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm}


@dataclass(frozen=True, slots=True)
class Size:
    """What a model takes.

    Attributes:
        parameters: numbers that are learned.
        multiply_adds: of convolutions and matrix products, for one picture; what BoT, like most, calls FLOPs. Batch
            norms, activations, pooling and biases are not counted.
        activations: numbers that convolutions and matrix products put out, for one picture.
    """

    parameters: int
    multiply_adds: int
    activations: int


class _Activations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what convolutions and matrix products put out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in _ACTIVATIONS:
            self.count += out.numel()
        return out


def measure(model: nn.Module, image_size: int, name: str = "the model") -> Size:
    """Count a model's parameters, multiply-adds and activations in evaluation.

    Args:
        model: on any device, also `meta`; not changed. Nothing is computed.
        image_size: height and width of the picture, in pixels.
        name: for the message.

    Returns:
        The counts.

    Raises:
        ModelError: the model cannot take pictures of this size.

    Source: BoT table 5 (multiply-adds, there "FLOPs"); fvcore (activations).
    """
    replica = copy.deepcopy(model).to("meta").eval()
    images = torch.empty(1, 3, image_size, image_size, device="meta")
    operations, activations = FlopCounterMode(display=False), _Activations()
    try:
        with torch.no_grad(), activations, operations:
            replica(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(f"{name} cannot be run on pictures of {image_size} pixels: {error}") from error
    parameters = sum(parameter.numel() for parameter in replica.parameters())
    return Size(parameters, operations.get_total_flops() // 2, activations.count)
