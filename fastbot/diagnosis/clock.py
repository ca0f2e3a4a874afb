"""Timing batches against a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

Clock = Callable[[], float]


def images_per_s(
    batches: Iterator[int],
    budget_s: float,
    *,
    warmups: int,
    synchronize: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> float:
    """Run batches until the budget is spent, and return the pictures per second.

    A batch that has begun is finished, at least one is counted, and warming up ends at half of the budget.

    Args:
        batches: endless; making the next one is what is timed, its value is how many pictures it has.
        budget_s: seconds, for warming up and counting.
        warmups: batches before the first that counts.
        synchronize: waits for the device.
        clock: returns seconds.
    """
    began = clock()
    for _ in range(warmups):
        next(batches)
        if clock() - began >= budget_s / 2:
            break
    synchronize()
    started, num_images = clock(), 0
    while not num_images or clock() - began < budget_s:
        num_images += next(batches)
    synchronize()
    return num_images / (clock() - started)
