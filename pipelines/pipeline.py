"""A plan, a backend, the augmentation and the mixing, put together: an iterable of batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datasets_tools.store import Split
from pipelines.augment.build import Augment, build_augment
from pipelines.backends import choose
from pipelines.batch import Backend, Batch, BatchPlan, Plan
from pipelines.mixing import Mix, build_mix
from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec, NoMix
from pipelines.transfer import build_transfer
from pipelines.upload import upload


class Pipeline:
    """Batches of one split, in the plan's order, on the device.

    Args:
        labels: int64 (N,), label by sample id.
        plan: decides; backend, augment, mix: carry out.
        device: where batches go.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        plan: Plan,
        backend: Backend,
        augment: Augment,
        mix: Mix,
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.backend = backend
        self._labels = labels
        self._augment = augment
        self._mix = mix
        self._device = device
        self._transfer = build_transfer(device)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""
        return self.plan.steps_per_epoch

    def batches(
        self, epoch: int = 0, start_step: int = 0, arrived: Callable[[], None] = lambda: None
    ) -> Generator[Batch]:
        """Yield the batches of an epoch in order; closing the iterator stops all threads behind it.

        Args:
            epoch, start_step: where to start, from 0.
            arrived: called when a batch's pixels are on the device (on CUDA: when its stream will see them), before
                augmentation; for measuring the wait.
        """
        planned: deque[BatchPlan] = deque()  # what the backend has asked for and not delivered yet

        def plans() -> Iterator[BatchPlan]:
            for step in range(start_step, self.steps_per_epoch):
                planned.append(self.plan.batch(epoch, step))
                yield planned[-1]

        with closing(self.backend.pixels(plans())) as decoded:
            for pixels in decoded:
                moved = self._transfer(pixels)
                arrived()
                yield self._finish(moved, planned.popleft())

    def _finish(self, pixels: torch.Tensor, plan: BatchPlan) -> Batch:
        images = self._augment(pixels, plan)
        labels = upload(self._labels[plan.ids], self._device)
        images, targets = self._mix(images, labels, plan)
        weight = upload(plan.weight.copy(), self._device)  # the plan's own is read-only and shared
        return Batch(images, labels, targets, plan.ids, weight)

    def close(self) -> None:
        """Release the backend; may be called twice."""
        self.backend.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank's pipelines run, and with what.

    Attributes:
        backend: `dali`, `ffcv`, `torch` or `synthetic`.
        device: where batches go.
        dtype: of the images.
        num_threads: decoding threads of this rank.
        rank, world_size: this process among all of the run.
    """

    backend: str
    device: torch.device
    dtype: torch.dtype = torch.float32
    num_threads: int = 1
    rank: int = 0
    world_size: int = 1


def open_train(split: Split, spec: DataSpec, num_classes: int, place: Place, *, seed: int) -> Pipeline:
    """Return the training pipeline of a split.

    Args:
        split: opened from a store.
        spec: what happens to each picture.
        num_classes: width of mixed targets.
        place: where it runs.
        seed: of everything random.

    Raises:
        SpecError: the spec does not fit the store or the world size.
        BackendUnavailable: the backend cannot run here.
    """
    plan = TrainPlan(spec, split.heights, split.widths, seed=seed, rank=place.rank, world_size=place.world_size)
    augment = build_augment(spec, device=place.device, dtype=place.dtype, train=True)
    return Pipeline(
        split.labels,
        plan,
        _backend(split, place),
        augment,
        build_mix(spec.mix, num_classes, place.device),
        place.device,
    )


def open_eval(split: Split, spec: DataSpec, num_classes: int, place: Place) -> Pipeline:
    """Return the evaluation pipeline of a split; arguments and errors as for `open_train`."""
    plan = EvalPlan(spec, split.heights, split.widths, rank=place.rank, world_size=place.world_size)
    augment = build_augment(spec, device=place.device, dtype=place.dtype, train=False)
    mix = build_mix(NoMix(), num_classes, place.device)
    return Pipeline(split.labels, plan, _backend(split, place), augment, mix, place.device)


def _backend(split: Split, place: Place) -> Backend:
    return choose.build(place.backend, split, device=place.device, num_threads=place.num_threads)
