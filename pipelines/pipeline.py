"""A plan, a backend, the augmentation and the targets, put together: an iterable of batches."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from datasets_tools.store import Split
from pipelines.augment.build import Augment, build_augment
from pipelines.backends import choose
from pipelines.bad_pictures import BadPictures, OnBadImage
from pipelines.batch import Backend, Batch, BatchPlan, Decoded, Plan
from pipelines.compilation import announce_compilation
from pipelines.delivery import Delivery
from pipelines.errors import PipelineError, SpecError
from pipelines.mixing import Targets, build_targets
from pipelines.plan import EvalPlan, TrainPlan
from pipelines.spec import DataSpec, NoMix
from pipelines.transfer import build_transfer
from pipelines.upload import upload
from pipelines.whole_numbers import whole_number


class Pipeline:
    """Batches of one split, in the plan's order, on the device.

    While the consumer has a batch, the next one is made ready and the backend works on those after it, in training also
    beyond the end of an epoch. Between two evaluations nothing is kept ready: the first batches are a hundredth of one,
    and would take cores when training goes on, and hold memory until the next.

    Args:
        labels: int64 (N,), label by sample id.
        plan: decides; backend, augment, targets: carry out.
        device: where batches go.
        bad_pictures: settles rows that have no picture.
        endless: whether training goes on after each epoch, or an evaluation ends with it.
    """

    def __init__(
        self,
        labels: NDArray[np.int64],
        plan: Plan,
        backend: Backend,
        augment: Augment,
        targets: Targets,
        device: torch.device,
        bad_pictures: BadPictures,
        *,
        endless: bool,
    ) -> None:
        announce_compilation()
        self.plan = plan
        self.backend = backend
        self.bad_pictures = bad_pictures
        self._labels = labels
        self._augment = augment
        self._targets = targets
        self._device = device
        self._transfer = build_transfer(device)
        self._delivery = Delivery(plan, backend, bad_pictures.settle, self._transfer, endless=endless)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the same on every rank."""
        return self.plan.steps_per_epoch

    @property
    def num_samples(self) -> int:
        """Samples of the split."""
        return len(self._labels)

    @property
    def waited_s(self) -> float:
        """Seconds for which the consumer was blocked because pixels were not there yet."""
        return self._delivery.waited_s

    def batches(
        self, epoch: int = 0, start_step: int = 0, arrived: Callable[[], None] = lambda: None
    ) -> Generator[Batch]:
        """Return the batches of an epoch in order, and begin to prepare them at once.

        Where they are what comes next, as in one epoch after another, they are being prepared already. What was
        prepared is kept when the iterator is left; `close` lets go of it. There is one iterator at a time.

        Args:
            epoch, start_step: where to start, from 0.
            arrived: called when a batch's pixels are on the device (on CUDA: when its stream will see them), before
                augmentation; for measuring the wait.

        Raises:
            PipelineError: there is no such step, the pipeline is closed, or this process is a fork.
        """
        epoch = whole_number("epoch", epoch, 0, PipelineError)
        start_step = whole_number("start_step", start_step, 0, PipelineError)
        if start_step >= self.steps_per_epoch:
            raise PipelineError(
                f"epoch {epoch} has no step {start_step} to start at: its steps are 0 to {self.steps_per_epoch - 1}"
            )
        reader = self._delivery.start((epoch, start_step))
        return (self._next(reader, arrived) for _ in range(start_step, self.steps_per_epoch))

    def _next(self, reader: int, arrived: Callable[[], None]) -> Batch:
        delivered = self._delivery.take(reader)
        # Here, not where it was found, ahead of the reader: how far ahead that is must not show.
        self.bad_pictures.note(delivered.bad)
        self._transfer.receive(delivered.pixels)
        arrived()
        batch = self._finish(delivered.pixels, delivered.plan)
        self._delivery.advance(reader)
        return batch

    def _finish(self, pixels: torch.Tensor, plan: BatchPlan) -> Batch:
        images = self._augment(pixels, plan)
        labels = upload(self._labels[plan.ids], self._device)
        weight = upload(plan.weight.copy(), self._device)  # the plan's own is read-only and shared
        return Batch(images, labels, self._targets(labels, plan), plan.ids, weight)

    def close(self) -> None:
        """End all threads and release the backend; may be called twice, and from any thread.

        In a fork it does nothing: threads and backend are those of the process that opened them, and go on there.
        """
        if self._delivery.in_fork:
            return
        try:
            self._delivery.close()
        finally:
            self.backend.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rank's pipelines run, and with what.

    Attributes:
        backend: a backend's name, or `auto`.
        device: where batches go.
        dtype: of the images.
        num_threads: decoding threads of this rank.
        rank, world_size: this process among all of the run.
        on_bad_image: what becomes of a picture that cannot be used: `fail`, `replace` it by another of the split, or
            `skip` it. Evaluation has no substitutes and skips for both: weight 0.

    Raises:
        SpecError: a number is not whole or too small, or there is no such way with a bad picture.
    """

    backend: str
    device: torch.device
    dtype: torch.dtype = torch.float32
    num_threads: int = 1
    rank: int = 0
    world_size: int = 1
    on_bad_image: OnBadImage = "fail"

    def __post_init__(self) -> None:
        whole_number("num_threads", self.num_threads, 1)
        whole_number("rank", self.rank, 0)
        whole_number("world_size", self.world_size, 1)
        if self.on_bad_image not in get_args(OnBadImage):
            raise SpecError(f"on_bad_image is {self.on_bad_image!r}: choose fail, replace or skip")


def open_train(split: Split, spec: DataSpec, num_classes: int, place: Place, *, seed: int) -> Pipeline:
    """Return the training pipeline of a split.

    Args:
        split: opened from a store.
        spec: what happens to each picture.
        num_classes: width of mixed targets.
        place: where it runs.
        seed: of everything random.

    Raises:
        SpecError: the spec does not fit the store or the world size, or the seed is no whole number.
        BackendUnavailable: the backend cannot run here.
    """
    plan = TrainPlan(
        spec,
        split.heights,
        split.widths,
        seed=whole_number("seed", seed, 0),
        rank=place.rank,
        world_size=place.world_size,
        labels=split.labels,
    )
    return Pipeline(
        split.labels,
        plan,
        _backend(split, place),
        build_augment(spec, device=place.device, dtype=place.dtype, train=True),
        build_targets(spec.mix, num_classes, place.device),
        place.device,
        BadPictures(place.on_bad_image, plan, _rescue(split)),
        endless=True,
    )


def open_eval(split: Split, spec: DataSpec, num_classes: int, place: Place) -> Pipeline:
    """Return the evaluation pipeline of a split; arguments and errors as for `open_train`."""
    plan = EvalPlan(spec, split.heights, split.widths, rank=place.rank, world_size=place.world_size)
    on_bad_image: OnBadImage = "fail" if place.on_bad_image == "fail" else "skip"
    return Pipeline(
        split.labels,
        plan,
        _backend(split, place),
        build_augment(spec, device=place.device, dtype=place.dtype, train=False),
        build_targets(NoMix(), num_classes, place.device),
        place.device,
        BadPictures(on_bad_image, plan, _rescue(split)),
        endless=False,
    )


def _backend(split: Split, place: Place) -> Backend:
    return choose.build(place.backend, split, device=place.device, num_threads=place.num_threads)


def _rescue(split: Split) -> Callable[[BatchPlan], Decoded]:
    def decode(plan: BatchPlan) -> Decoded:
        from pipelines.backends.rescue import rescue  # on demand: it imports torchvision, and is seldom needed

        pixels = torch.empty((len(plan.ids), *plan.output_size, 3), dtype=torch.uint8)
        return Decoded(pixels, rescue(split, plan, range(len(plan.ids)), pixels))

    return decode
