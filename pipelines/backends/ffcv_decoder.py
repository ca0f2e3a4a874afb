"""The FFCV operation that executes a plan's geometry: FFCV's threads call fastbot's C codec, compiled code to C.

FFCV's own decoders choose crops themselves, decode whole pictures, and ignore the JPEG decoder's return code, so that
a damaged picture shows what the slot held before. This one does none of that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from datasets_tools import jpeg
from pipelines.backends.ffcv_import import AllocationQuery, Compiler, Operation


class PlannedDecoder(Operation):  # type: ignore[misc]  # ffcv is untyped
    """Have FFCV's threads work on the `RegionBatch` whose address is the metadata, and whose output is the memory.

    Yields that memory: pixels, uint8 (n, H, W, 3). Which rows failed, the `RegionBatch` says.

    Args:
        num_workers: threads that share a batch.

    Attributes:
        output_size: H and W; FFCV asks when it allocates an epoch's buffers.
    """

    def __init__(self, num_workers: int) -> None:
        super().__init__()
        self.output_size = (1, 1)
        self._num_workers = num_workers

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, AllocationQuery]:
        """Return the memory of one row; FFCV multiplies it by rows and slots."""
        shape, dtype = (*self.output_size, 3), np.dtype("u1")
        return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), AllocationQuery(shape, dtype)

    def generate_code(self) -> Callable[..., Any]:
        """Return the function that FFCV compiles and calls once a batch."""
        work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(jpeg.work_address())
        workers = Compiler.get_iterator()  # prange, or range for one thread
        num_workers = self._num_workers

        def decode(batch_indices, pixels, batch, file):  # type: ignore[no-untyped-def]  # numba infers
            for _ in workers(num_workers):
                work(batch)
            return pixels

        decode.is_parallel = True  # type: ignore[attr-defined]  # FFCV's flag; one thread compiles serially
        return decode
