"""Whether a network takes pictures of a size, and so few at a time: tried on shapes alone, where it can be."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.func import functional_call

from fastbot.errors import RunError

# Pictures of more pixels a side are not tried when the least side that a network takes is looked for.
_LARGEST_PX = 512

_REFUSALS = (RuntimeError, ValueError, AssertionError)

# Of a trial that needs memory and arithmetic: a batch norm tells one from several, and no network two from many.
_MOST_REAL_ROWS = 2


def is_of_memory(error: Exception) -> bool:
    """Return whether PyTorch found no memory: for a CPU's it has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def refusal_of(model: nn.Module, rows: int, size: int) -> Exception | None:
    """Return what a network raises for a batch of pictures, or None where it takes it.

    Args:
        model: in the mode to try; left as it is.
        rows: pictures in the batch.
        size: of their sides, in pixels.

    Raises:
        RunError: the device has no memory for two pictures.
    """
    try:
        _run(model, rows, size, torch.device("meta"))
    except _REFUSALS:
        # Some networks read values, which the meta device has none of: what it cannot do is no refusal yet.
        try:
            _run(copy.deepcopy(model), min(rows, _MOST_REAL_ROWS), size, next(model.parameters()).device)
        except _REFUSALS as error:
            if is_of_memory(error):
                raise RunError(
                    f"there is no memory for {type(model).__name__} with two pictures of {size} px: {error}. Give the "
                    "device to this run alone, or choose smaller pictures or a smaller network"
                ) from error
            return error
    return None


def least_size(model: nn.Module, rows: int, size: int) -> int | None:
    """Return the least side above `size`, in pixels, from which on a network takes pictures; None if there is none.

    Args:
        model: in the mode to try; it refuses pictures of `size`.
        rows: pictures in the batch.
        size: in pixels.
    """
    refused, taken = size, _LARGEST_PX
    if taken <= refused or not _takes_shapes(model, rows, taken):
        return None
    while taken - refused > 1:
        middle = (refused + taken) // 2
        if _takes_shapes(model, rows, middle):
            taken = middle
        else:
            refused = middle
    return taken


def _takes_shapes(model: nn.Module, rows: int, size: int) -> bool:
    try:
        _run(model, rows, size, torch.device("meta"))
    except _REFUSALS:
        return False
    return True


@torch.no_grad()
def _run(model: nn.Module, rows: int, size: int, device: torch.device) -> None:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    there = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    images = torch.zeros(rows, 3, size, size, device=device)
    functional_call(model, there if device.type == "meta" else {}, (images,))
