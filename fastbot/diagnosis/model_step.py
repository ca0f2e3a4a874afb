"""How fast a model trains on pictures that cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch

from fastbot.build import (
    average_of,
    clip_of,
    criterion_of,
    image_dtype_of,
    optimizer_of,
    precision_of,
    trained_model_on,
)
from fastbot.diagnosis.clock import Clock, images_per_s
from fastbot.distillation import Teacher
from fastbot.micro_batches import build_split
from fastbot.recipe import Recipe
from fastbot.specs import NoDistillation
from pipelines.batch import Batch

# Batch norm needs two pictures to normalize over.
SMALLEST_BATCH = 2
_GROWTH = 4


@dataclass(frozen=True, slots=True)
class StepRate:
    """What training came to.

    Attributes:
        images_per_s: None where not even the smallest batch fits the device's memory.
        batch_size: it was measured with: the one asked for, or the largest that fits the budget and the memory.
        out_of_memory: whether a larger one did not fit the memory.
    """

    images_per_s: float | None
    batch_size: int
    out_of_memory: bool


class _Training:
    """What `fastbot.trainer.Trainer` does with a batch on a rank of its own, but compiling.

    Args:
        recipe: its global batch is this rank's.
        num_classes: at least 2.
        device: where it trains.
        teacher: the recipe's, if it has one.
    """

    def __init__(self, recipe: Recipe, num_classes: int, device: torch.device, teacher: Teacher | None) -> None:
        self.batch_size = recipe.data.global_batch_size
        self._split = build_split(recipe.micro_batches, self.batch_size, device)
        self._model = trained_model_on(recipe, num_classes, device, world_size=1)
        self._optimizer, self._clip = optimizer_of(recipe, self._model), clip_of(recipe, self._model)
        self._criterion, self._precision = criterion_of(recipe, teacher), precision_of(recipe, device)
        self._average = average_of(recipe, self._model)
        self._batch = _random_batch(recipe, device)
        self._num_steps = 0

    def step(self) -> None:
        """Train once on the same random images."""
        for part in self._split(self._batch):
            with self._precision.autocast():
                loss, _ = self._criterion(self._model(part.batch.images), part.batch)
            self._precision.backward(loss, part.share)
        self._precision.step(self._optimizer, self._clip)
        self._num_steps += 1
        self._average.update(self._num_steps)


def build_step(
    recipe: Recipe, num_classes: int, device: torch.device, teacher: Teacher | None = None
) -> Callable[[int], int]:
    """Return what trains the recipe's model for a step on so many random images, and returns the number.

    It does what the trainer does: micro-batches, batch norm's groups, a teacher and a moving average cost what they
    cost there. Not compiled. Whatever number is asked for next, all is built anew for it.

    Args:
        recipe: which model, how it is trained, and the size of its images.
        num_classes: at least 2.
        device: where it trains.
        teacher: the recipe's; without it, the step is that of a recipe without one.
    """
    plain = recipe.model_copy(update={"compile": False} | ({} if teacher else {"distillation": NoDistillation()}))
    training: _Training | None = None

    def step(batch_size: int) -> int:
        nonlocal training
        if training is None or training.batch_size != batch_size:
            training = None  # before the next one needs the memory
            training = _Training(with_batch_size(plain, batch_size), num_classes, device, teacher)
        training.step()
        return batch_size

    return step


def check_step(recipe: Recipe, num_classes: int, batch_size: int) -> None:
    """Refuse at once what the trainer would refuse, without training a step.

    Raises:
        ModelError: the model is unknown, or cannot honour what is asked of it.
        RecipeError: the batch does not divide into `micro_batches`, or these into groups of `model.bn_batch`.
    """
    cpu = torch.device("cpu")
    build_split(recipe.micro_batches, batch_size, cpu)
    data = recipe.data.model_copy(update={"global_batch_size": batch_size})
    trained_model_on(recipe.model_copy(update={"data": data}), num_classes, cpu, world_size=1)


def batch_sizes(recipe: Recipe, asked: int) -> list[int]:
    """Return what to measure with, ascending up to the batch asked for: as many parts, of fewer rows.

    Rows of a part divide into the groups of `model.bn_batch`; fewer than one group are one.
    """
    parts, group = recipe.micro_batches, recipe.model.bn_batch
    rows, found = SMALLEST_BATCH, list[int]()
    while rows * parts < asked:
        found.append(parts * (rows - rows % group if isinstance(group, int) and rows > group else rows))
        rows *= _GROWTH
    return [*found, asked]


def with_batch_size(recipe: Recipe, batch_size: int) -> Recipe:
    """Return the recipe of a smaller or larger batch; the groups of its batch norm have no more rows than a part."""
    rows, group = batch_size // recipe.micro_batches, recipe.model.bn_batch
    data = recipe.data.model_copy(update={"global_batch_size": batch_size})
    model = recipe.model.model_copy(update={"bn_batch": min(group, rows) if isinstance(group, int) else group})
    return recipe.model_copy(update={"data": data, "model": model})


def _random_batch(recipe: Recipe, device: torch.device) -> Batch:
    rows, size = recipe.data.global_batch_size, recipe.data.crop_size
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    images = torch.randn(rows, 3, size, size, dtype=image_dtype_of(recipe, device), device=device)
    labels = torch.zeros(rows, dtype=torch.int64, device=device)
    weight = torch.ones(rows, device=device)
    return Batch(images.to(memory_format=layout), labels, labels, np.arange(rows), weight)


def step_rate(
    step: Callable[[int], int],
    sizes: Sequence[int],
    budget_s: float,
    *,
    synchronize: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> StepRate:
    """Grow the batch towards the one asked for while a step is short beside the budget, and time what was reached.

    Args:
        step: trains on so many pictures, and returns that number.
        sizes: of batches, ascending up to the one asked for, at least one.
        budget_s: seconds. A step that has begun is finished, and one is made in any case.
        synchronize: waits for the device.
        clock: returns seconds.
    """
    deadline = clock() + budget_s
    rows, seconds, out_of_memory = 0, 0.0, False
    for size in sizes:
        try:
            seconds = _seconds_of(step, size, budget_s, synchronize, clock)
            rows = size
        except torch.OutOfMemoryError:
            out_of_memory = True
            break
        if 2 * _GROWTH * seconds > deadline - clock():
            break
    if not rows:
        return StepRate(None, sizes[0], out_of_memory)
    left_s = deadline - clock()
    if seconds > left_s:
        return StepRate(rows / seconds, rows, out_of_memory)
    rate = images_per_s(map(step, repeat(rows)), left_s, warmups=0, synchronize=synchronize, clock=clock)
    return StepRate(rate, rows, out_of_memory)


def _seconds_of(
    step: Callable[[int], int], rows: int, budget_s: float, synchronize: Callable[[], object], clock: Clock
) -> float:
    """Return what a step takes: the second, for the first prepares much, unless that alone is too long to repeat."""
    seconds = budget_s
    for _ in range(2):
        began = clock()
        step(rows)
        synchronize()
        seconds = clock() - began
        if seconds > budget_s / 2:
            break
    return seconds
