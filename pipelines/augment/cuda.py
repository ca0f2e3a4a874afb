"""The augmentation on CUDA: one Triton kernel from uint8 pixels to mixed, normalized floats (two for `ContrastJitter`).

A program makes the same block of pixels of a row and of the row it mixes with: partners are mutual, so every byte of
the input is read once and every value of the output is written once. A row that mixes with itself is alone.

A picture's mean grey, which `ContrastJitter` needs, comes from a first kernel that leaves one partial sum per block of
pixels; the second adds them up. That is deterministic, which atomic additions would not be.

With TRITON_INTERPRET=1 set before this module is imported, the same kernels run on CPU tensors.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from pipelines.augment import cpu_kernels
from pipelines.augment.cuda_colours import grey, jitter_contrast, jitter_hsv
from pipelines.augment.cuda_noise import noise
from pipelines.augment.cuda_pixels import block_of_picture, load_pixels, places, store_pixels
from pipelines.augment.parameters import Packer
from pipelines.batch import BatchPlan
from pipelines.spec import DataSpec
from pipelines.upload import upload

# Pixels of one picture that one program handles. Of its 32-thread warps there are as many as make 8 results a thread:
# enough to hide the latency of memory, few enough to stay in registers.
_BLOCK = 1024
_WARPS_PER_PICTURE = 4

_COLUMNS = tl.constexpr(cpu_kernels.NUM_COLUMNS)
_BIAS = tl.constexpr(cpu_kernels.BIAS)
_FLIP = tl.constexpr(cpu_kernels.FLIP)
_JITTER = tl.constexpr(cpu_kernels.JITTER)
_CONTRAST_STEP = tl.constexpr(cpu_kernels.CONTRAST_STEP)
_ERASE = tl.constexpr(cpu_kernels.ERASE)
_NOISE = tl.constexpr(cpu_kernels.NOISE)
_PARTNER = tl.constexpr(cpu_kernels.PARTNER)
_LAM = tl.constexpr(cpu_kernels.LAM)
_CUT = tl.constexpr(cpu_kernels.CUT)


class CudaAugment:
    """Augment, normalize and mix batches on a CUDA device.

    Args:
        spec: says which jitter, erasing and mixing, and the mean and std of the normalization.
        device: where the pixels are.
        dtype: of the result; computed in float32 whatever it is.
        train: False only normalizes.
        mirror: False where pictures come mirrored already.
    """

    def __init__(
        self, spec: DataSpec, *, device: torch.device, dtype: torch.dtype, train: bool, mirror: bool = True
    ) -> None:
        self._pack = Packer(spec, train=train, mirror=mirror)
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
        blocks, unit = triton.cdiv(height * width, _BLOCK), 1 if width % 4 else 4
        table = self._pack(plan)
        first = _first_of_pairs(table)
        uploaded = upload(np.concatenate([table.ravel(), first]), self._device)
        images = pixels.new_empty(pixels.shape, dtype=self._dtype)
        sums = pixels.new_empty((num, blocks), dtype=torch.float32)
        steps = self._pack.steps
        with torch.cuda.device(pixels.get_device()):  # Triton launches on the current one; -1, the CPU's, changes none
            if steps.jitter == "contrast":
                _sum_grey[(num * blocks,)](pixels, uploaded, sums, height * width, width, _BLOCK, unit)
            _augment[(len(first) * blocks,)](
                pixels,
                uploaded,
                uploaded[table.size :],
                sums,
                images,
                height * width,
                width,
                *self._scale,
                MIRROR=steps.mirror,
                JITTER=steps.jitter,
                ERASING=steps.erasing,
                MIX=steps.mix,
                BLOCK=_BLOCK,
                UNIT=unit,
                SUMS=triton.next_power_of_2(blocks),
                num_warps=_WARPS_PER_PICTURE * (2 if steps.mix else 1),
            )
        return images.permute(0, 3, 1, 2)


def _first_of_pairs(table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows that are no later than their partners, as floats: those that a program begins with."""
    row = np.arange(len(table), dtype=np.float32)
    return row[table[:, cpu_kernels.PARTNER] >= row]


@triton.jit
def _sum_grey(
    pixels: tl.tensor,
    table: tl.tensor,
    sums: tl.tensor,
    num_pixels: int,
    width: int,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
) -> None:
    """Add up a block's grey values as they are before the contrast step."""
    block, row = block_of_picture(num_pixels, BLOCK)
    numbers = table + row * _COLUMNS
    units, (y, x) = places(block, width, BLOCK, UNIT)
    r, g, b = load_pixels(pixels, row, num_pixels, width, units, False, BLOCK, UNIT)
    colours = (r.to(tl.float32), g.to(tl.float32), b.to(tl.float32))
    colours = jitter_contrast(colours, numbers + _JITTER, tl.load(numbers + _CONTRAST_STEP), 0.0)
    inside = y * width + x < num_pixels
    tl.store(sums + row * tl.cdiv(num_pixels, BLOCK) + block, tl.sum(tl.where(inside, grey(colours), 0.0)))


