"""`BetonWriter`: one ordered appender of samples to a `.beton` file. It decides where bytes lie, never what they are.

The file is written in one pass, although the largest sample, which decides the page size, is known only at its end:
a layout that never crosses a boundary of pages of size P never crosses one of size 2P either. So the writer starts
with the smallest page, doubles it when a larger sample arrives, and puts the last size into the header. The layout
follows from the samples' sizes alone.

Rows of metadata are reserved for as many samples as were announced. When fewer come (pictures were skipped), the
table is shorter and zeros fill the gap before the first page: addresses in the file are absolute.

A writer that was interrupted goes on: `replay` is told of the samples that are in the file already, which is all it
takes to know the layout, and `cut` drops what lies after them.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from datasets_tools.errors import ConversionError
from datasets_tools.store import beton


def _header(num_samples: int, page_size: int, allocation_start: int) -> bytes:
    header = np.zeros((), dtype=beton.HEADER)
    header["version"] = beton.VERSION
    header["num_fields"] = 2
    header["page_size"] = page_size
    header["num_samples"] = num_samples
    header["alloc_table_ptr"] = allocation_start
    return header.tobytes()


class BetonWriter:
    """Write samples, in the order of their ids, to a new `.beton` file.

    Use as a context manager and call `finish` once; without it the file stays unreadable.

    Args:
        path: the file to create, or to go on with.
        capacity: the largest number of samples that will be appended.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self._path = path
        self._rows = np.zeros(capacity, dtype=beton.METADATA_ROW)
        self._allocations = np.zeros(capacity, dtype=beton.ALLOCATION)
        self._num_samples = 0
        self._page_size = beton.MIN_PAGE_SIZE
        self._position = beton.align_up(beton.metadata_end(capacity), self._page_size)
        self._file_position = -1  # nowhere yet: the first sample seeks
        # By descriptor: "wb" alone would empty a file that is to be gone on with.
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, finished or not; may be called twice."""
        self._file.close()

    @property
    def num_samples(self) -> int:
        """How many samples were appended."""
        return self._num_samples

    @property
    def position(self) -> int:
        """Where the last sample ends in the file."""
        return self._position

    def append(self, data: bytes | memoryview, *, height: int, width: int, label: int, raw: bool = False) -> int:
        """Append one sample; its id is the number of samples before it.

        Args:
            data: the encoded JPEG, or raw RGB pixels; at least one byte.
            height: in pixels, as the JPEG header says, at most 65,535.
            width: likewise.
            label: the class.
            raw: `data` are height x width x 3 pixels.

        Returns:
            Where its bytes begin in the file.

        Raises:
            ConversionError: the sample is larger than the format allows.
            OSError: the file cannot be written.
        """
        start = self.replay(len(data), height=height, width=width, label=label, raw=raw)
        if start != self._file_position:
            self._file.seek(start)
        self._file.write(data)
        self._file_position = self._position
        return start

    def replay(self, size: int, *, height: int, width: int, label: int, raw: bool = False) -> int:
        """Take note of a sample whose bytes are in the file; arguments, result and errors as `append`."""
        if size > beton.MAX_PAGE_SIZE:
            raise ConversionError(
                f"{self._path.name}: sample {self._num_samples} has {size:,} bytes; the format allows "
                f"{beton.MAX_PAGE_SIZE:,}. Shrink the picture with --max-side."
            )
        self._page_size = max(self._page_size, beton.page_size_for(size))
        next_page = beton.align_up(self._position, self._page_size)
        start = self._position if self._position + size <= next_page else next_page
        mode = beton.RAW_MODE if raw else beton.JPEG_MODE
        self._rows[self._num_samples] = ((mode, width, height, start), label)
        self._allocations[self._num_samples] = (self._num_samples, start, size)
        self._position = start + size
        self._num_samples += 1
        return start

    def cut(self) -> None:
        """Drop everything in the file from here on: what an interrupted run wrote after the last replayed sample.

        Raises:
            ConversionError: the file does not hold the replayed samples.
            OSError: the file cannot be written.
        """
        size = os.fstat(self._file.fileno()).st_size
        if not self._num_samples:
            self._file.truncate(0)
            return
        if size < self._position:
            raise ConversionError(
                f"{self._path}: has {size:,} bytes, fewer than the {self._position:,} that an interrupted conversion "
                f"had written. Remove {self._path.parent} and start again."
            )
        self._file.truncate(self._position)
        # An earlier `finish` may have left rows here; where fewer samples come now, nothing would cover them.
        os.pwrite(self._file.fileno(), bytes(beton.metadata_end(len(self._rows))), 0)

    def flush(self) -> None:
        """Hand what was appended to the operating system.

        Raises:
            OSError: the file cannot be written.
        """
        self._file.flush()

    def sync(self) -> None:
        """Make what was flushed durable. May be called from another thread.

        Raises:
            OSError: the file cannot be written.
        """
        os.fsync(self._file.fileno())

    def finish(self) -> int:
        """Write the tables and the header; `sync` makes the file durable.

        Returns:
            The crc32 of everything but the samples' bytes: header, descriptors, metadata rows, allocation table.

        Raises:
            OSError: the file cannot be written.
        """
        allocation_start = beton.align_up(self._position, self._page_size)
        head = _header(self._num_samples, self._page_size, allocation_start) + beton.field_descriptors()
        rows = self._rows[: self._num_samples].tobytes()
        allocations = self._allocations[: self._num_samples].tobytes()
        self._file.seek(allocation_start)
        self._file.write(allocations)
        self._file.seek(0)
        self._file.write(head + rows)
        self._file.flush()
        return zlib.crc32(allocations, zlib.crc32(rows, zlib.crc32(head)))
