"""The Triton kernels of the 8-bit operations, with Pillow's arithmetic and rounding.

Each picture has a row of COLUMNS float64 numbers, `table[i]`:

    OPERATION 0   the `Operation`
    ARGUMENT 1    its argument, exactly a float32
    FLIP 2        1 where the picture is mirrored first
    MATRIX 3-8    geometric operations: their matrix, see `affine`

and 3 x 256 counts, `counts[i]`: how many of its pixels have each level of each channel; for `CONTRAST` just one
number in the place of the first two, the sum of its grey values: 64 bits, which a picture of any size needs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from pipelines.augment.cuda_affine import byte, samples, transformed
from pipelines.augment.cuda_pixels import block_of_picture, load_pixels, places, store_pixels
from pipelines.batch import Operation

OPERATION, ARGUMENT, FLIP, MATRIX, COLUMNS = 0, 1, 2, 3, 9

_OPERATION = tl.constexpr(OPERATION)
_ARGUMENT = tl.constexpr(ARGUMENT)
_FLIP = tl.constexpr(FLIP)
_MATRIX = tl.constexpr(MATRIX)
_COLUMNS = tl.constexpr(COLUMNS)

_AUTO_CONTRAST = tl.constexpr(int(Operation.AUTO_CONTRAST))
_EQUALIZE = tl.constexpr(int(Operation.EQUALIZE))
_INVERT = tl.constexpr(int(Operation.INVERT))
_ROTATE = tl.constexpr(int(Operation.ROTATE))
_POSTERIZE = tl.constexpr(int(Operation.POSTERIZE))
_SOLARIZE = tl.constexpr(int(Operation.SOLARIZE))
_SOLARIZE_ADD = tl.constexpr(int(Operation.SOLARIZE_ADD))
_COLOR = tl.constexpr(int(Operation.COLOR))
_CONTRAST = tl.constexpr(int(Operation.CONTRAST))
_BRIGHTNESS = tl.constexpr(int(Operation.BRIGHTNESS))
_SHARPNESS = tl.constexpr(int(Operation.SHARPNESS))
_SHEAR_X = tl.constexpr(int(Operation.SHEAR_X))  # the first of the geometric ones but for ROTATE


@triton.jit
def statistics(
    pixels: tl.tensor,
    table: tl.tensor,
    counts: tl.tensor,
    num_pixels: int,
    width: int,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
) -> None:
    """Add a block's part to the counts of its picture, which begin at 0. Sums of whole numbers know no order."""
    block, row = block_of_picture(num_pixels, BLOCK)
    operation = tl.load(table + row * _COLUMNS + _OPERATION).to(tl.int32)
    units, (y, x) = places(block, width, BLOCK, UNIT)
    mask = y * width + x < num_pixels
    count = counts + row * 768
    level = tl.arange(0, 256)
    if (operation == _AUTO_CONTRAST) | (operation == _EQUALIZE):
        r, g, b = load_pixels(pixels, row, num_pixels, width, units, False, BLOCK, UNIT)
        tl.atomic_add(count + level, tl.histogram(r, 256, mask), sem="relaxed")
        tl.atomic_add(count + 256 + level, tl.histogram(g, 256, mask), sem="relaxed")
        tl.atomic_add(count + 512 + level, tl.histogram(b, 256, mask), sem="relaxed")
    elif operation == _CONTRAST:
        grey = _grey(load_pixels(pixels, row, num_pixels, width, units, False, BLOCK, UNIT))
        total = count.to(tl.pointer_type(tl.int64))
        tl.atomic_add(total, tl.sum(tl.where(mask, grey, 0)).to(tl.int64), sem="relaxed")


@triton.jit
def apply(
    pixels: tl.tensor,
    table: tl.tensor,
    counts: tl.tensor,
    changed: tl.tensor,
    height: int,
    width: int,
    fill_r: int,
    fill_g: int,
    fill_b: int,
    INTERPOLATION: tl.constexpr,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
) -> None:
    """Mirror a picture and carry out its operation, for a block of the result's pixels."""
    block, row = block_of_picture(height * width, BLOCK)
    numbers = table + row * _COLUMNS
    operation = tl.load(numbers + _OPERATION).to(tl.int32)
    argument = tl.load(numbers + _ARGUMENT).to(tl.float32)
    flip = tl.load(numbers + _FLIP) != 0
    units, place = places(block, width, BLOCK, UNIT)
    picture = pixels + row.to(tl.int64) * height * width * 3
    if (operation == _ROTATE) | (operation >= _SHEAR_X):
        fill = (fill_r, fill_g, fill_b)
        colours = transformed(picture, height, width, flip, place, numbers + _MATRIX, fill, INTERPOLATION)
    else:
        colours = load_pixels(pixels, row, height * width, width, units, flip, BLOCK, UNIT)
        if operation == _SHARPNESS:
            colours = _sharpened(colours, picture, height, width, flip, place, argument)
        elif operation == _COLOR:
            r, g, b = colours
            grey = _grey(colours)
            colours = (_blended(grey, r, argument), _blended(grey, g, argument), _blended(grey, b, argument))
        elif (operation == _AUTO_CONTRAST) | (operation == _EQUALIZE):
            colours = _stretched(colours, counts + row * 768, operation)
        else:
            mean = 0
            if operation == _CONTRAST:
                mean = _mean(counts + row * 768, height * width)
            r, g, b = colours
            colours = (
                _pointwise(r, operation, argument, mean),
                _pointwise(g, operation, argument, mean),
                _pointwise(b, operation, argument, mean),
            )
    store_pixels(changed, row, height * width, block, colours, BLOCK, UNIT)


