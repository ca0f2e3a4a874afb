"""Small stores cut from a large one: some of its classes, some of their pictures, byte for byte.

Which pictures are chosen follows from the seed, the class's name and the pictures' keys: no order, number of shards or
other class has a say. So two stores of the same data set give the same subset, a class loses the same pictures whatever
else is kept, and 5 % lie inside 10 % of the same seed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_tools.conversion.shards import Shard, ShardResult, ShardWriter, remove_traces
from datasets_tools.errors import ConversionError, StoreError
from datasets_tools.exchange.class_names import find_classes
from datasets_tools.pictures import Picture
from datasets_tools.space import check_space
from datasets_tools.staging import atomic_folder, write_whole
from datasets_tools.store import Split, Store
from datasets_tools.store.index import Flag
from datasets_tools.store.manifest import FORMAT_VERSION, MANIFEST_NAME, FileRecord, Manifest, SourceRecord, SplitRecord

# What `Counts.reencoded` calls pictures of which the index alone no longer tells what the source held.
UNKNOWN_ORIGIN = "unknown"

# Called with the split's name, its pictures done, and all its pictures.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a subset keeps; give at most one of `classes` and `num_classes`, and one of `fraction` and `per_class`.

    Attributes:
        classes: names as `find_classes` takes them; None keeps all.
        num_classes: keep so many, drawn by the seed.
        fraction: share of each class's pictures, above 0, at most 1; rounded, at least one picture.
        per_class: pictures of each class, or all where there are fewer.
        seed: decides what is drawn, 0 <= seed < 2**64.
        splits: the splits to keep; None keeps all.
        thinned: the splits that `fraction` and `per_class` apply to; the others keep every picture of the kept classes.
            None: `train`, or every kept split where `train` is not kept.
    """

    classes: Sequence[str] | None = None
    num_classes: int | None = None
    fraction: float | None = None
    per_class: int | None = None
    seed: int = 0
    splits: Sequence[str] | None = None
    thinned: Sequence[str] | None = None


def subset(source: Path, destination: Path, selection: Selection, fastbot_version: str, progress: Progress) -> Manifest:
    """Write a store that holds a part of another.

    Bytes, keys and flags of the samples are the source's. Labels are numbered anew, in the order of the kept classes in
    the source; in label sets, classes that are not kept are left out. The counts are those of the samples' flags. What
    re-encoded pictures were in the beginning is no flag: it is told where the source's manifest leaves no doubt (the
    whole split is kept, or it has one origin only), and is `unknown` elsewhere. Each split is one shard.

    Args:
        source: the store to cut from.
        destination: must not exist, or be an empty folder.
        selection: what to keep.
        fastbot_version: goes into the manifest.
        progress: called as the pictures pass.

    Returns:
        The new store's manifest.

    Raises:
        StoreError: the source is no whole store, or has no such class or split, or none of the splits to be thinned is
            kept; of a damaged sample, `DamagedSampleError`.
        ConversionError: the destination is taken or lacks space, or a split would be left without a picture.
        OSError: something cannot be written.
    """
    store = Store(source, verify="always")
    labels = _kept_classes(store, selection)
    splits = _kept_splits(store, selection)
    thinned = _thinned_splits(store, selection, splits)
    unthinned = replace(selection, fraction=None, per_class=None)
    copies = [
        _SplitCopy(store.split(name), store.class_names, labels, selection if name in thinned else unthinned)
        for name in splits
    ]
    check_space(destination, sum(copy.num_bytes for copy in copies))
    with atomic_folder(destination) as folder:
        records = {name: copy.write(folder, progress) for name, copy in zip(splits, copies, strict=True)}
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            fastbot_version=fastbot_version,
            source=_origin(store, selection, splits, thinned),
            policy=store.manifest.policy,
            class_names=tuple(store.class_names[label] for label in labels),
            splits=records,
        )
        manifest.save(folder)
    return manifest


def chosen(split: Split, class_names: Sequence[str], labels: Sequence[int], selection: Selection) -> NDArray[np.int64]:
    """Return the samples of a split that a selection keeps.

    Args:
        split: of the source.
        class_names: of the source, by label.
        labels: the kept classes.
        selection: what is kept of each, by its `fraction` or `per_class`.

    Returns:
        Sample ids, int64, ascending.
    """
    by_class = np.argsort(split.labels, kind="stable")
    ends = np.cumsum(np.bincount(split.labels, minlength=len(class_names)))
    groups = np.split(by_class, ends[:-1])
    kept = [_thinned(split, class_names[label], groups[label], selection) for label in labels]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def _thinned(split: Split, class_name: str, ids: NDArray[np.int64], selection: Selection) -> NDArray[np.int64]:
    """Return the part of a class's samples that is kept: those whose keys rank lowest."""
    count = _num_kept(len(ids), selection)
    if count == len(ids):
        return ids
    keys = [split.key(sample_id) for sample_id in ids.tolist()]
    order = sorted(range(len(ids)), key=lambda place: (_rank(selection.seed, class_name, keys[place]), keys[place]))
    return ids[order[:count]]


def _num_kept(num_pictures: int, selection: Selection) -> int:
    if selection.fraction is not None:
        return min(num_pictures, max(1, math.floor(selection.fraction * num_pictures + 0.5)))
    if selection.per_class is not None:
        return min(num_pictures, selection.per_class)
    return num_pictures


