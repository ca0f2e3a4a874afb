"""Which rectangle of a picture becomes the output, and of what size.

Random resized crops for training, whose output may grow with the epochs; centre crops for evaluation.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines import philox
from pipelines.spec import SizeRamp

Rectangle = tuple[int, int, int, int]


@njit(cache=True)
def _largest_centre_crop(height: int, width: int, aspect_low: float, aspect_high: float) -> Rectangle:
    """Return the largest crop of the picture's centre whose aspect ratio (width / height) is in the range."""
    h, w = height, width
    if width / height < aspect_low:
        h = max(1, int(np.rint(width / aspect_low)))
    elif width / height > aspect_high:
        w = max(1, int(np.rint(height * aspect_high)))
    return (height - h) // 2, (width - w) // 2, h, w


@njit(cache=True)
def _random_resized_crop(
    key: np.uint64,
    epoch: int,
    index: int,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    attempts: int,
) -> Rectangle:
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    for attempt in range(attempts):
        for_area, for_aspect, for_top, for_left = philox.words(key, epoch, philox.CROP, index, attempt)
        target = height * width * (area[0] + (area[1] - area[0]) * philox.unit(for_area))
        ratio = math.exp(log_low + (log_high - log_low) * philox.unit(for_aspect))
        # rint rounds halves to even, as the round() of torchvision's Python does.
        h, w = int(np.rint(math.sqrt(target / ratio))), int(np.rint(math.sqrt(target * ratio)))
        if 0 < h <= height and 0 < w <= width:
            return philox.below(for_top, height - h + 1), philox.below(for_left, width - w + 1), h, w
    largest: Rectangle = _largest_centre_crop(height, width, aspect[0], aspect[1])
    return largest


@njit(cache=True)
def random_resized_crops(
    key: np.uint64,
    epoch: int,
    index: NDArray[np.int64],
    heights: NDArray[np.int32],
    widths: NDArray[np.int32],
    area: tuple[float, float],
    aspect: tuple[float, float],
    attempts: int,
) -> NDArray[np.int32]:
    """Return one random crop for each picture.

    Args:
        key: the generator's, from `philox.key`.
        epoch: part of the counter.
        index: int64 (n,), positions in the epoch: part of the counter.
        heights: int32 (n,), of the pictures, in pixels.
        widths: int32 (n,), likewise.
        area: range of the crop's share of the picture, uniform.
        aspect: range of its width / height, log-uniform.
        attempts: how often to draw area and aspect until the crop fits, before the largest centre crop is taken.

    Returns:
        int32 (n, 4): top, left, height, width in pixels, inside the picture.

    Source: Inception's crop as torchvision's `RandomResizedCrop.get_params` draws it.
    """
    crops = np.empty((len(index), 4), np.int32)
    for k in range(len(index)):
        top, left, h, w = _random_resized_crop(
            key, epoch, index[k], np.int64(heights[k]), np.int64(widths[k]), area, aspect, attempts
        )
        crops[k, 0], crops[k, 1], crops[k, 2], crops[k, 3] = top, left, h, w
    return crops


def centre_boxes(
    heights: NDArray[np.int32], widths: NDArray[np.int32], resize_size: int, crop_size: int
) -> NDArray[np.float64]:
    """Return the box that "resize the short side, then crop the centre" cuts out of each picture.

    Args:
        heights: int32 (n,), of the pictures, in pixels.
        widths: int32 (n,), likewise.
        resize_size: the short side after resizing, in pixels, at least `crop_size`.
        crop_size: both sides of the crop, in pixels of the resized picture.

    Returns:
        float64 (n, 4): top, left, height, width in pixels of the picture before resizing. Divided by the scale, all
        four are whole numbers.

    Source: torchvision's `resize` (the long side is truncated) and `center_crop` (halves round to even).
    """
    sides = np.stack([heights, widths], axis=1).astype(np.int64)
    short = sides.min(axis=1, keepdims=True)
    resized = (resize_size * sides / short).astype(np.int64)
    offsets = np.rint((resized - crop_size) / 2)
    return np.concatenate([offsets * sides / resized, crop_size * sides / resized], axis=1)


def ramped_size(ramp: SizeRamp | None, crop_size: int, epoch: int) -> int:
    """Return the side of the training crops of an epoch, in pixels.

    Args:
        ramp: how they grow; None where they do not.
        crop_size: what they grow to.
        epoch: from 0.

    Source: `get_resolution` of FFCV's ImageNet recipe. Here rounding does not leave the range from `start_size` to
    `crop_size`; that matters only where these are not multiples of `ramp.multiple` themselves.
    """
    if ramp is None or epoch >= ramp.end_epoch:
        return crop_size
    if epoch <= ramp.start_epoch:
        return ramp.start_size
    side = np.interp(epoch, [ramp.start_epoch, ramp.end_epoch], [ramp.start_size, crop_size])
    rounded = int(np.round(side / ramp.multiple)) * ramp.multiple
    return min(max(rounded, ramp.start_size), crop_size)
