"""What the fast paths need to know: which steps a run has, and one float32 row per picture (see `cpu_kernels`).

Lighting and normalization fold into one multiplication and one addition per channel, the three operations of
`ContrastJitter` have one common form, and CutMix and mixup are one weighting; so a few numbers describe a picture and
the fast paths hardly branch on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.augment.cpu_kernels import (
    BIAS,
    CONTRAST_STEP,
    CUT,
    ERASE,
    FLIP,
    JITTER,
    LAM,
    NOISE,
    NUM_COLUMNS,
    PARTNER,
)
from pipelines.augment.reference import CONTRAST, SATURATION, lighting_offset
from pipelines.batch import BatchPlan
from pipelines.spec import DataSpec

Jitter = Literal["none", "hsv", "contrast"]
Erasing = Literal["none", "const", "rand", "pixel"]


@dataclass(frozen=True, slots=True)
class Steps:
    """Which steps a run has besides lighting and normalization; the same for all of its batches.

    Attributes:
        mirror: False where the pictures come mirrored already.
        jitter: of colours.
        erasing: what erased pixels become; "none" where nothing is erased.
        mix: whether rows mix with their partners.
    """

    mirror: bool
    jitter: Jitter
    erasing: Erasing
    mix: bool


def steps_of(spec: DataSpec, *, train: bool, mirror: bool = True) -> Steps:
    """Return the steps that a spec asks for; evaluation has none.

    Args:
        spec: of the run.
        train: False only normalizes.
        mirror: False where the operations before have mirrored.
    """
    if not train:
        return Steps(mirror=False, jitter="none", erasing="none", mix=False)
    erasing = spec.erasing.mode if spec.erasing.probability > 0 else "none"
    return Steps(mirror=mirror, jitter=spec.jitter.kind, erasing=erasing, mix=spec.mix.kind != "none")


class Packer:
    """Turn plans into tables.

    Args:
        spec: of the run.
        train: False only normalizes.
        mirror: False where the operations before have mirrored.

    Attributes:
        steps: what the run has; the columns of other steps hold what leaves pictures as they are.
    """

    def __init__(self, spec: DataSpec, *, train: bool, mirror: bool = True) -> None:
        self.steps = steps_of(spec, train=train, mirror=mirror)
        self._train = train
        self._mean, self._std = np.asarray(spec.mean), np.asarray(spec.std)

    def __call__(self, plan: BatchPlan) -> NDArray[np.float32]:
        """Return the table of a batch, float32 (n, NUM_COLUMNS)."""
        table = np.zeros((len(plan.ids), NUM_COLUMNS), np.float32)
        lighting = lighting_offset(plan.lighting) if self._train else 0
        table[:, BIAS:FLIP] = (lighting - self._mean) / self._std
        if self.steps.mirror:
            table[:, FLIP] = plan.flip
        if self.steps.jitter == "hsv":
            table[:, JITTER : JITTER + 3] = plan.jitter
        elif self.steps.jitter == "contrast":
            _pack_contrast(plan, table)
        if self.steps.erasing != "none":
            table[:, ERASE:NOISE] = _edges(plan.erase)
            table[:, NOISE:PARTNER] = plan.noise.view(np.float32)
        self._pack_mixing(plan, table)
        return table

    def _pack_mixing(self, plan: BatchPlan, table: NDArray[np.float32]) -> None:
        table[:, PARTNER] = plan.partner if self.steps.mix else np.arange(len(table))
        table[:, LAM] = np.where(plan.cut[:, 2] > 0, 1, plan.lam) if self.steps.mix else 1
        if self.steps.mix:
            table[:, CUT:NUM_COLUMNS] = _edges(plan.cut)


def _edges(boxes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return top, left, bottom, right of boxes given as top, left, height, width."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _pack_contrast(plan: BatchPlan, table: NDArray[np.float32]) -> None:
    order = plan.jitter_order.astype(np.intp)
    factor = np.take_along_axis(plan.jitter, order, axis=1)
    steps = table[:, JITTER:CONTRAST_STEP].reshape(-1, 3, 3)
    steps[:, :, 0] = factor
    steps[:, :, 1] = np.where(order == SATURATION, 1 - factor, 0)
    steps[:, :, 2] = np.where(order == CONTRAST, 1 - factor, 0)
    table[:, CONTRAST_STEP] = np.argmax(order == CONTRAST, axis=1)
