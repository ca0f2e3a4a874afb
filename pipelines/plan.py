"""The plans: everything random about a batch, as a pure function of (seed, epoch, step).

A plan holds only what never changes; asking for a batch draws its numbers anew from the counter, so batches may be
asked for in any order, on any rank, in any process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipelines import philox
from pipelines.batch import BatchPlan
from pipelines.colour_plan import ColourPlan
from pipelines.constants import constant
from pipelines.crops import centre_boxes, ramped_size, random_resized_crops
from pipelines.erasing_plan import ErasingPlan
from pipelines.errors import PipelineError, SpecError
from pipelines.mixing_plan import build_mixing_plan, mix_group
from pipelines.operations_plan import build_operations_plan
from pipelines.order import build_order
from pipelines.ranks import check_rank, check_world_size, positions_of_rank
from pipelines.spec import DataSpec

_NUM_EPOCHS = 2**32  # the epoch is one 32-bit word of the counter
_ROW_FIELDS = [f.name for f in fields(BatchPlan) if f.name not in ("epoch", "step", "output_size", "interpolation")]


def _checked_sizes(
    heights: NDArray[np.int32], widths: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return both as plain arrays: a store's may be fields of a mapped file, slow to gather from."""
    if heights.ndim != 1 or heights.shape != widths.shape:
        raise SpecError(f"heights {heights.shape} and widths {widths.shape} must be one number for each sample")
    if len(heights) == 0:
        raise SpecError("the split holds no samples: name another split, or convert its source again")
    if min(heights.min(), widths.min()) < 1:
        empty = int(np.argmax(np.minimum(heights, widths) < 1))
        raise SpecError(
            f"sample {empty} has height {heights[empty]} and width {widths[empty]}: both must be at least 1 pixel; "
            "convert the store again from its source"
        )
    return np.ascontiguousarray(heights, np.int32), np.ascontiguousarray(widths, np.int32)


def _check_place(epoch: int, step: int, steps_per_epoch: int) -> None:
    if not 0 <= epoch < _NUM_EPOCHS:
        raise PipelineError(f"epoch {epoch} cannot be planned: epochs count from 0 to 2**32 - 1")
    if not 0 <= step < steps_per_epoch:
        raise PipelineError(f"step {step} cannot be planned: the steps of an epoch are 0 to {steps_per_epoch - 1}")


def _nothing_drawn(rows: int) -> dict[str, NDArray[Any]]:
    """Return those fields of a `BatchPlan` that leave a picture as its crop is, read-only."""
    return {
        "flip": constant(False, (rows,), np.bool_),
        "jitter": constant(1, (rows, 3), np.float32),
        "jitter_order": constant(range(3), (rows, 3), np.int8),
        "lighting": constant(0, (rows, 3), np.float32),
        "operations": constant(0, (rows, 0), np.int8),
        "arguments": constant(0, (rows, 0), np.float32),
        "erase": constant(0, (rows, 4), np.int32),
        "noise": constant(0, (rows, 2), np.uint32),
    } | _nothing_mixed(rows)


def _nothing_mixed(rows: int) -> dict[str, NDArray[Any]]:
    return {
        "partner": constant(range(rows), (rows,), np.int64),
        "lam": constant(1, (rows,), np.float32),
        "cut": constant(0, (rows, 4), np.int32),
    }


