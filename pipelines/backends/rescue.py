"""Decoding on the calling thread, one picture after the other: for what a backend's own way does not get done.

It takes every plan and every picture that any backend takes, and finds what is wrong with each single row.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from datasets_tools.errors import DamagedSampleError
from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.backends.raw import raw_picture
from pipelines.backends.torch import decode_picture
from pipelines.batch import BatchPlan
from pipelines.errors import BadPictureError
from pipelines.resample import resample


def rescue(split: Split, plan: BatchPlan, rows: Iterable[int], pixels: torch.Tensor) -> dict[int, Exception]:
    """Carry out some rows of a plan.

    Args:
        split: the stored samples that the plan refers to by id.
        plan: its windows lie in their pictures (`check_geometry`).
        rows: which of it.
        pixels: uint8 (n, H, W, 3) of the whole plan, on any device; these rows are written.

    Returns:
        `BadPictureError` or `DamagedSampleError` of the rows that cannot be decoded; their pixels are 0.

    Raises:
        StoreError: a file was cut after the store was opened.
    """
    failed: dict[int, Exception] = {}
    output = np.empty((*plan.output_size, 3), np.uint8)
    for row in rows:
        try:
            picture = _picture(split, int(plan.ids[row]))
        except (BadPictureError, DamagedSampleError) as error:
            failed[row] = error
            pixels[row] = 0
            continue
        window, box = np.array(plan.windows[row], np.int32), np.array(plan.boxes[row], np.float64)
        resample(picture.reshape(-1), picture.shape[1], window, box, output, plan.interpolation == "bicubic")
        pixels[row] = torch.from_numpy(output)
    return failed


def _picture(split: Split, sample_id: int) -> NDArray[np.uint8]:
    """Return a whole picture, uint8 (height, width, 3)."""
    if split.formats[sample_id] == StoredFormat.RAW:
        return raw_picture(split, sample_id).copy()  # read-only arrays are another type to numba
    return decode_picture(split, sample_id).permute(1, 2, 0).contiguous().numpy()
