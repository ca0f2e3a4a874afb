"""The ceiling in benchmarks: seeded pixels made once on the device, so that a step costs what the step costs."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import torch

from datasets_tools.store import Split
from pipelines.batch import BatchPlan, Decoded

# Distinct batches that take turns: more than one, so that no step sees what the caches still hold from the last.
RING_SIZE = 3


class SyntheticBackend:
    """Yield made-up pixels of the planned shape; reads and decodes nothing.

    Batch `step` of every epoch shows the same pixels, whatever came before it, on every device.

    Args:
        split: not read; every backend is built alike.
        device: where the pixels lie.
        num_threads: not used: nothing is left to do in threads.
        ahead: not used: nothing is left to prepare.
        seed: decides the pixels.
    """

    name = "synthetic"

    def __init__(self, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2, seed: int = 0) -> None:
        self._device = device
        self._seed = seed
        self._ring = torch.empty((0, 0, 0, 0, 3), dtype=torch.uint8)

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield pixels for each plan; the same memory comes round again, do not write to it."""
        for plan in plans:
            yield Decoded(self._batches((len(plan.ids), *plan.output_size, 3))[plan.step % RING_SIZE], {})

    def close(self) -> None:
        """Release the pixels."""
        self._ring = torch.empty((0, 0, 0, 0, 3), dtype=torch.uint8)

    def _batches(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self._ring.shape[1:] != shape:
            # On the CPU first: generators of different devices give different numbers for one seed.
            generator = torch.Generator().manual_seed(self._seed)
            self._ring = torch.randint(256, (RING_SIZE, *shape), dtype=torch.uint8, generator=generator).to(
                self._device
            )
        return self._ring
