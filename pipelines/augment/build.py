"""Which augmentation a device gets."""

from __future__ import annotations

from typing import Protocol

import torch

from pipelines.batch import BatchPlan
from pipelines.errors import SpecError
from pipelines.spec import DataSpec, Fill, NoAutoAugment, RandAugment, TrivialAugment

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Augment(Protocol):
    """Mirror, operate on, jitter, light, normalize, erase and mix a batch, as its plan says."""

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch; `pixels` is not changed.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the device.
            plan: n rows.

        Returns:
            (n, 3, H, W) of the dtype asked for, channels-last, on the device.
        """
        ...


class Operations(Protocol):
    """Mirror a batch of 8-bit pictures and carry out the layers of operations of its plan."""

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return uint8 (n, H, W, 3) like `pixels`, which is not changed."""
        ...


class OperatedAugment:
    """An augmentation whose pictures go through 8-bit operations first.

    Args:
        operations: which mirror as well.
        finish: the rest, which does not mirror.
    """

    def __init__(self, operations: Operations, finish: Augment) -> None:
        self._operations = operations
        self._finish = finish

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch; see `Augment`."""
        return self._finish(self._operations(pixels, plan), plan)


def build_augment(spec: DataSpec, *, device: torch.device, dtype: torch.dtype, train: bool) -> Augment:
    """Return the fast path for a device. Both equal `ReferenceAugment` within the tolerances its tests state.

    Args:
        spec: says which steps there are, and the mean and std of the normalization.
        device: where pixels are and images go: `cpu` or `cuda`.
        dtype: of the images: float32, float16 or bfloat16.
        train: False only normalizes.

    Raises:
        SpecError: another device or dtype.
    """
    if dtype not in _DTYPES:
        raise SpecError(f"images cannot be {dtype}; choose one of {', '.join(map(str, _DTYPES))}")
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"pictures cannot be augmented on device {device}; choose cpu or cuda")
    if not train or isinstance(spec.auto_augment, NoAutoAugment):
        return _finish(spec, device, dtype, train=train, mirror=True)
    operations = _operations(spec.auto_augment, fill_colour(spec), device)
    return OperatedAugment(operations, _finish(spec, device, dtype, train=True, mirror=False))


def fill_colour(spec: DataSpec) -> Fill:
    """Return what comes from outside a picture that an operation moves.

    Source: timm `transforms_factory.py`, which rounds the mean and keeps it in 8 bits.
    """
    if isinstance(spec.auto_augment, NoAutoAugment) or spec.auto_augment.fill is None:
        red, green, blue = (min(255, max(0, round(level))) for level in spec.mean)
        return red, green, blue
    return spec.auto_augment.fill


def _finish(spec: DataSpec, device: torch.device, dtype: torch.dtype, *, train: bool, mirror: bool) -> Augment:
    if device.type == "cpu":
        from pipelines.augment.cpu import CpuAugment

        return CpuAugment(spec, dtype=dtype, train=train, mirror=mirror)
    from pipelines.augment.cuda import CudaAugment

    return CudaAugment(spec, device=device, dtype=dtype, train=train, mirror=mirror)


def _operations(auto_augment: RandAugment | TrivialAugment, fill: Fill, device: torch.device) -> Operations:
    if device.type == "cpu":
        from pipelines.augment.operations import CpuOperations

        return CpuOperations(auto_augment.interpolation, fill)
    from pipelines.augment.cuda_operations import CudaOperations

    return CudaOperations(auto_augment.interpolation, fill, device)
