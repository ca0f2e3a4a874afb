"""Further evaluation data on ILSVRC2012's classes: ImageNet-V2's pictures and ImageNet-ReaL's labels.

Source: Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, arXiv:1902.10811; Beyer et al., Are we done with
ImageNet?, arXiv:2006.07159, and its `real.json`.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Entries, Names
from datasets_tools.sources.imagenet_classes import NUM_CLASSES, VAL_PICTURE, checked_pictures
from datasets_tools.sources.imagenet_labels import val_number
from datasets_tools.sources.picture_files import FileEntries
from datasets_tools.sources.tar import Member, TarArchive
from datasets_tools.sources.tar_entries import TarEntries, listed
from datasets_tools.wording import counted


def v2_pictures(location: str, *, partial: bool) -> tuple[Entries, Sequence[str]]:
    """List an ImageNet-V2, whose class folders are labels: `7/0a1b2c.jpeg`.

    Args:
        location: its folder, or its plain tar file; a path or URL.
        partial: some class folders may be absent.

    Returns:
        The entries, by label and file name; and notes.

    Raises:
        SourceError: it is neither, is damaged, or a folder is no class.
    """
    try:
        is_folder, is_file = files.is_folder(location), files.is_file(location)
    except OSError as error:
        raise SourceError(f"{location}: cannot be reached: {files.why(error)}.") from error
    if is_folder:
        return _folder_v2(location, partial=partial)
    if is_file:
        return _tar_v2(location, partial=partial)
    raise SourceError(f"{location}: no such folder or file; expected an ImageNet-V2: a folder or .tar of 0/ to 999/.")


def _folder_v2(location: str, *, partial: bool) -> tuple[Entries, Sequence[str]]:
    children = files.children(location)
    names = [child.name for child in children if child.is_folder]
    labels = _checked_labels(location, names, partial=partial)
    keys, classes, num_others = Names(), array("q"), len(children) - len(names)

    def contents(label: int) -> list[str]:
        found = files.children(files.join(location, str(label)))
        return [f"{child.name}/" if child.is_folder else child.name for child in found]  # with a slash, no picture

    for label, found in zip(labels, listed(location, contents, labels), strict=True):
        pictures = checked_pictures(files.join(location, str(label)), found)
        num_others += len(found) - len(pictures)
        for name in pictures:
            keys.append(f"{label}/{name}")
            classes.append(label)
    entries = FileEntries(location, keys, np.frombuffer(classes, np.int64))
    return entries, (f"v2: {location} (class folders)", *_note_others(location, num_others))


def _note_others(location: str, count: int) -> Iterator[str]:
    if count:
        others = counted(count, "file or folder that is no picture is", "files and folders that are no pictures are")
        yield f"v2: {location}: {others} left out"


def _tar_v2(location: str, *, partial: bool) -> tuple[Entries, Sequence[str]]:
    archive = TarArchive(location)
    folders: dict[str, list[Member]] = {}
    num_others = 0
    for member in archive:
        num_others += "/" not in member.name
        if "/" in member.name:
            folder, name = member.name.split("/")[-2:]
            folders.setdefault(folder, []).append(member._replace(name=name))
    entries = TarEntries()
    for label in _checked_labels(location, folders, partial=partial):
        members = {member.name: member for member in folders[str(label)]}
        names = [member.name for member in folders[str(label)]]
        pictures = checked_pictures(f"{location}: {label}", names)
        num_others += len(names) - len(pictures)
        for name in pictures:
            entries.append(f"{label}/{name}", label, location, members[name].start, members[name].size)
    return entries, (f"v2: {location}", *archive.notes, *_note_others(location, num_others))


def _checked_labels(location: str, names: Iterable[str], *, partial: bool) -> list[int]:
    """Return the labels that folders are named by, in the order of numbers, which is not that of names."""
    official = {str(label) for label in range(NUM_CLASSES)}
    found = set(names)
    strangers = sorted(found - official)
    if strangers or not found:
        raise SourceError(
            f"{location}: holds {f'a folder {strangers[0]!r}' if strangers else 'no folders'}; ImageNet-V2's folders "
            f"are called 0 to {NUM_CLASSES - 1}. Name the folder right around them."
        )
    if len(found) < NUM_CLASSES and not partial:
        absent = min(int(name) for name in official - found)
        raise SourceError(
            f"{location}: holds {len(found):,} of ImageNet-V2's {NUM_CLASSES:,} class folders; {absent} is not there. "
            "Add what is missing, or pass --partial."
        )
    return sorted(int(name) for name in found)


def real_labels(location: str, val: Entries | None) -> list[list[int]]:
    """Read ImageNet-ReaL's labels.

    Args:
        location: of `real.json`: for each validation picture, in the order of their numbers, a list of labels.
        val: the entries of the validation split.

    Returns:
        The labels of each entry; an empty list is a picture without a right class.

    Raises:
        SourceError: it is no such file, or does not cover the entries.
    """
    if val is None:
        raise SourceError(f"{location}: labels validation pictures, of which there are none. Leave out --real.")
    try:
        content = json.loads(files.read(location))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{location}: cannot be read as JSON: {error}. Get real.json again.") from error
    if not isinstance(content, list):
        raise SourceError(f"{location}: holds no list of lists of labels. Get real.json again.")
    return [_right_classes(location, content, val.key(k)) for k in range(len(val))]


def _right_classes(location: str, content: list[object], key: str) -> list[int]:
    name = key.rpartition("/")[2]
    if not VAL_PICTURE.fullmatch(name):
        raise SourceError(
            f"{location}: {key} is not called like ILSVRC2012_val_00000001.JPEG, so its labels are unknown."
        )
    number = val_number(name)
    if not 1 <= number <= len(content):
        raise SourceError(f"{location}: has {len(content):,} lists of labels, none for {name}. Get real.json again.")
    labels = content[number - 1]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < NUM_CLASSES for label in labels):
        raise SourceError(
            f"{location}: item {number:,} is {str(labels)[:40]}; allowed are lists of labels from 0 to "
            f"{NUM_CLASSES - 1}."
        )
    return labels
