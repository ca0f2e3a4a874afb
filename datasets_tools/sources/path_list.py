"""A list of pictures: a CSV or TSV file of `path,label` rows, one for training and one for validation.

The columns go by a header where there is one (`path,label`, `filename,class`, ..., and `split`), else the first two
are path and label. Paths are relative to the list's folder, or absolute, or URLs.
"""

from __future__ import annotations

import posixpath
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Names, Options, first_duplicate
from datasets_tools.sources.list_rows import Row, read_rows
from datasets_tools.sources.naming import ClassTable, check_classes_of_train, in_order, split_name
from datasets_tools.sources.picture_files import FileEntries, lists_nothing, locate

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class ListSource:
    """Take the pictures that a list names, in its order.

    Args:
        file: path or URL of the list; its pictures are `train`, unless a column `split` says otherwise.
        root: the folder that relative paths start from; by default that of the list they are in.
        val: a second list, of the validation pictures.

    Attributes:
        class_names: where all labels are whole numbers, these; where none is, the labels, sorted.
        splits: the pictures of each split.
        notes: what was passed over, or is missing for training; one line each.

    Raises:
        SourceError: a list cannot be read or has no picture, or a row of it is wrong: it lacks a path or a label,
            repeats a picture, names a file that does not exist, or has a class that train lacks; or the labels are
            numbers other than 0 to K - 1, or numbers and names.
    """

    name = "list"

    def __init__(self, file: str, *, root: str | None = None, val: str | None = None) -> None:
        classes = ClassTable()
        lists = [_List(file, "train", classes)] if val is None else _pair(file, val, classes)
        self.class_names, label_of = classes.resolve(file)
        tables = {name: (found, found.tables[name]) for found in lists for name in found.tables}
        labels = {name: label_of[tables[name][1].places] for name in in_order(tables)}
        check_classes_of_train(labels, self.class_names, lambda split, index: _place(*tables[split], index))
        self.splits: Mapping[str, FileEntries] = {
            name: _entries(*tables[name], labels[name], root) for name in in_order(tables)
        }
        self.options: Options = {}
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {}
        missing = (f"{file} has no {name} pictures: training needs both" for name in ("train", "val"))
        absent = [note for note, name in zip(missing, ("train", "val"), strict=True) if name not in self.splits]
        self.notes: Sequence[str] = (*(note for found in lists for note in found.notes), *absent)


class _Table:
    """The rows of one split: paths, classes by their places in the class table, and line numbers."""

    def __init__(self) -> None:
        self.keys = Names()
        self.lines = array("q")
        self._places = array("q")

    def add(self, row: Row, place: int) -> None:
        self.keys.append(row.path)
        self.lines.append(row.line)
        self._places.append(place)

    @property
    def places(self) -> NDArray[np.int64]:
        return np.frombuffer(self._places, np.int64)


class _List:
    """One list, read."""

    def __init__(self, file: str, default_split: str, classes: ClassTable) -> None:
        self.file = file
        self.tables: dict[str, _Table] = {}
        self.has_splits = False
        empty_lines: list[int] = []
        for row in read_rows(file, empty_lines):
            self.has_splits = bool(row.split)
            table = self.tables.setdefault(self._split(row) if row.split else default_split, _Table())
            table.add(row, classes.place(row.label, f"{file}: line {row.line}"))
        if not self.tables:
            raise SourceError(f"{file}: lists no pictures. Write a path and a label on each line.")
        self.notes = _note_empty(file, empty_lines)

    def _split(self, row: Row) -> str:
        name = split_name(row.split)
        if not _PLAIN.fullmatch(name):
            raise SourceError(
                f"{self.file}: line {row.line}: {row.split!r} is no name of a split. Use train, val, test, or another "
                "of letters, digits, '_', '.' and '-'."
            )
        return name


def _pair(file: str, val: str, classes: ClassTable) -> list[_List]:
    lists = [_List(file, "train", classes), _List(val, "val", classes)]
    for found in lists:
        if found.has_splits:
            raise SourceError(f"{found.file}: has a column split, and {val} is given too. Leave one of them out.")
    return lists


def _note_empty(file: str, lines: Sequence[int]) -> list[str]:
    return [f"{file}: {len(lines):,} empty lines are passed over, the first is line {lines[0]}"] if lines else []


def _place(found: _List, table: _Table, index: int) -> str:
    return f"{found.file}: line {table.lines[index]}: {table.keys[index]}"


def _entries(found: _List, table: _Table, labels: NDArray[np.int64], root: str | None) -> FileEntries:
    repeated = first_duplicate(table.keys)
    if repeated is not None:
        first, again = repeated
        raise SourceError(
            f"{_place(found, table, again)}: is listed already, on line {table.lines[first]}. List every picture of a "
            "split once."
        )
    base = root if root is not None else files.parent(found.file)
    absent = sorted(_absent(base, table.keys))
    if absent:
        raise SourceError(
            f"{_place(found, table, absent[0])}: no such file in {base}; {len(absent):,} of {len(table.keys):,} "
            f"pictures are missing{_further_lines(table, absent)}. Correct the list, or name the folder that its paths "
            "start from (--root)."
        )
    return FileEntries(base, table.keys, labels)


def _further_lines(table: _Table, absent: Sequence[int]) -> str:
    lines = [str(table.lines[index]) for index in absent[1:6]]
    more = ", ..." if len(absent) > 6 else ""
    return f" (also on line{'s' if len(lines) > 1 else ''} {', '.join(lines)}{more})" if lines else ""


def _absent(root: str, keys: Names) -> Iterator[int]:
    """Yield which pictures do not exist: each folder is listed once, where asking file by file would take hours."""
    folders: dict[str, int] = {}
    numbers = np.fromiter(
        (folders.setdefault(posixpath.dirname(locate(root, keys[index])), len(folders)) for index in range(len(keys))),
        np.int64,
        len(keys),
    )
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.searchsorted(numbers[order], np.arange(1, len(folders))))
    for folder, group in zip(folders, groups, strict=True):
        if not lists_nothing(folder):
            present = _file_names(folder)
            yield from (index for index in group.tolist() if posixpath.basename(keys[index]) not in present)


def _file_names(folder: str) -> frozenset[str]:
    try:
        return frozenset(child.name for child in files.children(folder, hidden=True) if not child.is_folder)
    except SourceError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return frozenset()
        raise
