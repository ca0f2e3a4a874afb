"""Stores of exactly the bytes a test wants, undecodable ones included: `convert` would rightly refuse those."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.index import Flag, IndexBuilder, SampleInfo, Subsampling
from datasets_tools.manifest import FileRecord, SplitRecord
from datasets_tools.store import Split
from datasets_tools.writer import BetonWriter


@dataclass(frozen=True)
class StoredPicture:
    """Bytes, and the size that the store says they decode to."""

    key: str
    data: bytes
    height: int
    width: int


def write_split(folder: Path, pictures: Sequence[StoredPicture]) -> Split:
    """Write `pictures` as a split of one class named `train`, and open it."""
    index = IndexBuilder(len(pictures))
    with BetonWriter(folder / "train.beton", len(pictures)) as writer:
        for picture in pictures:
            writer.append(picture.data, height=picture.height, width=picture.width, label=0)
            crc32 = zlib.crc32(picture.data)
            index.append(SampleInfo(picture.key, crc32, 3, Subsampling.OTHER, 0, 0, Flag(0)))
        beton_crc32 = writer.finish()
    index.write(folder / "train.index", beton_crc32)
    sizes = [len(picture.data) for picture in pictures]
    record = SplitRecord(
        beton=_file_record(folder / "train.beton"),
        index=_file_record(folder / "train.index"),
        num_samples=len(pictures),
        class_counts=(len(pictures),),
        max_height=max(picture.height for picture in pictures),
        max_width=max(picture.width for picture in pictures),
        max_bytes=max(sizes),
        mean_bytes=sum(sizes) / len(sizes),
        kept=len(pictures),
        reencoded={},
        resized=0,
        quarantined=(),
    )
    return Split(folder, "train", record)


def flip_bytes(split: Split, sample_id: int) -> None:
    """Damage a stored sample: invert eight bytes in its middle, in the file."""
    middle = int(split.offsets[sample_id]) + int(split.sizes[sample_id]) // 2
    with split.path.open("r+b") as file:
        file.seek(middle)
        stored = file.read(8)
        file.seek(middle)
        file.write(bytes(byte ^ 0xFF for byte in stored))


def _file_record(path: Path) -> FileRecord:
    return FileRecord(name=path.name, size=path.stat().st_size, sha256="")
