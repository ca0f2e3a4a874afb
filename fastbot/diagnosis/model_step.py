"""How fast a model trains on pictures that cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch

from fastbot.build import clip_of, criterion_of, image_dtype_of, model_on, optimizer_of, precision_of
from fastbot.diagnosis.clock import Clock, images_per_s
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


def build_step(recipe: Recipe, num_classes: int, device: torch.device) -> Callable[[int], int]:
    """Return what trains the recipe's model for a step on so many random images, and returns the number.

    Not compiled, in one part, and without a teacher.

    Args:
        recipe: names the model, its precision and optimizer, and the size of its images.
        num_classes: at least 2.
        device: where it trains.
    """
    model = model_on(recipe, num_classes, device)
    optimizer, clip = optimizer_of(recipe, model), clip_of(recipe, model)
    criterion = criterion_of(recipe.model_copy(update={"distillation": NoDistillation()}), None)
    precision = precision_of(recipe, device)
    size, dtype = recipe.data.crop_size, image_dtype_of(recipe, device)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    images = torch.empty(0)

    def step(batch_size: int) -> int:
        nonlocal images
        if len(images) != batch_size:
            images = torch.randn(batch_size, 3, size, size, dtype=dtype, device=device).to(memory_format=layout)
        labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        batch = Batch(images, labels, labels, np.arange(batch_size), torch.ones(batch_size, device=device))
        with precision.autocast():
            loss, _ = criterion(model(images), batch)
        precision.backward(loss)
        precision.step(optimizer, clip)
        return batch_size

    return step


def step_rate(
    step: Callable[[int], int],
    batch_size: int,
    budget_s: float,
    *,
    synchronize: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> StepRate:
    """Grow the batch towards the one asked for while a step is short beside the budget, and time what was reached.

    Args:
        step: trains on so many pictures, and returns that number.
        batch_size: the largest batch, at least `SMALLEST_BATCH`.
        budget_s: seconds. A step that has begun is finished, and one is made in any case.
        synchronize: waits for the device.
        clock: returns seconds.
    """
    deadline = clock() + budget_s
    rows, seconds, fits, out_of_memory = 0, 0.0, SMALLEST_BATCH, False
    while not out_of_memory:
        try:
            seconds = _seconds_of(step, fits, budget_s, synchronize, clock)
            rows = fits
        except torch.OutOfMemoryError:
            out_of_memory = True
        if rows == batch_size or 2 * _GROWTH * seconds > deadline - clock():
            break
        fits = min(_GROWTH * fits, batch_size)
    if not rows:
        return StepRate(None, SMALLEST_BATCH, out_of_memory)
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
