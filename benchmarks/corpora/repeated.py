"""A store as large as one likes, of the pictures of another: its shards are the same files, again and again."""

from __future__ import annotations

import math
from pathlib import Path

from datasets_tools.store import Store
from datasets_tools.store.manifest import FileRecord, Manifest, ShardRecord, SplitRecord


def repeated(store: Store, num_pictures: int, folder: Path) -> Store:
    """Write a store of at least so many pictures, by links to a store's files, and open it.

    Args:
        store: whose split `train` is repeated as a whole.
        num_pictures: that there shall be at least.
        folder: is made.
    """
    manifest = Manifest.load(store.path)
    train = manifest.splits["train"]
    times = math.ceil(num_pictures / train.num_samples)
    folder.mkdir(parents=True)
    shards = [_linked(store.path, shard, folder, turn) for turn in range(times) for shard in train.shards]
    larger: SplitRecord = train.model_copy(
        update={
            "shards": tuple(shards),
            "num_samples": times * train.num_samples,
            "class_counts": tuple(times * number for number in train.class_counts),
            "counts": train.counts.model_copy(update={"kept": times * train.num_samples}),
            "label_sets": {},
        }
    )
    manifest.model_copy(update={"splits": {"train": larger}}).save(folder)
    return Store(folder)


def _linked(source: Path, shard: ShardRecord, folder: Path, turn: int) -> ShardRecord:
    """Link a shard's files under names of their own."""

    def linked(record: FileRecord) -> FileRecord:
        name = f"{turn:06d}-{record.name}"
        (folder / name).symlink_to((source / record.name).resolve())
        return record.model_copy(update={"name": name})

    return shard.model_copy(update={"beton": linked(shard.beton), "index": linked(shard.index)})