class TrainPlan:
    """Plans training: an order of each epoch without its tail, and what the recipe does to each picture.

    Row k of rank r is position r + k * world_size of the global batch, and its random numbers are keyed by its
    position in the epoch: every allowed world size sees the same global batches.

    Args:
        spec: what to draw.
        heights, widths: int32 (N,), of the split's pictures by sample id, in pixels.
        labels: int64 (N,), by sample id; only a weighted order needs them.
        seed: 0 to 2**64 - 1.
        rank, world_size: which share of each global batch to plan.

    Attributes:
        steps_per_epoch, rows: see `Plan`.

    Raises:
        SpecError: the split cannot fill a batch, the ranks cannot share one out, or an argument makes no sense.

    Source: BoT sections 2.1 and 5.4; RSB section 3, as timm draws it.
    """

    def __init__(
        self,
        spec: DataSpec,
        heights: NDArray[np.int32],
        widths: NDArray[np.int32],
        *,
        seed: int,
        labels: NDArray[np.int64] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        batch_size = spec.global_batch_size
        self._heights, self._widths = _checked_sizes(heights, widths)
        if len(heights) < batch_size:
            raise SpecError(
                f"the training split holds {len(heights)} samples, fewer than one global_batch_size of {batch_size}: "
                f"choose {len(heights)} or less"
            )
        check_rank(rank, world_size)
        check_world_size(world_size, batch_size, mix_group(spec.mix))
        self._spec = spec
        self._key = philox.key(seed)
        self.steps_per_epoch = len(heights) // batch_size
        self.rows = batch_size // world_size
        self._positions = positions_of_rank(self.rows, rank, world_size)
        self._weight = constant(1, (self.rows,), np.float32)
        self._order = build_order(spec.order, self._key, len(heights), batch_size, labels)
        self._colours = ColourPlan(spec.jitter, spec.lighting_std, self._key, self.rows)
        self._operations = build_operations_plan(spec.auto_augment, self._key, self.rows)
        self._erasing = ErasingPlan(spec.erasing, self._key, self.rows)
        self._mixing = build_mixing_plan(spec.mix, self._key, batch_size, self._positions, world_size)

    def output_size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of the output pictures of `epoch` (from 0), in pixels."""
        side = ramped_size(self._spec.size_ramp, self._spec.crop_size, epoch)
        return side, side

    def batch(self, epoch: int, step: int) -> BatchPlan:
        """Return this rank's share of global batch `step` (from 0) of `epoch` (from 0).

        Raises:
            PipelineError: there is no such epoch or step.
        """
        _check_place(epoch, step, self.steps_per_epoch)
        output_size = self.output_size(epoch)
        index = step * self._spec.global_batch_size + self._positions
        ids = self._order.ids(epoch, index)
        windows = self._windows(epoch, index, ids)
        jitter, jitter_order = self._colours.jitter(epoch, index)
        operations, arguments = self._operations.draw(epoch, index, output_size)
        erase, noise = self._erasing.rectangles(epoch, index, output_size)
        lam, cut = self._mixing.shares(epoch, step, output_size)
        return BatchPlan(
            epoch=epoch,
            step=step,
            output_size=output_size,
            positions=self._positions,
            ids=ids,
            weight=self._weight,
            windows=windows,
            boxes=windows.astype(np.float64),
            flip=philox.uniforms(self._key, epoch, philox.FLIP, index)[:, 0] < self._spec.flip,
            jitter=jitter,
            jitter_order=jitter_order,
            lighting=self._colours.lighting(epoch, index),
            operations=operations,
            arguments=arguments,
            erase=erase,
            noise=noise,
            partner=self._mixing.partner,
            lam=lam,
            cut=cut,
            interpolation=self._spec.interpolation,
        )

    def substituted(self, plan: BatchPlan, rows: Sequence[int], attempt: int) -> BatchPlan:
        """Return a plan of `rows` of `plan` alone, for other samples that are drawn for them.

        What is drawn depends on a row's position in the epoch and `attempt`, so it is the same on every world size.
        The crops are drawn from the rows' own numbers, for the other pictures' sizes; all else is as it was. Only
        nothing mixes: partners need not be among `rows`. The batch that gets the pictures mixes by its own plan.

        Args:
            plan: what `batch` returned.
            rows: whose samples cannot be used.
            attempt: from 0; each draws other samples than the plan's, though maybe those of another attempt.

        Raises:
            PipelineError: there are no other samples.
        """
        kept = np.asarray(rows, np.int64)
        index = plan.step * self._spec.global_batch_size + plan.positions[kept]
        ids = self._order.others(plan.epoch, index, plan.ids[kept], attempt)
        windows = self._windows(plan.epoch, index, ids)
        as_before = {name: getattr(plan, name)[kept] for name in _ROW_FIELDS}
        drawn = {"ids": ids, "windows": windows, "boxes": windows.astype(np.float64)}
        return replace(plan, **as_before | drawn | _nothing_mixed(len(kept)))

    def _windows(self, epoch: int, index: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int32]:
        crop = self._spec.crop
        heights, widths = self._heights[ids], self._widths[ids]
        windows: NDArray[np.int32] = random_resized_crops(
            self._key, epoch, index, heights, widths, crop.area, crop.aspect, crop.attempts
        )
        return windows


class EvalPlan:
    """Plans evaluation: every sample in order, its centre, nothing random.

    Global batch `step` holds the samples from step * B on, for B = `spec.eval.global_batch_size`, on any world size.
    What a batch lacks to the rows that all ranks have together repeats its last sample, with weight 0.

    Args:
        spec: its `eval` part is used.
        heights, widths: int32 (N,), of the split's pictures by sample id, in pixels.
        rank, world_size: which share of each global batch to plan.

    Attributes:
        steps_per_epoch, rows: see `Plan`.

    Raises:
        SpecError: an argument makes no sense.

    Source: BoT section 2.1.
    """

    def __init__(
        self,
        spec: DataSpec,
        heights: NDArray[np.int32],
        widths: NDArray[np.int32],
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._heights, self._widths = _checked_sizes(heights, widths)
        check_rank(rank, world_size)
        self._spec = spec.eval
        self.steps_per_epoch = -(-len(heights) // spec.eval.global_batch_size)
        self.rows = -(-spec.eval.global_batch_size // world_size)
        self._positions = positions_of_rank(self.rows, rank, world_size)
        self._nothing_drawn = _nothing_drawn(self.rows)

    def output_size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of the output pictures, in pixels; every `epoch` is the same."""
        return self._spec.crop_size, self._spec.crop_size

    def batch(self, epoch: int, step: int) -> BatchPlan:
        """Return this rank's share of global batch `step` (from 0); every `epoch` (from 0) is the same.

        Raises:
            PipelineError: there is no such epoch or step.
        """
        _check_place(epoch, step, self.steps_per_epoch)
        first = step * self._spec.global_batch_size
        last = min(first + self._spec.global_batch_size, len(self._heights)) - 1
        ids = np.minimum(first + self._positions, last)
        heights, widths = self._heights[ids], self._widths[ids]
        corner = np.zeros_like(heights)
        return BatchPlan(
            epoch=epoch,
            step=step,
            output_size=self.output_size(epoch),
            positions=self._positions,
            ids=ids,
            weight=(first + self._positions <= last).astype(np.float32),
            windows=np.stack([corner, corner, heights, widths], axis=1),
            boxes=centre_boxes(heights, widths, self._spec.resize_size, self._spec.crop_size),
            interpolation=self._spec.interpolation,
            **self._nothing_drawn,
        )

    def substituted(self, plan: BatchPlan, rows: Sequence[int], attempt: int) -> NoReturn:
        """Refuse: a score of other samples than the split's would be another score.

        Raises:
            PipelineError: always.
        """
        raise PipelineError(
            f"evaluation cannot replace samples {plan.ids[list(rows)].tolist()} by others: skip them, or convert the "
            "store again from its source"
        )
