"""The `ffcv` backend: FFCV's compiled loader executes plans over the store's `.beton` files, and calls our codec.

FFCV's operations see sample ids only, and its Loader opens one file and refuses foreign orders. Its graph, compiler,
buffers and threads stay the engine, over all shards of a split at once, but an epoch walks plans: a batch's `metadata`
is where its rows lie for the codec, and their `out` is the memory that FFCV gives the batch. FFCV's own epoch thread
dies silently on an error, leaks when a loop is left, and sets torch's thread count; ours does none of that.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from queue import Empty, Full

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from datasets_tools import jpeg
from datasets_tools.errors import DamagedSampleError
from datasets_tools.store import Split
from pipelines.backends.ffcv_decoder import PlannedDecoder
from pipelines.backends.ffcv_import import EpochIterator, MemoryLoader
from pipelines.backends.geometry import check_geometry
from pipelines.backends.planned_regions import failed_rows, planned_regions
from pipelines.batch import BatchPlan, Decoded
from pipelines.errors import PipelineError, SpecError

# FFCV's own decoder cannot take its place: it does not know what a plan is, and says of no row that it failed.
if (_problem := jpeg.problem()) is not None:
    raise ImportError(_problem)

_log = logging.getLogger("pipelines")

# How often a waiting thread looks whether the other side is still there.
_POLL_S = 0.1


class FfcvBackend:
    """Decode, crop and resize on the CPU inside FFCV's compiled loader.

    Args:
        split: the stored samples that plans refer to by id.
        device: not used: pixels are yielded on the CPU, in pinned memory where CUDA is present.
        num_threads: decoding threads, at least 1; at most as many as numba allows (the cores it sees) are used.
        ahead: batches decoded ahead.

    Source: the pixels are the `turbo` backend's, of `datasets_tools.jpeg.RegionBatch`.
    """

    name = "ffcv"

    def __init__(self, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2) -> None:
        self._split = split
        num_workers = min(num_threads, numba.config.NUMBA_NUM_THREADS)
        self._decoder = PlannedDecoder(num_workers)
        self._epochs: weakref.WeakSet[PlanEpoch] = weakref.WeakSet()
        _log.info("ffcv compiles its loop during the first batch of every process: under a second")
        self._loader = MemoryLoader(self._decoder, num_workers=num_workers, batches_ahead=ahead)

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield the pixels of each plan, on the CPU, valid until the next are requested.

        `plans` is read in another thread, `ahead` + 1 beyond the batch that was yielded last.

        Raises:
            StoreError: a file was cut after the store was opened; the batches before it have been yielded.
            SpecError: a plan has more rows or another output size than the first, or leaves a picture.
        """
        remaining = iter(plans)
        first = next(remaining, None)
        if first is None:
            return
        self._decoder.output_size = first.output_size
        self._loader.batch_size = len(first.ids)
        epoch = PlanEpoch(self._loader, self._split, first, chain([first], remaining))
        self._epochs.add(epoch)
        try:
            yield from epoch
        finally:
            epoch.close()

    def close(self) -> None:
        """Stop the threads of every iterator that is still open."""
        for epoch in list(self._epochs):
            epoch.close()


class PlanEpoch(EpochIterator):  # type: ignore[misc]  # ffcv is untyped
    """FFCV's epoch thread, walking plans; what goes wrong in it is raised by `next`.

    Args:
        loader: FFCV's; its `batch_size` and its decoder's output size are those of `first`.
        split: what the plans refer to.
        first: sets the shape of the batches.
        plans: all of the epoch's, `first` included; read in the epoch's thread.
    """

    closed: bool  # FFCV's

    def __init__(self, loader: MemoryLoader, split: Split, first: BatchPlan, plans: Iterator[BatchPlan]) -> None:
        self._split = split
        self._shape = (len(first.ids), first.output_size)
        self._plans = plans
        super().__init__(loader, order=())  # starts the thread

    def run(self) -> None:
        """Decode ahead until the plans end, something fails, or `close` is called."""
        try:
            numba.set_num_threads(self.loader.num_workers)
            with ThreadPoolExecutor(1, thread_name_prefix="ffcv-verify") as verifier:
                for step, plan in enumerate(self._plans):
                    self._check_plan(plan)
                    self._split.check_unchanged(plan.ids)  # before anything reads: its checksums come beside decoding
                    verified = verifier.submit(self._split.damaged, plan.ids)
                    pixels, reasons = self._decode(step, plan)
                    if not self._offer(self._decoded(plan, pixels, reasons, verified.result())):
                        return
            self._offer(None)
        except BaseException as error:  # nobody is above this frame: the consumer raises it
            self._offer(error)

    def __next__(self) -> Decoded:
        """Return the next batch, or raise what making them raised."""
        while True:
            running = self.is_alive()
            try:
                item = self.output_queue.get(timeout=_POLL_S)
            except Empty:
                if running:
                    continue
                raise PipelineError("the ffcv backend was closed while its batches were read") from None
            if isinstance(item, Decoded):
                return item
            self.close()
            raise StopIteration if item is None else item

    def close(self) -> None:
        """Stop the thread and wait for its end; may be called twice."""
        if self.closed:
            return
        self.closed = True
        self.terminate_event.set()
        if self.ident is not None:  # FFCV's constructor got as far as starting it
            self.join()
        self.memory_context.__exit__(None, None, None)

    def _decode(self, step: int, plan: BatchPlan) -> tuple[NDArray[np.uint8], Mapping[int, str]]:
        """Return a batch's pixels, in FFCV's memory, and why rows of it failed."""
        slot, num_rows = step % len(self.cuda_streams), len(plan.ids)  # one slot more than queue and consumer hold
        (memory,) = self.memory_allocations["operation"].values()
        regions = planned_regions(self._split, plan, memory[slot][:num_rows])
        self.metadata = {self.loader.FIELD: regions.address}
        (pixels,) = self.run_pipeline(step, np.arange(num_rows), slot, None)
        return pixels, regions.failures()

    def _check_plan(self, plan: BatchPlan) -> None:
        """Refuse what does not fit FFCV's memory, which has the shape of the epoch's first plan, or its pictures."""
        num_rows, output_size = self._shape
        if len(plan.ids) > num_rows or plan.output_size != output_size:
            raise SpecError(
                f"batch {plan.step} of epoch {plan.epoch} has {len(plan.ids)} rows of {plan.output_size} pixels, the "
                f"first had {num_rows} of {output_size}: give batches of another shape to another call of `pixels`"
            )
        check_geometry(plan, self._split)

    def _decoded(
        self,
        plan: BatchPlan,
        pixels: NDArray[np.uint8],
        reasons: Mapping[int, str],
        damaged: Mapping[int, DamagedSampleError],
    ) -> Decoded:
        failed = failed_rows(self._split, plan, reasons, damaged)
        pixels[list(failed)] = 0
        return Decoded(torch.from_numpy(pixels), failed)

    def _offer(self, item: Decoded | BaseException | None) -> bool:
        """Hand `item` to the consumer; return False when there is none any more."""
        while not self.terminate_event.is_set():
            try:
                self.output_queue.put(item, timeout=_POLL_S)
            except Full:
                continue
            return True
        return False
