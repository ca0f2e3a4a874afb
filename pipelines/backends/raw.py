"""Samples that are stored as raw pixels, for backends that read them one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets_tools.store import Split
from pipelines.errors import SpecError


def raw_window(split: Split, sample_id: int, window: list[int]) -> NDArray[np.uint8]:
    """Return a rectangle of a picture that is stored raw.

    Args:
        split: the split that has it; opening it has checked that the picture has as many bytes as pixels need.
        sample_id: its id there; `split.formats` says that it is raw.
        window: top, left, height and width in pixels.

    Returns:
        uint8 (height, width, 3), RGB, a read-only view of the store's file.

    Raises:
        DamagedSampleError: its bytes fail their checksum.
        SpecError: the window leaves the picture.
    """
    height, width = int(split.heights[sample_id]), int(split.widths[sample_id])
    top, left, num_rows, num_columns = window
    if min(top, left) < 0 or top + num_rows > height or left + num_columns > width:
        raise SpecError(
            f"sample {sample_id} ({split.key(sample_id)}) has {height} x {width} pixels, window {window} leaves it: "
            "make the plan from the split it is carried out on"
        )
    picture = split.encoded(sample_id).reshape(height, width, 3)
    return picture[top : top + num_rows, left : left + num_columns]
