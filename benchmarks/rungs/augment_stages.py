"""fastbot's stages and the copy of their bytes, for the augmentation benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, repeat

import numpy as np
import torch

from benchmarks.rungs.augment_peers import Transform
from pipelines.augment.build import Augment
from pipelines.batch import BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

# Batches of an epoch of plans; its permutation is drawn once for so many.
_BATCHES = 16
_SIDE = 500  # of the pictures that crops are planned of


def drawing(augment: Augment, spec: DataSpec, *, train: bool = True) -> Transform:
    """Return a stage that draws a new plan for each batch, as the peers draw theirs in each call.

    What a plan also draws for decoding, the crops and the order, is in it: in the peers' favour.

    Args:
        augment: takes pixels and a plan.
        spec: of the plans.
        train: False for evaluation, where nobody draws anything.
    """
    plans = _plans(spec)
    if not train:
        plans = repeat(next(plans))
    return lambda pixels: augment(pixels, next(plans))


def copying(pixels: torch.Tensor, dtype: torch.dtype) -> Transform:
    """Return a copy within the device's memory of as many bytes as a stage reads and writes.

    Args:
        pixels: uint8, what the stage reads.
        dtype: of what it writes.
    """
    moved = pixels.numel() * (1 + dtype.itemsize)  # a copy moves each byte twice
    source, target = (torch.zeros(moved // 2, dtype=torch.uint8, device=pixels.device) for _ in range(2))
    return lambda _: target.copy_(source)


def _plans(spec: DataSpec) -> Iterator[BatchPlan]:
    sizes = np.full(_BATCHES * spec.global_batch_size, _SIDE, np.int32)
    plan = TrainPlan(spec, sizes, sizes, seed=0)
    return (plan.batch(epoch, step) for epoch in count() for step in range(plan.steps_per_epoch))
