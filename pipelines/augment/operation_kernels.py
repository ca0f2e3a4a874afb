"""The operations of RandAugment that move no pixels, in place, equal to Pillow's bit for bit; compiled by numba.

All but two of them are a table of 256 levels for each channel. Blends compute in float32 and cut the fraction off, in
Pillow's order.

Source: Pillow `ImageOps.py`, `ImageEnhance.py`, `src/libImaging/{Blend,Convert,Filter}.c`.

No function here starts threads or touches numba's threading layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

# The values of `pipelines.batch.Operation`. Kept in this file because numba's cache notices changes of this file only.
AUTO_CONTRAST, EQUALIZE, INVERT = 1, 2, 3
POSTERIZE, SOLARIZE, SOLARIZE_ADD = 5, 6, 7
COLOR, CONTRAST, BRIGHTNESS, SHARPNESS = 8, 9, 10, 11

# float32 constants: a Python literal is float64 to numba and would turn the whole expression into float64.
F = np.float32


@njit(cache=True, nogil=True)
def copy(pixels: Bytes, flip: NDArray[np.bool_], out: Bytes) -> None:
    """Copy pictures, mirroring some left-right.

    Args:
        pixels: uint8 (n, H, 3 W), channels beside each other.
        flip: bool (n,).
        out: uint8 (n, H, 3 W).
    """
    num, height, size = pixels.shape
    last = np.uint64(size - 3)  # unsigned: numba then leaves out its test for negative indices
    for i in range(num):
        for y in range(height):
            source, row = pixels[i, y], out[i, y]
            if flip[i]:
                for x in range(size // 3):
                    at = last - np.uint64(3 * x)
                    row[3 * x] = source[at]
                    row[3 * x + 1] = source[at + np.uint64(1)]
                    row[3 * x + 2] = source[at + np.uint64(2)]
            else:
                for j in range(size):
                    row[j] = source[j]


def adjust(pictures: Bytes, rows: Integers, operations: Integers, arguments: Floats) -> None:
    """Apply one operation to each of some pictures, in place.

    Args:
        pictures: uint8 (n, H, 3 W), channels beside each other.
        rows: int64 (m,), which of them.
        operations: int64 (m,), none of those that move pixels.
        arguments: float32 (m,).
    """
    _color(pictures, rows, operations, arguments)
    _sharpness(pictures, rows, operations, arguments)
    _change_levels(pictures, rows, operations, arguments)


@njit(cache=True, nogil=True)
def _change_levels(pictures: Bytes, rows: Integers, operations: Integers, arguments: Floats) -> None:
    """Carry out all operations but two."""
    tables = np.empty((3, 256), np.uint8)
    red, green, blue = tables[0], tables[1], tables[2]
    for i in range(rows.size):
        picture, operation = pictures[rows[i]], operations[i]
        if operation != COLOR and operation != SHARPNESS:
            _tabulate(picture, operation, arguments[i], tables)
            for y in range(len(picture)):
                row = picture[y]
                for x in range(row.size // 3):
                    row[3 * x] = red[row[3 * x]]
                    row[3 * x + 1] = green[row[3 * x + 1]]
                    row[3 * x + 2] = blue[row[3 * x + 2]]


@njit(cache=True, nogil=True)
def _tabulate(picture: Bytes, operation: int, argument: F, tables: Bytes) -> None:
    if AUTO_CONTRAST <= operation <= EQUALIZE:
        histograms = _histograms(picture)
        for channel in range(3):
            if operation == EQUALIZE:
                _flatten(histograms[channel], tables[channel])
            else:
                _stretch(histograms[channel], tables[channel])
    else:
        mean = _mean_grey(picture) if operation == CONTRAST else 0
        for level in range(256):
            tables[:, level] = _level(operation, argument, mean, level)


@njit(cache=True, nogil=True)
def _level(operation: int, argument: F, mean: int, level: int) -> int:
    """Return what becomes of a level, in any channel."""
    if operation == INVERT:
        return 255 - level
    if operation == POSTERIZE:
        return level & (255 << (8 - min(int(argument), 8)))
    if operation == SOLARIZE:
        return level if level < argument else 255 - level
    if operation == SOLARIZE_ADD:
        return min(level + int(argument), 255) if level < 128 else level
    return int(_blend(F(mean), F(level), argument))  # CONTRAST, and BRIGHTNESS with mean 0


@njit(cache=True, nogil=True, inline="always")
def _blend(degenerate: F, level: F, factor: F) -> np.int32:
    value = degenerate + factor * (level - degenerate)
    return np.int32(F(0) if value <= F(0) else (F(255) if value >= F(255) else value))


@njit(cache=True, nogil=True)
def _histograms(picture: Bytes) -> NDArray[np.int32]:
    counts = np.zeros((3, 256), np.int32)
    red, green, blue = counts[0], counts[1], counts[2]
    for y in range(len(picture)):
        row = picture[y]
        for x in range(row.size // 3):
            red[row[3 * x]] += 1
            green[row[3 * x + 1]] += 1
            blue[row[3 * x + 2]] += 1
    return counts


@njit(cache=True, nogil=True)
def _stretch(histogram: NDArray[np.int32], table: Bytes) -> None:
    """AutoContrast: the darkest level becomes 0, the lightest 255."""
    low, high = 0, 255
    while histogram[low] == 0:
        low += 1
    while histogram[high] == 0:
        high -= 1
    scale = 255.0 / (high - low) if high > low else 1.0
    offset = -low * scale if high > low else 0.0
    for level in range(256):
        table[level] = min(max(int(level * scale + offset), 0), 255)


@njit(cache=True, nogil=True)
def _flatten(histogram: NDArray[np.int32], table: Bytes) -> None:
    """Equalize: levels become as frequent as whole numbers allow; the last one in use does not count."""
    total, last = 0, 0
    for level in range(256):
        total += histogram[level]
        last = level if histogram[level] > 0 else last
    step = (total - histogram[last]) // 255
    below = step // 2
    for level in range(256):
        table[level] = min(below // step, 255) if step > 0 else level
        below += histogram[level]


@njit(cache=True, nogil=True, inline="always")
def _grey(red: int, green: int, blue: int) -> np.int32:
    """Rec. 601 luma in fixed point of 16 bits, as Pillow converts to L."""
    return np.int32(np.int32(red) * 19595 + np.int32(green) * 38470 + np.int32(blue) * 7471 + 0x8000) >> np.int32(16)


@njit(cache=True, nogil=True)
def _mean_grey(picture: Bytes) -> int:
    total, count = 0, len(picture) * (picture.shape[1] // 3)
    for y in range(len(picture)):
        row = picture[y]
        for x in range(row.size // 3):
            total += _grey(row[3 * x], row[3 * x + 1], row[3 * x + 2])
    return int((2 * total + count) // (2 * count))  # Pillow's int(mean + 0.5)


@njit(cache=True, nogil=True)
def _color(pictures: Bytes, rows: Integers, operations: Integers, factors: Floats) -> None:
    """Blend with grey."""
    for i in range(rows.size):
        if operations[i] != COLOR:
            continue
        picture, factor = pictures[rows[i]], factors[i]
        for y in range(len(picture)):
            row = picture[y]
            for x in range(row.size // 3):
                red, green, blue = row[3 * x], row[3 * x + 1], row[3 * x + 2]
                grey = F(_grey(red, green, blue))
                row[3 * x] = _blend(grey, F(red), factor)
                row[3 * x + 1] = _blend(grey, F(green), factor)
                row[3 * x + 2] = _blend(grey, F(blue), factor)


@njit(cache=True, nogil=True)
def _sharpness(pictures: Bytes, rows: Integers, operations: Integers, factors: Floats) -> None:
    """Blend with a mean of 3 x 3 pixels, the middle one counting five times; the border stays as it is."""
    height, size = pictures.shape[1:]
    above, here, sums = np.empty(size, np.uint8), np.empty(size, np.uint8), np.empty(size, np.int32)
    for i in range(rows.size):
        if operations[i] != SHARPNESS:
            continue
        picture = pictures[rows[i]]
        for y in range(height - 1):
            row = picture[y]
            for j in range(size):
                here[j] = row[j]
            if y > 0:
                _add(above, here, picture[y + 1], sums)
                _sharpen_row(sums, here, factors[i], row)
            above, here = here, above


@njit(cache=True, nogil=True)
def _add(above: Bytes, here: Bytes, below: Bytes, sums: NDArray[np.int32]) -> None:
    for j in range(sums.size):
        sums[j] = np.int32(above[j]) + np.int32(here[j]) + np.int32(below[j])


@njit(cache=True, nogil=True)
def _sharpen_row(sums: NDArray[np.int32], here: Bytes, factor: F, out: Bytes) -> None:
    left, right = sums[:-6], sums[6:]
    sums, here, out = sums[3:], here[3:], out[3:]
    for j in range(right.size):
        total = np.int32(left[j] + sums[j] + right[j] + 4 * here[j])
        # (2 total + 13) / 26 is never within 1/26 of a whole number, so that all ways to compute it agree.
        smooth = np.int32(F(total) * F(1 / 13) + F(0.5))
        out[j] = _blend(F(smooth), F(here[j]), factor)
