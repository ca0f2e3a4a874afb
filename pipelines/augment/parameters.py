"""What the fast paths need to know of a plan: one float32 row per picture, laid out as `cpu_kernels` says.

Lighting and normalization fold into one multiplication and one addition per channel, and the three operations of
`ContrastJitter` have one common form, so that a few numbers describe a picture and the fast paths never branch on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.cpu_kernels import BIAS, CONTRAST_STEP, FLIP, JITTER
from pipelines.augment.reference import CONTRAST, SATURATION, lighting_offset
from pipelines.batch import BatchPlan
from pipelines.spec import DataSpec

Kind = Literal["none", "hsv", "contrast"]
Pack = Callable[[BatchPlan], NDArray[np.float32]]

NUM_COLUMNS: dict[Kind, int] = {"none": 4, "hsv": 7, "contrast": 14}


def kind_of(spec: DataSpec, train: bool) -> Kind:
    """Return which jitter a run applies; evaluation applies none."""
    return spec.jitter.kind if train else "none"


def packer(spec: DataSpec, train: bool) -> Pack:
    """Return the function that turns a plan into its (n, columns) float32 table."""
    mean, std = np.asarray(spec.mean), np.asarray(spec.std)
    kind = kind_of(spec, train)

    def pack(plan: BatchPlan) -> NDArray[np.float32]:
        table = np.zeros((len(plan.ids), NUM_COLUMNS[kind]), np.float32)
        table[:, BIAS:FLIP] = -mean / std
        if train:
            table[:, BIAS:FLIP] = (lighting_offset(plan.lighting) - mean) / std
            table[:, FLIP] = plan.flip
        if kind == "hsv":
            table[:, JITTER:] = plan.jitter
        elif kind == "contrast":
            _pack_contrast(plan, table)
        return table

    return pack


def _pack_contrast(plan: BatchPlan, table: NDArray[np.float32]) -> None:
    order = plan.jitter_order.astype(np.intp)
    factor = np.take_along_axis(plan.jitter, order, axis=1)
    steps = table[:, JITTER:CONTRAST_STEP].reshape(-1, 3, 3)
    steps[:, :, 0] = factor
    steps[:, :, 1] = np.where(order == SATURATION, 1 - factor, 0)
    steps[:, :, 2] = np.where(order == CONTRAST, 1 - factor, 0)
    table[:, CONTRAST_STEP] = np.argmax(order == CONTRAST, axis=1)
