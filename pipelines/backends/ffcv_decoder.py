"""The FFCV operation that executes a plan's geometry: one batch's samples and boxes in, pixels and statuses out.

FFCV's own decoders choose crops themselves, ignore the JPEG decoder's return code, so that a damaged picture shows
what the slot held before, and take scratch of batch x tallest x widest. This one does none of that.
"""

from __future__ import annotations

import ctypes
import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.backends.ffcv_import import AllocationQuery, Compiler, Operation, libffcv
from pipelines.resample import resample

# What the decoder says of a row; everything fails until it is decoded.
DECODED = 0
_FAILED = 1

# Raw bytes that are resampled while one byte of a JPEG is decoded and resampled. Measured at 500 x 375, quality 90:
# 0.45 and 15.6 ns a byte on one core.
RAW_BYTES_PER_JPEG_BYTE = np.uint64(32)


class PlanRows(NamedTuple):
    """One batch, in the columns the compiled decoder reads.

    Attributes:
        addresses, sizes: uint64 (n,), where the sample's bytes lie in the split's `data`.
        raw: bool (n,), whether they are pixels; a JPEG otherwise.
        heights, widths: int32 (n,), of the whole picture.
        windows: int32 (n, 4), as in `BatchPlan`.
        boxes: float64 (n, 4), likewise.
        workers: int32 (n,), which thread decodes the row.
        cubic: resample bicubic; otherwise bilinear.
    """

    addresses: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    raw: NDArray[np.bool_]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    windows: NDArray[np.int32]
    boxes: NDArray[np.float64]
    workers: NDArray[np.int32]
    cubic: bool


def decoding_costs(sizes: NDArray[np.uint64], raw: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return what rows cost a worker, in bytes of JPEG; `sizes` and `raw` as in `PlanRows`."""
    return np.where(raw, sizes // RAW_BYTES_PER_JPEG_BYTE, sizes)


def share_out(costs: NDArray[np.uint64], num_workers: int) -> NDArray[np.int32]:
    """Return a worker, int32 in [0, num_workers), for each cost: largest first, each to who has least so far."""
    workers = np.empty(len(costs), np.int32)
    loads = [(0, worker) for worker in range(num_workers)]
    for row in np.argsort(costs)[::-1].tolist():
        load, worker = loads[0]
        workers[row] = worker
        heapq.heapreplace(loads, (load + int(costs[row]), worker))
    return workers


@njit(cache=True, nogil=True)
def jpeg_size(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width as the frame header of a JPEG, uint8 (size,), says; (0, 0) where it has none."""
    at = 2
    while at + 9 <= data.size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:  # SOFn
            return int(data[at + 5]) * 256 + int(data[at + 6]), int(data[at + 7]) * 256 + int(data[at + 8])
        else:
            at += 2 + int(data[at + 2]) * 256 + int(data[at + 3])
    return 0, 0


def complaint(data: NDArray[np.uint8], height: int, width: int) -> str:
    """Return why the decoder refuses a JPEG that the store says is `height` x `width`."""
    found = jpeg_size(data)
    if found != (height, width):
        return f"its JPEG header says {found[0]} x {found[1]} pixels, the store says {height} x {width}"
    libffcv.imdecode(data, np.empty(height * width * 3, np.uint8), height, width, height, width)
    last_error = libffcv.lib.tjGetErrorStr  # of this thread, in the libjpeg-turbo that FFCV is linked to
    last_error.restype = ctypes.c_char_p
    return str(last_error().decode("ascii", "replace"))


class PlannedDecoder(Operation):  # type: ignore[misc]  # ffcv is untyped
    """Decode each row's JPEG and resample its box, with one scratch picture a thread; raw pixels are read in place.

    Yields pixels, uint8 (n, H, W, 3), and a status per row, uint8 (n,); a row is pixels only where it is `DECODED`.

    Args:
        num_workers: threads that share a batch.

    Attributes:
        output_size: H and W; FFCV asks when it allocates an epoch's buffers.
    """

    def __init__(self, num_workers: int) -> None:
        super().__init__()
        self.output_size = (1, 1)
        self._num_workers = num_workers

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, tuple[Any, Any]]:
        """Return the memory of one row; FFCV multiplies it by rows and slots."""
        shape, dtype = (*self.output_size, 3), np.dtype("u1")
        state = replace(previous_state, jit_mode=True, shape=shape, dtype=dtype)
        return state, (AllocationQuery(shape, dtype), AllocationQuery((), dtype))

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that FFCV compiles and calls once a batch."""
        imdecode = Compiler.compile(libffcv.imdecode)
        workers = Compiler.get_iterator()  # prange, or range for one thread
        num_workers = self._num_workers

        def decode(batch_indices, memory, rows, file):  # type: ignore[no-untyped-def]  # numba infers
            pixels, status = memory
            status[:] = _FAILED
            for worker in workers(num_workers):
                largest = 0
                for row in batch_indices:
                    if rows.workers[row] == worker and not rows.raw[row]:
                        largest = max(largest, 3 * rows.heights[row] * rows.widths[row])
                scratch = np.empty(largest, np.uint8)
                for row in batch_indices:
                    if rows.workers[row] != worker:
                        continue
                    height, width = rows.heights[row], rows.widths[row]
                    data = file[rows.addresses[row] : rows.addresses[row] + rows.sizes[row]]
                    if rows.raw[row]:
                        picture = data  # as large as height and width say: opening the split has checked it
                    else:
                        # The scratch is as large as the store says: what says otherwise must not be decoded into it.
                        if jpeg_size(data) != (height, width):
                            continue
                        if imdecode(data, scratch, height, width, height, width, 0, 0, 1, 1, False, False) != 0:
                            continue
                        picture = scratch
                    resample(picture, width, rows.windows[row], rows.boxes[row], pixels[row], rows.cubic)
                    status[row] = DECODED
            return pixels, status

        decode.is_parallel = True  # type: ignore[attr-defined]  # FFCV's flag; one thread compiles serially
        return decode
