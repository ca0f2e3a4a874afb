"""One stock FFCV `.beton` file, read into the records of an index. Nothing in it is trusted.

Source: ffcv 1.0.2, `ffcv/writer.py`: the pages of its workers interleave, and its allocation table is in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools import jpeg
from datasets_tools.checksum import crc32
from datasets_tools.errors import StoreError
from datasets_tools.inspection.sweep import Piece, Sweep, map_pieces
from datasets_tools.jpeg import Subsampling
from datasets_tools.store import beton
from datasets_tools.store.address_space import map_file
from datasets_tools.store.beton_tables import Tables, read_tables
from datasets_tools.store.index import RECORD, Flag, StoredFormat
from datasets_tools.store.manifest import FileRecord
from datasets_tools.store.record_rules import record_faults

# A label decides how many classes there are: a damaged one must not ask for billions of names.
MAX_CLASSES = 1_000_000
_SHOWN = 5
_AGAIN = "Write the file again from its pictures."


class StockFile:
    """The tables of a stock file; `sweep` then reads its samples.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: of it, in bytes.
        records: `index.RECORD` (N,); checksums and the facts of JPEGs are there after `sweep`.
        keys: of all samples, `<file's stem>:<id>`, end to end.
        beton_crc32: checksum of its tables.
        num_classes: the largest label and one.

    Raises:
        StoreError: it cannot be read, has other fields than an image and an integer, or its tables do not fit together.
    """

    def __init__(self, path: Path) -> None:
        data = map_file(path)
        tables = read_tables(path, data)
        if not len(tables.rows):
            raise StoreError(f"{path}: has no samples. Leave it out.")
        self.path = path
        self.beton_crc32 = tables.crc32
        self.size = data.size
        self.num_classes = _num_classes(path, tables.rows["label"])
        self.records, self.keys = _records(path, tables)
        self._check_records()
        _check_pages(path, self.records, tables.page_size)

    def sweep(self, num_threads: int) -> Iterator[int]:
        """Read every sample; yield how many bytes of the file were read since the last time.

        Args:
            num_threads: that check samples; the caller's thread reads and hashes.

        Raises:
            StoreError: samples are damaged, or the file changes while it is read.
            OSError: it cannot be read.
        """
        faults: dict[int, str] = {}
        sweep = Sweep(self.path, self.records, np.arange(len(self.records)))
        for num_bytes, found in map_pieces(sweep, self._take_piece, num_threads):
            faults.update(found)
            yield num_bytes
        if faults:
            shown = "; ".join(f"sample {sample_id} {faults[sample_id]}" for sample_id in sorted(faults)[:_SHOWN])
            raise StoreError(
                f"{self.path}: {len(faults):,} of {len(self.records):,} samples are damaged: {shown}"
                f"{'; ...' if len(faults) > _SHOWN else ''}. {_AGAIN}"
            )
        if sweep.num_bytes != self.size:
            raise StoreError(f"{self.path}: changes while it is read. Wait for what writes it, then adopt it again.")
        self._sha256 = sweep.sha256

    @property
    def file_record(self) -> FileRecord:
        """What a manifest says of the file; after `sweep`."""
        return FileRecord(name=self.path.name, size=self.size, sha256=self._sha256)

    def _check_records(self) -> None:
        data_start, data_end = beton.data_region(len(self.records), self.size)
        for reason, broken in record_faults(
            self.records,
            keys_size=len(self.keys),
            data_start=data_start,
            data_end=data_end,
            num_classes=self.num_classes,
        ):
            if broken.any():
                raise StoreError(f"{self.path}: is damaged: sample {int(broken.argmax())}: {reason}. {_AGAIN}")

    def _take_piece(self, piece: Piece) -> tuple[int, dict[int, str]]:
        """Note the facts of a piece's samples; runs on a thread of its own. Return its bytes, and what is wrong."""
        faults: dict[int, str] = {}
        for sample_id, data in piece.samples():
            record = self.records[sample_id]
            record["crc32"] = crc32(data)
            if record["stored_format"] == StoredFormat.JPEG and (fault := _take_jpeg(record, data)):
                faults[sample_id] = fault
        return len(piece.data), faults


