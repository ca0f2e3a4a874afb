"""The augmentation on CUDA: one Triton kernel from uint8 pixels to normalized floats (two for `ContrastJitter`).

A picture's mean grey, which `ContrastJitter` needs, comes from a first kernel that leaves one partial sum per block of
pixels; the second adds them up. That is deterministic, which atomic additions would not be.

With TRITON_INTERPRET=1 set before this module is imported, the same kernels run on CPU tensors.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl

from pipelines.augment import reference
from pipelines.augment.cpu_kernels import CONTRAST_STEP, FLIP, JITTER
from pipelines.augment.parameters import NUM_COLUMNS, kind_of, packer
from pipelines.batch import BatchPlan
from pipelines.spec import DataSpec
from pipelines.upload import upload

# Pixels of one picture that one program handles: 8 for each of the 128 threads.
_BLOCK = 1024

_FLIP = tl.constexpr(FLIP)
_JITTER = tl.constexpr(JITTER)
_CONTRAST_STEP = tl.constexpr(CONTRAST_STEP)
_GREY_R = tl.constexpr(reference.GREY[0])
_GREY_G = tl.constexpr(reference.GREY[1])
_GREY_B = tl.constexpr(reference.GREY[2])


class CudaAugment:
    """Augment and normalize batches on a CUDA device.

    Args:
        spec: says which jitter, and the mean and std of the normalization.
        device: where the pixels are.
        dtype: of the result; computed in float32 whatever it is.
        train: False only normalizes.
    """

    def __init__(self, spec: DataSpec, *, device: torch.device, dtype: torch.dtype, train: bool) -> None:
        self._pack = packer(spec, train)
        self._kind = kind_of(spec, train)
        self._scale = tuple(float(s) for s in 1 / np.asarray(spec.std, np.float32))
        self._device = device
        self._dtype = dtype

    def __call__(self, pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        """Return the augmented batch; `pixels` is not changed, and the host does not wait for the device.

        Args:
            pixels: uint8 (n, H, W, 3) RGB, contiguous, on the device.
            plan: n rows.

        Returns:
            (n, 3, H, W) of the dtype, channels-last.
        """
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous()
        assert len(pixels) == len(plan.ids)
        num, height, width = pixels.shape[:3]
        grid = (num, triton.cdiv(height * width, _BLOCK))
        images = pixels.new_empty(pixels.shape, dtype=self._dtype)
        sums = pixels.new_empty(grid, dtype=torch.float32)
        table = upload(self._pack(plan), self._device)
        with torch.cuda.device(pixels.get_device()):  # Triton launches on the current one; -1, the CPU's, changes none
            if self._kind == "contrast":
                _sum_grey[grid](pixels, table, sums, height * width, NUM_COLUMNS[self._kind], _BLOCK)
            _augment[grid](
                pixels,
                table,
                sums,
                images,
                height * width,
                width,
                *self._scale,
                KIND=self._kind,
                COLUMNS=NUM_COLUMNS[self._kind],
                BLOCK=_BLOCK,
                SUMS=triton.next_power_of_2(grid[1]),
            )
        return images.permute(0, 3, 1, 2)


@triton.jit
def _load(pixels: tl.tensor, num_pixels: int, pixel: tl.tensor, mask: tl.tensor) -> tuple[tl.tensor, ...]:
    """Load the colours of pixels of this program's picture as float32."""
    first = pixels + tl.program_id(0).to(tl.int64) * num_pixels * 3 + pixel * 3
    r = tl.load(first, mask, 0).to(tl.float32)
    g = tl.load(first + 1, mask, 0).to(tl.float32)
    b = tl.load(first + 2, mask, 0).to(tl.float32)
    return r, g, b


@triton.jit
def _grey(r: tl.tensor, g: tl.tensor, b: tl.tensor) -> tl.tensor:
    return r * _GREY_R + g * _GREY_G + b * _GREY_B


@triton.jit
def _clip(x: tl.tensor, high: tl.constexpr) -> tl.tensor:
    return tl.minimum(tl.maximum(x, 0.0), high)


