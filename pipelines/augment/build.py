"""Which augmentation a device gets."""

from __future__ import annotations

from typing import Protocol

import torch

from pipelines.batch import BatchPlan
from pipelines.errors import SpecError
from pipelines.spec import DataSpec

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Augment(Protocol):
    """Mirror, jitter, light and normalize a batch, as its plan says."""

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch; `pixels` is not changed.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the device.
            plan: n rows.

        Returns:
            (n, 3, H, W) of the dtype asked for, channels-last, on the device.
        """
        ...


def build_augment(spec: DataSpec, *, device: torch.device, dtype: torch.dtype, train: bool) -> Augment:
    """Return the fast path for a device. Both equal `ReferenceAugment` within the tolerances its tests state.

    Args:
        spec: says which jitter, and the mean and std of the normalization.
        device: where pixels are and images go: `cpu` or `cuda`.
        dtype: of the images: float32, float16 or bfloat16.
        train: False only normalizes.

    Raises:
        SpecError: another device or dtype.
    """
    if dtype not in _DTYPES:
        raise SpecError(f"images cannot be {dtype}; choose one of {', '.join(map(str, _DTYPES))}")
    if device.type == "cpu":
        from pipelines.augment.cpu import CpuAugment

        return CpuAugment(spec, dtype=dtype, train=train)
    if device.type == "cuda":
        from pipelines.augment.cuda import CudaAugment

        return CudaAugment(spec, device=device, dtype=dtype, train=train)
    raise SpecError(f"pictures cannot be augmented on device {device}; choose cpu or cuda")
