"""How blocks of pixels come out of memory and go back, for the Triton kernels.

Bytes cross the bus once, and memory sees whole sectors. A line of pixels whose width is a multiple of four is whole
32-bit words, three for four pixels: a thread loads those and takes them apart in registers. What it computes, three
planes of colours, is joined pixel by pixel again; the compiler exchanges it between threads through shared memory, so
that a warp stores one run of bytes (96 of them in each of its instructions: three threads of every four hold a word).
Storing each plane on its own would touch every sector of the result three times.

Pictures of other widths are loaded byte by byte: UNIT, the number of pixels that are loaded at once, is 4 or 1.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_of_picture(num_pixels: int, BLOCK: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """Return which block a program handles, and of which picture: pictures follow each other, block by block.

    Programs are numbered along one axis: along the others CUDA starts 65,535 at most, and batches may be larger.
    """
    num_blocks = tl.cdiv(num_pixels, BLOCK)
    return tl.program_id(0) % num_blocks, tl.program_id(0) // num_blocks


@triton.jit
def places(block: tl.tensor, width: int, BLOCK: tl.constexpr, UNIT: tl.constexpr) -> tuple[tuple[tl.tensor, ...], ...]:
    """Return line and column of a block's units, int32 (BLOCK / UNIT,), and those of its pixels, int32 (BLOCK,).

    There is one division a unit: division by a number unknown to the compiler costs as much as the rest of a blend.
    """
    unit = block * (BLOCK // UNIT) + tl.arange(0, BLOCK // UNIT)
    line, column = unit // (width // UNIT), unit % (width // UNIT)
    within = tl.arange(0, UNIT)[None, :]
    y = tl.reshape(line[:, None] + within * 0, [BLOCK])
    x = tl.reshape(column[:, None] * UNIT + within, [BLOCK])
    return (line, column), (y, x)


@triton.jit
def load_pixels(
    pixels: tl.tensor,
    picture: tl.tensor,
    num_pixels: int,
    width: int,
    units: tl.tuple,
    flip: tl.tensor,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Load units of a picture as int32 planes R, G, B of BLOCK pixels; 0 behind its end.

    Args:
        pixels: uint8 (n, H, W, 3).
        picture: which of them.
        num_pixels: H * W.
        width: W, a multiple of UNIT.
        units: line and column of each, as `places` returns them.
        flip: whether they are taken from the mirrored picture.
    """
    line, column = units
    per_line = width // UNIT
    unit = line * per_line + tl.where(flip, per_line - 1 - column, column)
    mask = unit < num_pixels // UNIT
    start = pixels + picture.to(tl.int64) * num_pixels * 3
    if UNIT == 4:
        words = start.to(tl.pointer_type(tl.uint32)) + unit * 3
        a, b, c = tl.load(words, mask, 0), tl.load(words + 1, mask, 0), tl.load(words + 2, mask, 0)
        second, third, fourth = (a >> 24) | (b << 8), (b >> 16) | (c << 16), c >> 8
        even = tl.join(tl.where(flip, fourth, a), tl.where(flip, second, third))
        odd = tl.join(tl.where(flip, third, second), tl.where(flip, a, fourth))
        colour = tl.reshape(tl.join(even, odd), [BLOCK]).to(tl.int32, bitcast=True)
        r, g, b = colour & 255, (colour >> 8) & 255, (colour >> 16) & 255
    else:
        at = start + unit * 3
        r, g, b = tl.load(at, mask, 0), tl.load(at + 1, mask, 0), tl.load(at + 2, mask, 0)
    return r.to(tl.int32), g.to(tl.int32), b.to(tl.int32)


@triton.jit
def store_pixels(
    images: tl.tensor,
    picture: tl.tensor,
    num_pixels: int,
    block: tl.tensor,
    colours: tl.tuple,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
) -> None:
    """Convert planes R, G, B of a block to the type of `images` (n, H, W, 3), and store them."""
    kept: tl.constexpr = images.dtype.element_ty
    start = images + picture.to(tl.int64) * num_pixels * 3
    words = start.to(tl.pointer_type(tl.uint32))
    r, g, b = colours
    r, g, b = r.to(kept), g.to(kept), b.to(kept)
    if UNIT == 4 and kept.primitive_bitwidth == 16:  # two pixels are three words
        r0, r1 = _bits_of_pairs(r, BLOCK)
        g0, g1 = _bits_of_pairs(g, BLOCK)
        b0, b1 = _bits_of_pairs(b, BLOCK)
        _store_triples(words, num_pixels // 2, block, r0 | (g0 << 16), b0 | (r1 << 16), g1 | (b1 << 16), BLOCK // 2)
    elif UNIT == 4 and kept.primitive_bitwidth == 8:  # four pixels are three words
        colour = r.to(tl.uint32) | (g.to(tl.uint32) << 8) | (b.to(tl.uint32) << 16)
        even, odd = tl.split(tl.reshape(colour, [BLOCK // 4, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        middle = (second >> 8) | (third << 16)
        _store_triples(
            words, num_pixels // 4, block, first | (second << 24), middle, (third >> 16) | (fourth << 8), BLOCK // 4
        )
    else:
        _store_triples(start, num_pixels, block, r, g, b, BLOCK)


@triton.jit
def _bits_of_pairs(plane: tl.tensor, BLOCK: tl.constexpr) -> tuple[tl.tensor, ...]:
    """Return the bits of the values at even and at odd places."""
    bits = plane.to(tl.uint16, bitcast=True).to(tl.uint32)
    even, odd = tl.split(tl.reshape(bits, [BLOCK // 2, 2]))
    return even, odd


@triton.jit
def _store_triples(
    start: tl.tensor,
    count: int,
    block: tl.tensor,
    first: tl.tensor,
    second: tl.tensor,
    third: tl.tensor,
    SIZE: tl.constexpr,
) -> None:
    """Store the block's triples side by side, as rows of four (a power of two) whose last is left out."""
    rows = tl.reshape(tl.join(tl.join(first, third), tl.join(second, second)), [SIZE, 4])
    triple, part = tl.arange(0, SIZE)[:, None], tl.arange(0, 4)[None, :]
    first_triple = block * SIZE
    tl.store(start + first_triple * 3 + (triple * 3 + part), rows, (triple < count - first_triple) & (part < 3))
