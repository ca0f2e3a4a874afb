"""`BetonWriter`: one ordered appender of samples to a `.beton` file. It decides where bytes lie, never what they are.

The file is written in one pass, although the largest sample, which decides the page size, is known only at its end:
a layout that never crosses a boundary of pages of size P never crosses one of size 2P either. So the writer starts
with the smallest page, doubles it when a larger sample arrives, and puts the last size into the header. The layout
follows from the samples' sizes alone.

Rows of metadata are reserved for as many samples as were announced. When fewer come (pictures were skipped), the
table is shorter and zeros fill the gap before the first page: addresses in the file are absolute.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from datasets_tools import beton
from datasets_tools.errors import ConversionError


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
        path: the file to create.
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
        self._file: BinaryIO = path.open("xb")
        self._file.seek(self._position)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def num_samples(self) -> int:
        """How many samples were appended."""
        return self._num_samples

    def append(self, data: bytes, *, height: int, width: int, label: int) -> None:
        """Append one sample; its id is the number of samples before it.

        Args:
            data: the encoded JPEG, at least one byte.
            height: in pixels, as the JPEG header says, at most 65,535.
            width: likewise.
            label: the class.

        Raises:
            ConversionError: the sample is larger than the format allows.
            OSError: the file cannot be written.
        """
        if len(data) > beton.MAX_PAGE_SIZE:
            raise ConversionError(
                f"{self._path.name}: sample {self._num_samples} has {len(data):,} bytes; the format allows "
                f"{beton.MAX_PAGE_SIZE:,}. Shrink the picture with --max-side."
            )
        start = self._place(len(data))
        self._file.write(data)
        self._position = start + len(data)
        self._rows[self._num_samples] = ((beton.JPEG_MODE, width, height, start), label)
        self._allocations[self._num_samples] = (self._num_samples, start, len(data))
        self._num_samples += 1

    def finish(self) -> int:
        """Write the tables and the header, and make the file durable.

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
        os.fsync(self._file.fileno())
        return zlib.crc32(allocations, zlib.crc32(rows, zlib.crc32(head)))

    def _place(self, num_bytes: int) -> int:
        """Return where a sample goes: right after the last one, or at the next page where it would cross a boundary."""
        self._page_size = max(self._page_size, beton.page_size_for(num_bytes))
        next_page = beton.align_up(self._position, self._page_size)
        if self._position + num_bytes <= next_page:
            return self._position
        self._file.seek(next_page)
        return next_page