@triton.jit
def _augment(
    pixels: tl.tensor,
    table: tl.tensor,
    firsts: tl.tensor,
    sums: tl.tensor,
    images: tl.tensor,
    num_pixels: int,
    width: int,
    scale_r: float,
    scale_g: float,
    scale_b: float,
    MIRROR: tl.constexpr,
    JITTER: tl.constexpr,
    ERASING: tl.constexpr,
    MIX: tl.constexpr,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    SUMS: tl.constexpr,
) -> None:
    """Make a block of pixels of a row, and of its partner."""
    block, pair = block_of_picture(num_pixels, BLOCK)
    row = tl.load(firsts + pair).to(tl.int32)
    scale = (scale_r, scale_g, scale_b)
    units, place = places(block, width, BLOCK, UNIT)
    own = _coloured(pixels, table, sums, row, num_pixels, width, units, scale, MIRROR, JITTER, BLOCK, UNIT, SUMS)
    own = _erased(own, table + row * _COLUMNS, block, width, place, ERASING, BLOCK)
    partner = row
    if MIX:
        partner = tl.load(table + row * _COLUMNS + _PARTNER).to(tl.int32)
    if partner == row:
        store_pixels(images, row, num_pixels, block, own, BLOCK, UNIT)
    else:
        other = _coloured(
            pixels, table, sums, partner, num_pixels, width, units, scale, MIRROR, JITTER, BLOCK, UNIT, SUMS
        )
        other = _erased(other, table + partner * _COLUMNS, block, width, place, ERASING, BLOCK)
        mixed = _mixed(own, other, table + row * _COLUMNS, place)
        store_pixels(images, row, num_pixels, block, mixed, BLOCK, UNIT)
        mixed = _mixed(other, own, table + partner * _COLUMNS, place)
        store_pixels(images, partner, num_pixels, block, mixed, BLOCK, UNIT)


@triton.jit
def _coloured(
    pixels: tl.tensor,
    table: tl.tensor,
    sums: tl.tensor,
    row: tl.tensor,
    num_pixels: int,
    width: int,
    units: tl.tuple,
    scale: tl.tuple,
    MIRROR: tl.constexpr,
    JITTER: tl.constexpr,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    SUMS: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Load, mirror, jitter, light and normalize a block of a row's pixels."""
    numbers = table + row * _COLUMNS
    flip = tl.load(numbers + _FLIP) != 0 if MIRROR else False
    r, g, b = load_pixels(pixels, row, num_pixels, width, units, flip, BLOCK, UNIT)
    colours = (r.to(tl.float32), g.to(tl.float32), b.to(tl.float32))
    if JITTER == "hsv":
        colours = jitter_hsv(colours, numbers + _JITTER)
    if JITTER == "contrast":
        block, num_blocks = tl.arange(0, SUMS), tl.cdiv(num_pixels, BLOCK)
        partial = tl.load(sums + row * num_blocks + block, block < num_blocks, 0.0)
        colours = jitter_contrast(colours, numbers + _JITTER, 3, tl.sum(partial) / num_pixels)
    r, g, b = colours
    scale_r, scale_g, scale_b = scale
    bias = numbers + _BIAS
    return r * scale_r + tl.load(bias), g * scale_g + tl.load(bias + 1), b * scale_b + tl.load(bias + 2)


@triton.jit
def _inside(box: tl.tensor, place: tl.tuple) -> tl.tensor:
    """Return which pixels lie in the rectangle at `box`: top, left, bottom, right."""
    y, x = place
    return (y >= tl.load(box)) & (y < tl.load(box + 2)) & (x >= tl.load(box + 1)) & (x < tl.load(box + 3))


@triton.jit
def _erased(
    colours: tl.tuple,
    numbers: tl.tensor,
    block: tl.tensor,
    width: int,
    place: tl.tuple,
    ERASING: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Overwrite what lies in a row's rectangle."""
    r, g, b = colours
    if ERASING == "none":
        return r, g, b
    y, x = place
    first_line, last_line = block * BLOCK // width, (block * BLOCK + BLOCK - 1) // width
    touched = (tl.load(numbers + _ERASE) <= last_line) & (tl.load(numbers + _ERASE + 2) > first_line)
    if touched:  # a program in four or fewer; random numbers cost more than all the rest
        inside = _inside(numbers + _ERASE, place)
        if ERASING == "const":
            r, g, b = tl.where(inside, 0.0, r), tl.where(inside, 0.0, g), tl.where(inside, 0.0, b)
        else:
            counter = y * width + x if ERASING == "pixel" else y * 0
            noise_r, noise_g, noise_b = noise(counter, (numbers + _NOISE).to(tl.pointer_type(tl.uint32)))
            r, g, b = tl.where(inside, noise_r, r), tl.where(inside, noise_g, g), tl.where(inside, noise_b, b)
    return r, g, b


@triton.jit
def _mixed(
    own: tl.tuple,
    other: tl.tuple,
    numbers: tl.tensor,
    place: tl.tuple,
) -> tuple[tl.tensor, ...]:
    """Return what mixing makes of a row's pixels: LAM of its own, and nothing of them inside CUT."""
    share = tl.where(_inside(numbers + _CUT, place), 0.0, tl.load(numbers + _LAM))
    rest = 1 - share
    r, g, b = own
    other_r, other_g, other_b = other
    return share * r + rest * other_r, share * g + rest * other_g, share * b + rest * other_b
