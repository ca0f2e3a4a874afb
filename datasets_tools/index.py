"""The `<split>.index` file: what a `.beton` cannot say about its samples, as one table and a blob of names.

    header | one record per sample | keys, UTF-8, end to end

It holds each sample's checksum and key, and a checksum of the `.beton` file's own tables; its own header holds a
checksum of all the rest. It is memory-mapped, never parsed.
"""

from __future__ import annotations

import mmap
import os
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import StoreError

MAGIC = b"fb-index"
VERSION = 1

HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("crc32", "<u4"),  # of the records and the keys
        ("num_samples", "<u8"),
        ("keys_size", "<u8"),
        ("beton_crc32", "<u4"),  # as `BetonWriter.finish` returns it
        ("reserved", "<u4"),
    ]
)
RECORD = np.dtype(
    [
        ("key_start", "<u8"),
        ("key_size", "<u2"),
        ("restart_interval", "<u2"),
        ("crc32", "<u4"),
        ("stored_format", "u1"),
        ("components", "u1"),
        ("subsampling", "u1"),
        ("orientation", "u1"),
        ("flags", "<u4"),
    ]
)


class StoredFormat(IntEnum):
    """What a sample's bytes are."""

    JPEG = 0


class Subsampling(IntEnum):
    """How a JPEG's colour planes are subsampled; `OTHER` is anything without a common name."""

    GREY = 0
    S444 = 1
    S422 = 2
    S420 = 3
    S440 = 4
    S411 = 5
    S410 = 6
    OTHER = 255


class Flag(IntFlag):
    """What else is known of a sample."""

    PROGRESSIVE = 1
    REPAIRED = 2
    REENCODED = 4


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """The index's record of one sample.

    Attributes:
        key: its name in the source, unique in its split.
        crc32: of the stored bytes.
        components: 1 (grey) or 3.
        subsampling: of the stored JPEG.
        orientation: EXIF orientation of the stored JPEG, 1 to 8; 0 where it has none. Decoding ignores it.
        restart_interval: in MCUs; 0 where the stored JPEG has no restart markers.
        flags: what was done to it, and whether it is progressive.
    """

    key: str
    crc32: int
    components: int
    subsampling: Subsampling
    orientation: int
    restart_interval: int
    flags: Flag


class IndexBuilder:
    """Collect the records of a split, in the order of sample ids.

    Args:
        capacity: the largest number of records that will be added.
    """

    def __init__(self, capacity: int) -> None:
        self._records = np.zeros(capacity, dtype=RECORD)
        self._keys = bytearray()
        self._num_samples = 0

    def append(self, info: SampleInfo) -> None:
        """Add the record of the next sample."""
        key = info.key.encode()
        self._records[self._num_samples] = (
            len(self._keys),
            len(key),
            info.restart_interval,
            info.crc32,
            StoredFormat.JPEG,
            info.components,
            info.subsampling,
            info.orientation,
            info.flags,
        )
        self._keys += key
        self._num_samples += 1

    def write(self, path: Path, beton_crc32: int) -> None:
        """Write the index and make it durable.

        Args:
            path: the file to create.
            beton_crc32: checksum of the `.beton` file's tables.

        Raises:
            OSError: the file cannot be written.
        """
        records = self._records[: self._num_samples].tobytes()
        header = np.zeros((), dtype=HEADER)
        header["magic"] = MAGIC
        header["version"] = VERSION
        header["crc32"] = zlib.crc32(self._keys, zlib.crc32(records))
        header["num_samples"] = self._num_samples
        header["keys_size"] = len(self._keys)
        header["beton_crc32"] = beton_crc32
        with path.open("xb") as file:
            file.write(header.tobytes())
            file.write(records)
            file.write(self._keys)
            file.flush()
            os.fsync(file.fileno())


class Index:
    """Read an index file, memory-mapped.

    Args:
        path: the file.

    Raises:
        StoreError: it is missing, damaged, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = map_file(path)
        header = _checked_header(path, self._bytes)
        self.num_samples = int(header["num_samples"])
        self.beton_crc32 = int(header["beton_crc32"])
        self.records: NDArray[Any] = self._bytes[HEADER.itemsize :][: self.num_samples * RECORD.itemsize].view(RECORD)
        self._keys = self._bytes[HEADER.itemsize + self.records.nbytes :]

    def key(self, sample_id: int) -> str:
        """Return the name of a sample in its source."""
        record = self.records[sample_id]
        start = int(record["key_start"])
        return self._keys[start : start + int(record["key_size"])].tobytes().decode()

    def __getitem__(self, sample_id: int) -> SampleInfo:
        record = self.records[sample_id]
        return SampleInfo(
            key=self.key(sample_id),
            crc32=int(record["crc32"]),
            components=int(record["components"]),
            subsampling=Subsampling(int(record["subsampling"])),
            orientation=int(record["orientation"]),
            restart_interval=int(record["restart_interval"]),
            flags=Flag(int(record["flags"])),
        )


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return a file's bytes: uint8 (size,), read-only, memory-mapped.

    Raises:
        StoreError: it cannot be read, or is empty.
    """
    try:
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise StoreError(f"{path}: cannot be read: {error}. Convert the store again from its source.") from error
    return np.frombuffer(mapping, dtype=np.uint8)


def _checked_header(path: Path, data: NDArray[np.uint8]) -> Any:
    if data.size < HEADER.itemsize or data[: len(MAGIC)].tobytes() != MAGIC:
        raise StoreError(f"{path}: is not an index of a store. Convert the store again from its source.")
    header = data[: HEADER.itemsize].view(HEADER)[0]
    if header["version"] != VERSION:
        raise StoreError(
            f"{path}: is a store of another version: its index has version {header['version']}, this fastbot reads "
            f"version {VERSION}. Convert the store again with this fastbot."
        )
    expected = HEADER.itemsize + int(header["num_samples"]) * RECORD.itemsize + int(header["keys_size"])
    if data.size != expected or zlib.crc32(data[HEADER.itemsize :].data) != header["crc32"]:
        raise StoreError(
            f"{path}: is damaged: {data.size:,} bytes of {expected:,}, or a wrong checksum. "
            "Convert the store again from its source."
        )
    return header
