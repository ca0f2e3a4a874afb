"""Sums kept on the device, and how long the device waited for data.

Nothing here reads a tensor inside a step: the host takes a snapshot every N steps and reads it later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch

from fastbot.distributed import Ranks

_Item = TypeVar("_Item")


class Sums:
    """Weighted sums of loss and hits over the rows seen since the last reset, on the device.

    Attributes:
        values: float64 (4,): weighted loss, top-1 hits, top-5 hits, weight.
    """

    def __init__(self, device: torch.device) -> None:
        self.values = torch.zeros(4, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> None:
        """Add a batch.

        Args:
            loss: scalar, the weighted mean over the batch.
            logits: (n, K).
            labels: int64 (n,).
            weight: float32 (n,).
        """
        top = logits.topk(min(5, logits.shape[1]), dim=1).indices
        hits = top.eq(labels[:, None])
        total = weight.sum()
        first = (hits[:, 0] * weight).sum()
        any_of_five = (hits.any(dim=1) * weight).sum()
        self.values += torch.stack([loss.detach() * total, first, any_of_five, total])

    def reset(self) -> None:
        """Start again from zero."""
        self.values.zero_()

    def total(self, ranks: Ranks) -> torch.Tensor:
        """Return a copy of the sums over all ranks; every rank must call it."""
        return ranks.sum(self.values.clone())


class Reading:
    """A snapshot of sums on its way to the host: taken now, read a step later, so that the device never idles.

    Args:
        sums: float64 (4,), as `Sums.total` returns.
    """

    def __init__(self, sums: torch.Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._values = sums
        if sums.device.type == "cuda":
            self._values = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
            self._values.copy_(sums, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(sums.device))

    def means(self) -> dict[str, float]:
        """Wait for the copy and return `loss`, `top1` and `top5`."""
        return means(self._read())

    def is_empty(self) -> bool:
        """Wait for the copy and return whether no row had any weight."""
        return self._read()[-1].item() == 0

    def _read(self) -> torch.Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._values


def means(sums: torch.Tensor) -> dict[str, float]:
    """Read sums from the device (a host synchronization) as `loss`, `top1`, `top5` per unit of weight."""
    loss, top1, top5, weight = sums.tolist()
    if weight == 0:
        return {"loss": float("nan"), "top1": float("nan"), "top5": float("nan")}
    return {"loss": loss / weight, "top1": top1 / weight, "top5": top5 / weight}


class WaitClock(Protocol):
    """Measures how long the device had nothing to do because a batch was not there."""

    def watch(self, batches: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the batches unchanged, measuring the wait for each."""
        ...

    def arrived(self) -> None:
        """Take note that the pixels of the batch being waited for are on the device."""
        ...

    def seconds(self) -> float:
        """Return the total wait so far."""
        ...

    def start_at(self, seconds: float) -> None:
        """Count on from `seconds`, as after a resume."""
        ...


class HostWaitClock:
    """On a CPU the wait is the time blocked in `next()`: everything the consumer's thread does for the next batch."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._seconds = 0.0

    def watch(self, batches: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the batches unchanged, measuring the wait for each."""
        while True:
            started = self._now()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self._seconds += self._now() - started
            yield batch

    def arrived(self) -> None:
        """Change nothing: what follows the pixels' arrival runs on the loop's own thread."""

    def seconds(self) -> float:
        """Return the total wait so far."""
        return self._seconds

    def start_at(self, seconds: float) -> None:
        """Count on from `seconds`, as after a resume."""
        self._seconds = seconds


class CudaWaitClock:
    """On CUDA the wait is the idle time of the compute stream: from the end of a step to the next pixels' arrival.

    Two events a step, read once the device has passed them, so that reading never makes the host wait.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._pending: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._ended = self._mark()
        self._seconds = 0.0

    def watch(self, batches: Iterator[_Item]) -> Iterator[_Item]:
        """Yield the batches unchanged, measuring the wait for each."""
        while True:
            self._ended = self._mark()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._read()
            yield batch

    def arrived(self) -> None:
        """Take note that the pixels of the batch being waited for are on the device; augmentation comes after."""
        self._pending.append((self._ended, self._mark()))

    def seconds(self) -> float:
        """Return the total wait so far, without the few steps still in flight."""
        self._read()
        return self._seconds

    def start_at(self, seconds: float) -> None:
        """Count on from `seconds`, as after a resume."""
        self._seconds = seconds

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event

    def _read(self) -> None:
        while self._pending and self._pending[0][1].query():  # type: ignore[no-untyped-call]
            ended, ready = self._pending.pop(0)
            self._seconds += ended.elapsed_time(ready) / 1000


def build_wait_clock(device: torch.device) -> WaitClock:
    """Return the clock for a device."""
    return CudaWaitClock(device) if device.type == "cuda" else HostWaitClock()
