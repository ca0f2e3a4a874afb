"""The reference backend: torchvision's JPEG decoder and torch's antialiased resampling, in worker threads.

Samples stored as raw pixels are resampled straight from the store.

Needs nothing besides torch and torchvision, and runs wherever they run. Both the decoder and the resampling release
the interpreter lock, so threads scale as processes would, without copies between processes.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch.nn import functional
from torchvision.io import ImageReadMode, decode_jpeg

from datasets_tools.errors import DamagedSampleError
from datasets_tools.store import Split
from datasets_tools.store.index import StoredFormat
from pipelines.backends.geometry import check_geometry
from pipelines.backends.raw import raw_picture
from pipelines.batch import BatchPlan, Decoded, Interpolation
from pipelines.errors import BadPictureError, PipelineError

# Enough rows to make a job's bookkeeping (about 30 us) vanish, few enough to spread over threads and to stop quickly.
ROWS_PER_JOB = 8

# Farther than this from a whole pixel is a mistake in the plan, not a rounding of its float64 arithmetic.
WHOLE_PIXEL_TOLERANCE = 1e-6


class TorchBackend:
    """Decode, crop and resize on the CPU with torchvision and torch.

    Args:
        split: the stored samples that plans refer to by id.
        device: not used: the pixels stay on the host, for whoever consumes them to move.
        num_threads: worker threads, at least 1. Each runs torch single-threaded; other threads keep their setting.
        ahead: batches worked on while the consumer has one.

    Source: the pixels are those of torchvision's `decode_jpeg` and `resized_crop(antialias=True)`.
    """

    name = "torch"

    def __init__(self, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2) -> None:
        self._split = split
        self._num_threads = num_threads
        self._ahead = ahead
        self._streams: weakref.WeakSet[Generator[Decoded]] = weakref.WeakSet()

    def pixels(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        """Yield the pixels of each plan; every tensor is fresh memory.

        Raises:
            SpecError: a plan leaves its pictures.
            PipelineError: a box does not start at a whole pixel of the output.
            StoreError: a file was cut after the store was opened.
        """
        stream = self._stream(plans)
        self._streams.add(stream)
        return stream

    def close(self) -> None:
        """Stop the threads of every iterator that is still open."""
        for stream in list(self._streams):
            stream.close()

    def _stream(self, plans: Iterable[BatchPlan]) -> Generator[Decoded]:
        pool = _single_threaded_workers(self._num_threads)
        pending: deque[_PendingBatch] = deque()
        try:
            for plan in plans:
                pending.append(self._submit(pool, plan))
                if len(pending) > self._ahead:
                    yield pending.popleft().wait()
            while pending:
                yield pending.popleft().wait()
        finally:
            pool.shutdown(cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, plan: BatchPlan) -> _PendingBatch:
        check_geometry(plan, self._split)
        num_rows = len(plan.ids)
        images = torch.empty((num_rows, *plan.output_size, 3), dtype=torch.uint8)
        rows_per_job = max(1, min(ROWS_PER_JOB, num_rows // self._num_threads))
        jobs = [
            pool.submit(self._fill, images, plan, range(start, min(start + rows_per_job, num_rows)))
            for start in range(0, num_rows, rows_per_job)
        ]
        return _PendingBatch(images, jobs)

    def _fill(self, images: torch.Tensor, plan: BatchPlan, rows: range) -> dict[int, Exception]:
        """Write the pixels of `rows` to `images`, and return why rows have none."""
        failed: dict[int, Exception] = {}
        for row in rows:
            try:
                images[row] = self._row(plan, row)
            except (BadPictureError, DamagedSampleError) as error:
                images[row] = 0
                failed[row] = error
        return failed

    def _row(self, plan: BatchPlan, row: int) -> torch.Tensor:
        window = plan.windows[row].tolist()
        region = read_window(self._split, int(plan.ids[row]), window)
        return _resample(region, window, plan.boxes[row].tolist(), plan.output_size, plan.interpolation)


@dataclass(frozen=True, slots=True)
class _PendingBatch:
    images: torch.Tensor
    jobs: list[Future[dict[int, Exception]]]

    def wait(self) -> Decoded:
        failed = {row: error for job in self.jobs for row, error in job.result().items()}
        return Decoded(self.images, failed)


def read_window(split: Split, sample_id: int, window: list[int]) -> torch.Tensor:
    """Return a rectangle of a stored picture, JPEG or raw.

    Args:
        split: the split that has it.
        sample_id: its id there.
        window: top, left, height and width in pixels, inside the picture.

    Returns:
        uint8 (3, height, width), a channels-last view.

    Raises:
        BadPictureError: its bytes cannot be decoded, or are not a picture of the size that the store says.
        DamagedSampleError: its bytes fail their checksum.
    """
    top, left, height, width = window
    if split.formats[sample_id] == StoredFormat.RAW:
        # A copy, because torch has no read-only tensors; and the dense one that its resampling wants.
        region = raw_picture(split, sample_id)[top : top + height, left : left + width].copy()
        return torch.from_numpy(region).permute(2, 0, 1)
    return decode_picture(split, sample_id)[:, top : top + height, left : left + width]


def decode_picture(split: Split, sample_id: int) -> torch.Tensor:
    """Decode one JPEG as it is stored: RGB, grey replicated, EXIF orientation ignored.

    Args:
        split: the split that has it.
        sample_id: its id there.

    Returns:
        uint8 (3, height, width), a channels-last view.

    Raises:
        BadPictureError: its bytes cannot be decoded, or not to the size that the store says.
        DamagedSampleError: its bytes fail their checksum.
    """
    encoded = torch.from_numpy(split.encoded(sample_id).copy())  # a copy, because torch has no read-only tensors
    try:
        picture: torch.Tensor = decode_jpeg(encoded, mode=ImageReadMode.RGB)
    except RuntimeError as error:
        raise BadPictureError(sample_id, split.key(sample_id), _decoder_message(error)) from error
    found, expected = picture.shape[1:], (split.heights[sample_id], split.widths[sample_id])
    if found != expected:
        reason = f"it is {found[0]} pixels high and {found[1]} wide, the store says {expected[0]} and {expected[1]}"
        raise BadPictureError(sample_id, split.key(sample_id), reason)
    return picture


def _decoder_message(error: RuntimeError) -> str:
    """Return what the decoder said, without the place in torchvision's sources that stands before it."""
    return re.sub(r"^\w+, \S+:\d+, ", "", str(error).splitlines()[0])


