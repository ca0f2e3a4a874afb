"""Affine transforms of 8-bit pictures, in place, equal to Pillow's `Image.transform` bit for bit; compiled by numba.

Matrices are those of `affine`. Where an output pixel comes from outside of the picture, it has the fill colour.
Pillow computes in float64 and cuts the fraction off, so the order of its additions and multiplications is part of the
result, and is kept here. What Pillow does not use is that shears and translations move pixels along one axis only: of
its two passes the one along the other axis then returns samples as they are, and can go, and all pixels of a row are
equally far from their samples. Transforms along columns are those along rows of the transposed picture.

Source: Pillow `src/libImaging/Geometry.c`. (Its nearest neighbours are in `nearest_kernels`.)

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

Taps = tuple[int, ...]

# Which samples make a pixel, along each axis: counted from the one that its source is in, or behind the centre of.
# Tuples, because numba compiles anew for each length of one, and leaves out the branches that it rules out.
BILINEAR, BICUBIC = (0, 1), (-1, 0, 1, 2)

# How far samples may lie beyond the picture. What lies there repeats the border.
PAD = 2

# Where a matrix has the entries of the matrix for the transposed picture.
TURNED = (4, 3, 5, 1, 0, 2)


def transform(taps: Taps, pictures: Bytes, rows: Integers, matrices: Doubles, fill: Bytes) -> None:
    """Transform some pictures in place.

    Args:
        taps: BILINEAR or BICUBIC.
        pictures: uint8 (n, H, 3 W), channels beside each other.
        rows: int64 (m,), which of them.
        matrices: float64 (m, 6), one for each, as in `affine`.
        fill: uint8 (3,), the colour of what comes from outside.
    """
    _along_axis(pictures, rows, matrices, taps, fill)
    _anyhow(pictures, rows, matrices, taps, fill)


@njit(cache=True, nogil=True)
def _along_axis(pictures: Bytes, rows: Integers, matrices: Doubles, taps: Taps, fill: Bytes) -> None:
    """Carry out the matrices that move pixels along rows or along columns."""
    height, width = pictures.shape[1], pictures.shape[2] // 3
    lines = np.empty((height, 3 * (width + 2 * PAD)), np.uint8)
    columns = np.empty((width, 3 * (height + 2 * PAD)), np.uint8)
    turned = np.empty((width, 3 * height), np.uint8)
    transposed = np.empty(6)
    for i in range(rows.size):
        picture, matrix = pictures[rows[i]], matrices[i]
        if _keeps_rows(matrix):
            _pad(picture, lines)
            _move(lines, matrix, taps, fill, picture)
        elif _keeps_columns(matrix):
            for k in range(6):
                transposed[k] = matrix[TURNED[k]]
            _turn(picture, turned)
            _pad(turned, columns)
            _move(columns, transposed, taps, fill, turned)
            _turn(turned, picture)


@njit(cache=True, nogil=True, inline="always")
def _keeps_rows(matrix: Doubles) -> bool:
    return bool(matrix[0] == 1 and matrix[3] == 0 and matrix[4] == 1 and matrix[5] == 0)


@njit(cache=True, nogil=True, inline="always")
def _keeps_columns(matrix: Doubles) -> bool:
    return bool(matrix[0] == 1 and matrix[1] == 0 and matrix[2] == 0 and matrix[4] == 1)


@njit(cache=True, nogil=True)
def _turn(picture: Bytes, turned: Bytes) -> None:
    """Transpose."""
    for x in range(len(turned)):
        for y in range(len(picture)):
            turned[x, 3 * y] = picture[y, 3 * x]
            turned[x, 3 * y + 1] = picture[y, 3 * x + 1]
            turned[x, 3 * y + 2] = picture[y, 3 * x + 2]


@njit(cache=True, nogil=True)
def _pad(picture: Bytes, lines: Bytes) -> None:
    """Copy, repeating the first and the last pixel of each row."""
    height, size = picture.shape
    for y in range(height):
        row, line = picture[y], lines[y]
        for j in range(size):
            line[j + 3 * PAD] = row[j]
        for j in range(3 * PAD):
            line[j] = row[j % 3]
            line[j + 3 * PAD + size] = row[size - 3 + j % 3]


@njit(cache=True, nogil=True)
def _pack(picture: Bytes, pixels: Words) -> None:
    """Copy, repeating the border, each pixel as one word."""
    height, width = picture.shape[0], picture.shape[1] // 3
    stride = width + 2 * PAD
    for y in range(height + 2 * PAD):
        row, packed = picture[min(max(y - PAD, 0), height - 1)], pixels[y * stride : (y + 1) * stride]
        for x in range(width):
            packed[x + PAD] = row[3 * x] | row[3 * x + 1] << 8 | row[3 * x + 2] << 16
        for k in range(PAD):
            packed[k] = packed[PAD]
            packed[k + width + PAD] = packed[width + PAD - 1]


@njit(cache=True, nogil=True, inline="always")
def _linear(first: float, second: float, distance: float) -> float:
    return first + (second - first) * distance


@njit(cache=True, nogil=True, inline="always")
def _cubic(before: float, first: float, second: float, behind: float, distance: float) -> float:
    """The cubic convolution kernel of parameter -1, summed in Pillow's order."""
    p2 = -before + second
    p3 = 2.0 * (before - first) + second - behind
    p4 = -before + first - second + behind
    return first + distance * (p2 + distance * (p3 + distance * p4))