def _num_classes(path: Path, labels: NDArray[np.int64]) -> int:
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= MAX_CLASSES:
        raise StoreError(
            f"{path}: has labels from {smallest} to {largest}; classes are counted from 0, to {MAX_CLASSES - 1} at "
            "most. Write the file again with such labels."
        )
    return largest + 1


def _check_pages(path: Path, records: NDArray[Any], page_size: int) -> None:
    """Refuse places that no writer of the format gives: across pages, or over each other."""
    if page_size <= 0 or page_size & (page_size - 1):
        raise StoreError(f"{path}: is damaged: its pages have {page_size:,} bytes, no power of two. {_AGAIN}")
    starts, ends = records["offset"], records["offset"] + records["size"]
    crossing = starts // page_size != (ends - 1) // page_size
    if crossing.any():
        raise StoreError(f"{path}: is damaged: sample {int(crossing.argmax())} leaves its page. {_AGAIN}")
    order = np.argsort(starts, kind="stable")
    overlapping = starts[order][1:] < ends[order][:-1]
    if overlapping.any():
        sample_id = int(order[1:][overlapping][0])
        raise StoreError(
            f"{path}: is damaged: sample {sample_id} begins before the sample before it in the file ends. {_AGAIN}"
        )


def _records(path: Path, tables: Tables) -> tuple[NDArray[Any], bytes]:
    images = tables.rows["image"]
    allocations = tables.allocations[np.argsort(tables.allocations["sample_id"], kind="stable")]
    sample_ids = np.arange(len(images), dtype=np.uint64)
    stray = (allocations["sample_id"] != sample_ids) | (allocations["ptr"] != images["data_ptr"])
    if stray.any():
        raise StoreError(
            f"{path}: is damaged: its allocation table has not one entry for sample {int(stray.argmax())}, at the "
            f"address where its row says. {_AGAIN}"
        )
    keys = [f"{path.stem}:{sample_id}".encode() for sample_id in range(len(images))]
    records = np.zeros(len(images), dtype=RECORD)
    records["key_size"] = [len(key) for key in keys]
    records["key_start"] = np.cumsum(records["key_size"], dtype=np.uint64) - records["key_size"]
    records["offset"] = images["data_ptr"]
    records["size"] = allocations["size"]
    records["label"] = tables.rows["label"]
    records["height"] = images["height"]
    records["width"] = images["width"]
    records["stored_format"] = images["mode"]  # ffcv's numbers are ours: 0 is a JPEG, 1 raw pixels
    records["components"] = 3
    records["subsampling"] = Subsampling.S444
    return records, b"".join(keys)


def _take_jpeg(record: Any, data: memoryview) -> str | None:
    """Put a JPEG's facts into its record; return what is wrong with it."""
    try:
        header = jpeg.inspect(data)
    except jpeg.JpegError as error:
        return f"is no JPEG that can be used: {error}"
    if (header.height, header.width) != (record["height"], record["width"]):
        return f"is {header.height} x {header.width} pixels, its row says {record['height']} x {record['width']}"
    if not header.huffman or header.precision != 8 or header.components not in (1, 3):
        return (
            f"is a JPEG of {header.precision} bits and {header.components} components"
            f"{'' if header.huffman else ', arithmetic or lossless'}; those of 8 bits, Huffman-coded, grey or of 3 "
            "components can be read"
        )
    if not header.complete:
        return "ends early"
    record["components"] = header.components
    record["subsampling"] = header.subsampling
    record["orientation"] = header.orientation
    record["restart_interval"] = header.restart_interval
    record["flags"] = Flag.PROGRESSIVE if header.progressive else Flag(0)
    return None
