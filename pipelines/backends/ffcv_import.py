"""FFCV's classes, without what importing and using them does to the rest of the process, and a loader without files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import ClassVar

import numba
import numba.typed
import torch


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
    from ffcv.fields import RGBImageField
    from ffcv.loader.epoch_iterator import EpochIterator
    from ffcv.pipeline.allocation_query import AllocationQuery
    from ffcv.pipeline.compiler import Compiler
    from ffcv.pipeline.graph import Graph
    from ffcv.pipeline.operation import Operation
    from ffcv.pipeline.pipeline_spec import PipelineSpec


class MemoryLoader:
    """What an `EpochIterator` needs of a `Loader`: one field's compiled decoder, which knows by itself what to read.

    FFCV's own opens one file, reads the tables of all its samples and lists the pages of each, 600 MiB for ImageNet,
    draws from numpy's global generator, and sets the process's thread counts.

    Args:
        decoder: gets `metadata[FIELD]` of the iterator as its metadata, and None as its storage state.
        num_workers: threads that the decoder is compiled for.
        batches_ahead: decoded and not yet taken.

    Attributes:
        batch_size: rows that the buffers of the next epoch are made for.
    """

    FIELD: ClassVar[str] = "f0"

    def __init__(self, decoder: Operation, *, num_workers: int, batches_ahead: int) -> None:
        self.batch_size = 1
        self.num_workers = num_workers
        self.batches_ahead = batches_ahead
        self.reader = SimpleNamespace(metadata={self.FIELD: None})  # each batch has its own
        self.memory_manager = _Memory()
        spec, handler = PipelineSpec("image", decoder=decoder), RGBImageField()
        self.graph = Graph({"image": spec}, {"image": handler}, {"image": 0}, self.reader.metadata, memory_read=None)
        with thread_counts_kept():
            Compiler.set_num_threads(num_workers)
            _, code = self.graph.collect_requirements()
            self.code = self.graph.codegen_all(code)


class _Memory(nullcontext[None]):
    """FFCV's memory manager and its context at once: there is nothing to load."""

    state = None

    def schedule_epoch(self, batches: object) -> _Memory:
        """Return what an epoch reads from."""
        return self

    def start_batch(self, batch: int) -> None:
        """Load nothing."""


__all__ = [
    "AllocationQuery",
    "Compiler",
    "EpochIterator",
    "MemoryLoader",
    "Operation",
    "thread_counts_kept",
]
