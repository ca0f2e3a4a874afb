"""Reading pictures out of Parquet files with pyarrow, in bounded memory: columns recognised, row groups streamed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_tools import files
from datasets_tools.errors import SourceError

IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "image_bytes", "bytes")
LABEL_NAMES = ("label", "labels", "class", "target", "category", "cls", "label_id", "class_id", "y")
# Rows decoded at a time. Memory is one page and this; a page as pyarrow writes them holds up to 1,024 rows.
_BATCH_ROWS = 16
# Without a buffer, pyarrow reads a whole column chunk of a row group at once: gigabytes where the group is the file.
_BUFFER_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a table pictures and labels are.

    Attributes:
        image: the pictures' column.
        bytes_path: the leaf that holds the encoded pictures: `image`, or `image.bytes` of a struct.
        name_path: the leaf that holds their file names (`image.path`), or None.
        label: the labels' column.
        has_names: labels are strings; otherwise integers.
    """

    image: str
    bytes_path: str
    name_path: str | None
    label: str
    has_names: bool

    @classmethod
    def recognise(cls, schema: pa.Schema, image: str | None, label: str | None, where: str) -> Columns:
        """Find the columns of a table, by the names given, else by usual names, else by type.

        Raises:
            SourceError: there is no such column, or more than one.
        """
        images = [field.name for field in schema if _holds_pictures(field.type)]
        image = _choose(schema, images, image, IMAGE_NAMES, "pictures (binary, or a struct with bytes)", where)
        labels = [f.name for f in schema if f.name != image and (_is_text(f.type) or pa.types.is_integer(f.type))]
        label = _choose(schema, labels, label, LABEL_NAMES, "labels (integers or strings)", where)
        image_type = schema.field(image).type
        is_struct = pa.types.is_struct(image_type)
        has_path = is_struct and image_type.get_field_index("path") >= 0
        return cls(
            image=image,
            bytes_path=f"{image}.bytes" if is_struct else image,
            name_path=f"{image}.path" if has_path else None,
            label=label,
            has_names=_is_text(schema.field(label).type),
        )


def open_parquet(location: str) -> pq.ParquetFile:
    """Open a Parquet file by path or URL.

    Raises:
        OSError: it cannot be read, or is damaged.
    """
    with as_os_error(location):
        # pyarrow opens local paths itself: its reads carry their position, so that forked processes may share a file.
        source = files.open_binary(location) if files.is_remote(location) else location
        return pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def read_pictures(
    location: str, row_group: int, columns: Columns, first: int, count: int
) -> Iterator[pa.Buffer | None]:
    """Yield the encoded pictures of consecutive rows without copying them, None where one is null.

    A row group can only be read from its front. Each process keeps its place in the last one, so that runs that come in
    order read it once. With W workers that share its runs, each reads past the rows of the others: W times the bytes in
    all, mostly from the page cache, at about 1 GB/s a worker. A row group of 100 rows, as Hugging Face writes them, is
    four runs. Not for several threads at once.

    Args:
        location: path or URL of the file.
        row_group: its number in the file.
        columns: where the pictures are.
        first: the first row, counted from the row group's.
        count: how many rows.

    Raises:
        OSError: the file cannot be read, or is damaged.
    """
    with as_os_error(f"{location}: row group {row_group}"):
        cursor = _cursor(location, row_group, columns.bytes_path, os.getpid())
        for row in range(first, first + count):
            yield cursor.value(row)


@contextmanager
def as_os_error(where: str) -> Iterator[None]:
    """Turn pyarrow's errors, which are of many types, into an OSError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        # What failed half-way must not be gone on with.
        _cursor.cache_clear()
        _open_file.cache_clear()
        raise OSError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error


class _Cursor:
    """A place in a row group, moved forwards by reading."""

    def __init__(self, file: pq.ParquetFile, row_group: int, bytes_path: str) -> None:
        self._file, self._row_group, self._bytes_path = file, row_group, bytes_path
        self._start = 0
        self._batch = pa.array([], pa.binary())
        self._batches = self._from_front()

    def value(self, row: int) -> pa.Buffer | None:
        if row < self._start:
            self._start, self._batch, self._batches = 0, self._batch[:0], self._from_front()
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(f"has {self._start:,} rows; row {row:,} was expected. Is the file being replaced?")
            self._batch = _pictures(batch)
        return self._batch[row - self._start].as_buffer()

    def _from_front(self) -> Iterator[pa.RecordBatch]:
        return cast(
            Iterator[pa.RecordBatch],
            self._file.iter_batches(
                batch_size=_BATCH_ROWS, row_groups=[self._row_group], columns=[self._bytes_path], use_threads=False
            ),
        )


def _pictures(batch: pa.RecordBatch) -> pa.Array:
    """Return the binary column of a batch; a struct that is null counts as null bytes."""
    column = batch.column(0)
    return column.flatten()[0] if pa.types.is_struct(column.type) else column


# Two: a worker that is given a run of another split or file in between comes back to its place.
@lru_cache(maxsize=2)
def _cursor(location: str, row_group: int, bytes_path: str, process: int) -> _Cursor:
    return _Cursor(_open_file(location, process), row_group, bytes_path)


@lru_cache(maxsize=2)
def _open_file(location: str, process: int) -> pq.ParquetFile:
    # By process: connections must not be shared with a parent that was forked.
    return open_parquet(location)


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_pictures(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _choose(
    schema: pa.Schema, fitting: Sequence[str], asked: str | None, usual: Sequence[str], what: str, where: str
) -> str:
    """Return the column that was asked for, or the one of a usual name, or the only one of a fitting type."""
    named = [name for name in usual if name in fitting]
    chosen = [asked] if asked is not None else named[:1] or list(fitting)
    if len(chosen) == 1 and chosen[0] in fitting:
        return chosen[0]
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if asked is None:
        problem = f"{len(fitting)} columns may hold {what}"
    elif asked in schema.names:
        problem = f"column {asked} does not hold {what}"
    else:
        problem = f"there is no column {asked}"
    raise SourceError(
        f"{where}: {problem}; the columns are {columns}. Name the right one (--image-column, --label-column)."
    )
