"""Which rectangle of a picture random erasing overwrites, and the key of the noise that goes there."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines import philox
from pipelines.constants import constant
from pipelines.spec import RandomErasing

# Source: timm's `RandomErasing._erase`.
_ATTEMPTS = 10

Rectangle = tuple[int, int, int, int]


@njit(cache=True, nogil=True)
def _rectangle(
    key: np.uint64,
    epoch: int,
    index: int,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Rectangle:
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    for attempt in range(_ATTEMPTS):
        # Block 0 decides whether anything is erased.
        for_area, for_aspect, for_top, for_left = philox.words(key, epoch, philox.ERASE, index, attempt + 1)
        target = height * width * (area[0] + (area[1] - area[0]) * philox.unit(for_area))
        ratio = math.exp(log_low + (log_high - log_low) * philox.unit(for_aspect))
        # rint rounds halves to even, as the round() of timm's Python does.
        h, w = int(np.rint(math.sqrt(target * ratio))), int(np.rint(math.sqrt(target / ratio)))
        # A side too large for an integer comes out negative.
        if 0 <= h < height and 0 <= w < width:
            if h == 0 or w == 0:
                break
            return philox.below(for_top, height - h + 1), philox.below(for_left, width - w + 1), h, w
    return 0, 0, 0, 0


@njit(cache=True, nogil=True)
def erased_rectangles(
    key: np.uint64,
    epoch: int,
    index: NDArray[np.int64],
    height: int,
    width: int,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
    """Return what random erasing overwrites of each picture.

    Args:
        key: the generator's, from `philox.key`.
        epoch: part of the counter.
        index: int64 (n,), positions in the epoch: part of the counter.
        height: of all pictures, in pixels.
        width: likewise.
        probability: that a picture is touched.
        area: range of the rectangle's share of the picture, uniform.
        aspect: range of its height / width, log-uniform.

    Returns:
        int32 (n, 4): top, left, height, width in pixels, smaller than the picture on both sides; 0 where nothing is
        erased. And uint32 (n, 2): the key of each row's noise.

    Source: Zhong et al. 2017, as timm's `RandomErasing` draws it.
    """
    rectangles, noise = np.zeros((len(index), 4), np.int32), np.empty((len(index), 2), np.uint32)
    for k in range(len(index)):
        noise[k, 0], noise[k, 1], _, _ = philox.words(key, epoch, philox.NOISE, index[k], 0)
        for_erasing, _, _, _ = philox.words(key, epoch, philox.ERASE, index[k], 0)
        if philox.unit(for_erasing) < probability:
            top, left, h, w = _rectangle(key, epoch, index[k], height, width, area, aspect)
            rectangles[k, 0], rectangles[k, 1], rectangles[k, 2], rectangles[k, 3] = top, left, h, w
    return rectangles, noise


class ErasingPlan:
    """Plans random erasing for one rank's rows.

    Args:
        erasing: what to draw.
        key: the generator's, from `philox.key`.
        rows: how many.
    """

    def __init__(self, erasing: RandomErasing, key: np.uint64, rows: int) -> None:
        self._erasing = erasing
        self._key = key
        self._nothing = constant(0, (rows, 4), np.int32), constant(0, (rows, 2), np.uint32)

    def rectangles(
        self, epoch: int, index: NDArray[np.int64], output_size: tuple[int, int]
    ) -> tuple[NDArray[np.int32], NDArray[np.uint32]]:
        """Return `BatchPlan.erase` and `BatchPlan.noise` of the positions `index`, int64 (n,), of an epoch."""
        erasing = self._erasing
        if erasing.probability == 0:
            return self._nothing
        drawn: tuple[NDArray[np.int32], NDArray[np.uint32]] = erased_rectangles(
            self._key, epoch, index, *output_size, erasing.probability, erasing.area, erasing.aspect
        )
        return drawn
