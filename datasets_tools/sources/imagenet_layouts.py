"""Recognize in which form ILSVRC2012 is there, by the names of its files and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Entries
from datasets_tools.sources.imagenet_classes import VAL_PICTURE, WORDNET_ID
from datasets_tools.sources.imagenet_folders import ClassFolders, FlatValFolder
from datasets_tools.sources.imagenet_labels import find_val_labels
from datasets_tools.sources.imagenet_tars import TRAIN_TAR, VAL_TAR, ClassTar, ClassTars, ValTar, train_archive

# Where Kaggle's archive and people who unpack the original one put train and val.
_NESTINGS = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "ILSVRC2012")
_KAGGLE_FOLDERS = frozenset({"ILSVRC", "Data", "CLS-LOC"})
_KAGGLE_ARCHIVES = ("imagenet_object_localization", "imagenet-object-localization")


class Pictures(Protocol):
    """The pictures of one split, found but not listed yet."""

    @property
    def description(self) -> str:
        """Where they are, in a few words."""
        ...

    @property
    def wnids(self) -> Sequence[str]:
        """The classes, sorted."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was left out; complete once the entries are listed."""
        ...

    def entries(self, labels: Mapping[str, int]) -> Entries:
        """List the pictures, given the labels of the classes."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """What was recognized: in one line, and by split."""

    description: str
    splits: Mapping[str, Pictures]


def find_layout(location: str) -> Layout:
    """Recognize the layout of a folder.

    Args:
        location: a path or URL.

    Raises:
        SourceError: it holds none.
    """
    if not files.is_folder(location):
        raise SourceError(f"{location}: {files.why_no_folder(location)}; {_expected(location)}")
    for nesting in _NESTINGS:
        root = files.join(location, nesting) if nesting else location
        if not files.is_folder(root):
            continue
        folder = _Folder(root)
        found = {"train": _train(folder), "val": _val(folder, _label_folders(location, root))}
        splits = {name: pictures for name, pictures in found.items() if pictures is not None}
        if splits:
            return Layout(_description(splits), splits)
    _refuse_kaggle_archive(location)
    raise SourceError(f"{location}: no ILSVRC2012 here; {_expected(location)}")


class _Folder:
    """What a folder holds, listed once."""

    def __init__(self, location: str) -> None:
        self.location = location
        found = files.children(location)
        self.folders = [child.name for child in found if child.is_folder]
        self.files = [child.name for child in found if not child.is_folder]

    def below(self, name: str) -> _Folder | None:
        return _Folder(files.join(self.location, name)) if name in self.folders else None

    def class_tars(self) -> ClassTars | None:
        stems = [name.removesuffix(".tar") for name in self.files if name.endswith(".tar")]
        wnids = [stem for stem in stems if WORDNET_ID.fullmatch(stem)]
        if not wnids:
            return None
        tars = [ClassTar(wnid, files.join(self.location, f"{wnid}.tar")) for wnid in wnids]
        return ClassTars(f"{self.location} (a tar file for each class)", tars)


def _train(root: _Folder) -> Pictures | None:
    if TRAIN_TAR in root.files:
        return train_archive(files.join(root.location, TRAIN_TAR))
    for folder in (root, root.below("ILSVRC2012_img_train"), root.below("train")):
        tars = folder.class_tars() if folder else None
        if tars:
            return tars
    folder = root.below("train")
    return ClassFolders(folder.location, folder.folders) if folder and folder.folders else None


def _val(root: _Folder, label_folders: Sequence[str]) -> Pictures | None:
    if VAL_TAR in root.files:
        location = files.join(root.location, VAL_TAR)
        return ValTar(location, find_val_labels(label_folders, location))
    folder = root.below("val") or root.below("ILSVRC2012_img_val")
    if folder is None:
        return None
    flat = next((name for name in folder.files if VAL_PICTURE.fullmatch(name)), None)
    if flat and folder.folders:
        raise SourceError(
            f"{folder.location}: holds both class folders ({folder.folders[0]}, ...) and pictures in none ({flat}). "
            "Sort all of them into their class folders, or none."
        )
    if flat:
        return FlatValFolder(folder.location, folder.files, find_val_labels(label_folders, folder.location))
    return ClassFolders(folder.location, folder.folders) if folder.folders else None


def _label_folders(location: str, root: str) -> list[str]:
    """Return where the files of labels may lie: beside train and val, or above Kaggle's folders."""
    folders = [location, root]
    top = files.absolute(location)
    while (parts := top.rstrip("/").rpartition("/"))[2] in _KAGGLE_FOLDERS:
        top = parts[0] or "/"
        folders.append(top)
    return list(dict.fromkeys(folders))


def _description(splits: Mapping[str, Pictures]) -> str:
    forms = {type(pictures) for pictures in splits.values()}
    if forms <= {ClassTars, ValTar}:
        form = "original archives"
    elif forms == {ClassFolders}:
        form = "extracted folders"
    elif forms <= {ClassFolders, FlatValFolder}:
        form = "folders, val as in the archive"
    else:
        form = "archives and extracted folders"
    return f"{form}: " + ", ".join(f"{name} from {pictures.description}" for name, pictures in splits.items())


def _refuse_kaggle_archive(location: str) -> None:
    for name in _Folder(location).files:
        if name.startswith(_KAGGLE_ARCHIVES):
            raise SourceError(
                f"{files.join(location, name)}: a compressed archive cannot be read picture by picture. "
                "Extract it first, and name the folder that then holds ILSVRC."
            )


def _expected(location: str) -> str:
    return (
        f"expected {files.join(location, TRAIN_TAR)}, {VAL_TAR} and ILSVRC2012_devkit_t12.tar.gz, or train/n01440764/"
        "*.JPEG and val/n01440764/*.JPEG, or Kaggle's ILSVRC/Data/CLS-LOC with LOC_val_solution.csv beside ILSVRC."
    )
