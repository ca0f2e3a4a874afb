"""Pixels from a backend to the device, without holding up either.

On the CPU they stay where they are. On CUDA they travel as uint8 (a quarter of float32's bytes), from pinned memory, on
a stream of their own, so that the copy of one batch overlaps the step on another.

There is no ring of pinned buffers here, for torch's pinned allocator is one: it keeps what was pinned once, and hands a
block out again only when the copies that left from it are done. What a backend pinned itself is not copied on the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch


class Transfer(Protocol):
    """Brings one batch after another to the device; one thread sends, another receives, in turns."""

    @contextmanager
    def requesting(self) -> Iterator[None]:
        """Enter around asking a backend for pixels and sending them: the ones before may be overwritten from now on."""
        ...

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return `pixels` on the device; they may still be on their way."""
        ...

    def receive(self, pixels: torch.Tensor) -> None:
        """Let the current stream wait for what `send` returned."""
        ...

    def release(self) -> None:
        """Let whoever is asked for pixels next wait for what the current stream does with these."""
        ...


def build_transfer(device: torch.device) -> Transfer:
    """Return what moves a backend's pixels to `device`; those already there are not copied."""
    return _ToCuda(device) if device.type == "cuda" else _Stay()


class _Stay:
    @contextmanager
    def requesting(self) -> Iterator[None]:
        yield

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def receive(self, pixels: torch.Tensor) -> None: ...

    def release(self) -> None: ...


class _ToCuda:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._lent = False  # the pixels sent last are the backend's own memory on the device

    @contextmanager
    def requesting(self) -> Iterator[None]:
        self._copied.synchronize()  # returns at once when the last copy is done, as it is after a step
        with torch.cuda.stream(self._stream):
            yield

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        self._lent = pixels.device.type == "cuda"
        if self._lent:
            return pixels
        pinned = pixels if pixels.is_pinned() else pixels.pin_memory()
        moved = pinned.to(self._device, non_blocking=True)
        self._copied.record(self._stream)
        return moved

    def receive(self, pixels: torch.Tensor) -> None:
        compute = torch.cuda.current_stream(self._device)
        compute.wait_stream(self._stream)
        pixels.record_stream(compute)  # what torch did not allocate is passed over

    def release(self) -> None:
        if self._lent:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
