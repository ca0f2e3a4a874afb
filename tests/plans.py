"""Plans of a given geometry, in which nothing else happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.batch import BatchPlan
from pipelines.crops import centre_boxes


def geometry_plan(
    ids: Sequence[int], windows: ArrayLike, boxes: ArrayLike, output_size: tuple[int, int], step: int = 0
) -> BatchPlan:
    """Return a plan of these windows and boxes."""
    n = len(ids)
    return BatchPlan(
        epoch=0,
        step=step,
        output_size=output_size,
        positions=np.arange(n),
        ids=np.asarray(ids, np.int64),
        weight=np.ones(n, np.float32),
        windows=np.asarray(windows, np.int32),
        boxes=np.asarray(boxes, np.float64),
        flip=np.zeros(n, np.bool_),
        jitter=np.ones((n, 3), np.float32),
        jitter_order=np.tile(np.arange(3, dtype=np.int8), (n, 1)),
        lighting=np.zeros((n, 3), np.float32),
        operations=np.zeros((n, 0), np.int8),
        arguments=np.zeros((n, 0), np.float32),
        erase=np.zeros((n, 4), np.int32),
        noise=np.zeros((n, 2), np.uint32),
        partner=np.arange(n),
        lam=np.ones(n, np.float32),
        cut=np.zeros((n, 4), np.int32),
        interpolation="bilinear",
    )


def train_plan(ids: Sequence[int], crops: ArrayLike, output_size: tuple[int, int], step: int = 0) -> BatchPlan:
    """Return a plan of crops as training makes them: box == window."""
    return geometry_plan(ids, crops, crops, output_size, step)


def eval_plan(
    ids: Sequence[int], heights: NDArray[np.int32], widths: NDArray[np.int32], resize_size: int, crop_size: int
) -> BatchPlan:
    """Return a plan of centre crops as evaluation makes them: the whole picture is the window."""
    heights, widths = heights[ids], widths[ids]
    windows = np.stack([np.zeros_like(heights), np.zeros_like(heights), heights, widths], axis=1)
    boxes = centre_boxes(heights, widths, resize_size, crop_size)
    return geometry_plan(ids, windows, boxes, (crop_size, crop_size))


def mixing_plan(partner: Sequence[int], lam: Sequence[float]) -> BatchPlan:
    """Return a plan in which rows only mix: row k with `partner[k]`, keeping the share `lam[k]`."""
    num = len(partner)
    return replace(
        train_plan(list(range(num)), np.zeros((num, 4)), (1, 1)),
        partner=np.array(partner),
        lam=np.array(lam, np.float32),
    )
