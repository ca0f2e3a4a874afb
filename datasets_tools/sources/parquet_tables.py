"""Labels and names of Parquet files, read without the pictures: one table for each split."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Names, check_name, first_duplicate
from datasets_tools.sources.naming import ClassTable, check_classes_of_train, negative_label, numbered_classes
from datasets_tools.sources.parquet_reader import Columns, open_parquet

# What Hugging Face writes for the labels of a split that has none.
UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Group:
    """A row group.

    Attributes:
        file: its file, relative to the split's folder.
        number: its number in the file.
        start: the index of its first picture in the split.
        length: how many rows it has, at least 1.
        first_row: its first row, counted from the file's.
    """

    file: str
    number: int
    start: int
    length: int
    first_row: int


def place(groups: Sequence[Group], index: int) -> str:
    """Return a picture's file and its row there, from 0, as `<file>:<row>`."""
    group = groups[bisect_right(groups, index, key=lambda group: group.start) - 1]
    return f"{group.file}:{group.first_row + index - group.start}"


class Table:
    """The files of one split, read but for the pictures.

    Args:
        folder: where they are.
        names: the files, relative to it, in order.
        image, label: the columns asked for, or None.
        classes: gets the labels that are strings.

    Attributes:
        columns: of every file.
        hub_names: the class names in Hugging Face's metadata, or None.
        groups: the row groups, in order.
        labels: int64 (N,): integers as they stand, or places in `classes`, until `resolve_classes`.
        paths: the pictures' names in the tables; None where they have none, or not each its own.
        notes: why there are no `paths`, where two pictures have the same.

    Raises:
        SourceError: a file is damaged or unlike the first, or a label or name in it cannot be used.
    """

    def __init__(
        self, folder: str, names: Sequence[str], image: str | None, label: str | None, classes: ClassTable
    ) -> None:
        self._folder, self._classes = folder, classes
        self.groups: list[Group] = []
        self.paths: Names | None = Names()
        self._num_rows = 0
        parts: list[NDArray[np.int64]] = []
        for name in names:
            location = files.join(folder, name)
            try:
                with open_parquet(location) as file:
                    self._recognise(file, image, label, location, is_first=name == names[0])
                    parts += self._read(file, name)
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{location}: holds text that is not UTF-8: {error}. Write the labels and paths in it as UTF-8."
                ) from error
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(error) from error
        self.labels = np.concatenate([np.empty(0, np.int64), *parts])
        if not len(self.labels):
            raise SourceError(f"{files.join(folder, names[0])}: has no rows. Remove it, or fetch it again.")
        self.notes: Sequence[str] = tuple(self._repeated_paths())

    @property
    def is_labelled(self) -> bool:
        """Whether any label is more than a placeholder."""
        return bool(np.any(self.labels != UNLABELLED))

    def _repeated_paths(self) -> Iterator[str]:
        """Give up paths that do not tell pictures apart: a note says so, as the same pictures may be there twice."""
        repeated = None if self.paths is None else first_duplicate(self.paths)
        if self.paths is not None and repeated is not None:
            first, again = (place(self.groups, index) for index in repeated)
            path, self.paths = self.paths[repeated[0]], None
            yield (
                f"{self._folder}: {first} and {again} are both called {path!r}, so pictures are called <file>:<row>; "
                "look whether some are there twice"
            )

    def _recognise(
        self, file: pq.ParquetFile, image: str | None, label: str | None, location: str, *, is_first: bool
    ) -> None:
        schema = file.schema_arrow
        columns = Columns.recognise(schema, image, label, location)
        names = _hub_names(schema, columns.label, location)
        if is_first:
            self.columns, self.hub_names = columns, names
        elif (columns, names) != (self.columns, self.hub_names):
            raise SourceError(
                f"{location}: has other columns or class names than the split's first file. Convert files of one data "
                "set only."
            )

    def _read(self, file: pq.ParquetFile, name: str) -> Iterator[NDArray[np.int64]]:
        first_row = 0
        wanted = [self.columns.label, *([self.columns.name_path] if self.columns.name_path else [])]
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=wanted, use_threads=False)
            if not group.num_rows:
                continue
            self.groups.append(Group(name, number, self._num_rows, group.num_rows, first_row))
            self._add_paths(group, name)
            yield self._labels(group.column(self.columns.label), f"{files.join(self._folder, name)}: row ", first_row)
            self._num_rows += group.num_rows
            first_row += group.num_rows

    def _add_paths(self, group: pa.Table, name: str) -> None:
        """Keep the pictures' names, as long as none is missing."""
        if self.paths is None or self.columns.name_path is None:
            self.paths = None
            return
        for path in group.column(self.columns.image).combine_chunks().flatten()[0].to_pylist():
            if not path:
                self.paths = None
                return
            check_name(path, files.join(self._folder, name))
            self.paths.append(path)

    def _labels(self, column: pa.ChunkedArray, where: str, first_row: int) -> NDArray[np.int64]:
        if column.null_count:
            row = first_row + column.is_null().to_pylist().index(True)
            raise SourceError(f"{where}{row}: the label is null. Leave the row out, or give it a label.")
        if not self.columns.has_names:
            return _integers(column, f"{where}{first_row} or later")
        encoded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        for name in names:
            check_name(name, f"{where}{first_row} or later")
        places = np.array([self._classes.place(name, f"{where}{first_row} or later") for name in names], np.int64)
        indices: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False)
        return np.take(places, indices)


