"""A plan's rows for fastbot's codec, and what became of them: for backends that decode with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import DamagedSampleError
from datasets_tools.jpeg import RegionBatch
from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.batch import BatchPlan
from pipelines.errors import BadPictureError


def planned_regions(split: Split, plan: BatchPlan, out: NDArray[np.uint8]) -> RegionBatch:
    """Return a plan's rows for the codec.

    Args:
        split: what the plan refers to.
        plan: its windows lie in their pictures (`check_geometry`).
        out: uint8 (n, H, W, 3), C-contiguous, where pixels will be written.
    """
    ids = plan.ids
    return RegionBatch(
        split.data,
        split.offsets[ids],
        split.sizes[ids],
        split.formats[ids] == StoredFormat.RAW,
        split.heights[ids],
        split.widths[ids],
        np.ascontiguousarray(plan.windows),
        np.ascontiguousarray(plan.boxes),
        out,
        bicubic=plan.interpolation == "bicubic",
    )


def failed_rows(
    split: Split, plan: BatchPlan, reasons: Mapping[int, str], damaged: Mapping[int, DamagedSampleError]
) -> dict[int, Exception]:
    """Return the errors of a decoded plan, by row.

    Args:
        split: what the plan refers to.
        plan: the rows.
        reasons: what the codec said, by row.
        damaged: which samples fail their checksum, by id; that is said first.
    """
    failed: dict[int, Exception] = {}
    for row, sample_id in enumerate(plan.ids.tolist()):
        if sample_id in damaged:
            failed[row] = damaged[sample_id]
        elif row in reasons:
            failed[row] = BadPictureError(sample_id, split.key(sample_id), reasons[row])
    return failed
