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

from pipelines.augment import cpu_kernels
from pipelines.augment.cpu_kernels import Bytes, Floats
from pipelines.augment.parameters import kind_of, packer
from pipelines.batch import BatchPlan
from pipelines.recycling import RecycledMemory
from pipelines.spec import DataSpec


class _Kernel(Protocol):
    def __call__(self, pixels: Bytes, table: Floats, scale: Floats, out: Floats) -> None: ...


_KERNELS: dict[str, _Kernel] = {"none": cpu_kernels.plain, "hsv": cpu_kernels.hsv, "contrast": cpu_kernels.contrast}


class CpuAugment:
    """Augment and normalize batches on the CPU.

    Args:
        spec: says which jitter, and the mean and std of the normalization.
        dtype: of the result. Half types are converted from float32 at the end.
        train: False only normalizes.
    """

    def __init__(self, spec: DataSpec, *, dtype: torch.dtype, train: bool) -> None:
        self._pack = packer(spec, train)
        self._kernel = _KERNELS[kind_of(spec, train)]
        self._scale: Floats = np.reciprocal(np.asarray(spec.std, np.float32))
        self._dtype = dtype
        self._memory = RecycledMemory()

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
        table, source, out = self._pack(plan), pixels.numpy(), images.numpy()
        bounds = np.linspace(0, len(source), min(torch.get_num_threads(), len(source)) + 1).astype(int)

        def run(first: int, last: int) -> None:
            self._kernel(source[first:last], table[first:last], self._scale, out[first:last])

        if len(bounds) == 2:
            run(0, len(source))
        else:
            with ThreadPoolExecutor(len(bounds) - 1, "augment") as pool:
                list(pool.map(run, bounds[:-1], bounds[1:]))
        return images.permute(0, 3, 1, 2).to(self._dtype)
