"""The classes of WebDataset shards: a file beside the shards lists them, or the labels themselves say them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import check_name, first_duplicate
from datasets_tools.sources.naming import ClassTable, negative_label
from datasets_tools.sources.webdataset_shard import Label

_LISTS = ("classes.txt", "classnames.txt")
_DESCRIPTION = "dataset.json"
_DESCRIPTION_FIELDS = ("class_names", "classes")


class Classes(Protocol):
    """Turns labels as written into labels, once all have been seen."""

    def place(self, label: Label, where: str) -> int:
        """Return a provisional label; `where` is the sample, for messages."""
        ...

    def resolve(self, where: str) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Return the class names by label, and the label of each provisional one, int64 (K,)."""
        ...


class ListedClasses:
    """Classes that a file lists, by label.

    Args:
        path: the file, for messages.
        class_names: what it lists.
    """

    def __init__(self, path: str, class_names: Sequence[str]) -> None:
        self._path = path
        self._class_names = class_names
        self._labels = {name: label for label, name in enumerate(class_names)}

    def place(self, label: Label, where: str) -> int:
        """Return the label of a number or a name.

        Raises:
            SourceError: the file does not list it, or it is negative.
        """
        if isinstance(label, int) and label < 0:
            raise negative_label(where, label)
        number = self._labels.get(label, -1) if isinstance(label, str) else label
        if not 0 <= number < len(self._class_names):
            raise SourceError(
                f"{where}: label {label!r} is none of the {len(self._class_names):,} classes of {self._path}. "
                "Correct one of the two."
            )
        return number

    def resolve(self, where: str) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Return the class names, and the labels as they are."""
        return self._class_names, np.arange(len(self._class_names), dtype=np.int64)


class FoundClasses:
    """Classes that only the labels say: numbers without a gap, or names."""

    def __init__(self) -> None:
        self._table = ClassTable()

    def place(self, label: Label, where: str) -> int:
        """Return when a class was first met.

        Raises:
            SourceError: it is a name that cannot be stored, or negative.
        """
        check_name(str(label), where)
        return self._table.place(str(label), where)

    def resolve(self, where: str) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Number the classes.

        Raises:
            SourceError: they are numbers with a gap, or numbers and names.
        """
        return self._table.resolve(where)


def find_classes(location: str) -> Classes:
    """Return the classes of the folder's list, or those that its labels will say.

    Args:
        location: the folder of the shards, a path or URL.

    Raises:
        SourceError: the list cannot be read, names a class twice, or one that cannot be stored.
    """
    for name in (*_LISTS, _DESCRIPTION):
        if files.is_file(path := files.join(location, name)):
            class_names = _listed_names(path)
            for class_name in class_names:
                check_name(class_name, path)
            if (repeated := first_duplicate(class_names)) is not None:
                raise SourceError(f"{path}: lists {class_names[repeated[0]]!r} twice. Every class needs its own name.")
            return ListedClasses(path, class_names)
    return FoundClasses()


def _listed_names(path: str) -> list[str]:
    try:
        text = files.read(path).decode()
        content = json.loads(text) if path.endswith(_DESCRIPTION) else text.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path}: the list of classes cannot be read: {error}. Write it as UTF-8.") from error
    if isinstance(content, dict):
        content = next((content[name] for name in _DESCRIPTION_FIELDS if name in content), None)
    if not isinstance(content, list) or not content or not all(isinstance(name, str) for name in content):
        raise SourceError(
            f"{path}: lists no classes; allowed are one name a line, or JSON with a list {_DESCRIPTION_FIELDS[0]}."
        )
    return content
