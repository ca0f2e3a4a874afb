"""What a network does to one image in training, operation by operation: multiply-adds, elements read and written.

Nothing is computed and nothing is timed: the network is run once on the meta device.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fastbot.errors import ModelError

Kind = Literal["convolution", "linear", "batch norm", "activation", "addition", "pooling", "other"]

# PyTorch's operations by name, without the underscore that those in place end in.
_KINDS: Mapping[str, Kind] = {
    "convolution": "convolution",
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update"), "batch norm"),
    **dict.fromkeys(("relu", "hardtanh", "leaky_relu", "gelu", "silu", "sigmoid", "mish"), "activation"),
    **dict.fromkeys(("hardswish", "hardsigmoid"), "activation"),
    "add": "addition",
    **dict.fromkeys(("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "mean"), "pooling"),
}
# Batch norm in training needs two values of each channel, and a small image leaves it one.
_ROWS = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation of a forward pass, per image.

    Attributes:
        kind: what it is; `linear` is every product of matrices.
        multiply_adds: of convolutions and products of matrices; 0 for all else.
        read, written: elements of activations, each input and each output once. Weights are not among them.
        takes_images: whether its input is the batch of images itself, which needs no gradient.
        is_absorbed: an activation right behind a batch norm or an addition, which is done by the same kernel.
    """

    kind: Kind
    multiply_adds: int
    read: int
    written: int
    takes_images: bool = False
    is_absorbed: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """The layers of a model, in the order in which they run.

    Attributes:
        layers: of a forward pass in training.
        parameters: numbers that are learned.
    """

    layers: tuple[Layer, ...]
    parameters: int

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of a forward pass, per image."""
        return sum(layer.multiply_adds for layer in self.layers)


def trace(model: nn.Module, size: int) -> Network:
    """Return the layers of a model in training.

    Args:
        model: on any device; not changed.
        size: height and width of its images, in pixels.

    Raises:
        ModelError: the model cannot take images of this size.
    """
    replica = copy.deepcopy(model).to("meta").train()
    images = torch.empty(_ROWS, 3, size, size, device="meta")
    recorder = _Recorder(replica, images)
    try:
        with torch.no_grad(), recorder:
            replica(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{type(model).__name__} cannot be run on images of {size} pixels: {error}. Take a larger size"
        ) from error
    return Network(tuple(recorder.layers), sum(parameter.numel() for parameter in replica.parameters()))


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the operations that move activations; views move nothing."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[Layer] = []
        self._images = _storage(images)
        self._own = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._alive: list[Tensor] = []  # storages are told apart by address: none may be freed and used again

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self._alive += [*_tensors(out)]
        inputs = [tensor for tensor in _tensors(args) if _storage(tensor) not in self._own]
        outputs = [tensor for tensor in _tensors(out) if tensor.dim() > 1]
        is_view = not func._schema.is_mutable and {*map(_storage, outputs)} & {*map(_storage, inputs)}
        if inputs and outputs and not is_view:
            flops = flop_registry.get(func.overloadpacket)
            multiply_adds = flops(*args, **(kwargs or {}), out_val=out) // 2 if flops else 0
            self._record(func.overloadpacket.__name__, multiply_adds, inputs, outputs)
        return out

    def _record(self, name: str, multiply_adds: int, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        kind: Kind = _KINDS.get(name.removesuffix("_"), "linear" if multiply_adds else "other")
        if kind == "addition" and len(inputs) == 1:  # of a number, or of something learned
            kind = "other"
        before = self.layers[-1].kind if self.layers else "other"
        self.layers.append(
            Layer(
                kind,
                multiply_adds // _ROWS,
                sum(tensor.numel() for tensor in inputs) // _ROWS,
                sum(tensor.numel() for tensor in outputs) // _ROWS,
                takes_images=any(_storage(tensor) == self._images for tensor in inputs),
                is_absorbed=kind == "activation" and before in ("batch norm", "addition"),
            )
        )


def _tensors(values: Any) -> Iterator[Tensor]:
    """Yield the tensors that hold activations, or could: those of numbers with a fraction."""
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.is_floating_point())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
