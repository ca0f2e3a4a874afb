"""Extracted ILSVRC2012 folders: `train/n01440764/*.JPEG` and `val/n01440764/*.JPEG`, also in Kaggle's nesting.

The validation pictures come in one flat folder; they must have been sorted into class folders, as
`valprep.sh` does it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets_tools.errors import SourceError
from datasets_tools.sources.folder import FolderEntry, FolderSource

NUM_CLASSES = 1000
# Where Kaggle's archive and the original one put train and val.
_NESTINGS = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC2012")
_SYNSETS = "LOC_synset_mapping.txt"
_WORDNET_ID = re.compile(r"n\d{8}")


class ImageNetSource:
    """List the pictures of an extracted ILSVRC2012.

    Args:
        path: the folder that holds `train` and `val`, or Kaggle's `ILSVRC` folder around them.

    Attributes:
        class_names: WordNet ids, sorted, each followed by its words where `LOC_synset_mapping.txt` gives them.
        splits: the entries of each split.
        notes: what was passed over, and a number of classes that is not 1000; one line each.

    Raises:
        SourceError: the folder does not have that layout.
    """

    name = "imagenet"

    def __init__(self, path: Path) -> None:
        root = _root(path)
        _check_sorted(root)
        folders = FolderSource(root)
        _check_wordnet_ids(root, folders.class_names)
        words = _words(path, root)
        self.options: Mapping[str, str | int | float | bool] = {}
        self.class_names: Sequence[str] = [
            f"{wnid} {words[wnid]}" if wnid in words else wnid for wnid in folders.class_names
        ]
        self.splits: Mapping[str, Sequence[FolderEntry]] = folders.splits
        self.notes = (*folders.notes, *_class_note(root, len(self.class_names)))


def _root(path: Path) -> Path:
    for nesting in _NESTINGS:
        if (path / nesting / "train").is_dir() or (path / nesting / "val").is_dir():
            return path / nesting
    raise SourceError(
        f"{path}: no extracted ILSVRC2012 here; expected {path}/train/n01440764/*.JPEG and "
        f"{path}/val/n01440764/*.JPEG, or the same below ILSVRC/Data/CLS-LOC. Extract the archives first."
    )


def _check_sorted(root: Path) -> None:
    """Refuse the flat validation folder of the archive, whose pictures would otherwise have no labels."""
    val = root / "val"
    if val.is_dir() and next(val.glob("*.JPEG"), None) is not None:
        raise SourceError(
            f"{val}: holds pictures that lie in no class folder; expected {val}/n01440764/*.JPEG. Sort them by "
            "their labels first (valprep.sh moves each into its class's folder)."
        )


def _check_wordnet_ids(root: Path, class_names: Sequence[str]) -> None:
    for name in class_names:
        if not _WORDNET_ID.fullmatch(name):
            raise SourceError(
                f"{root}: class folder {name} is not a WordNet id like n01440764. Use `fastbot convert folder` for "
                "other data sets."
            )


def _words(path: Path, root: Path) -> dict[str, str]:
    """Return the words of each WordNet id, from Kaggle's mapping where it lies at the top or beside the splits."""
    for file in (path / _SYNSETS, root / _SYNSETS):
        if file.is_file():
            lines = (line.partition(" ") for line in file.read_text(encoding="utf-8").splitlines())
            return {wnid: words.strip() for wnid, _, words in lines if words.strip()}
    return {}


def _class_note(root: Path, num_classes: int) -> tuple[str, ...]:
    if num_classes == NUM_CLASSES:
        return ()
    return (f"{root}: has {num_classes:,} classes; ILSVRC2012 has {NUM_CLASSES:,}",)
