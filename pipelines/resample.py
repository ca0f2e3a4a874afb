"""Cut a box out of a picture and resize it, in numba: the resampler of rows that are rescued.

It computes what `PIL.Image.crop(window).resize(size, BILINEAR or BICUBIC, box=...)` computes: a filter with half-pixel
centres, widened when shrinking (antialiasing), the box to a fraction of a pixel, nothing outside the window. One
output row at a time: the few source rows it needs are summed into one row of float32 that stays in the cache, then
that row is summed along its width. PIL rounds and clips to uint8 between the two sums; this only does after both.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Products may fuse into FMAs; nothing may be reordered, so that results do not depend on how a loop was vectorized.
_FAST = {"contract"}


# Pillow's `bicubic_filter`, as torch's antialiased one; OpenCV's, and torch's without antialiasing, have -0.75.
_CUBIC_A = -0.5


@njit(cache=True, nogil=True)
def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


@njit(cache=True, nogil=True)
def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return ((_CUBIC_A + 2.0) * x - (_CUBIC_A + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * _CUBIC_A
    return 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def filter_taps(
    start: float, extent: float, low: int, high: int, num_outputs: int, cubic: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which source pixels make each output pixel along one axis, and their weights.

    Args:
        start: where the interval that becomes the output begins, in source pixels.
        extent: its length.
        low: the first source pixel that may be read, not after `start`.
        high: the one after the last, not before `start + extent`.
        num_outputs: pixels of the output.
        cubic: Keys's cubic filter with a = -0.5; otherwise the triangle.

    Returns:
        first: int64 (num_outputs,), the first source pixel of each output pixel.
        weights: float32 (num_outputs, taps), of `first` and the pixels after it; each row sums to 1. Every output has
            the same number of taps, some of weight 0, all in [low, high).

    Source: Pillow `Resample.c`, `precompute_coeffs` with `bilinear_filter` and `bicubic_filter`.
    """
    scale = extent / num_outputs
    stretch = max(scale, 1.0)
    support = (2.0 if cubic else 1.0) * stretch
    num_taps = min(math.ceil(2 * support), high - low)
    first = np.empty(num_outputs, np.int64)
    weights = np.empty((num_outputs, num_taps), np.float32)
    for i in range(num_outputs):
        centre = start + (i + 0.5) * scale
        first[i] = min(max(math.floor(centre - support + 0.5), low), high - num_taps)
        total = 0.0
        for tap in range(num_taps):
            x = (first[i] + tap + 0.5 - centre) / stretch
            weight = _cubic(x) if cubic else _triangle(x)
            weights[i, tap] = weight
            total += weight
        for tap in range(num_taps):
            weights[i, tap] /= total
    return first, weights


@njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _sum_rows(
    pixels: NDArray[np.uint8], start: int, stride: int, weights: NDArray[np.float32], row: NDArray[np.float32]
) -> None:
    """Write the weighted sum of `len(weights)` rows of flat `pixels`, `stride` apart, to `row`."""
    weight = weights[0]
    source = pixels[start : start + row.size]
    for i in range(row.size):
        row[i] = weight * source[i]
    for tap in range(1, weights.size):
        weight = weights[tap]
        source = pixels[start + tap * stride : start + tap * stride + row.size]
        for i in range(row.size):
            row[i] += weight * source[i]


@njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _sum_columns(
    row: NDArray[np.float32],
    first: NDArray[np.int64],
    left: int,
    weights: NDArray[np.float32],
    output: NDArray[np.uint8],
) -> None:
    """Write the weighted sums along `row`, interleaved RGB that starts at column `left`, rounded, to `output`."""
    black, white = np.float32(0), np.float32(255)
    step = np.uintp(1)  # unsigned: a signed index would be tested for being negative at every access
    for x in range(weights.shape[0]):
        at = np.uintp(3 * (first[x] - left))
        red = green = blue = np.float32(0.5)  # so that truncating rounds
        for tap in range(weights.shape[1]):
            weight = weights[x, tap]
            red += weight * row[at]
            green += weight * row[at + step]
            blue += weight * row[at + step + step]
            at += step + step + step
        # The cubic filter overshoots at edges.
        output[x, 0] = np.uint8(min(max(red, black), white))
        output[x, 1] = np.uint8(min(max(green, black), white))
        output[x, 2] = np.uint8(min(max(blue, black), white))


@njit(cache=True, nogil=True)
def resample(
    pixels: NDArray[np.uint8],
    width: int,
    window: NDArray[np.int32],
    box: NDArray[np.float64],
    output: NDArray[np.uint8],
    cubic: bool,
) -> None:
    """Resize `box` of a picture into `output`, reading nothing outside `window`.

    Args:
        pixels: uint8 (at least height * width * 3,), the picture's rows of interleaved RGB. Not bounds-checked.
        width: of the picture, in pixels.
        window: int32 (4,), top, left, height, width in pixels, inside the picture.
        box: float64 (4,), top, left, height, width in pixels, inside the window.
        output: uint8 (H, W, 3), written.
        cubic: resample bicubic; otherwise bilinear.

    Source: `PIL.Image.crop` and `resize(..., BILINEAR or BICUBIC, box=...)`, but for PIL's rounding and clipping
    between its two passes.
    """
    top, left, window_height, window_width = window[0], window[1], window[2], window[3]
    first_row, row_weights = filter_taps(box[0], box[2], top, top + window_height, output.shape[0], cubic)
    first_column, column_weights = filter_taps(box[1], box[3], left, left + window_width, output.shape[1], cubic)
    row = np.empty(3 * window_width, np.float32)
    stride = 3 * width
    for y in range(output.shape[0]):
        _sum_rows(pixels, first_row[y] * stride + 3 * left, stride, row_weights[y], row)
        _sum_columns(row, first_column, left, column_weights, output[y])
