"""The CPU's augmentation, compiled by numba: uint8 pixels in, normalized float32 pixels out, then mixed in place.

A picture goes through row by row: a row is split into its three planes, the planes are computed on, and joined
again. Each of these loops compiles to SIMD code, which one loop over interleaved pixels does not (measured on AVX-512:
0.09 ms a 224-pixel picture against 0.81 ms). The planes stay in the first-level cache.

Mixing needs both pictures of a pair: it is a function of its own, called while they are in the cache.

No function here starts threads or touches numba's threading layer.

Each picture has a row of NUM_COLUMNS float32 numbers, `table[i]`, that `parameters` makes of the plan; the Triton
kernels read the same table. Whole numbers are exact floats; NOISE alone holds bits, of two uint32 words.

    BIAS, columns 0-2    of each channel: (lighting - mean) / std
    FLIP, 3              1 where this stage mirrors the picture
    JITTER, 4-6          HSV jitter: factors of hue, saturation and value
            4-12         contrast jitter: `own, grey, mean` of each of the three steps, in their order; a step is
                         x <- clip(own * x + grey * grey(pixel) + mean * mean_grey(picture), 0, 255)
    CONTRAST_STEP, 13    contrast jitter: which step (0-2) is the one that needs the mean
    ERASE, 14-17         rectangle to overwrite: top, left, and (exclusive) bottom, right; 0 where there is none
    NOISE, 18-19         key of the numbers that erased pixels become: bits of the low and of the high word
    PARTNER, 20          row of the batch to mix with, whose partner is this one; the row itself where nothing mixes
    LAM, 21              share of the row's own pixels outside CUT: 1 where pictures are cut instead of blended
    CUT, 22-25           rectangle that comes from the partner whole: top, left, bottom, right, as in ERASE

The result is w * own + (1 - w) * partner's, where w is 0 inside CUT and LAM outside. A step that a run does not have
leaves 0 in its columns, but 1 in LAM and the row's own number in PARTNER.
"""

from __future__ import annotations

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

# Kept in this file because numba's cache notices changes of this file only.
BIAS, FLIP, JITTER, CONTRAST_STEP, ERASE, NOISE, PARTNER, LAM, CUT, NUM_COLUMNS = 0, 3, 4, 13, 14, 18, 20, 21, 22, 26

Rows = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

# float32 constants: a Python literal is float64 to numba and would turn the whole expression into float64.
F = np.float32
# Rec. 601 luma, as in `reference`.
GREY_R, GREY_G, GREY_B = F(0.299), F(0.587), F(0.114)


@njit(cache=True, nogil=True)
def _split(row: Bytes, planes: Bytes) -> None:
    red, green, blue = planes[0], planes[1], planes[2]
    for x in range(red.size):
        red[x] = row[3 * x]
        green[x] = row[3 * x + 1]
        blue[x] = row[3 * x + 2]


@njit(cache=True, nogil=True)
def _join(planes: Floats, scale: Floats, row: Floats, parameters: Floats) -> None:
    """Mirror where asked, normalize, and interleave."""
    red, green, blue = planes[0], planes[1], planes[2]
    scale_r, scale_g, scale_b = scale[0], scale[1], scale[2]
    bias_r, bias_g, bias_b = parameters[0], parameters[1], parameters[2]
    if parameters[FLIP] == 0:
        for x in range(red.size):
            row[3 * x] = red[x] * scale_r + bias_r
            row[3 * x + 1] = green[x] * scale_g + bias_g
            row[3 * x + 2] = blue[x] * scale_b + bias_b
    else:
        last = uint64(red.size - 1)  # unsigned: numba then leaves out its test for negative indices
        for x in range(red.size):
            mirrored = last - uint64(x)
            row[3 * x] = red[mirrored] * scale_r + bias_r
            row[3 * x + 1] = green[mirrored] * scale_g + bias_g
            row[3 * x + 2] = blue[mirrored] * scale_b + bias_b


@njit(cache=True, nogil=True, inline="always")
def _unit(x: F) -> F:
    return min(max(x, F(0)), F(1))


