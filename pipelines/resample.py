"""Cut a box out of a picture and resize it, in numba: the resampler of backends that decode whole pictures.

It computes what `PIL.Image.crop(window).resize(size, BILINEAR, box=...)` computes: a triangle filter with half-pixel
centres, widened when shrinking (antialiasing), the box to a fraction of a pixel, nothing outside the window. One
output row at a time: the few source rows it needs are summed into one row of float32 that stays in the cache, then
that row is summed along its width. PIL rounds to uint8 between the two sums; this does not.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Products may fuse into FMAs; nothing may be reordered, so that results do not depend on how a loop was vectorized.
_FAST = {"contract"}


@njit(cache=True, nogil=True, error_model="numpy")
def triangle_taps(
    start: float, extent: float, low: int, high: int, num_outputs: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return which source pixels make each output pixel along one axis, and their weights.

    Args:
        start: where the interval that becomes the output begins, in source pixels.
        extent: its length.
        low: the first source pixel that may be read, not after `start`.
        high: the one after the last, not before `start + extent`.
        num_outputs: pixels of the output.

    Returns:
        first: int64 (num_outputs,), the first source pixel of each output pixel.
        weights: float32 (num_outputs, taps), of `first` and the pixels after it; each row sums to 1. Every output has
            the same number of taps, some of weight 0, all in [low, high).

    Source: Pillow `Resample.c`, `precompute_coeffs` with `bilinear_filter`.
    """
    scale = extent / num_outputs
    support = max(scale, 1.0)
    num_taps = min(math.ceil(2 * support), high - low)
    first = np.empty(num_outputs, np.int64)
    weights = np.empty((num_outputs, num_taps), np.float32)
    for i in range(num_outputs):
        centre = start + (i + 0.5) * scale
        first[i] = min(max(math.floor(centre - support + 0.5), low), high - num_taps)
        total = 0.0
        for tap in range(num_taps):
            weight = max(0.0, 1.0 - abs(first[i] + tap + 0.5 - centre) / support)
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
        output[x, 0] = np.uint8(red)
        output[x, 1] = np.uint8(green)
        output[x, 2] = np.uint8(blue)


@njit(cache=True, nogil=True)
def resample(
    pixels: NDArray[np.uint8],
    width: int,
    window: NDArray[np.int32],
    box: NDArray[np.float64],
    output: NDArray[np.uint8],
) -> None:
    """Resize `box` of a picture into `output`, reading nothing outside `window`.

    Args:
        pixels: uint8 (at least height * width * 3,), the picture's rows of interleaved RGB. Not bounds-checked.
        width: of the picture, in pixels.
        window: int32 (4,), top, left, height, width in pixels, inside the picture.
        box: float64 (4,), top, left, height, width in pixels, inside the window.
        output: uint8 (H, W, 3), written.

    Source: `PIL.Image.crop` and `resize(..., BILINEAR, box=...)`, to within PIL's rounding between its two passes.
    """
    top, left, window_height, window_width = window[0], window[1], window[2], window[3]
    first_row, row_weights = triangle_taps(box[0], box[2], top, top + window_height, output.shape[0])
    first_column, column_weights = triangle_taps(box[1], box[3], left, left + window_width, output.shape[1])
    row = np.empty(3 * window_width, np.float32)
    stride = 3 * width
    for y in range(output.shape[0]):
        _sum_rows(pixels, first_row[y] * stride + 3 * left, stride, row_weights[y], row)
        _sum_columns(row, first_column, left, column_weights, output[y])
