"""Small host arrays to the device: one asynchronous copy each."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return a copy of a small array on `device`, without waiting for it to arrive.

    On CUDA the copy leaves from pinned memory; torch's pinned allocator does not hand that memory out again before
    the copy is done. On the CPU the tensor shares the array's memory.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