@njit(cache=True, nogil=True, inline="always")
def _byte(value: float) -> np.int32:
    return np.int32(0.0 if value <= 0.0 else (255.0 if value >= 255.0 else value))


@njit(cache=True, nogil=True)
def _fill(row: Bytes, first: int, last: int, fill: Bytes) -> None:
    """Fill all but the pixels from `first` up to `last`."""
    red, green, blue = fill[0], fill[1], fill[2]
    for x in range(row.size // 3):
        if x < first or x >= last:
            row[3 * x], row[3 * x + 1], row[3 * x + 2] = red, green, blue


@njit(cache=True, nogil=True)
def _span(matrix: Doubles, y: int, height: int, width: int) -> tuple[int, int]:
    """Return the first and the last but one pixel of row y that come from inside of the picture."""
    first, last = 0, width
    while first < last and not _inside(matrix, first, y, height, width):
        first += 1
    while first < last and not _inside(matrix, last - 1, y, height, width):
        last -= 1
    return first, last


@njit(cache=True, nogil=True, inline="always")
def _inside(matrix: Doubles, x: int, y: int, height: int, width: int) -> bool:
    source_x = matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2]
    source_y = matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5]
    return bool(source_x >= 0 and source_x < width and source_y >= 0 and source_y < height)


@njit(cache=True, nogil=True)
def _move(lines: Bytes, matrix: Doubles, taps: Taps, fill: Bytes, picture: Bytes) -> None:
    """Move whole rows to the left or right."""
    height, width = picture.shape[0], picture.shape[1] // 3
    offset = matrix[2]
    for y in range(height):
        first, last = _span(matrix, y, height, width)
        _fill(picture[y], first, last, fill)
        shift = matrix[1] * (y + 0.5)
        while first < last:
            source = first + 0.5 + shift + offset - 0.5
            left = np.floor(source)
            distance = source - left
            # Sums round more coarsely to the right: where the right end has the same distance, so has all between.
            # Only shifts by less than 1e-6 pixels or so ever round.
            last_source = last - 0.5 + shift + offset - 0.5
            end = last if last_source - (left + (last - 1 - first)) == distance else first + 1
            samples = lines[y, 3 * (int(left) + PAD - 1) :]
            if len(taps) == 2:
                _linear_run(samples, distance, picture[y, 3 * first : 3 * end])
            else:
                _cubic_run(samples, distance, picture[y, 3 * first : 3 * end])
            first = end


@njit(cache=True, nogil=True)
def _linear_run(samples: Bytes, distance: float, out: Bytes) -> None:
    first, second = samples[3:], samples[6:]
    for j in range(out.size):
        out[j] = _byte(_linear(float(first[j]), float(second[j]), distance))


@njit(cache=True, nogil=True)
def _cubic_run(samples: Bytes, distance: float, out: Bytes) -> None:
    first, second, behind = samples[3:], samples[6:], samples[9:]
    for j in range(out.size):
        out[j] = _byte(_cubic(float(samples[j]), float(first[j]), float(second[j]), float(behind[j]), distance))


