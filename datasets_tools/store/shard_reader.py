"""The files of a split's shards, opened and checked against each other and against the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import StoreError, unreadable
from datasets_tools.store import beton
from datasets_tools.store.address_space import map_files
from datasets_tools.store.beton_tables import Tables, read_tables
from datasets_tools.store.index import Index
from datasets_tools.store.manifest import FileRecord, ShardRecord
from datasets_tools.store.record_rules import record_faults

AGAIN = "Convert the store again from its source."


@dataclass(frozen=True, slots=True)
class Shard:
    """One `.beton` file of a split.

    Attributes:
        path: the file.
        first_id: the id in the split of its first sample.
        num_samples: how many it has.
        start: where its first byte lies in the split's data.
        size: of the file, in bytes.
    """

    path: Path
    first_id: int
    num_samples: int
    start: int
    size: int


def open_shards(
    folder: Path, records: Sequence[ShardRecord], num_classes: int
) -> tuple[NDArray[np.uint8], tuple[Shard, ...], tuple[Index, ...]]:
    """Map the shards of a split one after another and check all their tables.

    Args:
        folder: the store's folder.
        records: what the manifest says of them; at least one.
        num_classes: labels are below it.

    Returns:
        The bytes of all `.beton` files, uint8, read-only; where each shard lies in them; the shards' indices.

    Raises:
        StoreError: a file is missing, damaged, or disagrees with the manifest or with its index.
    """
    for record in records:
        check_size(folder / record.beton.name, record.beton)
        check_size(folder / record.index.name, record.index)
    indices = tuple(open_index(folder / record.index.name, record) for record in records)
    data, starts = map_files(
        [folder / record.beton.name for record in records], [record.beton.size for record in records]
    )
    first_ids = np.cumsum([0, *(index.num_samples for index in indices)]).tolist()
    shards = tuple(
        Shard(folder / record.beton.name, first_id, index.num_samples, start, record.beton.size)
        for record, index, first_id, start in zip(records, indices, first_ids[:-1], starts, strict=True)
    )
    for shard, index in zip(shards, indices, strict=True):
        checked_tables(shard.path, data[shard.start : shard.start + shard.size], index)
        _check_records(shard, index, num_classes)
    return data, shards, indices


def check_size(path: Path, record: FileRecord) -> None:
    """Refuse a file whose size is not the one the manifest promises.

    Raises:
        StoreError: it is missing, cannot be looked at, is empty, or has another size.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise unreadable(path, error) from error
    if size is None:
        raise StoreError(f"{path}: is missing. {AGAIN}")
    if size != record.size or not size:
        state = "was cut short" if size <= record.size else "is of another conversion"
        raise StoreError(
            f"{path}: {state}: it has {size:,} bytes, manifest.json says {record.size:,}. Copy it again, or "
            "convert the store again from its source."
        )


def open_index(path: Path, record: ShardRecord) -> Index:
    """Open a shard's index.

    Args:
        path: of the index.
        record: what the manifest says of the shard.

    Raises:
        StoreError: it is missing, damaged, or has another number of samples.
    """
    index = Index(path)
    if index.num_samples != record.num_samples:
        raise StoreError(
            f"{path}: disagrees with manifest.json about num_samples: {index.num_samples:,}, not "
            f"{record.num_samples:,}. One of the two is of another conversion: {AGAIN.lower()}"
        )
    return index


def checked_tables(path: Path, data: NDArray[np.uint8], index: Index) -> Tables:
    """Find the tables of a shard's `.beton` file.

    Args:
        path: for messages.
        data: the whole file, uint8.
        index: of the shard.

    Raises:
        StoreError: they are damaged, or not those that the index was written for.
    """
    tables = read_tables(path, data)
    if len(tables.rows) != index.num_samples:
        raise StoreError(f"{path}: has {len(tables.rows):,} samples, its index {index.num_samples:,}. {AGAIN}")
    if tables.crc32 != index.beton_crc32:
        raise StoreError(
            f"{path}: is damaged, or is not the file its index was written for: the checksum of its tables is "
            f"wrong. {AGAIN}"
        )
    return tables


def _check_records(shard: Shard, index: Index, num_classes: int) -> None:
    data_start, data_end = beton.data_region(shard.num_samples, shard.size)
    for reason, broken in record_faults(
        index.records,
        keys_size=index.keys_size,
        data_start=data_start,
        data_end=data_end,
        num_classes=num_classes,
    ):
        if broken.any():
            sample_id = shard.first_id + int(broken.argmax())
            raise StoreError(f"{shard.path}: its index is damaged: sample {sample_id}: {reason}. {AGAIN}")
