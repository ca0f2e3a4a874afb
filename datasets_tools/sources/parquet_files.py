"""Which Parquet files make which split, by their names: as Hugging Face's hub lays them out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.naming import in_order, split_name

# `Dataset.push_to_hub` names files train-00000-of-00294.parquet; older versions added part of a hash.
_SHARD = re.compile(r"(?P<split>\w[\w.-]*?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?\.parquet")
_KEYWORD = re.compile(r"(?P<split>train|training|validation|valid|val|dev|test)([^a-z].*)?\.parquet", re.IGNORECASE)
_SPLIT_FOLDERS = frozenset({"train", "training", "validation", "valid", "val", "dev", "test"})
# Where the tables lie: the hub keeps them in `data`, its automatic conversions in `default`.
_NESTINGS = ("", "data", "default")
_LAYOUT = "expected train-*.parquet and validation-*.parquet in it or in its folder data, or folders train and val"


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of each split.

    Attributes:
        folder: what their names are relative to.
        names: by split, in order.
        notes: what is missing or left out, one line each.
    """

    folder: str
    names: Mapping[str, Sequence[str]]
    notes: Sequence[str]


def find(location: str, *, partial: bool) -> SplitFiles:
    """Find the Parquet files of a data set.

    Args:
        location: path or URL of a folder, or of one file, which is then the train split.
        partial: whether files of a numbered series may be missing.

    Raises:
        SourceError: there are none, their split is not clear, some of a numbered series are missing, or a split
            has files of two.
    """
    if location.endswith(".parquet"):
        return SplitFiles(files.parent(location), {"train": [location.rpartition("/")[2]]}, ())
    for nesting in _NESTINGS:
        if nesting and not any(child.is_folder and child.name == nesting for child in files.children(location)):
            continue
        folder = files.join(location, nesting) if nesting else location
        names = [*_tables(folder), *_tables_of_split_folders(folder)]
        if names:
            splits = _by_split(folder, names)
            return SplitFiles(folder, splits, _check_complete(folder, splits, partial=partial))
    raise SourceError(f"{location}: holds no Parquet files; {_LAYOUT}.")


def _tables(folder: str) -> list[str]:
    return [child.name for child in files.children(folder) if not child.is_folder and child.name.endswith(".parquet")]


def _tables_of_split_folders(folder: str) -> list[str]:
    folders = [child.name for child in files.children(folder) if child.is_folder and child.name in _SPLIT_FOLDERS]
    return [f"{name}/{table}" for name in folders for table in _tables(files.join(folder, name))]


def _by_split(folder: str, names: Sequence[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(_split_of(folder, name), []).append(name)
    return {split: splits[split] for split in in_order(splits)}


def _split_of(folder: str, name: str) -> str:
    inside, slash, table = name.rpartition("/")
    match = _SHARD.fullmatch(table) or _KEYWORD.fullmatch(table)
    if not slash and match is None:
        raise SourceError(
            f"{files.join(folder, name)}: its name does not say which split it is of; {_LAYOUT}. Rename or move it."
        )
    return split_name(inside if slash or match is None else match["split"])


def _check_complete(folder: str, splits: Mapping[str, Sequence[str]], *, partial: bool) -> list[str]:
    """Return a note for each split whose series lacks files; an interrupted download looks like a small data set."""
    notes = []
    for names in splits.values():
        prefix, count = _series(names[0])
        absent = sorted(set(range(count)) - _numbers(folder, names))
        if absent:
            found = f"{folder}: {len(absent):,} of the {count:,} files {prefix}-*-of-{count:05d}.parquet are missing"
            if not partial:
                raise SourceError(
                    f"{found}, the first is {prefix}-{absent[0]:05d}-of-{count:05d}.parquet. Fetch them, or take what "
                    "is there with --partial."
                )
            notes.append(found)
    return notes


def _series(name: str) -> tuple[str, int]:
    """Return what the files of a numbered series have in common, prefix and count; ("", 0) for a file of none."""
    inside, slash, table = name.rpartition("/")
    match = _SHARD.fullmatch(table)
    return (f"{inside}{slash}{match['split']}", int(match["count"])) if match else ("", 0)


def _numbers(folder: str, names: Sequence[str]) -> set[int]:
    """Return the numbers of a split's files in their series; two downloads side by side would double its pictures.

    The hash in a name does not tell downloads apart: `push_to_hub` gave every file of a series its own.
    """
    by_number: dict[int, str] = {}
    for name in names:
        match = _SHARD.fullmatch(name.rpartition("/")[2])
        other = by_number.setdefault(int(match["number"]), name) if match else name
        if other == name and _series(name) != _series(names[0]):
            other = names[0]
        if other != name:
            raise SourceError(
                f"{files.join(folder, name)}: does not go with {other}: both are of one split, but not two files of "
                "one series. If one is of another download, or the same under another name, remove it; otherwise merge "
                "the two series."
            )
    return set(by_number)
