"""The 8-bit operations of RandAugment and TrivialAugment on CUDA, equal to Pillow's bit for bit.

A layer is at most two kernels, however many operations it holds. The first leaves the statistics of those pictures
whose operation needs some; the second carries out what each picture's row asks for. A program handles one picture, so
that no warp divides, and the programs of a layer differ only in how long they take.

With TRITON_INTERPRET=1 set before this module is imported, the same kernels run on CPU tensors.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from pipelines.augment.affine import affine_matrices
from pipelines.augment.cuda_operation_kernels import ARGUMENT, COLUMNS, FLIP, MATRIX, OPERATION, apply, statistics
from pipelines.augment.reference_operations import Sampling
from pipelines.batch import BatchPlan, Operation
from pipelines.spec import Fill
from pipelines.upload import upload

# Pixels of one picture that one program handles, and its warps: more pixels a thread would leave no registers for other
# programs while bicubic interpolation computes in float64.
_BLOCK, _WARPS = 512, 8
# More for the statistics: every program adds 768 counts to those of the others.
_STATISTICS_BLOCK = 4096

_NEED_STATISTICS = (Operation.AUTO_CONTRAST, Operation.EQUALIZE, Operation.CONTRAST)


class CudaOperations:
    """Mirror 8-bit pictures and apply each layer of a plan's operations, equal to `reference_operations`.

    Args:
        interpolation: of the geometric operations.
        fill: the colour of what comes from outside, RGB.
        device: where the pixels are.
    """

    def __init__(self, interpolation: Sampling, fill: Fill, device: torch.device) -> None:
        self._interpolation = interpolation
        self._fill = fill
        self._device = device

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the pictures after all layers; `pixels` is not changed, and the host does not wait for the device.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the device.
            plan: n rows.

        Returns:
            uint8 of the same shape, contiguous.
        """
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous()
        assert len(pixels) == len(plan.ids)
        tables = _tables(plan, (pixels.shape[1], pixels.shape[2]), self._interpolation)
        uploaded = upload(tables, self._device)
        counts = self._count_from_zero(tables)
        with torch.cuda.device(pixels.get_device()):  # Triton launches on the current one; -1, the CPU's, changes none
            for layer, table in enumerate(tables):
                if _needs_statistics(table).any():
                    self._count(pixels, uploaded[layer], counts[layer])
                pixels = self._apply(pixels, uploaded[layer], counts[layer])
        return pixels

    def _count_from_zero(self, tables: NDArray[np.float64]) -> torch.Tensor:
        """Return counts for all layers, at the cost of one fill; of no pictures where nothing is to be counted."""
        num_pictures = tables.shape[1] if _needs_statistics(tables).any() else 0
        return torch.zeros((len(tables), num_pictures, 3, 256), dtype=torch.int32, device=self._device)

    def _count(self, pixels: torch.Tensor, table: torch.Tensor, counts: torch.Tensor) -> None:
        num, height, width = pixels.shape[:3]
        statistics[(num * triton.cdiv(height * width, _STATISTICS_BLOCK),)](
            pixels,
            table,
            counts,
            height * width,
            width,
            BLOCK=_STATISTICS_BLOCK,
            UNIT=1 if width % 4 else 4,
            num_warps=_WARPS,
        )

    def _apply(self, pixels: torch.Tensor, table: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        num, height, width = pixels.shape[:3]
        changed = torch.empty_like(pixels)
        apply[(num * triton.cdiv(height * width, _BLOCK),)](
            pixels,
            table,
            counts,
            changed,
            height,
            width,
            *self._fill,
            INTERPOLATION=self._interpolation,
            BLOCK=_BLOCK,
            UNIT=1 if width % 4 else 4,
            num_warps=_WARPS,
            enable_fp_fusion=False,  # Pillow rounds a product before it adds
        )
        return changed


def _needs_statistics(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isin(table[..., OPERATION], _NEED_STATISTICS)


def _tables(plan: BatchPlan, size: tuple[int, int], interpolation: Sampling) -> NDArray[np.float64]:
    """Return a table for each layer, float64 (L, n, COLUMNS); where L is 0, one layer that only mirrors."""
    num, num_layers = plan.operations.shape
    tables = np.zeros((max(num_layers, 1), num, COLUMNS))
    tables[0, :, FLIP] = plan.flip
    for table, operations, arguments in zip(tables, plan.operations.T, plan.arguments.T, strict=False):
        matrices = affine_matrices(operations, arguments, size)
        table[:, OPERATION] = operations
        table[:, ARGUMENT] = arguments
        table[:, MATRIX:] = _in_fixed_point(matrices) if interpolation == "nearest" else matrices
    return tables


def _in_fixed_point(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return matrices that lead, rounded down, to the pixels that Pillow takes without interpolation.

    It translates by whole pixels, and otherwise computes with numbers of 16 binary places, which float64 holds
    exactly. Source: `ImagingScaleAffine` and `affine_fixed` of Pillow's `Geometry.c`.
    """
    slopes, offsets = matrices.reshape(-1, 2, 3)[:, :, :2], matrices.reshape(-1, 2, 3)[:, :, 2]
    is_translation = (slopes == np.eye(2)).all(axis=(1, 2))[:, None]
    first = _round_to(offsets + slopes[:, :, 0] * 0.5 + slopes[:, :, 1] * 0.5, 2**-16)
    slopes = _round_to(slopes, 2**-16)
    offsets = np.where(is_translation, np.floor(offsets + 0.5), first - slopes.sum(axis=2) * 0.5)
    return np.concatenate([slopes, offsets[:, :, None]], axis=2).reshape(-1, 6)


def _round_to(numbers: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    return np.floor(numbers / unit + 0.5) * unit