def _rank(seed: int, *names: str) -> bytes:
    """Return where names stand in the order that a seed draws: a keyed hash, uniform and the same everywhere."""
    return hashlib.blake2b("\0".join(names).encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()


def _kept_classes(store: Store, selection: Selection) -> tuple[int, ...]:
    if selection.classes is not None:
        labels = find_classes(selection.classes, store.class_names)
        if not labels:
            raise StoreError("no class is named: name at least one.")
        return labels
    every = range(store.num_classes)
    if selection.num_classes is None:
        return tuple(every)
    if selection.num_classes > store.num_classes:
        raise StoreError(
            f"{store.path}: has {store.num_classes:,} classes, fewer than the {selection.num_classes:,} asked for."
        )
    drawn = sorted(every, key=lambda label: _rank(selection.seed, store.class_names[label]))
    return tuple(sorted(drawn[: selection.num_classes]))


def _kept_splits(store: Store, selection: Selection) -> tuple[str, ...]:
    for name in selection.splits or ():
        store.split(name)  # names those that exist, where this one does not
    return tuple(name for name in store.splits if selection.splits is None or name in selection.splits)


def _thinned_splits(store: Store, selection: Selection, kept: Sequence[str]) -> tuple[str, ...]:
    if selection.fraction is None and selection.per_class is None:
        return ()
    if selection.thinned is None:
        return ("train",) if "train" in kept else tuple(kept)
    for name in selection.thinned:
        store.split(name)
    thinned = tuple(name for name in kept if name in selection.thinned)
    if not thinned:
        raise StoreError(
            f"{store.path}: {', '.join(selection.thinned)} is to be thinned, but of it nothing is kept. Thin a split "
            f"that is: {', '.join(kept)}."
        )
    return thinned


def _origin(store: Store, selection: Selection, splits: Sequence[str], thinned: Sequence[str]) -> SourceRecord:
    """Return what decided the subset: the selection, and the store it was cut from."""
    asked: Mapping[str, int | float | None] = {
        "num_classes": selection.num_classes,
        "fraction": selection.fraction,
        "per_class": selection.per_class,
    }
    return SourceRecord(
        name="subset",
        options={
            **{name: value for name, value in asked.items() if value is not None},
            "seed": selection.seed,
            "splits": ",".join(splits),
            **({"thinned": ",".join(thinned)} if thinned else {}),
            "manifest_sha256": FileRecord.of_file(store.path / MANIFEST_NAME).sha256,
            "source": store.manifest.source.name,
            **{f"source.{name}": value for name, value in store.manifest.source.options.items()},
        },
    )


class _SplitCopy:
    """The chosen samples of one split, on their way into a new store."""

    def __init__(self, split: Split, class_names: Sequence[str], labels: Sequence[int], selection: Selection) -> None:
        self._split = split
        self._new_labels = {label: place for place, label in enumerate(labels)}
        self._ids = chosen(split, class_names, labels, selection)
        if not len(self._ids):
            raise ConversionError(
                f"{split.path}: split {split.name} has no picture of the classes to keep. Leave the split out with "
                "--split, or keep other classes."
            )

    @property
    def num_bytes(self) -> int:
        """Bytes of the chosen samples."""
        return int(self._split.sizes[self._ids].sum())

    def write(self, folder: Path, progress: Progress) -> SplitRecord:
        """Write the shard and the label sets."""
        count = len(self._ids)
        shard = Shard(self._split.name, self._split.name, 0, count)
        labels = np.array([self._new_labels[label] for label in self._split.labels[self._ids].tolist()], dtype=np.int64)
        writer = ShardWriter(folder, shard, labels)
        try:
            for done, picture in enumerate(self._pictures(), start=1):
                writer.append(picture)
                progress(self._split.name, done, count)
            result = writer.finish()
        except BaseException as error:
            writer.abandon(error)
            raise
        remove_traces(folder, [shard])
        return self._record(result, self._write_label_sets(folder))

    def _pictures(self) -> Iterator[Picture]:
        origins = self._split.record.counts.reencoded
        origin = next(iter(origins)) if len(origins) == 1 else UNKNOWN_ORIGIN
        for sample_id in self._ids.tolist():
            info = self._split.info(sample_id)
            yield Picture(
                data=self._split.encoded(sample_id).data,
                height=int(self._split.heights[sample_id]),
                width=int(self._split.widths[sample_id]),
                info=info,
                reencoded=origin if Flag.REENCODED in info.flags else None,
            )

    def _write_label_sets(self, folder: Path) -> dict[str, FileRecord]:
        """Write the label sets of the chosen samples and say what was written."""
        records = {}
        for name, record in self._split.record.label_sets.items():
            lists = self._split.label_lists(name)
            mapped = [
                [self._new_labels[label] for label in lists[sample_id] if label in self._new_labels]
                for sample_id in self._ids.tolist()
            ]
            path = folder / record.name
            write_whole(path, json.dumps(mapped, separators=(",", ":")).encode())
            records[name] = FileRecord.of_file(path)
        return records

    def _record(self, result: ShardResult, label_sets: dict[str, FileRecord]) -> SplitRecord:
        return SplitRecord(
            shards=(result.record,),
            num_samples=len(self._ids),
            class_counts=tuple(result.class_counts.get(label, 0) for label in range(len(self._new_labels))),
            max_height=result.max_height,
            max_width=result.max_width,
            max_bytes=result.max_bytes,
            mean_bytes=result.total_bytes / len(self._ids),
            counts=self._split.record.counts if len(self._ids) == len(self._split) else result.counts,
            quarantined=(),
            label_sets=label_sets,
        )
