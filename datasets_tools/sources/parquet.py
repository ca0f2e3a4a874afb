"""Parquet files as Hugging Face's hub has them: encoded pictures in one column, labels in another, many files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources import parquet_files
from datasets_tools.sources.base import KeyedRun, Names, Options, cuts, too_large
from datasets_tools.sources.naming import ClassTable
from datasets_tools.sources.parquet_reader import Columns, read_pictures
from datasets_tools.sources.parquet_tables import UNLABELLED, Group, Table, place, resolve_classes

# Pictures in a run, at most: a worker holds those of several runs, and a run skips the rows of its group before it.
_RUN_LENGTH = 32


@dataclass(frozen=True, slots=True)
class ParquetRun(KeyedRun):
    """Consecutive rows of one row group.

    Attributes:
        location: path or URL of the file.
        row_group: its number in the file.
        columns: where the pictures are.
        first: the first row, counted from the row group's.
        keys: the pictures' names.
    """

    location: str
    row_group: int
    columns: Columns
    first: int
    keys: tuple[str, ...]

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and bytes, or an error where the row holds none.

        Raises:
            OSError: the file cannot be read (any more), or is damaged.
        """
        pictures = read_pictures(self.location, self.row_group, self.columns, self.first, len(self))
        for key, data in zip(self.keys, pictures, strict=True):
            if data is None:
                yield key, PictureError(key, f"has no bytes: column {self.columns.bytes_path} is null")
            else:
                yield key, too_large(key, data.size) or data.to_pybytes()


class ParquetEntries:
    """The pictures of one split of Parquet files.

    Args:
        folder: where the files are.
        columns: where in them pictures and labels are.
        groups: the row groups, in order.
        paths: the pictures' names in the tables; None where they have none, or not each its own.
        labels: their classes, int64 (N,).
    """

    def __init__(
        self, folder: str, columns: Columns, groups: Sequence[Group], paths: Names | None, labels: NDArray[np.int64]
    ) -> None:
        self.labels = labels
        self._folder = files.absolute(folder)
        self._columns, self._groups, self._paths = columns, groups, paths

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, index: int) -> str:
        """Return a picture's name: its path in the table, or `<file>:<row>` where paths are not unique."""
        return self._paths[index] if self._paths is not None else place(self._groups, index)

    def runs(self, start: int, stop: int) -> Iterator[ParquetRun]:
        """Yield runs of at most 32 rows, none beyond its row group."""
        for group in self._groups[max(0, bisect_right(self._groups, start, key=lambda group: group.start) - 1) :]:
            if group.start >= stop:
                return
            for first, last in cuts(max(start, group.start), min(stop, group.start + group.length), _RUN_LENGTH):
                location = files.join(self._folder, group.file)
                keys = tuple(self.key(index) for index in range(first, last))
                yield ParquetRun(location, group.number, self._columns, first - group.start, keys)


class ParquetSource:
    """List the pictures of a folder of Parquet files.

    Args:
        location: path or URL of the folder, or of a single file.
        image_column: the pictures' column; by default found by name or type.
        label_column: the labels' column, likewise.
        partial: whether files of a numbered series may be missing.

    Attributes:
        class_names: those in Hugging Face's metadata; else the labels' own strings, sorted; else their numbers.
        splits: the pictures of each split; one whose labels are all -1 has none, and is left out.
        notes: what was recognised, is missing or left out; one line each.

    Raises:
        SourceError: there are no such files, the columns are not clear, or a label is null or out of range.
    """

    name = "parquet"

    def __init__(
        self,
        location: str,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        partial: bool = False,
    ) -> None:
        found = parquet_files.find(location, partial=partial)
        asked = {"image_column": image_column, "label_column": label_column}
        self.options: Options = {key: value for key, value in asked.items() if value is not None}
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {}
        classes = ClassTable()
        read = {
            split: Table(found.folder, names, image_column, label_column, classes)
            for split, names in found.names.items()
        }
        tables = {split: table for split, table in read.items() if table.is_labelled}
        if not tables:
            raise SourceError(f"{location}: no picture has a label: all are {UNLABELLED}. Name a labelled data set.")
        self.class_names = resolve_classes(location, tables, classes)
        self.splits: Mapping[str, ParquetEntries] = {
            split: ParquetEntries(found.folder, table.columns, table.groups, table.paths, table.labels)
            for split, table in tables.items()
        }
        repeated = (note for table in tables.values() for note in table.notes)
        self.notes: Sequence[str] = (_recognised(location, tables), *found.notes, *repeated, *_left_out(location, read))


def _recognised(location: str, tables: Mapping[str, Table]) -> str:
    columns = next(iter(tables.values())).columns
    return f"{location}: pictures in column {columns.bytes_path}, labels in column {columns.label}"


def _left_out(location: str, tables: Mapping[str, Table]) -> Iterator[str]:
    for split, table in tables.items():
        if not table.is_labelled:
            yield f"{location}: {split} is left out: its labels are all {UNLABELLED}"
    for split in ("train", "val"):
        if split not in tables or not tables[split].is_labelled:
            yield f"{location} has no {split} split: training needs both"
