"""The `.index` file beside each `.beton`: what fastbot knows of its samples, as one table and a blob of names.

    header | one record per sample | keys, UTF-8, end to end

It says where each sample's bytes lie and what they are, holds their checksums and keys, and a checksum of the `.beton`
file's own tables; its own header holds a checksum of all the rest. It is memory-mapped, never parsed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_tools.checksum import crc32
from datasets_tools.errors import StoreError, remedy_of_version
from datasets_tools.jpeg import Subsampling
from datasets_tools.store.address_space import map_file

MAGIC = b"fb-index"
VERSION = 2

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
        ("offset", "<u8"),  # of the sample's bytes in the `.beton` file
        ("size", "<u8"),
        ("label", "<i4"),
        ("crc32", "<u4"),
        ("flags", "<u4"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("key_size", "<u2"),
        ("restart_interval", "<u2"),
        ("stored_format", "u1"),
        ("components", "u1"),
        ("subsampling", "u1"),
        ("orientation", "u1"),
    ]
)


class StoredFormat(IntEnum):
    """What a sample's bytes are: a JPEG, or height x width x 3 raw RGB pixels."""

    JPEG = 0
    RAW = 1


class Flag(IntFlag):
    """What else is known of a sample.

    `PROGRESSIVE`: the stored JPEG is. `REPAIRED`: the source's picture was damaged, and what there was of it is stored.
    `REENCODED`: the pixels went through a decoder and an encoder. `TRANSCODED`: a JPEG was rewritten without loss.
    `RESIZED`: it was made smaller. `ROTATED`: its EXIF orientation was applied.
    """

    PROGRESSIVE = 1
    REPAIRED = 2
    REENCODED = 4
    TRANSCODED = 8
    RESIZED = 16
    ROTATED = 32


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """What the index says of one sample besides its place, size and label.

    Attributes:
        key: its name in the source, unique in its split; at most 65,535 bytes of UTF-8.
        crc32: of the stored bytes.
        stored_format: what they are.
        components: 1 (grey) or 3.
        subsampling: of the stored JPEG; `S444` for raw pixels.
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
    stored_format: StoredFormat = StoredFormat.JPEG


class IndexBuilder:
    """Collect the records of a shard, in the order of sample ids.

    Args:
        capacity: the largest number of records that will be added.
    """

    def __init__(self, capacity: int) -> None:
        self._records = np.zeros(capacity, dtype=RECORD)
        self._keys = bytearray()
        self._num_samples = 0

    def append(self, info: SampleInfo, *, offset: int, size: int, height: int, width: int, label: int) -> None:
        """Add the record of the next sample.

        Args:
            info: of the sample.
            offset, size: where its bytes lie in the `.beton` file.
            height, width: in pixels.
            label: its class.
        """
        key = info.key.encode()
        self._records[self._num_samples] = (
            len(self._keys),
            offset,
            size,
            label,
            info.crc32,
            info.flags,
            height,
            width,
            len(key),
            info.restart_interval,
            info.stored_format,
            info.components,
            info.subsampling,
            info.orientation,
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
        write_index(path, self._records[: self._num_samples], self._keys, beton_crc32)


def write_index(path: Path, records: NDArray[Any], keys: bytes | bytearray, beton_crc32: int) -> None:
    """Write an index of records that were filled elsewhere, and make it durable.

    Args:
        path: the file to create.
        records: `RECORD` (N,), in the order of sample ids.
        keys: their keys, where the records say.
        beton_crc32: checksum of the `.beton` file's tables.

    Raises:
        OSError: the file cannot be written.
    """
    table = records.tobytes()
    header = np.zeros((), dtype=HEADER)
    header["magic"] = MAGIC
    header["version"] = VERSION
    header["crc32"] = crc32(keys, crc32(table))
    header["num_samples"] = len(records)
    header["keys_size"] = len(keys)
    header["beton_crc32"] = beton_crc32
    with path.open("xb") as file:
        file.write(header.tobytes())
        file.write(table)
        file.write(keys)
        file.flush()
        os.fsync(file.fileno())


class Index:
    """Read an index file, memory-mapped.

    Args:
        path: the file.

    Attributes:
        num_samples: of its shard.
        beton_crc32: of the `.beton` file's tables.
        records: `RECORD` (N,), read-only; as they were written, but not checked: see `record_rules`.
        keys_size: of all keys together, in bytes.

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
        self.keys_size = self._keys.size

    def key(self, sample_id: int) -> str:
        """Return the name of a sample in its source."""
        record = self.records[sample_id]
        start = int(record["key_start"])
        return self._keys[start : start + int(record["key_size"])].tobytes().decode(errors="backslashreplace")

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
            stored_format=StoredFormat(int(record["stored_format"])),
        )


def _checked_header(path: Path, data: NDArray[np.uint8]) -> Any:
    if data.size < HEADER.itemsize or data[: len(MAGIC)].tobytes() != MAGIC:
        raise StoreError(f"{path}: is not an index of a store. Convert the store again from its source.")
    header = data[: HEADER.itemsize].view(HEADER)[0]
    if header["version"] != VERSION:
        raise StoreError(
            f"{path}: is a store of another version: its index has version {header['version']}, this fastbot reads "
            f"version {VERSION}. {remedy_of_version(int(header['version']), VERSION)}"
        )
    expected = HEADER.itemsize + int(header["num_samples"]) * RECORD.itemsize + int(header["keys_size"])
    if data.size != expected or crc32(data[HEADER.itemsize :].data) != header["crc32"]:
        raise StoreError(
            f"{path}: is damaged: {data.size:,} bytes of {expected:,}, or a wrong checksum. "
            "Convert the store again from its source."
        )
    return header
