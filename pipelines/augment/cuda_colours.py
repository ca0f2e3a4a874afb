"""What happens to the colours of a block of pixels, float32 planes R, G, B, in the final stage's Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl

from pipelines.augment import reference

_GREY_R = tl.constexpr(reference.GREY[0])
_GREY_G = tl.constexpr(reference.GREY[1])
_GREY_B = tl.constexpr(reference.GREY[2])


@triton.jit
def grey(colours: tl.tuple) -> tl.tensor:
    """Return the luma of colours."""
    r, g, b = colours
    return r * _GREY_R + g * _GREY_G + b * _GREY_B


@triton.jit
def _clip(x: tl.tensor, high: tl.constexpr) -> tl.tensor:
    return tl.minimum(tl.maximum(x, 0.0), high)


@triton.jit
def jitter_hsv(colours: tl.tuple, factors: tl.tensor) -> tuple[tl.tensor, ...]:
    """Scale hue, saturation and value; the formula is explained at `cpu_kernels._hsv_row`."""
    r, g, b = colours
    value = tl.maximum(tl.maximum(r, g), b)
    chroma = value - tl.minimum(tl.minimum(r, g), b)
    rise = tl.where(r == value, g - b, tl.where(g == value, b - r, r - g))
    base = tl.where(r == value, tl.where(g < b, 6.0, 0.0), tl.where(g == value, 2.0, 4.0))
    reciprocal = 1.0 / tl.maximum(chroma * value, 1.0)  # one division for both quotients; all factors are whole
    hue = (base + rise * value * reciprocal) * tl.load(factors)
    hue -= 6 * tl.floor(hue * (1 / 6))
    saturation = tl.minimum(chroma * chroma * reciprocal * tl.load(factors + 1), 1.0)
    value = tl.minimum(value * tl.load(factors + 2), 255.0)
    chroma = value * saturation
    low = value - chroma
    r = low + chroma * _clip(tl.abs(hue - 3) - 1, 1.0)
    g = low + chroma * _clip(2 - tl.abs(hue - 2), 1.0)
    b = low + chroma * _clip(2 - tl.abs(hue - 4), 1.0)
    return r, g, b


@triton.jit
def jitter_contrast(
    colours: tl.tuple, steps: tl.tensor, count: tl.tensor, mean_grey: tl.tensor
) -> tuple[tl.tensor, ...]:
    """Apply the first `count` steps of contrast jitter in their common form (see `cpu_kernels`)."""
    r, g, b = colours
    for k in tl.static_range(3):
        applied = k < count
        own = tl.where(applied, tl.load(steps + 3 * k), 1.0)
        share = tl.where(applied, tl.load(steps + 3 * k + 1), 0.0)
        offset = tl.where(applied, tl.load(steps + 3 * k + 2) * mean_grey, 0.0)
        shared = grey((r, g, b)) * share + offset
        r = _clip(r * own + shared, 255.0)
        g = _clip(g * own + shared, 255.0)
        b = _clip(b * own + shared, 255.0)
    return r, g, b