@triton.jit
def _hsv(r: tl.tensor, g: tl.tensor, b: tl.tensor, factors: tl.tensor) -> tuple[tl.tensor, ...]:
    """Scale hue, saturation and value; the formula is explained at `cpu_kernels._hsv_row`."""
    value = tl.maximum(tl.maximum(r, g), b)
    chroma = value - tl.minimum(tl.minimum(r, g), b)
    rise = tl.where(r == value, g - b, tl.where(g == value, b - r, r - g))
    base = tl.where(r == value, 0.0, tl.where(g == value, 2.0, 4.0))
    hue = base + rise / tl.maximum(chroma, 1.0)
    hue = tl.where(hue < 0, hue + 6, hue) * tl.load(factors)
    hue -= 6 * tl.floor(hue * (1 / 6))
    saturation = tl.minimum(chroma / tl.maximum(value, 1.0) * tl.load(factors + 1), 1.0)
    value = tl.minimum(value * tl.load(factors + 2), 255.0)
    chroma = value * saturation
    low = value - chroma
    r = low + chroma * _clip(tl.abs(hue - 3) - 1, 1.0)
    g = low + chroma * _clip(2 - tl.abs(hue - 2), 1.0)
    b = low + chroma * _clip(2 - tl.abs(hue - 4), 1.0)
    return r, g, b


@triton.jit
def _contrast(
    r: tl.tensor, g: tl.tensor, b: tl.tensor, steps: tl.tensor, count: tl.tensor, mean_grey: tl.tensor
) -> tuple[tl.tensor, ...]:
    """Apply the first `count` steps of contrast jitter in their common form (see `cpu_kernels`)."""
    for k in tl.static_range(3):
        applied = k < count
        own = tl.where(applied, tl.load(steps + 3 * k), 1.0)
        grey = tl.where(applied, tl.load(steps + 3 * k + 1), 0.0)
        offset = tl.where(applied, tl.load(steps + 3 * k + 2) * mean_grey, 0.0)
        shared = _grey(r, g, b) * grey + offset
        r = _clip(r * own + shared, 255.0)
        g = _clip(g * own + shared, 255.0)
        b = _clip(b * own + shared, 255.0)
    return r, g, b


@triton.jit
def _sum_grey(
    pixels: tl.tensor,
    table: tl.tensor,
    sums: tl.tensor,
    num_pixels: int,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Add up a block's grey values as they are before the contrast step."""
    picture, block = tl.program_id(0), tl.program_id(1)
    pixel = block * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < num_pixels
    row = table + picture * COLUMNS
    r, g, b = _load(pixels, num_pixels, pixel, mask)
    r, g, b = _contrast(r, g, b, row + _JITTER, tl.load(row + _CONTRAST_STEP), 0.0)
    tl.store(sums + picture * tl.num_programs(1) + block, tl.sum(tl.where(mask, _grey(r, g, b), 0.0)))


@triton.jit
def _augment(
    pixels: tl.tensor,
    table: tl.tensor,
    sums: tl.tensor,
    images: tl.tensor,
    num_pixels: int,
    width: int,
    scale_r: float,
    scale_g: float,
    scale_b: float,
    KIND: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    SUMS: tl.constexpr,
) -> None:
    """Mirror, jitter, light and normalize a block of pixels of one picture."""
    picture = tl.program_id(0)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < num_pixels
    row = table + picture * COLUMNS
    column = pixel % width
    mirrored = pixel - column + (width - 1 - column)
    source = tl.where(tl.load(row + _FLIP) != 0, mirrored, pixel)
    r, g, b = _load(pixels, num_pixels, source, mask)
    if KIND == "hsv":
        r, g, b = _hsv(r, g, b, row + _JITTER)
    if KIND == "contrast":
        block = tl.arange(0, SUMS)
        num_blocks = tl.num_programs(1)
        partial = tl.load(sums + picture * num_blocks + block, block < num_blocks, 0.0)
        r, g, b = _contrast(r, g, b, row + _JITTER, 3, tl.sum(partial) / num_pixels)
    first = images + picture.to(tl.int64) * num_pixels * 3 + pixel * 3
    kept = images.dtype.element_ty
    tl.store(first, (r * scale_r + tl.load(row)).to(kept), mask)
    tl.store(first + 1, (g * scale_g + tl.load(row + 1)).to(kept), mask)
    tl.store(first + 2, (b * scale_b + tl.load(row + 2)).to(kept), mask)
