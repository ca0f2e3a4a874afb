"""What a device reaches where it has nothing else to do: a product of large matrices, and a copy of much memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

# A product or a copy that takes less than this is measured on something larger, and several times in a row.
_LONG_ENOUGH_S = 0.02
_MOST_TIMES = 1024
_SIDES = (512, 1024, 2048, 4096, 8192)
# Elements of float32: 16 MB, which a cache may hold, up to 1 GB, which none does.
_COPIES = tuple(2**power for power in range(22, 29, 2))
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device reaches.

    Attributes:
        matrix_flops: operations a second of a product of matrices, a multiply-add being two.
        copy_bytes_per_s: bytes a second of a copy within its memory, those read and those written.
    """

    matrix_flops: float
    copy_bytes_per_s: float


def device_rates(device: torch.device, dtype: torch.dtype, *, tf32: bool = False) -> Rates:
    """Measure a device: the best of a few repeats, since a floor is about what it can do.

    Args:
        device: which.
        dtype: of the matrices.
        tf32: let it round float32 matrices to TF32.
    """
    with torch.no_grad(), _tf32(tf32):
        return Rates(_matrix_flops(device, dtype), _copy_bytes_per_s(device))


def _matrix_flops(device: torch.device, dtype: torch.dtype) -> float:
    for side in _SIDES:
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)
        seconds = _best_s(partial(torch.mm, left, right, out=out), device)
        if seconds > _LONG_ENOUGH_S:
            break
    return float(2 * side**3 / seconds)


def _copy_bytes_per_s(device: torch.device) -> float:
    for numel in _COPIES:
        source = torch.ones(numel, device=device)
        target = torch.empty_like(source)
        seconds = _best_s(partial(target.copy_, source), device)
        if seconds > _LONG_ENOUGH_S:
            break
    return 2 * source.nbytes / seconds


def _best_s(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of a few repeats, each as long as a clock needs."""
    work()  # what loads libraries and gets memory is no part of it
    times = 1
    while _seconds(work, times, device) < _LONG_ENOUGH_S and times < _MOST_TIMES:
        times *= 2
    return min(_seconds(work, times, device) for _ in range(_REPEATS)) / times


def _seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Set TF32 of products of matrices; by the switch that `fastbot.precision` sets, too."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
