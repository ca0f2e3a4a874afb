"""All that is wrong with one shard: its files, its tables, and each of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools import jpeg
from datasets_tools.checksum import crc32
from datasets_tools.digest import FileDigest
from datasets_tools.errors import StoreError
from datasets_tools.inspection.sweep import Piece, Sweep, map_pieces
from datasets_tools.store import beton
from datasets_tools.store.address_space import map_file
from datasets_tools.store.beton_tables import Tables
from datasets_tools.store.index import RECORD, Index, StoredFormat
from datasets_tools.store.manifest import FileRecord, ShardRecord
from datasets_tools.store.record_rules import record_faults
from datasets_tools.store.shard_reader import check_size, checked_tables, open_index


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file of the store, by name, and what is wrong with it."""

    file: str
    reason: str


class ShardCheck:
    """Check one shard; a damaged file does not keep the samples in it from being checked one by one.

    Args:
        folder: the store's.
        record: what the manifest says of the shard.
        num_classes: labels are below it.
        deep: decode every JPEG too.

    Attributes:
        index: the shard's; None where it is damaged itself, and its samples cannot be checked.
        files: what is wrong with the shard's files.
        samples: what is wrong with its samples, by their ids in the shard.
        num_checked: samples whose bytes were read.
    """

    def __init__(self, folder: Path, record: ShardRecord, num_classes: int, *, deep: bool) -> None:
        self.index: Index | None = None
        self.files: list[FileProblem] = []
        self.samples: dict[int, str] = {}
        self.num_checked = 0
        self._folder = folder
        self._record = record
        self._num_classes = num_classes
        self._deep = deep

    def run(self, num_threads: int) -> Iterator[int]:
        """Check everything; yield how many bytes of the `.beton` file were read since the last time.

        Args:
            num_threads: that check samples; the caller's thread reads and hashes.
        """
        index_record, beton_record = self._record.index, self._record.beton
        with self._noting(index_record):
            self.index = _checked_index(self._folder / index_record.name, self._record)
        with self._noting(beton_record):
            check_size(self._folder / beton_record.name, beton_record)
        with self._noting(beton_record):
            yield from self._read_samples(self._folder / beton_record.name, num_threads)
        if self.index is not None and not self.files:
            with self._noting(beton_record):
                path = self._folder / beton_record.name
                tables = checked_tables(path, map_file(path), self.index)
                self._mark("the .beton file's own tables say otherwise", _contradicted(tables, self.index.records))

    @contextmanager
    def _noting(self, file: FileRecord) -> Iterator[None]:
        """Write down an error as a problem of `file`; a file that has one already keeps that."""
        try:
            yield
        except (StoreError, OSError) as error:
            if not any(problem.file == file.name for problem in self.files):
                reason = str(error).removeprefix(f"{self._folder / file.name}: ")
                self.files.append(FileProblem(file.name, reason))

    def _read_samples(self, path: Path, num_threads: int) -> Iterator[int]:
        ids = self._readable(path.stat().st_size)
        sweep = Sweep(path, self._records, ids)
        for num_bytes, faults in map_pieces(sweep, self._check_piece, num_threads):
            self.samples.update(faults)
            yield num_bytes
        self.num_checked = len(ids)
        if sweep.sha256 != self._record.beton.sha256:
            raise StoreError("its sha256 is not the one in manifest.json: bytes of it were altered")

    @property
    def _records(self) -> NDArray[Any]:
        return np.zeros(0, dtype=RECORD) if self.index is None else self.index.records

    def _readable(self, file_size: int) -> NDArray[np.int64]:
        """Return the samples whose bytes can be asked for; the others have their problem written down."""
        records = self._records
        data_start, data_end = beton.data_region(len(records), self._record.beton.size)
        for reason, broken in record_faults(
            records,
            keys_size=0 if self.index is None else self.index.keys_size,
            data_start=data_start,
            data_end=data_end,
            num_classes=self._num_classes,
        ):
            self._mark(reason, broken)
        ids: NDArray[np.int64] = np.setdiff1d(np.arange(len(records)), list(self.samples))
        missing: NDArray[np.bool_] = records["offset"][ids] + records["size"][ids] > file_size
        self._mark_ids("the file ends before it does", ids[missing])
        return ids[~missing]

    def _mark(self, reason: str, broken: NDArray[np.bool_]) -> None:
        self._mark_ids(reason, np.flatnonzero(broken))

    def _mark_ids(self, reason: str, ids: NDArray[np.int64]) -> None:
        for local_id in ids.tolist():
            self.samples.setdefault(local_id, reason)

    def _check_piece(self, piece: Piece) -> tuple[int, dict[int, str]]:
        """Return how many bytes a piece has, and what is wrong with its samples; runs on a thread of its own."""
        faults = ((local_id, self._sample_fault(local_id, data)) for local_id, data in piece.samples())
        return len(piece.data), {local_id: fault for local_id, fault in faults if fault is not None}

    def _sample_fault(self, local_id: int, data: memoryview) -> str | None:
        record = self._records[local_id]
        found, expected = crc32(data), int(record["crc32"])
        if found != expected:
            return f"the crc32 of its bytes is {found:08x}, it was written with {expected:08x}"
        if self._deep and record["stored_format"] == StoredFormat.JPEG:
            return _decoding_fault(data, int(record["height"]), int(record["width"]))
        return None


def _checked_index(path: Path, record: ShardRecord) -> Index:
    check_size(path, record.index)
    with FileDigest(path) as digest:
        found = digest.text()
    index = open_index(path, record)
    if found != record.index.sha256:
        raise StoreError("its sha256 is not the one in manifest.json: it was altered, or is of another conversion")
    return index


def _contradicted(tables: Tables, records: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples the `.beton` file's tables describe otherwise than the index does: bool (N,)."""
    rows, images = tables.rows, tables.rows["image"]
    allocations = tables.allocations[np.argsort(tables.allocations["sample_id"], kind="stable")]
    pairs = [
        (rows["label"], records["label"]),
        (images["height"], records["height"]),
        (images["width"], records["width"]),
        (images["mode"], records["stored_format"]),
        (images["data_ptr"], records["offset"]),
        (allocations["sample_id"], np.arange(len(records), dtype=np.uint64)),
        (allocations["ptr"], records["offset"]),
        (allocations["size"], records["size"]),
    ]
    contradicted: NDArray[np.bool_] = np.any([theirs != ours for theirs, ours in pairs], axis=0)
    return contradicted


def _decoding_fault(data: memoryview, height: int, width: int) -> str | None:
    """Decode a JPEG; return what is wrong with it, or that it is not clean, or not of the size its index says."""
    try:
        header = jpeg.inspect(data)
        clean = jpeg.check(data)
    except jpeg.JpegError as error:
        return f"does not decode: {error}"
    if (header.height, header.width) != (height, width):
        return f"is {header.height} x {header.width} pixels, its index says {height} x {width}"
    return None if clean else "decodes, but holds stray bytes that some decoders refuse: convert it again"
