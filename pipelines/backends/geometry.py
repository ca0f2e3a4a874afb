"""What a plan may ask of stored pictures: backends check it before compiled code reads by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datasets_tools.store import Split
from pipelines.batch import BatchPlan
from pipelines.errors import SpecError

# An evaluation's box may leave its window by the rounding of its float64 arithmetic.
_ROUNDING_PX = 1e-6


def check_geometry(plan: BatchPlan, split: Split) -> None:
    """Check that a plan's samples exist, that windows lie in their pictures, and boxes in their windows.

    Raises:
        SpecError: a row's do not; names it.
    """
    outside = _outside(plan, split)
    if len(outside):
        row = outside[0]
        raise SpecError(
            f"batch {plan.step} of epoch {plan.epoch}, row {row}: sample {plan.ids[row]} does not exist, or window "
            f"{plan.windows[row].tolist()} or box {plan.boxes[row].tolist()} leaves it: make the plan from the split "
            "it is carried out on"
        )


def _outside(plan: BatchPlan, split: Split) -> NDArray[np.int64]:
    known = (plan.ids >= 0) & (plan.ids < len(split))
    ids = np.where(known, plan.ids, 0)
    pictures = np.stack([split.heights[ids], split.widths[ids]], axis=1)
    start, extent = plan.windows[:, :2].astype(np.int64), plan.windows[:, 2:]
    box_start, box_extent = plan.boxes[:, :2], plan.boxes[:, 2:]
    inside = (start >= 0) & (extent > 0) & (start + extent <= pictures)
    inside &= (box_start > start - _ROUNDING_PX) & (box_extent > 0)
    inside &= box_start + box_extent < start + extent + _ROUNDING_PX
    return np.flatnonzero(~(known & inside.all(axis=1)))
