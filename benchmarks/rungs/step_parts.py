"""Where the time of fastbot's step goes. A pass of its own: waiting for the device between parts slows the step."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastbot.trainer import Trainer
from pipelines.batch import Batch

_WARMUPS = 1


def parts_ms(
    trainer: Trainer, batch: Batch, steps: int, synchronize: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Return the medians of the parts of a step, in milliseconds: `forward` (with the loss), `backward`, `optimizer`.

    What else the trainer does in a step, sums for metrics and averages of weights, is in none of them.

    Args:
        trainer: whose step; its weights move.
        batch: what every step gets.
        steps: that are counted, after one that is not.
        synchronize: waits for the device; called before and after each part.
    """
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(_WARMUPS + steps):
        for name, took in _step_s(trainer, batch, synchronize).items():
            seconds[name].append(took)
    return {name: 1e3 * statistics.median(found[_WARMUPS:]) for name, found in seconds.items()}


def _step_s(trainer: Trainer, batch: Batch, synchronize: Callable[[], object]) -> dict[str, float]:
    """Make a step as `Trainer` does, and return the seconds of each part."""
    spent: dict[str, float] = defaultdict(float)

    @contextmanager
    def part_of_step(name: str) -> Iterator[None]:
        synchronize()
        began = time.perf_counter()
        yield
        synchronize()
        spent[name] += time.perf_counter() - began

    for part in trainer.split(batch):
        with part_of_step("forward"), trainer.precision.autocast():
            loss, _ = trainer.criterion(trainer.model(part.batch.images), part.batch)
        with part_of_step("backward"):
            trainer.precision.backward(loss, part.share)
    with part_of_step("optimizer"):
        trainer.precision.step(trainer.optimizer, trainer.clip)
    return spent
