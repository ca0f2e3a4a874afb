"""The ImageFolder layout: `SRC/train/<class>/*.jpg`, `SRC/val/<class>/*.jpg`, and other splits beside them.

Classes and pictures come in torchvision's `ImageFolder` order: class names sorted; below a class, folders sorted, then
file names sorted. Hidden files and folders are left out.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Names, Options, check_name
from datasets_tools.sources.picture_files import EXTENSIONS, FileEntries, is_picture_name
from datasets_tools.wording import counted

_LAYOUT = "expected {root}/train/<class>/*.jpg and {root}/val/<class>/*.jpg"

# Folders that are looked into for what they are, where one of a data set would do.
_NUM_LOOKED_INTO = 10


class FolderSource:
    """List the pictures of a folder of splits of classes.

    Args:
        location: path or URL of the folder that holds `train`, `val`, or both; any other folder in it that holds
            folders is a split too.

    Attributes:
        class_names: names of the train split's class folders (of val's, where there is no train), sorted.
        splits: the pictures of each split, train and val first.
        notes: what was passed over, one line each.

    Raises:
        SourceError: the folder does not have that layout, or a name in it cannot be stored.
    """

    name = "folder"

    def __init__(self, location: str) -> None:
        folders, flat = _split_folders(location)
        self.options: Options = {}
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {}
        self.class_names: Sequence[str] = next(iter(folders.values()))
        listings = {
            name: ClassFolders(files.join(location, name), found, self.class_names) for name, found in folders.items()
        }
        self.splits: Mapping[str, FileEntries] = {name: listing.entries for name, listing in listings.items()}
        others = (note for listing in listings.values() for note in listing.notes)
        absent = [name for name in ("train", "val") if name not in folders]
        missing = (f"{location} has no {name} folder: training needs both" for name in absent)
        self.notes: Sequence[str] = (*others, *flat, *missing)


class ClassFolders:
    """The pictures of a folder of class folders.

    Args:
        location: path or URL of the folder.
        found: names of the class folders in it, in order.
        class_names: the classes, by label; each of `found` is one of them.

    Attributes:
        entries: the pictures, in `ImageFolder`'s order.
        notes: how many files are left out, one line for each reason.

    Raises:
        SourceError: a folder is no class or holds no picture, or a name cannot be stored.
    """

    def __init__(self, location: str, found: Sequence[str], class_names: Sequence[str]) -> None:
        self._num_other = self._num_hidden = 0
        self._location = location
        self._keys = Names()
        self._labels = array("q")
        labels = {name: label for label, name in enumerate(class_names)}
        for name in found:
            check_name(name, location)
            if name not in labels:
                raise SourceError(
                    f"{files.join(location, name)}: class {name} is not a class of the train split. Every split must "
                    "use the train split's classes: rename or remove the folder."
                )
            self._add_class(name, labels[name])
        self.entries = FileEntries(location, self._keys, np.frombuffer(self._labels, np.int64))
        others = counted(self._num_other, "file that is no picture is", "files that are no pictures are")
        hidden = counted(self._num_hidden, "hidden picture is", "hidden pictures are")
        notes = {
            f"{location}: {others} left out": self._num_other,
            f"{location}: {hidden} left out: names that begin with a dot": self._num_hidden,
        }
        self.notes: Sequence[str] = tuple(note for note, count in notes.items() if count)

    def _add_class(self, name: str, label: int) -> None:
        before, hidden_before = len(self._labels), self._num_hidden
        folder = files.join(self._location, name)
        for path in files.walk(folder, hidden=True):
            if not is_picture_name(path):
                self._num_other += 1
            elif path.rpartition("/")[2].startswith("."):
                self._num_hidden += 1
            else:
                check_name(path, folder)
                self._keys.append(f"{name}/{path}")
                self._labels.append(label)
        if len(self._labels) == before:
            num_hidden = self._num_hidden - hidden_before
            hidden = counted(num_hidden, "hidden picture does", "hidden pictures do")
            but = f"; {hidden} not count" if num_hidden else ""
            raise SourceError(
                f"{folder}: class {name} is empty: no file in it ends in one of {', '.join(sorted(EXTENSIONS))}"
                f"{but}. Add pictures or remove the folder."
            )


def _split_folders(location: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the class folders of each split: train, val, then the others in order; and a note on those left out."""
    layout = _LAYOUT.format(root=location)
    _check_folder(location, layout)
    names = folder_names(location)
    required = [name for name in ("train", "val") if name in names]
    if not required:
        found = f"it holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "it holds no folder"
        advice = _advice_for_one_split(location, names) or f"{layout}."
        raise SourceError(f"{location}: has neither a train nor a val folder ({found}); {advice}")
    classes = {name: folder_names(files.join(location, name)) for name in [*required, *sorted({*names} - {*required})]}
    for name in required:
        if not classes[name]:
            raise SourceError(f"{files.join(location, name)}: holds no class folders; {layout}.")
    splits = {name: found for name, found in classes.items() if found}
    for split in splits:
        check_name(split, location)
    counts = {name: _num_pictures(files.join(location, name)) for name in classes if name not in splits}
    flat = [repr(name) for name, count in counts.items() if count]
    pictures = counted(sum(counts.values()), "picture is", "pictures are")
    note = f"{pictures} left out, which lie in {', '.join(flat)} without class folders"
    return splits, [f"{location}: {note}"] if flat else []


def folder_names(location: str) -> list[str]:
    """Return the names of the folders in a folder, sorted, hidden ones left out.

    Raises:
        SourceError: there is no such folder, or it cannot be listed.
    """
    return [child.name for child in files.children(location) if child.is_folder]


def _check_folder(location: str, layout: str) -> None:
    try:
        if not files.is_folder(location):
            raise SourceError(f"{location}: {files.why_no_folder(location)}; {layout}.")
    except OSError as error:
        raise SourceError(f"{location}: cannot be reached: {files.why(error)}.") from error


def _advice_for_one_split(location: str, names: Sequence[str]) -> str | None:
    """Say what to do with a folder that holds classes, where it should hold splits; None where it holds neither."""
    name = next((name for name in names[:_NUM_LOOKED_INTO] if _num_pictures(files.join(location, name))), None)
    if name is None:
        return None
    seen = f"it looks like one split: its folder {name} holds pictures."
    whole = files.absolute(location).rstrip("/")
    if whole.rpartition("/")[2] in ("train", "val"):
        return f"{seen} Name the folder around it: {files.parent(whole)}."
    train, val = (files.join(location, split) for split in ("train", "val"))
    return f"{seen} Move its folders to {train}, and make a {val} like it."


def _num_pictures(folder: str) -> int:
    return sum(is_picture_name(child.name) for child in files.children(folder) if not child.is_folder)
