"""Pixels from the host to the device, without holding up either.

On the CPU there is nothing to do. On CUDA, pixels travel as uint8 (a quarter of float32's bytes) through a small ring
of pinned buffers on a side stream, so that the copy of one batch overlaps the step on another.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Transfer = Callable[[torch.Tensor], torch.Tensor]

# Two buffers: one being filled by the host while the other travels.
_RING = 2


def build_transfer(device: torch.device) -> Transfer:
    """Return what moves a backend's pixels to `device`; a tensor already there passes through."""
    return _PinnedRing(device) if device.type == "cuda" else _stay


def _stay(pixels: torch.Tensor) -> torch.Tensor:
    return pixels


class _PinnedRing:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor] = []
        self._free = [torch.cuda.Event() for _ in range(_RING)]  # type: ignore[no-untyped-call]
        self._turn = 0

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.device.type == self._device.type:
            return pixels
        buffer = self._next_buffer(pixels)
        buffer.copy_(pixels)  # the backend may reuse its own memory from here on
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = buffer.to(self._device, non_blocking=True)
            self._free[self._turn].record(self._stream)
        compute.wait_stream(self._stream)
        moved.record_stream(compute)
        self._turn = (self._turn + 1) % _RING
        return moved

    def _next_buffer(self, like: torch.Tensor) -> torch.Tensor:
        if not self._buffers or self._buffers[0].shape != like.shape:
            self._buffers = [torch.empty(like.shape, dtype=like.dtype, pin_memory=True) for _ in range(_RING)]
        self._free[self._turn].synchronize()  # its previous copy has left; returns at once when never recorded
        return self._buffers[self._turn]
