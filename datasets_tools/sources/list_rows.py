"""The rows of a list of pictures: a CSV or TSV file of paths and labels, read as a stream."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import check_name
from datasets_tools.sources.picture_files import is_picture_name

_PATH_NAMES = frozenset(
    {"path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img"}
)
_LABEL_NAMES = frozenset({"label", "class", "class_name", "category", "target", "labels", "classname", "class_id", "y"})
_SPLIT_NAMES = frozenset({"split", "subset", "partition", "set"})
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test"})
# Characters of a line, beyond which the file is no list: Linux's PATH_MAX is 4,096.
_MAX_LINE = 65_536


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a list: the line it ends on (from 1), its path, its label, and its split ("" where not given)."""

    line: int
    path: str
    label: str
    split: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Where in a row things are.

    Attributes:
        path, label: columns, from 0.
        split: likewise; None where there is no such column.
        is_header: the first row names the columns and is no picture.
    """

    path: int = 0
    label: int = 1
    split: int | None = None
    is_header: bool = False

    @classmethod
    def recognise(cls, cells: Sequence[str], where: str) -> Columns:
        """Tell the columns from a list's first row.

        Raises:
            SourceError: it is a header, but which columns are the path and the label is not clear.
        """
        names = [cell.lower() for cell in cells]
        path, label, split = (_first_of(names, known) for known in (_PATH_NAMES, _LABEL_NAMES, _SPLIT_NAMES))
        if (path is None and label is None) or any(map(is_picture_name, names)):
            return cls(split=2 if len(cells) > 2 and names[2] in _SPLITS else None)
        others = [column for column in range(len(names)) if column not in (path, label, split)]
        if (path is None or label is None) and len(others) == 1:
            path, label = (others[0] if column is None else column for column in (path, label))
        if path is None or label is None:
            raise SourceError(
                f"{where}: the header has the columns {', '.join(cells)}; which are the path and the label is not "
                "clear. Call them path and label."
            )
        return cls(path, label, split, is_header=True)


def read_rows(location: str, empty_lines: list[int]) -> Iterator[Row]:
    """Yield the pictures of a list.

    Args:
        location: path or URL of the file.
        empty_lines: gets the numbers of lines that hold nothing.

    Raises:
        SourceError: the file cannot be read, is no list, or a row lacks a path or a label.
    """
    try:
        with files.open_binary(location) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            delimiter = _delimiter(location, text.readline(_MAX_LINE))
            text.seek(0)
            yield from _rows(location, text, delimiter, empty_lines)
    except OSError as error:
        raise SourceError(f"{location}: cannot be read: {files.why(error)}. Name a CSV or TSV file.") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{location}: is not UTF-8 text ({error.reason}). Name a CSV or TSV file.") from error


def _rows(location: str, text: io.TextIOWrapper, delimiter: str, empty_lines: list[int]) -> Iterator[Row]:
    reader = csv.reader(_lines(location, text), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns = None
    for cells in _parsed(reader, location):
        where = f"{location}: line {reader.line_num}"
        cells = [cell.strip(" \t") for cell in cells]
        if not any(cells):
            empty_lines.append(reader.line_num)
        elif columns is None:
            columns = Columns.recognise(cells, where)
            if not columns.is_header:
                yield _row(cells, columns, reader.line_num, where)
        else:
            yield _row(cells, columns, reader.line_num, where)


def _row(cells: Sequence[str], columns: Columns, line: int, where: str) -> Row:
    wanted = (columns.path, columns.label) if columns.split is None else (columns.path, columns.label, columns.split)
    if len(cells) <= max(wanted) or not all(cells[column] for column in wanted):
        raise SourceError(
            f"{where}: has no {' or '.join(('path', 'label', 'split')[: len(wanted)])}: {','.join(cells)!r}. "
            "Give every picture its path and its label."
        )
    path, label, *split = (cells[column] for column in wanted)
    check_name(path, where)
    check_name(label, where)
    return Row(line, path, label, split[0] if split else "")


def _parsed(reader: Iterator[list[str]], location: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        line = getattr(reader, "line_num", 0)
        raise SourceError(f"{location}: line {line}: {error}. Write one picture a line, quotes doubled.") from error


def _lines(location: str, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines of a bounded length: what is no list may have a single one of gigabytes."""
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise SourceError(f"{location}: has a line of more than {_MAX_LINE:,} characters. Name a CSV or TSV file.")
        yield line


def _delimiter(location: str, first_line: str) -> str:
    if location.lower().endswith(".tsv"):
        return "\t"
    return next((delimiter for delimiter in "\t,; " if delimiter in first_line), ",")


def _first_of(names: Sequence[str], known: frozenset[str]) -> int | None:
    return next((column for column, name in enumerate(names) if name in known), None)
