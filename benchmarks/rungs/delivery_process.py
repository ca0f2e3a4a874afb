"""One question about delivery, answered by a process of its own: `python -m MODULE QUESTION SETTING ARGUMENTS`.

What was compiled, allocated or started for one answer is not there for another. The last line printed is the answer.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numba.core import event

import pipelines
from benchmarks.peers import loaders as peers
from benchmarks.rungs.plan import BOT, RSB
from pipelines.spec import DataSpec

RECIPES: Mapping[str, DataSpec] = {"BoT": BOT, "RSB": RSB}
# The consumer's step takes this many times as long as a batch takes to make: with that no batch need be waited for.
_SLOWER = 1.5
# Of pictures whose number does not matter, small enough for thousands of batches a minute.
_MEMORY_BATCH, _MEMORY_SIZE = 32, 64

Answer = dict[str, Any]


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

    def open(self, spec: DataSpec, *, train: bool = True, batch_size: int = 0, size: int = 0) -> pipelines.Loader:
        """Open the store's split `train` with a spec's augmentation."""
        sizes = {"global_batch_size": batch_size or self.batch_size, "crop_size": size or self.size}
        return pipelines.open(
            self.data,
            spec.model_copy(update=sizes),
            train=train,
            backend=self.backend,
            device=self.device,
            num_threads=self.threads,
        )


def first_batch(setting: Setting, recipe: str) -> Answer:
    """Return how long the first batch of a process took from `batches()` on, and numba's compiler of that."""
    with _compiling() as compiler, setting.open(RECIPES[recipe]) as loader:
        seconds = _seconds(lambda: next(loader.epoch(0)))
    return {"first_s": seconds, "compiling_s": compiler.duration if compiler.done else 0.0}


def everything(setting: Setting) -> Answer:
    """Return how long numba compiled, for both recipes and for evaluation."""
    with _compiling() as compiler:
        for spec, train in ((BOT, True), (RSB, True), (BOT, False)):
            with setting.open(spec, train=train) as loader:
                next(loader.epoch(0))
    return {"compiling_s": compiler.duration if compiler.done else 0.0}


def stock_first_batch(setting: Setting, folder: str) -> Answer:
    """Return how long the first batch of torchvision's `DataLoader` took, crops alone, from `iter()` on."""
    loader = peers.torchvision_dataloader(_files(folder), setting.size, setting.batch_size, setting.threads)
    return {"first_s": _seconds(lambda: next(iter(loader)))}


def borders(setting: Setting, num_epochs: int) -> Answer:
    """Return how long a consumer waits for the first batch of each epoch, and at the median for another one."""
    with setting.open(BOT) as loader:
        # Its own clock: on a CPU a batch is augmented in the consumer's time, which is no wait.
        return _waits(lambda epoch: loader.epoch(epoch), num_epochs, lambda: loader.waited_s)


def stock_borders(setting: Setting, num_epochs: int, folder: str) -> Answer:
    """Return the same for torchvision's `DataLoader`, whose workers persist."""
    loader = peers.torchvision_dataloader(_files(folder), setting.size, setting.batch_size, setting.threads)
    return _waits(lambda _: loader, num_epochs, time.perf_counter)


def memory(setting: Setting, early: int, late: int) -> Answer:
    """Return MB in use after `early` and after `late` batches of small crops: the host's, and the device's."""
    found: Answer = {}
    with setting.open(BOT, batch_size=_MEMORY_BATCH, size=_MEMORY_SIZE) as loader:
        for number, _ in enumerate(_endless(loader), start=1):
            if number in (early, late):
                found[str(number)] = {"host_mb": _host_mb(), "device_mb": _device_mb(setting.device)}
            if number == late:
                return found
    raise AssertionError("endless")


def _endless(loader: pipelines.Loader) -> Iterator[object]:
    while True:
        yield from loader


def _waits(start: Callable[[int], Iterable[object]], num_epochs: int, clock: Callable[[], float]) -> Answer:
    """Consume epochs, the first one freely, which says how long a step shall be; waits are of those after it."""
    step_s = _SLOWER * statistics.median(_elapsed(start(0), 0.0, time.perf_counter))
    first_s, others_s = [], []
    for epoch in range(1, num_epochs + 1):
        first, *others = _elapsed(start(epoch), step_s, clock)
        first_s.append(first)
        others_s += others
    return {"step_s": step_s, "first_s": first_s, "others_s": statistics.median(others_s)}


def _elapsed(batches: Iterable[object], step_s: float, clock: Callable[[], float]) -> Iterator[float]:
    """Yield how far a clock went until each batch was there; the step comes after it."""
    began = clock()
    for _ in batches:
        yield clock() - began
        time.sleep(step_s)
        began = clock()


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _compiling() -> AbstractContextManager[Any]:
    """Return a context that measures how long numba compiles in it; what its cache has it does not compile."""
    timer: AbstractContextManager[Any] = event.install_listener("numba:compile", event.TimingListener())
    return timer


def _files(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("*.jpg"))


def _host_mb() -> float:
    """Return what this process has in memory, less the pages of mapped files, which are the system's cache."""
    status = Path("/proc/self/status").read_text()
    kib = sum(int(status.partition(f"{name}:")[2].split()[0]) for name in ("RssAnon", "RssShmem"))
    return kib * 1024 / 1e6


def _device_mb(device: str) -> float:
    """Return what all processes have on a CUDA device."""
    if torch.device(device).type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 1e6


QUESTIONS: Mapping[str, Callable[..., Answer]] = {
    question.__name__: question
    for question in (first_batch, everything, stock_first_batch, borders, stock_borders, memory)
}


def main() -> None:
    """Answer the question on the command line."""
    question, setting, arguments = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    print(json.dumps(QUESTIONS[question](Setting(**setting), *arguments)))


if __name__ == "__main__":
    main()
