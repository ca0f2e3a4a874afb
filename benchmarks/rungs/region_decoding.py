"""The codec of backend `turbo` without its resampling: what the backend would reach if fitting pixels were free."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.jpeg import RegionBatch
from datasets_tools.store import Split
from fastbot.errors import RunError
from pipelines.plan import TrainPlan

# By how much the codec lets libjpeg shrink a picture while it decodes, where the output is small enough.
_LARGEST_REDUCTION = 8

Arrays = tuple[NDArray[Any], ...]


class RegionDecoding:
    """Decodes the windows of whole epochs, and of each makes one pixel.

    The window says what is decoded, the box what becomes the output: the box of one pixel leaves nothing to resample.
    Everything that the backend does beside decoding is outside of the time: planning, checksums, memory for batches.

    Args:
        split: of JPEGs.
        plan: whose windows, one epoch after another.
        num_threads: threads, each of which makes one call.
        times: epochs a run.
    """

    def __init__(self, split: Split, plan: TrainPlan, num_threads: int, times: int = 1) -> None:
        self._split = split
        self._plan = plan
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="region-decoding")
        self._starts = count(step=times)
        self._times = times
        self._arrays: Arrays | None = None

    def prepare(self) -> None:
        """Plan the next epochs."""
        start = next(self._starts)
        epochs = range(start, start + self._times)
        plans = [self._plan.batch(epoch, step) for epoch in epochs for step in range(self._plan.steps_per_epoch)]
        ids = np.concatenate([plan.ids for plan in plans])
        windows = np.concatenate([plan.windows for plan in plans])
        boxes = np.concatenate([plan.boxes for plan in plans])
        self._arrays = (
            self._split.data,
            self._split.offsets[ids],
            self._split.sizes[ids],
            np.zeros(len(ids), np.bool_),
            self._split.heights[ids],
            self._split.widths[ids],
            windows,
            one_pixel(boxes, self._plan.output_size(start)),
            np.empty((len(ids), 1, 1, 3), np.uint8),
        )

    def run(self) -> int:
        """Decode what was prepared, each time anew, and return how many pictures that were.

        Raises:
            RunError: a picture cannot be decoded.
        """
        assert self._arrays is not None, "prepared"
        if num_failed := decode_regions(self._arrays, self._pool, self._num_threads):
            raise RunError(f"{self._split.path}: {num_failed} pictures cannot be decoded: measure a sound store")
        return len(self._arrays[-1])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def decode_regions(arrays: Arrays, pool: ThreadPoolExecutor, num_threads: int) -> int:
    """Decode a batch of regions, and return how many could not be.

    Args:
        arrays: the arguments of a `RegionBatch`; the last is written.
        pool: of at least so many threads.
        num_threads: each makes one call.
    """
    regions = RegionBatch(*arrays)
    for job in [pool.submit(regions.work) for _ in range(num_threads)]:
        job.result()
    return len(regions.failures())


def one_pixel(boxes: NDArray[np.float64], output_size: tuple[int, int]) -> NDArray[np.float64]:
    """Return boxes, at the same corners, that decode alike into one pixel as `boxes` do into `output_size`.

    Args:
        boxes: float64 (n, 4), top, left, height, width.
        output_size: height and width.

    Source: `denominator_for` in datasets_tools/jpeg/regions.c.
    """
    shrinks_by = (boxes[:, 2:] / output_size).min(axis=1).clip(1, _LARGEST_REDUCTION)
    sides = 2.0 ** np.floor(np.log2(shrinks_by))
    return np.concatenate([boxes[:, :2], sides[:, None], sides[:, None]], axis=1)
