"""The ImageFolder layout: `SRC/train/<class>/*.jpg`, `SRC/val/<class>/*.jpg`, and other splits beside them.

Classes and pictures come in torchvision's `ImageFolder` order: class names sorted; below a class, folders sorted, then
file names sorted. Hidden files and folders are left out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.errors import SourceError

# torchvision's IMG_EXTENSIONS, and .gif: a GIF is to be refused by name, not passed over in silence.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
_LAYOUT = "expected {root}/train/<class>/*.jpg and {root}/val/<class>/*.jpg"


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """One picture file.

    Attributes:
        root: the split's folder.
        key: the file's path below it, with forward slashes.
        label: its class.
    """

    root: str
    key: str
    label: int

    def read(self) -> bytes:
        """Return the file's content.

        Raises:
            OSError: it cannot be read, or is no regular file (a pipe would be waited for without end).
        """
        path = Path(self.root, self.key)
        if not path.is_file():
            raise OSError(errno.EINVAL, "no regular file, or a link to nothing", str(path))
        return path.read_bytes()


class FolderSource:
    """List the pictures of a folder of splits of classes.

    Args:
        path: the folder that holds `train`, `val`, or both; any other folder in it that holds folders is a split too.

    Attributes:
        class_names: names of the train split's class folders (of val's, where there is no train), sorted.
        splits: the entries of each split, train and val first.
        notes: what was passed over, one line each.

    Raises:
        SourceError: the folder does not have that layout.
    """

    name = "folder"

    def __init__(self, path: Path) -> None:
        folders = _split_folders(path)
        self.options: Mapping[str, str | int | float | bool] = {}
        self.class_names: Sequence[str] = _folder_names(next(iter(folders.values())))
        listings = {name: _Listing(folder, self.class_names) for name, folder in folders.items()}
        self.splits: Mapping[str, Sequence[FolderEntry]] = {name: found.entries for name, found in listings.items()}
        others = (
            f"{path / name}: {found.num_other:,} files that are no pictures are left out"
            for name, found in listings.items()
            if found.num_other
        )
        absent = [name for name in ("train", "val") if name not in folders]
        missing = (f"{path} has no {name} folder: training needs both" for name in absent)
        self.notes: tuple[str, ...] = (*others, *missing)


class _Listing:
    """The pictures of one split, and how many other files lie among them."""

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.entries: list[FolderEntry] = []
        self.num_other = 0
        labels = {name: label for label, name in enumerate(class_names)}
        for name in _folder_names(folder):
            if name not in labels:
                raise SourceError(
                    f"{folder / name}: class {name} is not a class of the train split. Every split must use the "
                    "train split's classes: rename or remove the folder."
                )
            self._add_class(folder, name, labels[name])

    def _add_class(self, folder: Path, name: str, label: int) -> None:
        before = len(self.entries)
        for key in _files_below(folder, name):
            if Path(key).suffix.lower() in EXTENSIONS:
                _check_utf8(folder, key)
                self.entries.append(FolderEntry(str(folder), key, label))
            else:
                self.num_other += 1
        if len(self.entries) == before:
            raise SourceError(
                f"{folder / name}: class {name} is empty: no file in it ends in one of "
                f"{', '.join(sorted(EXTENSIONS))}. Add pictures or remove the folder."
            )


def _check_utf8(folder: Path, key: str) -> None:
    """Refuse a name that no manifest could hold."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{folder}: the name of {key!r} is not UTF-8. Rename the file or its folder.") from error


def _split_folders(path: Path) -> dict[str, Path]:
    """Return the folders of the splits: train, val, then the others in order."""
    layout = _LAYOUT.format(root=path)
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; {layout}.")
    names = _folder_names(path)
    required = [name for name in ("train", "val") if name in names]
    if not required:
        found = f"it holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "it holds no folder"
        raise SourceError(f"{path}: has neither a train nor a val folder ({found}); {layout}.")
    for name in required:
        if not _folder_names(path / name):
            raise SourceError(f"{path / name}: holds no class folders; {layout}.")
    others = [name for name in names if name not in required and _folder_names(path / name)]
    return {name: path / name for name in required + others}


def _folder_names(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _files_below(folder: Path, name: str) -> Iterator[str]:
    """Yield the paths of all files below a class folder, relative to the split's, in `ImageFolder`'s order."""
    for parent, _, files in sorted(os.walk(folder / name, followlinks=True)):
        relative = Path(parent).relative_to(folder)
        if not any(part.startswith(".") for part in relative.parts):
            yield from (str(relative / file) for file in sorted(files) if not file.startswith("."))
