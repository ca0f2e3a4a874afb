"""Affine transforms of 8-bit pictures by nearest neighbours, in place, equal to Pillow's; compiled by numba.

Source: Pillow `src/libImaging/Geometry.c`. It computes in fixed point where coordinates are below 32768; here that is
always so, hence pictures are to be smaller.

No function here starts threads or touches numba's threading layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = NDArray[np.uint32]


@njit(cache=True, nogil=True)
def transform(pictures: Bytes, rows: Integers, matrices: Doubles, fill: Bytes) -> None:
    """Transform some pictures in place.

    Args:
        pictures: uint8 (n, H, 3 W), channels beside each other.
        rows: int64 (m,), which of them.
        matrices: float64 (m, 6), one for each, as in `affine`.
        fill: uint8 (3,), the colour of what comes from outside.
    """
    height, width = pictures.shape[1], pictures.shape[2] // 3
    pixels = np.empty((height, width), np.uint32)
    outside = np.uint32(fill[0] | fill[1] << 8 | fill[2] << 16)
    for i in range(rows.size):
        picture, matrix = pictures[rows[i]], matrices[i]
        _pack(picture, pixels)
        if matrix[1] == 0 and matrix[3] == 0:
            _straight(pixels, matrix, outside, picture)
        else:
            _slanted(pixels, matrix, outside, picture)


@njit(cache=True, nogil=True)
def _pack(picture: Bytes, pixels: Words) -> None:
    """Copy, each pixel as one word."""
    for y in range(len(picture)):
        row, packed = picture[y], pixels[y]
        for x in range(packed.size):
            packed[x] = row[3 * x] | row[3 * x + 1] << 8 | row[3 * x + 2] << 16


@njit(cache=True, nogil=True, inline="always")
def _unpack(pixel: np.uint32, row: Bytes, x: int) -> None:
    row[3 * x], row[3 * x + 1], row[3 * x + 2] = pixel, pixel >> np.uint32(8), pixel >> np.uint32(16)


@njit(cache=True, nogil=True)
def _straight(pixels: Words, matrix: Doubles, outside: np.uint32, picture: Bytes) -> None:
    """Without shear or rotation Pillow adds up steps in float64."""
    height, width = pixels.shape
    columns, rows = _steps(matrix[2], matrix[0], width), _steps(matrix[5], matrix[4], height)
    for y in range(height):
        for x in range(width):
            inside = columns[x] >= 0 and rows[y] >= 0
            _unpack(pixels[rows[y], columns[x]] if inside else outside, picture[y], x)


@njit(cache=True, nogil=True)
def _steps(start: float, step: float, size: int) -> Integers:
    """Return the source of each pixel along an axis, -1 where there is none."""
    sources = np.empty(size, np.int64)
    at = start + step * 0.5
    for k in range(size):
        sources[k] = int(at) if 0 <= at < size else -1
        at += step
    return sources


@njit(cache=True, nogil=True)
def _slanted(pixels: Words, matrix: Doubles, outside: np.uint32, picture: Bytes) -> None:
    """Everything else is in fixed point."""
    height, width = pixels.shape
    a, b, d, e = _fixed(matrix[0]), _fixed(matrix[1]), _fixed(matrix[3]), _fixed(matrix[4])
    c = _fixed(matrix[2] + matrix[0] * 0.5 + matrix[1] * 0.5)
    f = _fixed(matrix[5] + matrix[3] * 0.5 + matrix[4] * 0.5)
    for y in range(height):
        for x in range(width):
            column, row = (a * x + b * y + c) >> 16, (d * x + e * y + f) >> 16
            inside = 0 <= column < width and 0 <= row < height
            _unpack(pixels[row, column] if inside else outside, picture[y], x)


@njit(cache=True, nogil=True, inline="always")
def _fixed(value: float) -> int:
    """Round to 16 binary places."""
    return int(np.floor(value * 65536.0 + 0.5))
