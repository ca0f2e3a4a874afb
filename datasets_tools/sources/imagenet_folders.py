"""ILSVRC2012 extracted: class folders, or the validation pictures in one flat folder."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources.base import Names, cuts
from datasets_tools.sources.imagenet_classes import VAL_PICTURE, WORDNET_ID, checked_pictures
from datasets_tools.sources.imagenet_labels import ValLabels
from datasets_tools.sources.picture_files import FileEntries, FileRun
from datasets_tools.sources.tar_entries import listed
from datasets_tools.wording import counted


class FlatEntries(FileEntries):
    """Pictures in one folder whose keys name their classes too: `n01751748/ILSVRC2012_val_00000001.JPEG`."""

    def runs(self, start: int, stop: int) -> Iterator[FlatRun]:
        """Yield runs of a few files."""
        for first, last in cuts(start, stop):
            yield FlatRun(self.root, tuple(self.key(index) for index in range(first, last)))


@dataclass(frozen=True, slots=True)
class FlatRun(FileRun):
    """Pictures in one folder; their files' names are the last parts of the keys."""

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and bytes, or its error; see `FileRun`."""
        names = tuple(key.rpartition("/")[2] for key in self.keys)
        for key, (_, data) in zip(self.keys, FileRun(self.root, names).read(), strict=True):
            yield key, PictureError(key, data.reason) if isinstance(data, PictureError) else data


class ClassFolders:
    """Pictures in folders named by WordNet ids.

    Args:
        folder: the folder around them.
        names: of the folders in it.

    Attributes:
        description: what was found, in a few words.
        wnids: the classes, sorted.
        notes: what was left out; complete once the entries are listed.

    Raises:
        SourceError: a folder is no class.
    """

    def __init__(self, folder: str, names: Sequence[str]) -> None:
        for name in names:
            if not WORDNET_ID.fullmatch(name):
                raise SourceError(
                    f"{folder}: class folder {name!r} is not a WordNet id like n01440764. Use `fastbot convert folder` "
                    "for other data sets."
                )
        self.description = f"{folder} (class folders)"
        self.wnids = tuple(sorted(names))
        self.notes: list[str] = []
        self._folder = folder

    def entries(self, labels: Mapping[str, int]) -> FileEntries:
        """List the pictures.

        Args:
            labels: by WordNet id.

        Raises:
            SourceError: a class is empty, or a name cannot be stored.
        """
        keys, classes, num_others = Names(), array("q"), 0
        for wnid, names in zip(self.wnids, listed(self._folder, self._names, self.wnids), strict=True):
            pictures = checked_pictures(files.join(self._folder, wnid), names)
            num_others += len(names) - len(pictures)
            for name in pictures:
                keys.append(f"{wnid}/{name}")
                classes.append(labels[wnid])
        if num_others:
            others = counted(
                num_others, "file or folder that is no picture is", "files and folders that are no pictures are"
            )
            self.notes.append(f"{self._folder}: {others} left out")
        return FileEntries(self._folder, keys, np.frombuffer(classes, np.int64))

    def _names(self, wnid: str) -> list[str]:
        # A folder in a class folder keeps its slash, so that it is no picture.
        found = files.children(files.join(self._folder, wnid))
        return [f"{child.name}/" if child.is_folder else child.name for child in found]


class FlatValFolder:
    """The validation pictures in one folder, as both the archive and Kaggle's have them.

    Args:
        folder: where they lie.
        names: of the files in it.
        labels: their classes.

    Attributes:
        description, wnids, notes: as of `ClassFolders`.
    """

    def __init__(self, folder: str, names: Sequence[str], labels: ValLabels) -> None:
        pictures = [name for name in names if VAL_PICTURE.fullmatch(name)]
        self._rows = sorted((labels.wnid(name), name) for name in pictures)
        self._folder = folder
        self.description = f"{folder} (flat, labels of {labels.origin})"
        self.wnids = tuple(sorted({wnid for wnid, _ in self._rows}))
        num_others = len(names) - len(pictures)
        others = counted(num_others, "other file is", "other files are")
        self.notes = [f"{folder}: {others} left out"] if num_others else []

    def entries(self, labels: Mapping[str, int]) -> FlatEntries:
        """List the pictures, by class.

        Args:
            labels: by WordNet id.
        """
        keys = Names(f"{wnid}/{name}" for wnid, name in self._rows)
        return FlatEntries(self._folder, keys, np.array([labels[wnid] for wnid, _ in self._rows], np.int64))