def _resample(
    region: torch.Tensor,
    window: list[int],
    box: list[float],
    output_size: tuple[int, int],
    interpolation: Interpolation,
) -> torch.Tensor:
    """Resize the window's pixels so that the box gets the output's size, then cut the box out; returns (H, W, 3)."""
    (resized_height, first_row), (resized_width, first_column) = (
        _scaled_axis(window[axis], window[axis + 2], box[axis], box[axis + 2], output_size[axis]) for axis in (0, 1)
    )
    # torch's fast uint8 path wants a dense channels-last input: 1.6 times as fast with this copy as without.
    resized = functional.interpolate(
        region.unsqueeze(0).contiguous(memory_format=torch.channels_last),
        (resized_height, resized_width),
        mode=interpolation,
        antialias=True,
    )
    rows = slice(first_row, first_row + output_size[0])
    columns = slice(first_column, first_column + output_size[1])
    return resized[0, :, rows, columns].permute(1, 2, 0)


def _scaled_axis(
    window_start: int, window_extent: int, box_start: float, box_extent: float, output: int
) -> tuple[int, int]:
    """Return the window's length in output pixels, and the output pixel of it at which the box starts."""
    scale = output / box_extent
    length, start = window_extent * scale, (box_start - window_start) * scale
    if max(abs(length - round(length)), abs(start - round(start))) > WHOLE_PIXEL_TOLERANCE * output:
        raise PipelineError(
            f"a box of {box_extent} from {box_start} in a window of {window_extent} from {window_start} makes {output} "
            f"output pixels: the whole window then has {length}, and the box starts at {start}; the torch backend "
            "needs both to be whole numbers. Take the turbo or the dali backend for such a plan"
        )
    return round(length), round(start)


def _single_threaded_workers(num_threads: int) -> ThreadPoolExecutor:
    """Start worker threads in which torch runs single-threaded, and leave every other thread's setting alone.

    `torch.set_num_threads` sets the count of the calling thread, and also the one that every thread takes over when it
    first asks torch for its count. So all workers set theirs, ask, and wait for one another; then the caller sets its
    own again, and with it what later threads take over.
    """
    num_callers_threads = torch.get_num_threads()
    all_set = threading.Barrier(num_threads + 1)

    def run_single_threaded() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()
        all_set.wait()

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode", initializer=run_single_threaded)
    try:
        for _ in range(num_threads):
            pool.submit(int)  # a pool starts a thread per submission while none is idle, and all wait for the last
        all_set.wait()
    except BaseException:
        all_set.abort()
        raise
    finally:
        torch.set_num_threads(num_callers_threads)
    return pool
