"""FFCV's own `Loader`, made harmless to other compiled code in the process: it is compared with ours in one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from pipelines.backends.ffcv_import import Compiler  # before ffcv itself: it imports that without side effects

from ffcv.loader import Loader, OrderOption  # isort: skip
from ffcv.loader import loader as _loader_module  # isort: skip
from ffcv.memory_managers.os_cache import OSCacheManager  # isort: skip


class ReadOnlyFile(OSCacheManager):  # type: ignore[misc]  # ffcv is untyped
    """FFCV's memory-mapped file, with types of its own.

    FFCV's `state_type` says that the file is read-only by assigning to numba's one shared type of uint8 arrays. That
    changes the type's hash under every function that was compiled for such arrays, anywhere in the process: the next
    look at their signatures is a KeyError.
    """

    @property
    def state_type(self) -> Any:
        """Return numba's type of the file and of the sorted addresses and sizes of its samples."""
        table = types.Array(types.uint64, 1, "C")
        return types.Tuple([types.Array(types.uint8, 1, "C", readonly=True), table, table])

    def compile_reader(self) -> Any:
        """Return the compiled function from a sample's address to its bytes."""

        def read(address, state):  # type: ignore[no-untyped-def]  # numba infers
            file, addresses, sizes = state
            return file[address : address + sizes[np.searchsorted(addresses, address)]]

        return Compiler.compile(read)


# `Loader` has no argument for it.
_loader_module.OSCacheManager = ReadOnlyFile

__all__ = ["Loader", "OrderOption"]
