"""Read a `.beton` file once, from its first byte to its last: for its SHA-256 and for every sample in it.

It reads, where `Split` maps: a disk error or a file that is cut meanwhile is an `OSError` here, not a killed process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets_tools.digest import Digest

# Large enough that a read costs little beside its bytes, small enough that a few of them in flight are nothing.
PIECE_BYTES = 8 << 20

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive bytes of the file.

    Attributes:
        data: the bytes.
        ids: of the samples that lie in it.
        starts: where each begins in `data`.
        sizes: of each; the whole sample lies in `data`.
    """

    data: bytes
    ids: list[int]
    starts: list[int]
    sizes: list[int]

    def samples(self) -> Iterator[tuple[int, memoryview]]:
        """Yield each sample's id and bytes."""
        view = memoryview(self.data)
        for sample_id, start, size in zip(self.ids, self.starts, self.sizes, strict=True):
            yield sample_id, view[start : start + size]


class Sweep:
    """Iterate once over the pieces of a file; then `sha256` is that of all of it.

    Args:
        path: the file.
        records: `index.RECORD` (N,), which say where samples lie.
        ids: the samples to read, int64 (n,); each must lie inside the file.

    Raises:
        OSError: the file cannot be read, or ends before a sample does.
    """

    def __init__(self, path: Path, records: NDArray[Any], ids: NDArray[np.int64]) -> None:
        in_file_order = ids[np.argsort(records["offset"][ids], kind="stable")]
        self._path = path
        self._ids = in_file_order.tolist()
        self._starts = records["offset"][in_file_order].tolist()
        self._sizes = records["size"][in_file_order].tolist()
        self._digest = Digest()
        self._position = 0  # everything before it is hashed

    @property
    def num_bytes(self) -> int:
        """How far the file was read, in bytes."""
        return self._position

    @property
    def sha256(self) -> str:
        """The digest of what was read so far, as `datasets_tools.digest` writes it."""
        return self._digest.text()

    def __iter__(self) -> Iterator[Piece]:
        with self._path.open("rb", buffering=0) as file:  # pieces are large, and each is read once
            first = 0
            while first < len(self._ids):
                last, stop = self._group(first)
                yield from self._gap(file, self._starts[first])
                start = self._starts[first]
                data = self._read(file, start, stop)
                yield Piece(
                    data,
                    self._ids[first:last],
                    [begin - start for begin in self._starts[first:last]],
                    self._sizes[first:last],
                )
                first = last
            yield from self._gap(file, None)

    def _group(self, first: int) -> tuple[int, int]:
        """Return the number after the last sample, and the end, of the piece that begins with a sample.

        It ends before the sample that would make it longer than `PIECE_BYTES`, and holds one at least.
        """
        start = self._starts[first]
        last, stop = first + 1, start + self._sizes[first]
        while last < len(self._ids):
            end = max(stop, self._starts[last] + self._sizes[last])
            if end - start > PIECE_BYTES:
                break
            last, stop = last + 1, end
        return last, stop

    def _gap(self, file: FileIO, stop: int | None) -> Iterator[Piece]:
        """Read to `stop`, or to the file's end, what belongs to no sample."""
        while stop is None or self._position < stop:
            size = PIECE_BYTES if stop is None else min(PIECE_BYTES, stop - self._position)
            file.seek(self._position)
            data = file.read(size)
            if not data:
                return
            self._note(self._position, data)
            yield Piece(data, [], [], [])

    def _read(self, file: FileIO, start: int, stop: int) -> bytes:
        file.seek(start)
        parts = []
        remaining = stop - start
        while remaining and (data := file.read(remaining)):  # one read returns 2 GiB at most
            parts.append(data)
            remaining -= len(data)
        if remaining:
            raise OSError(f"ends at {stop - remaining:,}, inside a sample")
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._note(start, data)
        return data

    def _note(self, start: int, data: bytes) -> None:
        """Hash what was not hashed yet; samples of a damaged index may overlap."""
        self._digest.update(memoryview(data)[max(0, self._position - start) :])
        self._position = max(self._position, start + len(data))


def map_pieces(pieces: Iterable[Piece], work: Callable[[Piece], Result], num_threads: int) -> Iterator[Result]:
    """Yield the results of `work` on each piece, in order, while the next pieces are read.

    Args:
        pieces: of a sweep.
        work: what to do; it should release the interpreter's lock.
        num_threads: that work; as many pieces again wait for them, and no more.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) > 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
