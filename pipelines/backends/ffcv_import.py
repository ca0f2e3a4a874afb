"""FFCV's classes, without what importing and using them does to the rest of the process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numba.typed
import numpy as np
import torch
from numba import types


@contextmanager
def thread_counts_kept() -> Iterator[None]:
    """Put torch's and numba's thread counts back: FFCV sets both when imported and when a Loader is made."""
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)


@contextmanager
def _without_typed_dicts() -> Iterator[None]:
    """Let FFCV keep its table of two image modes in a plain dict: numba compiles for 4 s to fill one of its own.

    FFCV reads that table from Python only.
    """
    typed_dict = numba.typed.Dict
    numba.typed.Dict = dict
    try:
        yield
    finally:
        numba.typed.Dict = typed_dict


with thread_counts_kept(), _without_typed_dicts(), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports distutils
    from ffcv import libffcv
    from ffcv.loader import Loader, OrderOption
    from ffcv.loader import loader as _loader_module
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.memory_managers.os_cache import OSCacheContext, OSCacheManager
    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.pipeline_spec import PipelineSpec


class ReadOnlyFile(OSCacheManager):  # type: ignore[misc]  # ffcv is untyped
    """FFCV's memory-mapped file, with types of its own and without tables of pages.

    FFCV's `state_type` says that the file is read-only by assigning to numba's one shared type of uint8 arrays. That
    changes the type's hash under every function that was compiled for such arrays, anywhere in the process: the next
    look at their signatures is a KeyError. And its constructor lists the pages of each sample, which only FFCV's other
    memory manager reads: seconds and 600 MiB a process for ImageNet.
    """

    def __init__(self, reader: Any) -> None:
        order = np.argsort(reader.alloc_table["ptr"])
        self.reader = reader
        self.ptrs = reader.alloc_table["ptr"][order]
        self.sizes = reader.alloc_table["size"][order]
        self.context = OSCacheContext(self)

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


# Loader has no argument for it. Stock loaders in the same process get it too, or they would do the damage.
_loader_module.OSCacheManager = ReadOnlyFile

__all__ = [
    "AllocationQuery",
    "Compiler",
    "EpochIterator",
    "Loader",
    "Operation",
    "OrderOption",
    "PipelineSpec",
    "libffcv",
    "thread_counts_kept",
]
