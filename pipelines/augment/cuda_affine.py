"""Affine transforms of 8-bit pictures for the Triton kernels of the operations, equal to Pillow's bit for bit.

Pillow computes in float64 and cuts the fraction off, so the order of additions and multiplications is part of the
result, and is kept here. Kernels that call this are to be compiled without fused multiply-adds.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def byte(value: tl.tensor) -> tl.tensor:
    """Return numbers clipped to 0-255, without their fractions."""
    return tl.minimum(tl.maximum(value, 0), 255).to(tl.int32)


@triton.jit
def samples(picture: tl.tensor, y: tl.tensor, x: tl.tensor, height: int, width: int, flip: tl.tensor) -> tl.tensor:
    """Return pointers to the red bytes of pixels of the picture, mirrored where asked, whose border repeats."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    x = tl.minimum(tl.maximum(x, 0), width - 1)
    return picture + (y * width + tl.where(flip, width - 1 - x, x)) * 3


@triton.jit
def transformed(
    picture: tl.tensor,
    height: int,
    width: int,
    flip: tl.tensor,
    place: tl.tuple,
    matrix: tl.tensor,
    fill: tl.tuple,
    INTERPOLATION: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Sample a picture where an affine matrix leads, in float64. Source: Pillow's `Geometry.c`."""
    y, x = place
    y, x = y.to(tl.float64) + 0.5, x.to(tl.float64) + 0.5
    from_x = tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2)
    from_y = tl.load(matrix + 3) * x + tl.load(matrix + 4) * y + tl.load(matrix + 5)
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    if INTERPOLATION != "nearest":
        from_x, from_y = from_x - 0.5, from_y - 0.5
    left, top = tl.floor(from_x), tl.floor(from_y)
    across, down = from_x - left, from_y - top
    left, top = left.to(tl.int32), top.to(tl.int32)
    r, g, b = fill
    r, g, b = r + left * 0, g + left * 0, b + left * 0
    for channel in range(3):  # one after the other: together they would not leave registers for other programs
        level = _interpolated(picture + channel, height, width, flip, left, top, across, down, INTERPOLATION)
        r = tl.where(inside & (channel == 0), level, r)
        g = tl.where(inside & (channel == 1), level, g)
        b = tl.where(inside & (channel == 2), level, b)
    return r, g, b


@triton.jit
def _interpolated(
    channel: tl.tensor,
    height: int,
    width: int,
    flip: tl.tensor,
    left: tl.tensor,
    top: tl.tensor,
    across: tl.tensor,
    down: tl.tensor,
    INTERPOLATION: tl.constexpr,
) -> tl.tensor:
    """Return the levels of one channel between samples, of which the inner one is at (left, top)."""
    if INTERPOLATION == "nearest":
        level = _sample(channel, top, left, height, width, flip).to(tl.int32)
    elif INTERPOLATION == "bilinear":
        upper = _linear_line(channel, top, left, across, height, width, flip)
        lower = _linear_line(channel, top + 1, left, across, height, width, flip)
        level = byte(upper + (lower - upper) * down)
    else:
        before, first, second, behind = across, across, across, across
        for line in range(4):
            before, first, second = first, second, behind
            behind = _cubic_line(channel, top + (line - 1), left, across, height, width, flip)
        level = byte(_cubic(before, first, second, behind, down))
    return level


@triton.jit
def _sample(channel: tl.tensor, y: tl.tensor, x: tl.tensor, height: int, width: int, flip: tl.tensor) -> tl.tensor:
    return tl.load(samples(channel, y, x, height, width, flip))


@triton.jit
def _linear_line(
    channel: tl.tensor, y: tl.tensor, x: tl.tensor, distance: tl.tensor, height: int, width: int, flip: tl.tensor
) -> tl.tensor:
    first = _sample(channel, y, x, height, width, flip).to(tl.float64)
    return first + (_sample(channel, y, x + 1, height, width, flip).to(tl.float64) - first) * distance


@triton.jit
def _cubic_line(
    channel: tl.tensor, y: tl.tensor, x: tl.tensor, distance: tl.tensor, height: int, width: int, flip: tl.tensor
) -> tl.tensor:
    before = _sample(channel, y, x - 1, height, width, flip).to(tl.float64)
    first = _sample(channel, y, x, height, width, flip).to(tl.float64)
    second = _sample(channel, y, x + 1, height, width, flip).to(tl.float64)
    behind = _sample(channel, y, x + 2, height, width, flip).to(tl.float64)
    return _cubic(before, first, second, behind, distance)


@triton.jit
def _cubic(before: tl.tensor, first: tl.tensor, second: tl.tensor, behind: tl.tensor, distance: tl.tensor) -> tl.tensor:
    """The cubic convolution kernel of parameter -1, summed in Pillow's order."""
    p2 = second - before
    p3 = 2 * (before - first) + second - behind
    p4 = first - before - second + behind
    return first + distance * (p2 + distance * (p3 + distance * p4))
