"""The plans: everything random about a batch, as a pure function of (seed, epoch, step).

A plan holds only what never changes; asking for a batch draws its numbers anew from the counter, so batches may be
asked for in any order, on any rank, in any process.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pipelines import philox
from pipelines.batch import BatchPlan
from pipelines.crops import centre_boxes, random_resized_crops
from pipelines.errors import PipelineError, SpecError
from pipelines.mixing_plan import MixingPlan, mix_group
from pipelines.order import check_rank, check_world_size, permutation, positions_of_rank
from pipelines.spec import ContrastJitter, DataSpec, HsvJitter, Jitter

_ORDERS_OF_THREE = np.array(list(permutations(range(3))), np.int8)
_NUM_EPOCHS = 2**32  # the epoch is one 32-bit word of the counter


def _constant(value: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a read-only array that all batches share."""
    array = np.full(shape, value, dtype)
    array.flags.writeable = False
    return array


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


def _jitter_ranges(jitter: Jitter) -> NDArray[np.float64]:
    """Return float64 (3, 2): the range of each factor, in the order of `BatchPlan.jitter`."""
    match jitter:
        case HsvJitter():
            return np.array([jitter.hue, jitter.saturation, jitter.brightness])
        case ContrastJitter():
            return np.array([[1 - x, 1 + x] for x in (jitter.brightness, jitter.contrast, jitter.saturation)])
        case _:
            return np.ones((3, 2))


class TrainPlan:
    """Plans training: a random order of each epoch without its tail, and what BoT does to each picture.

    Row k of rank r is position r + k * world_size of the global batch, and its random numbers are keyed by its
    position in the epoch: every allowed world size sees the same global batches.

    Args:
        spec: what to draw.
        heights, widths: int32 (N,), of the split's pictures by sample id, in pixels.
        seed: 0 to 2**64 - 1.
        rank, world_size: which share of each global batch to plan.

    Attributes:
        steps_per_epoch, rows, output_size: see `Plan`.

    Raises:
        SpecError: the split cannot fill a batch, the ranks cannot share one out, or an argument makes no sense.

    Source: BoT sections 2.1 and 5.4.
    """

    def __init__(
        self,
        spec: DataSpec,
        heights: NDArray[np.int32],
        widths: NDArray[np.int32],
        *,
        seed: int,
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
        self.output_size = (spec.crop_size, spec.crop_size)
        self._positions = positions_of_rank(self.rows, rank, world_size)
        self._weight = _constant(1, (self.rows,), np.float32)
        self._mixing = MixingPlan(spec.mix, batch_size, self._positions, world_size)
        self._jitter_low, jitter_high = _jitter_ranges(spec.jitter).T
        self._jitter_span = jitter_high - self._jitter_low
        self._jitter_in_order = _constant(range(3), (self.rows, 3), np.int8)

    def batch(self, epoch: int, step: int) -> BatchPlan:
        """Return this rank's share of global batch `step` (from 0) of `epoch` (from 0).

        Raises:
            PipelineError: there is no such epoch or step.
        """
        _check_place(epoch, step, self.steps_per_epoch)
        index = step * self._spec.global_batch_size + self._positions
        ids = permutation(self._key, epoch, len(self._heights))[index].astype(np.int64)
        windows = self._windows(epoch, index, ids)
        jitter, jitter_order = self._jitter(epoch, index)
        return BatchPlan(
            epoch=epoch,
            step=step,
            output_size=self.output_size,
            positions=self._positions,
            ids=ids,
            weight=self._weight,
            windows=windows,
            boxes=windows.astype(np.float64),
            flip=philox.uniforms(self._key, epoch, philox.FLIP, index)[:, 0] < self._spec.flip,
            jitter=jitter,
            jitter_order=jitter_order,
            lighting=self._lighting(epoch, index),
            partner=self._mixing.partner,
            lam=self._mixing.lambdas(self._key, epoch, step),
        )

    def _windows(self, epoch: int, index: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int32]:
        crop = self._spec.crop
        heights, widths = self._heights[ids], self._widths[ids]
        windows: NDArray[np.int32] = random_resized_crops(
            self._key, epoch, index, heights, widths, crop.area, crop.aspect, crop.attempts
        )
        return windows

    def _jitter(self, epoch: int, index: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        drawn: NDArray[np.float64] = philox.uniforms(self._key, epoch, philox.JITTER, index)
        factors = (self._jitter_low + self._jitter_span * drawn[:, :3]).astype(np.float32)
        if not isinstance(self._spec.jitter, ContrastJitter):
            return factors, self._jitter_in_order
        return factors, _ORDERS_OF_THREE[(drawn[:, 3] * len(_ORDERS_OF_THREE)).astype(np.int64)]

    def _lighting(self, epoch: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        drawn: NDArray[np.float64] = philox.normals(self._key, epoch, philox.LIGHTING, index)
        alphas: NDArray[np.float64] = self._spec.lighting_std * drawn[:, :3]
        return alphas.astype(np.float32)


class EvalPlan:
    """Plans evaluation: every sample in order, its centre, nothing random.

    Global batch `step` holds the samples from step * B on, for B = `spec.eval.global_batch_size`, on any world size.
    What a batch lacks to the rows that all ranks have together repeats its last sample, with weight 0.

    Args:
        spec: its `eval` part is used.
        heights, widths: int32 (N,), of the split's pictures by sample id, in pixels.
        rank, world_size: which share of each global batch to plan.

    Attributes:
        steps_per_epoch, rows, output_size: see `Plan`.

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
        self.output_size = (spec.eval.crop_size, spec.eval.crop_size)
        self._positions = positions_of_rank(self.rows, rank, world_size)
        self._no_flip = _constant(False, (self.rows,), np.bool_)
        self._no_jitter = _constant(1, (self.rows, 3), np.float32)
        self._jitter_order = _constant(range(3), (self.rows, 3), np.int8)
        self._no_lighting = _constant(0, (self.rows, 3), np.float32)
        self._self_partner = _constant(range(self.rows), (self.rows,), np.int64)
        self._whole_lam = _constant(1, (self.rows,), np.float32)

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
            output_size=self.output_size,
            positions=self._positions,
            ids=ids,
            weight=(first + self._positions <= last).astype(np.float32),
            windows=np.stack([corner, corner, heights, widths], axis=1),
            boxes=centre_boxes(heights, widths, self._spec.resize_size, self._spec.crop_size),
            flip=self._no_flip,
            jitter=self._no_jitter,
            jitter_order=self._jitter_order,
            lighting=self._no_lighting,
            partner=self._self_partner,
            lam=self._whole_lam,
        )
