"""How long does a consumer wait at the borders of epochs? Questions for processes of their own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import pipelines
from benchmarks.peers import torchvision_loader
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.plan import BOT
from pipelines.spec import DataSpec

# The consumer's step takes this many times as long as a batch takes to make: with that no batch need be waited for.
_SLOWER = 1.5


@dataclass(frozen=True, slots=True)
class Setting:
    """Whose delivery.

    Attributes:
        data: a store's folder.
        backend: a name.
        device: where batches go.
        batch_size: pictures a batch.
        size: of crops, in pixels.
        threads: that decode.
    """

    data: str
    backend: str
    device: str
    batch_size: int
    size: int
    threads: int

    @property
    def on_gpu(self) -> bool:
        """Whether batches go to a GPU."""
        return self.device.startswith("cuda")

    def open(self, spec: DataSpec = BOT) -> pipelines.Loader:
        """Open the store's split `train` with a spec's augmentation."""
        return pipelines.open(
            self.data,
            spec.model_copy(update={"global_batch_size": self.batch_size, "crop_size": self.size}),
            train=True,
            backend=self.backend,
            device=self.device,
            num_threads=self.threads,
        )


def borders(setting: dict[str, Any], num_epochs: int) -> Answer:
    """Return how long a consumer waits for the first batch of each epoch, and at each one's median for another."""
    known = Setting(**setting)
    with known.open() as loader:
        if known.on_gpu:
            return _waits(lambda epoch: _there(loader.epoch(epoch)), num_epochs, time.perf_counter)
        # Its own clock: on a CPU a batch is augmented in the consumer's time, which is no wait.
        return _waits(loader.epoch, num_epochs, lambda: loader.waited_s)


def stock_borders(setting: dict[str, Any], num_epochs: int, folder: str) -> Answer:
    """Return the same for torchvision's `DataLoader`, whose workers persist."""
    known = Setting(**setting)
    loader = torchvision_loader.dataloader(
        sorted(Path(folder).rglob("*.jpg")), known.size, known.batch_size, known.threads
    )
    if known.on_gpu:
        return _waits(lambda _: _there(_moved(loader, known.device)), num_epochs, time.perf_counter)
    return _waits(lambda _: loader, num_epochs, time.perf_counter)


def _moved(batches: Iterable[torch.Tensor], device: str) -> Iterator[torch.Tensor]:
    return (batch.to(device) for batch in batches)


def _there(batches: Iterable[object]) -> Iterator[object]:
    """Yield batches when the GPU has them: before that they are a promise, for which a step would wait."""
    for batch in batches:
        torch.cuda.synchronize()
        yield batch


def _waits(start: Callable[[int], Iterable[object]], num_epochs: int, clock: Callable[[], float]) -> Answer:
    """Consume epochs, the first two freely: one starts all there is, one says how long a step shall be."""
    _free_s(start, 0)
    step_s = _SLOWER * _free_s(start, 1)
    first_s, others_s = [], []
    for epoch in range(2, 2 + num_epochs):
        first, *others = _elapsed(start(epoch), step_s, clock)
        first_s.append(first)
        others_s.append(statistics.median(others))
    return {"step_s": step_s, "first_s": first_s, "others_s": others_s}


def _free_s(start: Callable[[int], Iterable[object]], epoch: int) -> float:
    """Return the seconds a batch of an epoch takes when nobody holds it up.

    Of the whole epoch: batches of several workers come together, so that most gaps between them are no time at all.
    """
    began = time.perf_counter()
    count = sum(1 for _ in start(epoch))
    return (time.perf_counter() - began) / count


def _elapsed(batches: Iterable[object], step_s: float, clock: Callable[[], float]) -> Iterator[float]:
    """Yield how far a clock went until each batch was there; the step comes after it."""
    began = clock()
    for _ in batches:
        yield clock() - began
        time.sleep(step_s)
        began = clock()
