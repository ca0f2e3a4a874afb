"""Samples that are stored as raw pixels, for backends that read them one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets_tools.store import Split


def raw_picture(split: Split, sample_id: int) -> NDArray[np.uint8]:
    """Return a picture that is stored raw.

    Args:
        split: the split that has it; opening it has checked that the picture has as many bytes as pixels need.
        sample_id: its id there; `split.formats` says that it is raw.

    Returns:
        uint8 (height, width, 3), RGB, a read-only view of the store's file.

    Raises:
        DamagedSampleError: its bytes fail their checksum.
    """
    return split.encoded(sample_id).reshape(int(split.heights[sample_id]), int(split.widths[sample_id]), 3)