@triton.jit
def _grey(colours: tl.tuple) -> tl.tensor:
    """Return `Image.convert("L")`."""
    r, g, b = colours
    return (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16


@triton.jit
def _mean(counts: tl.tensor, num_pixels: int) -> tl.tensor:
    """Return the mean grey value, rounded as `ImageEnhance.Contrast` does: halves upwards."""
    total = tl.load(counts.to(tl.pointer_type(tl.int64)))
    return ((total * 2 + num_pixels) // (num_pixels * 2)).to(tl.int32)


@triton.jit
def _blended(degenerate: tl.tensor, level: tl.tensor, factor: tl.tensor) -> tl.tensor:
    """Return `Image.blend` of two levels, in float32 as there."""
    return byte(degenerate.to(tl.float32) + factor * (level - degenerate).to(tl.float32))


@triton.jit
def _pointwise(level: tl.tensor, operation: tl.tensor, argument: tl.tensor, mean: tl.tensor) -> tl.tensor:
    """Return what operations that look at nothing but a level make of it."""
    if operation == _INVERT:
        level = 255 - level
    elif operation == _POSTERIZE:
        level = level & (-1 << (8 - argument.to(tl.int32)))
    elif operation == _SOLARIZE:
        level = tl.where(level < argument, level, 255 - level)
    elif operation == _SOLARIZE_ADD:
        level = tl.where(level < 128, tl.minimum(level + argument.to(tl.int32), 255), level)
    elif (operation == _CONTRAST) | (operation == _BRIGHTNESS):
        level = _blended(mean + level * 0, level, argument)
    return level


@triton.jit
def _stretched(colours: tl.tuple, counts: tl.tensor, operation: tl.tensor) -> tuple[tl.tensor, ...]:
    """Look the levels up in the table that each channel's counts lead to."""
    r, g, b = colours
    red, green, blue = (_levels(counts, operation), _levels(counts + 256, operation), _levels(counts + 512, operation))
    return tl.gather(red, r, 0), tl.gather(green, g, 0), tl.gather(blue, b, 0)


@triton.jit
def _levels(counts: tl.tensor, operation: tl.tensor) -> tl.tensor:
    """Return what becomes of the 256 levels of a channel. Source: Pillow's `ImageOps`."""
    level = tl.arange(0, 256)
    count = tl.load(counts + level)
    highest = tl.max(tl.where(count > 0, level, 0))
    if operation == _EQUALIZE:
        step = tl.sum(tl.where(level < highest, count, 0)) // 255
        before = tl.cumsum(count) - count
        equalized = tl.minimum((step // 2 + before) // tl.maximum(step, 1), 255)
        changed = tl.where(step > 0, equalized, level)
    else:
        lowest = tl.min(tl.where(count > 0, level, 255))
        scale = 255.0 / tl.maximum(highest - lowest, 1).to(tl.float64)
        stretched = byte(level.to(tl.float64) * scale - lowest.to(tl.float64) * scale)
        changed = tl.where(highest > lowest, stretched, level)
    return changed


@triton.jit
def _sharpened(
    colours: tl.tuple,
    picture: tl.tensor,
    height: int,
    width: int,
    flip: tl.tensor,
    place: tl.tuple,
    factor: tl.tensor,
) -> tuple[tl.tensor, ...]:
    """Blend with the smoothed picture, whose border is the picture's own. Source: Pillow's `ImageFilter.SMOOTH`."""
    r, g, b = colours
    y, x = place
    sum_r, sum_g, sum_b = r * 4, g * 4, b * 4
    for k in range(9):
        at = samples(picture, y + (k // 3 - 1), x + (k % 3 - 1), height, width, flip)
        sum_r += tl.load(at).to(tl.int32)
        sum_g += tl.load(at + 1).to(tl.int32)
        sum_b += tl.load(at + 2).to(tl.int32)
    border = (y == 0) | (y >= height - 1) | (x == 0) | (x == width - 1)
    return (
        _blended(tl.where(border, r, _rounded(sum_r)), r, factor),
        _blended(tl.where(border, g, _rounded(sum_g)), g, factor),
        _blended(tl.where(border, b, _rounded(sum_b)), b, factor),
    )


@triton.jit
def _rounded(total: tl.tensor) -> tl.tensor:
    """Return thirteenths as the nearest whole number; no total lies half-way."""
    return (total * 2 + 13) // 26
