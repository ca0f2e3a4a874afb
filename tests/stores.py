"""Stores of exactly the bytes a test wants, undecodable ones included: `convert` would rightly refuse those."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from datasets_tools.jpeg import Subsampling
from datasets_tools.store import Split, Store
from datasets_tools.store.index import Flag, IndexBuilder, SampleInfo, StoredFormat
from datasets_tools.store.manifest import Counts, FileRecord, Manifest, ShardRecord, SourceRecord, SplitRecord
from datasets_tools.store.writer import BetonWriter

LabelSets = Mapping[str, Sequence[Sequence[int]]]


@dataclass(frozen=True)
class StoredPicture:
    """Bytes, and the size that the store says they decode to; raw pixels where `raw`."""

    key: str
    data: bytes
    height: int
    width: int
    label: int = 0
    raw: bool = False


def write_split(
    folder: Path,
    pictures: Sequence[StoredPicture],
    *,
    name: str = "train",
    num_classes: int = 1,
    num_shards: int = 1,
    label_sets: LabelSets | None = None,
) -> Split:
    """Write `pictures` as a split, in shards of consecutive pictures, and open it."""
    return Split(folder, name, write_files(folder, name, pictures, num_classes, num_shards, label_sets or {}))


def write_store(
    folder: Path,
    splits: Mapping[str, Sequence[StoredPicture]],
    class_names: Sequence[str] = ("only",),
    *,
    num_shards: int = 1,
    label_sets: Mapping[str, LabelSets] | None = None,
) -> Store:
    """Write a whole store with its manifest, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    records = {
        name: write_files(folder, name, pictures, len(class_names), num_shards, (label_sets or {}).get(name, {}))
        for name, pictures in splits.items()
    }
    Manifest(
        format_version=3,
        fastbot_version="0",
        source=SourceRecord(name="test", options={}),
        policy=None,
        class_names=tuple(class_names),
        splits=records,
    ).save(folder)
    return Store(folder)


def write_files(
    folder: Path,
    name: str,
    pictures: Sequence[StoredPicture],
    num_classes: int,
    num_shards: int,
    label_sets: LabelSets,
) -> SplitRecord:
    """Write a split's files, and return its record."""
    sizes = [len(picture.data) for picture in pictures]
    labels = [picture.label for picture in pictures]
    cuts = [number * len(pictures) // num_shards for number in range(num_shards + 1)]
    shards = [
        _write_shard(folder, name if num_shards == 1 else f"{name}-{number:05d}-of-{num_shards:05d}", pictures[a:b])
        for number, (a, b) in enumerate(pairwise(cuts))
    ]
    return SplitRecord(
        shards=tuple(shards),
        num_samples=len(pictures),
        class_counts=tuple(labels.count(label) for label in range(num_classes)),
        max_height=max((picture.height for picture in pictures), default=0),
        max_width=max((picture.width for picture in pictures), default=0),
        max_bytes=max(sizes, default=0),
        mean_bytes=sum(sizes) / max(1, len(sizes)),
        counts=Counts(kept=len(pictures)),
        quarantined=(),
        label_sets={key: _write_label_set(folder, f"{name}.{key}.json", value) for key, value in label_sets.items()},
    )


def flip_bytes(split: Split, sample_id: int) -> None:
    """Damage a stored sample: invert eight bytes in its middle, in the file."""
    shard = next(shard for shard in reversed(split.shards) if shard.first_id <= sample_id)
    middle = int(split.offsets[sample_id]) - shard.start + int(split.sizes[sample_id]) // 2
    with shard.path.open("r+b") as file:
        file.seek(middle)
        stored = file.read(8)
        file.seek(middle)
        file.write(bytes(byte ^ 0xFF for byte in stored))


def file_record(path: Path) -> FileRecord:
    """Return what a manifest says of a file."""
    return FileRecord(name=path.name, size=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _write_shard(folder: Path, name: str, pictures: Sequence[StoredPicture]) -> ShardRecord:
    index = IndexBuilder(len(pictures))
    with BetonWriter(folder / f"{name}.beton", len(pictures)) as writer:
        for picture in pictures:
            place = {"height": picture.height, "width": picture.width, "label": picture.label}
            offset = writer.append(picture.data, **place, raw=picture.raw)
            index.append(_info(picture), offset=offset, size=len(picture.data), **place)
        beton_crc32 = writer.finish()
    index.write(folder / f"{name}.index", beton_crc32)
    return ShardRecord(
        beton=file_record(folder / f"{name}.beton"),
        index=file_record(folder / f"{name}.index"),
        num_samples=len(pictures),
    )


def _info(picture: StoredPicture) -> SampleInfo:
    return SampleInfo(
        key=picture.key,
        crc32=zlib.crc32(picture.data),
        components=3,
        subsampling=Subsampling.S444 if picture.raw else Subsampling.OTHER,
        orientation=0,
        restart_interval=0,
        flags=Flag(0),
        stored_format=StoredFormat.RAW if picture.raw else StoredFormat.JPEG,
    )


def _write_label_set(folder: Path, name: str, lists: Sequence[Sequence[int]]) -> FileRecord:
    (folder / name).write_text(json.dumps([list(labels) for labels in lists]))
    return file_record(folder / name)