def _integers(column: pa.ChunkedArray, where: str) -> NDArray[np.int64]:
    try:
        return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{where}: a label is no number of a class: {error}. Number the classes from 0.") from error


def _unreadable(error: Exception) -> SourceError:
    """Return the error for a file that cannot be read; what the system or network gives no reason for is damage."""
    cause = error.__cause__ or error
    is_damaged = not isinstance(cause, OSError) or cause.strerror is None
    return SourceError(f"{error}. It is no Parquet file, or damaged: fetch it again." if is_damaged else f"{error}.")


def resolve_classes(location: str, tables: Mapping[str, Table], classes: ClassTable) -> Sequence[str]:
    """Return the class names, and turn the tables' labels into indices of them.

    Args:
        location: the source, for messages.
        tables: by split; their `labels` are replaced.
        classes: what the tables' labels are places in, where they are strings.

    Raises:
        SourceError: the splits' classes differ, a label is out of range, or a class that no metadata name has no
            training picture.
    """
    names = _class_names(location, tables, classes)
    if any(table.hub_names is None for table in tables.values()):
        # Without a list of the classes, one that only another split has is more likely a slip than a class.
        labels = {split: table.labels for split, table in tables.items()}
        check_classes_of_train(labels, names, lambda split, index: place(tables[split].groups, index))
    return names


def _class_names(location: str, tables: Mapping[str, Table], classes: ClassTable) -> Sequence[str]:
    first = next(iter(tables.values()))
    for table in tables.values():
        if (table.columns.has_names, table.hub_names) != (first.columns.has_names, first.hub_names):
            raise SourceError(
                f"{place(table.groups, 0)}: its split has other labels or class names than the first. "
                "Convert files of one data set only."
            )
    if first.columns.has_names:
        names, label_of = classes.resolve(location)
        for table in tables.values():
            table.labels = label_of[table.labels]
        return names
    for table in tables.values():
        negative = np.flatnonzero(table.labels < 0)
        if len(negative):
            raise negative_label(place(table.groups, int(negative[0])), int(table.labels[negative[0]]))
    if first.hub_names is None:
        return numbered_classes(np.unique(np.concatenate([table.labels for table in tables.values()])), location)
    for table in tables.values():
        wrong = np.flatnonzero(table.labels >= len(first.hub_names))
        if len(wrong):
            raise SourceError(
                f"{place(table.groups, int(wrong[0]))}: label {table.labels[wrong[0]]} is none of the "
                f"{len(first.hub_names):,} classes in the file's metadata. Fetch the file again, or leave the row out."
            )
    return first.hub_names


def _hub_names(schema: pa.Schema, label: str, location: str) -> Sequence[str] | None:
    """Return the class names that Hugging Face's `datasets` keeps in a schema, if any.

    Raises:
        SourceError: they are no list of different names.

    Source: `datasets.Features.arrow_schema`: JSON under b"huggingface", info.features.<column> of type ClassLabel.
    """
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        names = feature["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    where = f"{location}: class names of {label} in the metadata"
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{where}: {str(names)[:40]} is no list of names. Write the file again.")
    for name in names:
        check_name(name, where)
    if (repeated := first_duplicate(names)) is not None:
        raise SourceError(f"{where}: {names[repeated[0]]!r} is there twice. Every class needs its own name.")
    return tuple(names)
