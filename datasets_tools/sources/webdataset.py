"""WebDataset: tar shards in which the files of a sample share their name up to its first dot.

Samples come in the order of the shards' names, then of the files in them, so that a shard is read from front to back.

Source: the format of the webdataset package, `webdataset.tariterators.base_plus_ext` and `group_by_keys`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datasets_tools import files
from datasets_tools.errors import SourceError
from datasets_tools.sources.base import Options, first_duplicate
from datasets_tools.sources.naming import check_classes_of_train, in_order, split_name
from datasets_tools.sources.tar_entries import TarEntries, listed
from datasets_tools.sources.webdataset_classes import find_classes
from datasets_tools.sources.webdataset_shard import list_shard, splits_of_shards
from datasets_tools.wording import counted

_COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")


class WebDatasetSource:
    """List the samples of tar shards.

    Args:
        location: a folder of shards, or of folders of shards called by their splits (`train`, `val`, ...), or one
            shard; a path or URL. In one folder of shards, a shard's split is the word train, val, validation or test in
            its name; where no shard's name has one, all are `train`.

    Attributes:
        class_names: of `classes.txt`, `classnames.txt` or `dataset.json` in the folder; else the labels.
        splits: the entries of each split.
        notes: what was recognized and passed over, one line each.

    Raises:
        SourceError: there are no shards, a split's hold no picture, one is damaged, or a sample lacks its picture or
            its label.
    """

    name = "webdataset"

    def __init__(self, location: str) -> None:
        try:
            shards = _shards(location)
            classes = find_classes(files.parent(location) if _is_shard(location) else location)
        except OSError as error:
            raise SourceError(f"{location}: cannot be reached: {files.why(error)}.") from error
        counts = ", ".join(f"{len(paths):,} of {split}" for split, paths in shards.items())
        notes = [f"{location}: tar shards: {counts}"]
        splits = {split: TarEntries() for split in shards}
        for split, entries in splits.items():
            for path, samples in zip(shards[split], listed(location, list_shard, shards[split]), strict=True):
                for sample in samples.rows:
                    place = classes.place(sample.label, f"{path}: {sample.key}")
                    entries.append(sample.key, place, path, sample.start, sample.size)
                notes.extend(samples.notes)
            if not len(entries):
                raise _empty(location, split, shards[split])
            if first_duplicate(entries.keys) is not None:
                entries.prefix_keys()
                notes.append(f"{location}: {split}: shards share keys, so each key begins with its shard's name")
        class_names, labels = classes.resolve(location)
        for entries in splits.values():
            entries.relabel(labels)
        check_classes_of_train(
            {split: entries.labels for split, entries in splits.items()},
            class_names,
            lambda split, index: f"{location}: {split}: {splits[split].key(index)}",
        )
        self.options: Options = {}
        self.class_names: Sequence[str] = class_names
        self.splits: Mapping[str, TarEntries] = splits
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {}
        self.notes: Sequence[str] = tuple(notes)


def _empty(location: str, split: str, shards: Sequence[str]) -> SourceError:
    others = f" and {counted(len(shards) - 1, 'other')}" if len(shards) > 1 else ""
    return SourceError(
        f"{location}: split {split} holds no pictures: no sample in {shards[0]}{others}. Pack its shards again, or "
        "remove them."
    )


def _is_shard(location: str) -> bool:
    return location.endswith(".tar") and files.is_file(location)


def _shards(location: str) -> dict[str, list[str]]:
    """Return the shards' locations by split, in order."""
    by_split = splits_of_shards([location]) if _is_shard(location) else _shards_of_folder(location)
    if not {"train", "val"} & by_split.keys():
        raise SourceError(f"{location}: holds no shards of train or val; {_expected(location)}")
    return {split: by_split[split] for split in in_order(by_split)}


def _shards_of_folder(location: str) -> dict[str, list[str]]:
    _check_plain(location)
    if not files.is_folder(location):
        raise SourceError(f"{location}: {files.why_no_folder(location)}; {_expected(location)}")
    by_split: dict[str, list[str]] = {}
    for child in files.children(location):
        if not child.is_folder:
            continue
        found = _tars(folder := files.join(location, child.name))
        if found and by_split.setdefault(split_name(child.name), found) is not found:
            raise SourceError(f"{folder}: another folder holds shards of {split_name(child.name)} too. Merge the two.")
    flat = _tars(location)
    if flat and by_split:
        raise SourceError(
            f"{location}: holds both shards ({flat[0]}) and folders of shards ({', '.join(by_split)}). "
            "Move the shards into the folders of their splits."
        )
    return by_split or splits_of_shards(flat)


def _tars(folder: str) -> list[str]:
    names = [child.name for child in files.children(folder) if not child.is_folder]
    for name in names:
        _check_plain(files.join(folder, name))
    return [files.join(folder, name) for name in names if name.endswith(".tar")]


def _check_plain(path: str) -> None:
    if path.endswith(_COMPRESSED):
        raise SourceError(
            f"{path}: a compressed shard cannot be read picture by picture. Decompress all shards first, for example "
            "with gunzip."
        )


def _expected(location: str) -> str:
    return (
        f"expected {files.join(location, 'train-000000.tar')} or {files.join(location, 'train/000000.tar')} and so on."
    )