@njit(cache=True, nogil=True, error_model="numpy")
def _hsv_row(source: Bytes, planes: Floats, factors: Floats) -> None:
    """Scale hue, saturation and value, without branches.

    Hue is in sextants, [0, 6). A channel is `value - chroma * (1 - w)`, where its weight w falls linearly from 1 to 0
    over one sextant beyond the two in which the channel is the largest (the closed form of hsv_to_rgb).
    """
    hue_factor, saturation_factor, value_factor = factors[0], factors[1], factors[2]
    for x in range(source.shape[1]):
        r, g, b = F(source[0, x]), F(source[1, x]), F(source[2, x])
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        rise = g - b if r == value else (b - r if g == value else r - g)
        base = F(0) if r == value else (F(2) if g == value else F(4))
        # Both divisors are whole numbers; below 1 they are 0, and so is what they divide.
        hue = base + rise / max(chroma, F(1))
        hue = (hue + F(6) if hue < F(0) else hue) * hue_factor
        hue -= F(6) * np.floor(hue * F(1 / 6))
        saturation = min(chroma / max(value, F(1)) * saturation_factor, F(1))
        value = min(value * value_factor, F(255))
        chroma = value * saturation
        grey = value - chroma
        planes[0, x] = grey + chroma * _unit(abs(hue - F(3)) - F(1))
        planes[1, x] = grey + chroma * _unit(F(2) - abs(hue - F(2)))
        planes[2, x] = grey + chroma * _unit(F(2) - abs(hue - F(4)))


@njit(cache=True, nogil=True)
def _plain_row(source: Bytes, planes: Floats) -> None:
    for c in range(3):
        for x in range(source.shape[1]):
            planes[c, x] = source[c, x]


@njit(cache=True, nogil=True, inline="always")
def _adjusted(r: F, g: F, b: F, own: F, grey: F, offset: F) -> tuple[F, F, F]:
    """One step of contrast jitter in its common form (see the module)."""
    shared = (r * GREY_R + g * GREY_G + b * GREY_B) * grey + offset
    return (
        min(max(r * own + shared, F(0)), F(255)),
        min(max(g * own + shared, F(0)), F(255)),
        min(max(b * own + shared, F(0)), F(255)),
    )


@njit(cache=True, nogil=True)
def _contrast_row(source: Bytes, planes: Floats, steps: Floats) -> None:
    """Apply three steps; `steps` holds their own, grey, offset."""
    own_0, grey_0, offset_0 = steps[0, 0], steps[0, 1], steps[0, 2]
    own_1, grey_1, offset_1 = steps[1, 0], steps[1, 1], steps[1, 2]
    own_2, grey_2, offset_2 = steps[2, 0], steps[2, 1], steps[2, 2]
    for x in range(source.shape[1]):
        r, g, b = F(source[0, x]), F(source[1, x]), F(source[2, x])
        r, g, b = _adjusted(r, g, b, own_0, grey_0, offset_0)
        r, g, b = _adjusted(r, g, b, own_1, grey_1, offset_1)
        planes[0, x], planes[1, x], planes[2, x] = _adjusted(r, g, b, own_2, grey_2, offset_2)


@njit(cache=True, nogil=True)
def plain(pixels: Bytes, table: Floats, rows: Rows, scale: Floats, out: Floats) -> None:
    """Mirror, light and normalize.

    Args:
        pixels: uint8 (n, H, W, 3).
        table: float32 (n, NUM_COLUMNS), as above.
        rows: int64, which pictures.
        scale: float32 (3,), 1 / std of each channel.
        out: float32 (n, H, W, 3), written to.
    """
    height, width = pixels.shape[1:3]
    split, planes = _work_space(width)
    for i in rows:
        for y in range(height):
            _split(pixels[i, y].reshape(3 * width), split)
            _plain_row(split, planes)
            _join(planes, scale, out[i, y].reshape(3 * width), table[i])


@njit(cache=True, nogil=True)
def hsv(pixels: Bytes, table: Floats, rows: Rows, scale: Floats, out: Floats) -> None:
    """The same after HSV jitter."""
    height, width = pixels.shape[1:3]
    split, planes = _work_space(width)
    for i in rows:
        for y in range(height):
            _split(pixels[i, y].reshape(3 * width), split)
            _hsv_row(split, planes, table[i, JITTER:])
            _join(planes, scale, out[i, y].reshape(3 * width), table[i])


