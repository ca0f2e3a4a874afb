"""Normal random numbers for random erasing, for the Triton kernels of the final stage.

Triton's own `tl.sin` and `tl.cos` are left aside: they carry along a path for huge angles that needs memory of its own
for every thread.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl

# A uniform number u is k / 2**25, where k = 2 * (word >> 8) + 1 is odd: the middle of one of 2**24 equal intervals.
_UNIT = tl.constexpr(2.0**-25)
_RADIANS = tl.constexpr(2 * math.pi * 2.0**-25)


@triton.jit
def noise(pixel: tl.tensor, key: tl.tensor) -> tuple[tl.tensor, ...]:
    """Return standard normal R, G, B of pixels; `reference.erasing_noise` says which.

    Args:
        pixel: int32, the counters.
        key: pointer to two uint32 words.
    """
    none = tl.zeros_like(pixel).to(tl.uint32)
    a, b, c, d = tl.philox_impl(pixel.to(tl.uint32), none, none, none, tl.load(key), tl.load(key + 1), 10)
    radius = _radius(a)
    cosine, sine = _direction(b)
    r, g = radius * cosine, radius * sine
    cosine, sine = _direction(d)
    return r, g, _radius(c) * cosine


@triton.jit
def _step(word: tl.tensor) -> tl.tensor:
    """Return k of a word's uniform number."""
    return ((word >> 8) * 2 + 1).to(tl.int32)


@triton.jit
def _radius(word: tl.tensor) -> tl.tensor:
    """Return sqrt(-2 ln u).

    For u above 1/2 float32 would drop the last bit of k, and with it most of a small radius. The logarithm is then
    2 artanh((u - 1) / (u + 1)), as a series of seven terms; the eighth is below 1e-8.
    """
    k = _step(word)
    below_one = (k - 2**25).to(tl.float32) * _UNIT
    s = below_one / (2 + below_one)
    series = s * s * (1 / 13) + 1 / 11
    for term in tl.static_range(4, -1, -1):
        series = series * (s * s) + 1 / (2 * term + 1)
    return tl.sqrt(-2 * tl.where(k < 2**24, tl.log(k.to(tl.float32) * _UNIT), 2 * s * series))


@triton.jit
def _direction(word: tl.tensor) -> tuple[tl.tensor, ...]:
    """Return cos and sin of 2 pi u: of the angle to the nearest quarter turn, which is exact, then turned.

    Source: the polynomials of Cephes' `cosf` and `sinf`.
    """
    k = _step(word)
    quarter = (k + 2**22) >> 23
    t = (k - (quarter << 23)).to(tl.float32) * _RADIANS
    z = t * t
    sine = t + t * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4))
    cosine = 1 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5))
    is_odd = (quarter & 1) != 0
    cosine, sine = tl.where(is_odd, -sine, cosine), tl.where(is_odd, cosine, sine)
    is_half = (quarter & 2) != 0
    return tl.where(is_half, -cosine, cosine), tl.where(is_half, -sine, sine)
