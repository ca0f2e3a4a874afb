"""A compact table of pictures that lie in tar files, and the runs that read them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import PictureError
from datasets_tools.sources.base import KeyedRun, Names, cuts, too_large

Item = TypeVar("Item")
Result = TypeVar("Result")

# Pictures this close are read in one go: headers, padding, and small label files fit in between.
_SPAN_GAP = 8 << 10
# Bounds what a run holds in memory besides one picture.
_SPAN_LIMIT = 16 << 20
# Requests to an object store take dozens of milliseconds each, whatever they list.
_REMOTE_THREADS = 16


class TarEntries:
    """Pictures in tar files, listed in the order of their sample ids; about 40 bytes each besides the key.

    Attributes:
        keys: their names.
    """

    def __init__(self) -> None:
        self.keys = Names()
        self._labels = array("q")
        self._archives: list[str] = []
        self._archive_of = array("I")
        self._starts = array("Q")
        self._sizes = array("Q")

    def append(self, key: str, label: int, archive: str, start: int, size: int) -> None:
        """Add a picture at the end.

        Args:
            key: its name in the split.
            label: its class.
            archive: the tar file, a path or URL.
            start, size: its bytes in that file.
        """
        if not self._archives or self._archives[-1] != archive:
            self._archives.append(archive)
        self.keys.append(key)
        self._labels.append(label)
        self._archive_of.append(len(self._archives) - 1)
        self._starts.append(start)
        self._sizes.append(size)

    def relabel(self, labels: NDArray[np.int64]) -> None:
        """Replace each label by what stands at its place in `labels`, int64 (K,)."""
        self._labels = array("q", labels[self.labels].tobytes())

    def prefix_keys(self) -> None:
        """Begin every key with the name of its tar file: `shard-000/` for shard-000.tar."""
        stems = [archive.rpartition("/")[2].removesuffix(".tar") for archive in self._archives]
        places = zip(self._archive_of, range(len(self)), strict=True)
        self.keys = Names(f"{stems[archive]}/{self.keys[index]}" for archive, index in places)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes, int64 (N,)."""
        return np.array(self._labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        """Return a picture's name."""
        return self.keys[index]

    def runs(self, start: int, stop: int) -> Iterator[TarRun]:
        """Yield runs of pictures in one tar file each."""
        bounds = [start, *(k for k in range(start + 1, stop) if self._archive_of[k] != self._archive_of[k - 1]), stop]
        for begin, end in pairwise(bounds):
            for first, last in cuts(begin, end):
                yield TarRun(
                    files.absolute(self._archives[self._archive_of[first]]),  # a worker may be in another folder
                    tuple(self.keys[k] for k in range(first, last)),
                    tuple(self._starts[first:last]),
                    tuple(self._sizes[first:last]),
                )


@dataclass(frozen=True, slots=True)
class TarRun(KeyedRun):
    """Pictures of one tar file.

    Attributes:
        archive: the file, a path or URL.
        keys: names of the pictures.
        starts, sizes: their bytes in the file.
    """

    archive: str
    keys: tuple[str, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and bytes; neighbours in the file come in one read.

        Raises:
            OSError: the file cannot be read, or became shorter.
        """
        for first, last in self._spans():
            # What is too large is alone in its span.
            if (error := too_large(self.keys[first], self.sizes[first])) is not None:
                yield self.keys[first], error
                continue
            begin = self.starts[first]
            span = memoryview(files.read_range(self.archive, begin, self.starts[last] + self.sizes[last] - begin))
            for k in range(first, last + 1):
                offset = self.starts[k] - begin
                yield self.keys[k], bytes(span[offset : offset + self.sizes[k]])

    def _spans(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last picture of each group of neighbours."""
        first = 0
        for k in range(1, len(self)):
            gap = self.starts[k] - self.starts[k - 1] - self.sizes[k - 1]
            if not 0 <= gap <= _SPAN_GAP or self.starts[k] + self.sizes[k] - self.starts[first] > _SPAN_LIMIT:
                yield first, k - 1
                first = k
        yield first, len(self) - 1


def listed(location: str, listing: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `listing(item)` for each item in order; several at a time where they lie behind a network.

    Args:
        location: where the items are; local ones are listed one after another (Python's lock would serialize them).
        listing: what to do.
        items: to what.
    """
    if not files.is_remote(location):
        yield from map(listing, items)
        return
    with ThreadPoolExecutor(_REMOTE_THREADS) as pool:
        yield from pool.map(listing, items)
