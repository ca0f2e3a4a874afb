"""The `turbo` backend: fastbot's own C codec decodes the window that a crop needs, and fits it to the output.

A batch's rows are shared out one by one among threads that hold no interpreter lock; samples are read where the store
is mapped, pixels are written where the batch lies, and nothing is copied in between.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from datasets_tools import jpeg
from datasets_tools.errors import DamagedSampleError
from datasets_tools.jpeg import RegionBatch
from datasets_tools.store import Split
from pipelines.backends.geometry import check_geometry
from pipelines.backends.planned_regions import failed_rows, planned_regions
from pipelines.batch import BatchPlan, Decoded
from pipelines.recycling import RecycledMemory

# Like the package that another backend stands on: met by who asks for this one.
if (_problem := jpeg.problem()) is not None:
    raise ImportError(_problem)


class TurboBackend:
    """Decode, crop and resize on the CPU with `datasets_tools.jpeg`.

    Args:
        split: the stored samples that plans refer to by id.
        device: where batches go; pixels stay on the host, in pinned memory where this is a CUDA device.
        num_threads: decoding threads, at least 1.
        ahead: batches worked on while the consumer has one.

    Source: libjpeg-turbo's pixels (slow inverse DCT, fancy upsampling), resampled as `PIL.Image.resize` does.
    """

    name = "turbo"

    def __init__(self, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2) -> None:
        self._split = split
        self._pinned = device.type == "cuda"
        self._memory = RecycledMemory()
        self._num_threads = num_threads
        self._ahead = ahead
        self._streams: weakref.WeakSet[Generator[Decoded]] = weakref.WeakSet()

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield uint8 (n, H, W, 3) RGB pixels of each plan, in memory that is the consumer's; see `Backend`.

        Raises:
            StoreError: a file was cut after the store was opened; the batches before it have been yielded.
            SpecError: a plan leaves its pictures; likewise.
        """
        stream = self._stream(plans)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Stop the threads of every iterator that is still open."""
        for stream in list(self._streams):
            stream.close()

    def _stream(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")
        pending: deque[_PendingBatch] = deque()
        failure: Exception | None = None
        remaining = iter(plans)
        try:
            while failure is None:
                try:
                    plan = next(remaining)
                    pending.append(self._begin(pool, plan))
                except StopIteration:
                    break
                except Exception as error:  # what was begun before comes first
                    failure = error
                if len(pending) > self._ahead:
                    yield pending.popleft().wait()
            while pending:
                yield pending.popleft().wait()
            if failure is not None:
                raise failure
        finally:
            for batch in pending:
                batch.regions.stop()
            pool.shutdown(cancel_futures=True)

    def _begin(self, pool: ThreadPoolExecutor, plan: BatchPlan) -> _PendingBatch:
        check_geometry(plan, self._split)
        self._split.check_unchanged(plan.ids)  # before anything reads: its checksums come beside decoding
        pixels = self._empty((len(plan.ids), *plan.output_size, 3))
        regions = planned_regions(self._split, plan, pixels.numpy())
        # One job a thread for each batch: a thread that finds no row left goes on with the next batch's.
        damaged = pool.submit(self._split.damaged, plan.ids)
        jobs = [pool.submit(regions.work) for _ in range(self._num_threads)]
        return _PendingBatch(self._split, plan, pixels, regions, damaged, jobs)

    def _empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self._pinned:  # torch's own allocator uses pinned memory again
            return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        return self._memory.empty(shape, torch.uint8)


@dataclass(frozen=True, slots=True)
class _PendingBatch:
    split: Split
    plan: BatchPlan
    pixels: torch.Tensor
    regions: RegionBatch
    damaged: Future[dict[int, DamagedSampleError]]
    jobs: list[Future[None]]

    def wait(self) -> Decoded:
        for job in self.jobs:
            job.result()
        failed = failed_rows(self.split, self.plan, self.regions.failures(), self.damaged.result())
        for row in failed:
            self.pixels[row] = 0
        return Decoded(self.pixels, failed)
