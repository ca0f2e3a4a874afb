"""How fast a store's bytes come from the disk: in order, and picture by picture at random."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastbot.diagnosis import page_cache
from fastbot.diagnosis.clock import Clock
from fastbot.errors import RunError

# Larger than any readahead, and few enough that one of them is read within the budget even from a slow disk.
_PIECE_BYTES = 4 << 20
_PIECES_A_ROUND = 16

_PICTURES_A_ROUND = 256

# What is read leaves the page cache first, and its neighbours too: a training beside this keeps most of what it has.
_MOST_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive bytes of a file."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class ReadRate:
    """What reading came to.

    Attributes:
        bytes_per_s: read.
        cached: the share of the pages that was in the page cache before, 0 to 1; None where the kernel does not say.
    """

    bytes_per_s: float
    cached: float | None


def pieces_in_order(files: Sequence[Extent], random: np.random.Generator) -> Iterator[list[Extent]]:
    """Yield rounds of consecutive pieces, from a random place in the files on, for ever.

    Args:
        files: what to cut up.
        random: where to begin.
    """
    pieces = [
        Extent(file.path, file.offset + start, min(_PIECE_BYTES, file.size - start))
        for file in files
        for start in range(0, file.size, _PIECE_BYTES)
    ]
    place = int(random.integers(len(pieces)))
    while True:
        yield pieces[place : place + _PIECES_A_ROUND]
        place = place + _PIECES_A_ROUND if place + _PIECES_A_ROUND < len(pieces) else 0


def pictures_at_random(pictures: Sequence[Extent], random: np.random.Generator) -> Iterator[list[Extent]]:
    """Yield rounds of distinct pictures, for ever.

    Args:
        pictures: where each lies.
        random: which ones.
    """
    while True:
        chosen: NDArray[np.int64] = random.choice(len(pictures), min(len(pictures), _PICTURES_A_ROUND), replace=False)
        yield [pictures[k] for k in chosen.tolist()]


def read_rate(
    rounds: Iterator[Sequence[Extent]], num_threads: int, budget_s: float, clock: Clock = time.perf_counter
) -> ReadRate:
    """Read rounds of extents until the budget is spent, or 512 MiB are read; each leaves the page cache first.

    Leaving is not timed. An extent that has begun is finished, and a round may take as long as the budget once more.

    Args:
        rounds: endless.
        num_threads: that read at a time.
        budget_s: seconds.
        clock: returns seconds.

    Raises:
        RunError: a file ends before an extent of it.
    """
    deadline = clock() + budget_s
    num_bytes, seconds, counts = 0, 0.0, np.zeros(3, np.int64)
    with ThreadPoolExecutor(num_threads, "read") as pool:
        while not num_bytes or (num_bytes < _MOST_BYTES and clock() < deadline):
            extents = next(rounds)
            with ExitStack() as stack:
                files = _opened(extents, stack)
                counts += _evicted(extents, files)
                started = clock()
                num_bytes += _read(extents, files, pool, started + budget_s, clock)
                seconds += clock() - started
    resident, pages, untold = counts.tolist()
    return ReadRate(num_bytes / seconds, None if untold else resident / pages)


def page_in(extents: Sequence[Extent], num_threads: int, budget_s: float, clock: Clock = time.perf_counter) -> int:
    """Read extents into the page cache, in order, and return how many of them the budget was enough for."""
    deadline = clock() + budget_s
    num_read = 0
    with ThreadPoolExecutor(num_threads, "read") as pool:
        while num_read < len(extents) and (not num_read or clock() < deadline):
            part = extents[num_read : num_read + num_threads]
            with ExitStack() as stack:
                _read(part, _opened(part, stack), pool, float("inf"), clock)
            num_read += len(part)
    return num_read


def _opened(extents: Sequence[Extent], stack: ExitStack) -> dict[Path, int]:
    files: dict[Path, int] = {}
    for extent in extents:
        if extent.path not in files:
            files[extent.path] = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, files[extent.path])
        if (size := os.fstat(files[extent.path]).st_size) < extent.offset + extent.size:
            raise RunError(
                f"{extent.path}: was cut while it was read: it has {size:,} bytes, and a picture ends at "
                f"{extent.offset + extent.size:,}. Copy it again, or convert the store again"
            )
    return files


def _evicted(extents: Sequence[Extent], files: dict[Path, int]) -> tuple[int, int, int]:
    """Put extents out of the page cache; return the pages that stayed, all pages, and the files nobody tells of."""
    for extent in extents:
        page_cache.evict(files[extent.path], extent.offset, extent.size)
    untold = sum(not page_cache.is_told(file) for file in files.values())
    stayed = [page_cache.resident_pages(files[extent.path], extent.offset, extent.size) for extent in extents]
    return sum(resident for resident, _ in stayed), sum(pages for _, pages in stayed), untold


def _read(
    extents: Sequence[Extent], files: dict[Path, int], pool: ThreadPoolExecutor, deadline: float, clock: Clock
) -> int:
    """Read extents until the deadline, the first in any case, and return how many bytes that were."""
    largest = max(extent.size for extent in extents)
    local = threading.local()  # one buffer a thread: fresh memory would cost a page fault for each page read

    def read(extent: Extent) -> int:
        if clock() >= deadline and extent is not extents[0]:
            return 0
        if not hasattr(local, "buffer"):
            local.buffer = memoryview(bytearray(largest))
        return os.preadv(files[extent.path], [local.buffer[: extent.size]], extent.offset)

    return sum(pool.map(read, extents))
