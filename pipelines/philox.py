"""Counter-based random numbers: a draw is a pure function of (seed, epoch, purpose, index), not of earlier draws.

Key = the seed. Counter = (block, index, epoch, purpose): `index` is a position in the epoch (or a batch, or a group),
and an algorithm that rejects goes on to further blocks of the same index. Nothing here holds state.

Numba caches compiled code by file, and does not look at what a function calls: after a change of this file, remove
`pipelines/__pycache__`, or what draws in compiled code (`crops`, `permutations`, `operations_plan`, `erasing_plan`)
goes on with the old generator.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.errors import SpecError

# What a number is for: part of the counter, so that switching one thing off leaves the others as they were.
ORDER, CROP, FLIP, JITTER, LIGHTING, LAMBDA, OPERATION, ERASE, NOISE, CUT, SUBSTITUTE = range(11)

# Multipliers and key increments of Philox4x32. Source: Salmon et al. 2011, table 2, and Random123 `philox.h`.
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]


def key(seed: int) -> np.uint64:
    """Return the generator's key.

    Args:
        seed: 0 to 2**64 - 1.

    Raises:
        SpecError: the seed is outside that range.
    """
    if not 0 <= seed < 2**64:
        raise SpecError(f"seed is {seed}: choose a whole number from 0 to 2**64 - 1")
    return np.uint64(seed)


@njit(cache=True)
def philox4x32(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, key: np.uint64) -> Words:
    """Return four random 32-bit words.

    Args:
        c0: first word of the counter, 32 bits.
        c1: second word.
        c2: third word.
        c3: fourth word.
        key: 64 bits, the low half first.

    Returns:
        Four words, each in the low 32 bits of a uint64.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Philox4x32-10 of Random123.
    """
    k0, k1 = key & _LOW, key >> _32
    for _ in range(_ROUNDS):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@njit(cache=True)
def words(key: np.uint64, epoch: int, purpose: int, index: int, block: int) -> Words:
    """Return the four 32-bit words at one place of the counter."""
    drawn: Words = philox4x32(np.uint64(block), np.uint64(index), np.uint64(epoch), np.uint64(purpose), key)
    return drawn


@njit(cache=True)
def unit(word: np.uint64) -> float:
    """Return a uniform number in the open interval (0, 1), from 32 bits."""
    return (float(word) + 0.5) * 2.0**-32


@njit(cache=True)
def below(word: np.uint64, bound: int) -> np.int64:
    """Return a uniform integer in [0, bound); its bias, at most bound / 2**32, is nil for the sides of a picture."""
    return np.int64((word * np.uint64(bound)) >> _32)


@njit(cache=True)
def _normal_pair(word_a: np.uint64, word_b: np.uint64) -> tuple[float, float]:
    """Return two independent standard normal numbers. Source: Box and Muller, 1958."""
    radius, angle = math.sqrt(-2.0 * math.log(unit(word_a))), 2.0 * math.pi * unit(word_b)
    return radius * math.cos(angle), radius * math.sin(angle)


@njit(cache=True)
def uniforms(key: np.uint64, epoch: int, purpose: int, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64 (n, 4), uniform in (0, 1): four numbers for each index."""
    drawn = np.empty((len(index), 4))
    for k in range(len(index)):
        a, b, c, d = words(key, epoch, purpose, index[k], 0)
        drawn[k, 0], drawn[k, 1], drawn[k, 2], drawn[k, 3] = unit(a), unit(b), unit(c), unit(d)
    return drawn


@njit(cache=True)
def normals(key: np.uint64, epoch: int, purpose: int, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64 (n, 4), standard normal: four numbers for each index."""
    drawn = np.empty((len(index), 4))
    for k in range(len(index)):
        a, b, c, d = words(key, epoch, purpose, index[k], 0)
        drawn[k, 0], drawn[k, 1] = _normal_pair(a, b)
        drawn[k, 2], drawn[k, 3] = _normal_pair(c, d)
    return drawn


@njit(cache=True)
def _log_gamma(
    key: np.uint64, epoch: int, purpose: int, index: int, block: int, shape: float
) -> tuple[float, float, int]:
    """Draw from Gamma(shape >= 1): its logarithm, an independent log-uniform, and the next free block.

    Source: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
    """
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        word_a, word_b, word_c, word_d = words(key, epoch, purpose, index, block)
        block += 1
        x, _ = _normal_pair(word_a, word_b)
        v = (1.0 + c * x) ** 3
        if v > 0 and math.log(unit(word_c)) < 0.5 * x * x + d * (1.0 - v + math.log(v)):
            return math.log(d * v), math.log(unit(word_d)), block


@njit(cache=True)
def betas(key: np.uint64, epoch: int, purpose: int, index: NDArray[np.int64], alpha: float) -> NDArray[np.float64]:
    """Return float64 (n,) in [0, 1], drawn from Beta(alpha, alpha) for any alpha > 0: one number for each index.

    A ratio of gammas, in logarithms: for a small alpha both gammas underflow and their plain ratio would be 0 / 0.
    """
    drawn = np.empty(len(index))
    # Gamma(a) = Gamma(a + 1) * U ** (1 / a) brings a shape below 1 into reach of the method above.
    boost = 1.0 if alpha < 1.0 else 0.0
    for k in range(len(index)):
        log_x, log_u, block = _log_gamma(key, epoch, purpose, index[k], 0, alpha + boost)
        log_y, log_v, block = _log_gamma(key, epoch, purpose, index[k], block, alpha + boost)
        # The difference comes first: log_u / alpha and log_v / alpha may both be infinite.
        drawn[k] = 1.0 / (1.0 + math.exp(log_y - log_x + boost * ((log_v - log_u) / alpha)))
    return drawn