@njit(cache=True, nogil=True)
def contrast(pixels: Bytes, table: Floats, rows: Rows, scale: Floats, out: Floats) -> None:
    """The same after contrast jitter: a pass for each picture's mean grey, then one to apply it."""
    height, width = pixels.shape[1:3]
    split, planes = _work_space(width)
    steps = np.empty((3, 3), np.float32)
    for i in rows:
        contrast_step = int(table[i, CONTRAST_STEP])
        _steps(table[i, JITTER:CONTRAST_STEP], contrast_step, F(0), steps)
        grey = _mean_grey(pixels[i], split, planes, steps)
        _steps(table[i, JITTER:CONTRAST_STEP], 3, grey, steps)
        for y in range(height):
            _split(pixels[i, y].reshape(3 * width), split)
            _contrast_row(split, planes, steps)
            _join(planes, scale, out[i, y].reshape(3 * width), table[i])


@njit(cache=True, nogil=True)
def _work_space(width: int) -> tuple[Bytes, Floats]:
    """Return memory for a row's planes that begins with a cache line: vectors across two cost a quarter of the time."""
    memory = np.empty(3 * width + 15, np.float32)
    first = -memory.ctypes.data % 64 // 4
    planes = memory[first : first + 3 * width].reshape(3, width)
    return np.empty((3, width), np.uint8), planes


@njit(cache=True, nogil=True)
def _steps(packed: Floats, count: int, mean_grey: F, steps: Floats) -> None:
    """Unpack the first `count` steps, with the picture's mean grey; the others keep the pixel as it is."""
    for k in range(3):
        kept = k >= count
        steps[k, 0] = F(1) if kept else packed[3 * k]
        steps[k, 1] = F(0) if kept else packed[3 * k + 1]
        steps[k, 2] = F(0) if kept else packed[3 * k + 2] * mean_grey


@njit(cache=True, nogil=True)
def _mean_grey(picture: Bytes, split: Bytes, planes: Floats, steps: Floats) -> F:
    height, width = picture.shape[:2]
    column = np.zeros(width, np.float32)  # one sum per column: SIMD without reordering the additions of a sum
    for y in range(height):
        _split(picture[y].reshape(3 * width), split)
        _contrast_row(split, planes, steps)
        for x in range(width):
            column[x] += planes[0, x] * GREY_R + planes[1, x] * GREY_G + planes[2, x] * GREY_B
    total = 0.0
    for x in range(width):
        total += column[x]
    return F(total / (height * width))


@njit(cache=True, nogil=True)
def mix(table: Floats, leaders: Rows, images: Floats) -> None:
    """Mix finished pictures with their partners, in place.

    Args:
        table: float32 (n, NUM_COLUMNS), as above.
        leaders: int64, one row of each pair to be mixed; a row that is its own partner stays as it is.
        images: float32 (n, H, W, 3).
    """
    height, width = images.shape[1:3]
    kept = np.empty(3 * width, np.float32)
    for i in leaders:
        j = int(table[i, PARTNER])
        if j == i:
            continue
        for y in range(height):
            if _takes(y, table[i]) or _takes(y, table[j]):
                one, two = images[i, y].reshape(3 * width), images[j, y].reshape(3 * width)
                for x in range(3 * width):
                    kept[x] = one[x]
                _take(y, one, two, table[i])
                _take(y, two, kept, table[j])


@njit(cache=True, nogil=True)
def _takes(y: int, parameters: Floats) -> bool:
    """Return whether row y takes anything from the partner's."""
    return bool(parameters[LAM] != F(1) or parameters[CUT] <= y < parameters[CUT + 2])


@njit(cache=True, nogil=True)
def _take(y: int, row: Floats, other: Floats, parameters: Floats) -> None:
    """Blend row y with the partner's, or put the rectangle's part of it in."""
    share = parameters[LAM]
    rest = F(1) - share
    if share != F(1):
        for x in range(row.size):
            row[x] = share * row[x] + rest * other[x]
    if parameters[CUT] <= y < parameters[CUT + 2]:
        first, end = 3 * int(parameters[CUT + 1]), 3 * int(parameters[CUT + 3])
        inside, source = row[first:end], other[first:end]
        for x in range(inside.size):
            inside[x] = source[x]
