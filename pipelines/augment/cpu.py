"""The augmentation on the CPU: the compiled kernels, spread over threads.

The kernels hold no GIL and are called from plain Python threads, as many as torch uses. numba's own `parallel=True` is
avoided on purpose: its `workqueue` layer aborts the process when two threads enter it at once, and FFCV's loader
enters it from its own thread.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from pipelines.augment import cpu_erasing, cpu_kernels
from pipelines.augment.cpu_kernels import ERASE, NOISE, PARTNER, Bytes, Floats, Rows
from pipelines.augment.parameters import Packer
from pipelines.batch import BatchPlan
from pipelines.recycling import RecycledMemory
from pipelines.spec import DataSpec


class _Kernel(Protocol):
    def __call__(self, pixels: Bytes, table: Floats, rows: Rows, scale: Floats, out: Floats) -> None: ...


_KERNELS: dict[str, _Kernel] = {"none": cpu_kernels.plain, "hsv": cpu_kernels.hsv, "contrast": cpu_kernels.contrast}
_ERASINGS = {"const": cpu_erasing.CONST, "rand": cpu_erasing.RAND, "pixel": cpu_erasing.PIXEL}

# Erased pictures take longer: a thread that is done takes another of these.
_CHUNKS_A_THREAD = 4


class CpuAugment:
    """Augment, normalize, erase and mix batches on the CPU.

    Args:
        spec: says which jitter, erasing and mixing, and the mean and std of the normalization.
        dtype: of the result. Half types are rounded from float32 at the end.
        train: False only normalizes.
        mirror: False where pixels come mirrored already.
    """

    def __init__(self, spec: DataSpec, *, dtype: torch.dtype, train: bool, mirror: bool = True) -> None:
        self._pack = Packer(spec, train=train, mirror=mirror)
        self._steps = self._pack.steps
        self._kernel = _KERNELS[self._steps.jitter]
        self._scale: Floats = np.reciprocal(np.asarray(spec.std, np.float32))
        self._dtype = dtype
        self._memory, self._half_memory = RecycledMemory(), RecycledMemory()

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch; `pixels` is not changed.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the CPU.
            plan: n rows.

        Returns:
            (n, 3, H, W) of the dtype, channels-last.
        """
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous()
        assert len(pixels) == len(plan.ids)
        images = self._memory.empty(pixels.shape, torch.float32)
        self._augment(pixels.numpy(), self._pack(plan), images.numpy())
        if self._dtype != torch.float32:
            images = self._half_memory.empty(pixels.shape, self._dtype).copy_(images)
        return images.permute(0, 3, 1, 2)

    def _augment(self, pixels: Bytes, table: Floats, out: Floats) -> None:
        num_threads = torch.get_num_threads()
        leaders = _leaders(table)
        if num_threads == 1:
            self._run(pixels, table, out, leaders)
            return
        chunks = np.array_split(leaders, min(num_threads * _CHUNKS_A_THREAD, len(leaders)))
        with ThreadPoolExecutor(num_threads, "augment") as pool:
            list(pool.map(lambda chunk: self._run(pixels, table, out, chunk), chunks))

    def _run(self, pixels: Bytes, table: Floats, out: Floats, leaders: Rows) -> None:
        """Finish the pictures that `leaders` lead; mixing ones pair by pair, still in the cache."""
        if not self._steps.mix:
            self._finish(pixels, table, out, leaders)
            return
        partners = table[leaders, PARTNER].astype(np.int64)
        for pair in np.stack([leaders, partners], axis=1):
            rows = pair if pair[0] != pair[1] else pair[:1]
            self._finish(pixels, table, out, rows)
            cpu_kernels.mix(table, rows[:1], out)

    def _finish(self, pixels: Bytes, table: Floats, out: Floats, rows: Rows) -> None:
        self._kernel(pixels, table, rows, self._scale, out)
        if self._steps.erasing != "none":
            boxes, keys = table[:, ERASE:NOISE], table[:, NOISE:PARTNER].view(np.uint32)
            cpu_erasing.erase(boxes, keys, rows, _ERASINGS[self._steps.erasing], out)


def _leaders(table: Floats) -> Rows:
    """Return the first row of each pair, and the rows that are alone."""
    rows, partner = np.arange(len(table)), table[:, PARTNER].astype(np.int64)
    assert np.array_equal(partner[partner], rows), "a row's partner has another partner: pictures would be mixed twice"
    return rows[rows <= partner]
