"""The digest that says whether a store's file is what was written: SHA-256, of large files in parts.

A file of at most `PART_BYTES` has its plain SHA-256. A larger one has the SHA-256 of its parts' SHA-256, a hyphen, and
how many parts there are, as S3 writes its composite checksums: parts are hashed side by side, and while the file grows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

PART_BYTES = 64 << 20
PATTERN = r"^[0-9a-f]{64}(-[1-9][0-9]*)?$"
# Each hashes about a gigabyte a second, more than most disks write.
_THREADS = 4
_READ_BYTES = 1 << 20


class Digest:
    """The digest of bytes that come in order.

    Args:
        data: the first of them.
    """

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self._whole_parts: list[bytes] = []
        self._part = hashlib.sha256()
        self._room = PART_BYTES
        self.update(data)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        rest = memoryview(data)
        while rest:
            if not self._room:
                self._whole_parts.append(self._part.digest())
                self._part, self._room = hashlib.sha256(), PART_BYTES
            piece = rest[: self._room]
            self._part.update(piece)
            self._room -= len(piece)
            rest = rest[len(piece) :]

    def text(self) -> str:
        """Return the digest of all bytes so far."""
        return _text([*self._whole_parts, self._part.digest()])


class FileDigest:
    """Hash a file's parts in threads of its own, beside whoever still writes it. A context manager.

    Args:
        path: the file; it exists.
        num_open: its first bytes, which may still change until `text` is called.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, num_open: int = 0) -> None:
        self._file = path.open("rb", buffering=0)
        self._pool = ThreadPoolExecutor(_THREADS, "hash")
        self._parts: dict[int, Future[bytes]] = {}
        self._first = -(-num_open // PART_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; may be called twice."""
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def advance(self, end: int) -> None:
        """Note that every byte before `end`, but for the open ones, is written and final."""
        self._hash(range(self._first, end // PART_BYTES))

    def text(self) -> str:
        """Return the digest of the whole file, which is final now.

        Raises:
            OSError: it cannot be read.
        """
        num_parts = max(1, -(-os.fstat(self._file.fileno()).st_size // PART_BYTES))
        self._hash(range(num_parts))
        return _text([self._parts[number].result() for number in range(num_parts)])

    def _hash(self, numbers: range) -> None:
        for number in numbers:
            if number not in self._parts:
                self._parts[number] = self._pool.submit(self._hashed, number)

    def _hashed(self, number: int) -> bytes:
        part = hashlib.sha256()
        position, end = number * PART_BYTES, (number + 1) * PART_BYTES
        buffer = memoryview(bytearray(_READ_BYTES))
        while position < end and (size := os.preadv(self._file.fileno(), [buffer[: end - position]], position)):
            part.update(buffer[:size])
            position += size
        return part.digest()


def _text(parts: Sequence[bytes]) -> str:
    if len(parts) == 1:
        return parts[0].hex()
    return f"{hashlib.sha256(b''.join(parts)).hexdigest()}-{len(parts)}"
