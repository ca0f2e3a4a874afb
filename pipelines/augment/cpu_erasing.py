"""Random erasing on the CPU, compiled by numba to SIMD code.

A random number is a pure function of (key, pixel); `reference.erasing_noise` says which. The generator is Philox4x32-10
as in `pipelines.philox`, but in 32-bit lanes; logarithm, sine and cosine are the polynomials of Cephes' `logf`, `sinf`
and `cosf`, because calls of the C library do not compile to SIMD code (together 5 ns a pixel on AVX-512, against 32).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int32, int64, njit, types, uint32, uint64
from numba.extending import intrinsic
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# What erased pixels become: the mean, one normal colour, or a normal colour each.
CONST, RAND, PIXEL = 0, 1, 2

# float32 constants: a Python literal is float64 to numba and would turn the whole expression into float64.
F = np.float32

# A uniform number u is k / 2**25, where k = 2 * (word >> 8) + 1 is odd: the middle of one of 2**24 equal intervals.
_BITS = int32(25)
_UNIT = F(2.0**-25)
_RADIANS = F(2 * np.pi * 2.0**-25)
_QUARTER_BITS = int32(23)  # a quarter turn is 2**23 steps of k
_HALF_QUARTER = int32(1 << 22)

_SQRT_HALF = int32(0x3F3504F3)  # the bits of float32 sqrt(1/2)
_MANTISSA_BITS = int32(23)
# ln 2 in two parts, of which the first has few bits, so that its multiples are exact.
_LN2_HIGH, _LN2_LOW = F(0.693359375), F(-2.12194440e-4)


def _bitcast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def _bits_of(_: Any, number: Any) -> Any:
    """Return the bits of a float32 as an int32."""
    return types.int32(types.float32), _bitcast


@intrinsic
def _float_of(_: Any, bits: Any) -> Any:
    """Return the float32 that an int32 is the bits of."""
    return types.float32(types.int32), _bitcast


@njit(cache=True, nogil=True, inline="always")
def _step(word: np.uint32) -> np.int32:
    """Return k of a word's uniform number."""
    step: np.int32 = int32(((word >> uint32(8)) << uint32(1)) | uint32(1))
    return step


@njit(cache=True, nogil=True, inline="always")
def _radius(word: np.uint32) -> F:
    """Return sqrt(-2 ln u).

    u = m * 2**e with m in [sqrt(1/2), sqrt(2)), so that ln u = e ln 2 + ln m. Where e is 0, x = m - 1 is made from k
    itself: for k above 2**24 float32 would drop a bit, and close to 1 the logarithm is no larger than that bit.
    """
    k = _step(word)
    bits = _bits_of(F(k))
    exponent = (bits - _SQRT_HALF) >> _MANTISSA_BITS
    x = _float_of(int32(bits - int32(exponent << _MANTISSA_BITS))) - F(1)
    exponent = int32(exponent - _BITS)
    if exponent == int32(0):
        x = F(int32(k - int32(1 << 25))) * _UNIT
    p = F(7.0376836292e-2)
    p = p * x + F(-1.1514610310e-1)
    p = p * x + F(1.1676998740e-1)
    p = p * x + F(-1.2420140846e-1)
    p = p * x + F(1.4249322787e-1)
    p = p * x + F(-1.6668057665e-1)
    p = p * x + F(2.0000714765e-1)
    p = p * x + F(-2.4999993993e-1)
    p = p * x + F(3.3333331174e-1)
    low = x * x * x * p + F(exponent) * _LN2_LOW - F(0.5) * x * x
    radius: F = np.sqrt(F(-2) * (x + low + F(exponent) * _LN2_HIGH))
    return radius


@njit(cache=True, nogil=True, inline="always")
def _cos_sin(word: np.uint32) -> tuple[F, F]:
    """Return cos and sin of 2 pi u: of the angle to the nearest quarter turn, which is exact, then turned."""
    k = _step(word)
    quarter = (k + _HALF_QUARTER) >> _QUARTER_BITS
    t = F(int32(k - int32(quarter << _QUARTER_BITS))) * _RADIANS
    z = t * t
    sine = t + t * z * (F(-1.6666654611e-1) + z * (F(8.3321608736e-3) + z * F(-1.9515295891e-4)))
    cosine = F(1) - F(0.5) * z
    cosine += z * z * (F(4.166664568298827e-2) + z * (F(-1.388731625493765e-3) + z * F(2.443315711809948e-5)))
    if quarter & int32(1):
        cosine, sine = -sine, cosine
    if quarter & int32(2):
        cosine, sine = -cosine, -sine
    return cosine, sine


@njit(cache=True, nogil=True)
def _fill(key: np.uint64, first: int, row: Floats) -> None:
    """Fill a row with normal colours: those of the pixels from `first` on."""
    low, high = uint32(key), uint32(key >> uint64(32))
    for x in range(row.size // 3):
        c0, c1, c2, c3 = uint32(first + x), uint32(0), uint32(0), uint32(0)
        k0, k1 = low, high
        for _ in range(10):
            p0, p1 = uint64(0xD2511F53) * uint64(c0), uint64(0xCD9E8D57) * uint64(c2)
            c0, c2 = uint32(p1 >> uint64(32)) ^ c1 ^ k0, uint32(p0 >> uint64(32)) ^ c3 ^ k1
            c1, c3 = uint32(p1), uint32(p0)
            k0, k1 = uint32(k0 + uint32(0x9E3779B9)), uint32(k1 + uint32(0xBB67AE85))
        radius = _radius(c0)
        cosine, sine = _cos_sin(c1)
        row[3 * x], row[3 * x + 1] = radius * cosine, radius * sine
        cosine, sine = _cos_sin(c3)
        row[3 * x + 2] = _radius(c2) * cosine


@njit(cache=True, nogil=True)
def erase(boxes: Floats, keys: NDArray[np.uint32], rows: NDArray[np.int64], mode: int, images: Floats) -> None:
    """Overwrite a rectangle of each picture.

    Args:
        boxes: float32 (n, 4), top, left, bottom, right in pixels, the last two exclusive.
        keys: uint32 (n, 2), low and high word of each picture's key.
        rows: int64, which pictures.
        mode: CONST, RAND or PIXEL.
        images: float32 (n, H, W, 3), written to.
    """
    width = images.shape[2]
    colour = np.zeros(3, np.float32)
    for i in rows:
        key = uint64(keys[i, 0]) | (uint64(keys[i, 1]) << uint64(32))
        left, right = int(boxes[i, 1]), int(boxes[i, 3])
        if mode == RAND:
            _fill(key, int64(0), colour)
        for y in range(int(boxes[i, 0]), int(boxes[i, 2])):
            erased = images[i, y].reshape(3 * width)[3 * left : 3 * right]
            if mode == PIXEL:
                _fill(key, y * width + left, erased)
            else:
                for x in range(right - left):
                    erased[3 * x], erased[3 * x + 1], erased[3 * x + 2] = colour[0], colour[1], colour[2]