@njit(cache=True, nogil=True)
def _anyhow(pictures: Bytes, rows: Integers, matrices: Doubles, taps: Taps, fill: Bytes) -> None:
    """Carry out all other matrices: collect the samples of a row of output pixels first, for SIMD to combine."""
    height, width, reach = pictures.shape[1], pictures.shape[2] // 3, len(taps)
    pixels = np.empty((height + 2 * PAD) * (width + 2 * PAD), np.uint32)
    corners = np.empty(width, np.int64)
    distances = np.empty((2, width), np.float64)
    samples = np.empty((reach * reach, width), np.uint32)
    lines = np.empty((reach, width), np.float64)
    for i in range(rows.size):
        picture, matrix = pictures[rows[i]], matrices[i]
        if _keeps_rows(matrix) or _keeps_columns(matrix):
            continue
        _pack(picture, pixels)
        for y in range(height):
            first, last = _span(matrix, y, height, width)
            _locate(matrix, y, width + 2 * PAD, corners, distances)
            _fill(picture[y], first, last, fill)
            _collect(pixels, width + 2 * PAD, corners[first:last], reach, samples)
            across, down, row = distances[0, first:last], distances[1, first:last], picture[y, 3 * first : 3 * last]
            for channel in range(3):
                if len(taps) == 2:
                    _linear_lines(samples, 8 * channel, across, lines)
                    _linear_column(lines, down, row[channel:])
                else:
                    _cubic_lines(samples, 8 * channel, across, lines)
                    _cubic_column(lines, down, row[channel:])


@njit(cache=True, nogil=True)
def _locate(matrix: Doubles, y: int, stride: int, corners: Integers, distances: Doubles) -> None:
    """Find the inner one of the samples that surround each source of row y, and how far beyond it the source lies."""
    a, c, d, f = matrix[0], matrix[2], matrix[3], matrix[5]
    b_term, e_term = matrix[1] * (y + 0.5), matrix[4] * (y + 0.5)
    across, down = distances[0], distances[1]
    for x in range(corners.size):
        source_x, source_y = a * (x + 0.5) + b_term + c - 0.5, d * (x + 0.5) + e_term + f - 0.5
        left, top = np.floor(source_x), np.floor(source_y)
        corners[x] = (int(top) + PAD) * stride + int(left) + PAD
        across[x], down[x] = source_x - left, source_y - top


@njit(cache=True, nogil=True)
def _collect(pixels: Words, stride: int, corners: Integers, reach: int, samples: Words) -> None:
    """Fetch the square of samples that surrounds each source."""
    before = reach // 2 - 1
    for row in range(reach):
        for column in range(reach):
            line, step = samples[reach * row + column], (row - before) * stride + column - before
            for x in range(corners.size):
                line[x] = pixels[np.uint64(corners[x] + step)]


@njit(cache=True, nogil=True)
def _linear_lines(samples: Words, shift: int, distances: Doubles, lines: Doubles) -> None:
    for k in range(2):
        first, second, out = samples[2 * k], samples[2 * k + 1], lines[k]
        for x in range(distances.size):
            out[x] = _linear(_channel(first[x], shift), _channel(second[x], shift), distances[x])


@njit(cache=True, nogil=True)
def _cubic_lines(samples: Words, shift: int, distances: Doubles, lines: Doubles) -> None:
    for k in range(4):
        before, first, second, behind = samples[4 * k], samples[4 * k + 1], samples[4 * k + 2], samples[4 * k + 3]
        out = lines[k]
        for x in range(distances.size):
            out[x] = _cubic(
                _channel(before[x], shift),
                _channel(first[x], shift),
                _channel(second[x], shift),
                _channel(behind[x], shift),
                distances[x],
            )


@njit(cache=True, nogil=True, inline="always")
def _channel(pixel: np.uint32, shift: int) -> float:
    return float(np.int32(pixel >> np.uint32(shift)) & np.int32(255))


@njit(cache=True, nogil=True)
def _linear_column(lines: Doubles, distances: Doubles, row: Bytes) -> None:
    first, second = lines[0], lines[1]
    for x in range(distances.size):
        row[3 * x] = _byte(_linear(first[x], second[x], distances[x]))


@njit(cache=True, nogil=True)
def _cubic_column(lines: Doubles, distances: Doubles, row: Bytes) -> None:
    before, first, second, behind = lines[0], lines[1], lines[2], lines[3]
    for x in range(distances.size):
        row[3 * x] = _byte(_cubic(before[x], first[x], second[x], behind[x], distances[x]))
