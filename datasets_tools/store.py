"""`Store` and `Split`: reading what a conversion wrote, with numpy alone.

Opening maps the files and checks that manifest, index and `.beton` agree; it reads no sample. A sample's bytes are
checked against their crc32 when they are read. Stores and splits pickle as their paths: a process that receives one
opens it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets_tools import beton
from datasets_tools.errors import DamagedSampleError, StoreError
from datasets_tools.index import Index, SampleInfo, map_file
from datasets_tools.manifest import FileRecord, Manifest, SplitRecord

Verify = Literal["first", "always", "never"]
_AGAIN = "Convert the store again from its source."


class Split:
    """One split of a store, memory-mapped.

    Args:
        folder: the store's folder.
        name: the split's name.
        record: what the manifest says of it.
        verify: when a sample's bytes are checked: at its `first` read in this process, `always`, or `never`.

    Attributes:
        path: the `.beton` file.
        labels: int64 (N,).
        heights, widths: int32 (N,), in pixels, as the JPEG headers say; EXIF orientation is ignored.
        offsets, sizes: uint64 (N,), where each sample's bytes lie in the file.
        crc32: uint32 (N,), of each sample's bytes.

    Raises:
        StoreError: a file is missing, damaged, or disagrees with the manifest.
    """

    def __init__(self, folder: Path, name: str, record: SplitRecord, verify: Verify = "first") -> None:
        self.name = name
        self.record = record
        self.path = folder / record.beton.name
        self._arguments = (folder, name, record, verify)
        self._verify = verify
        self._index = _open_index(folder, record)
        _check_size(self.path, record.beton)
        self._bytes = map_file(self.path)
        rows, allocations = _tables(self.path, self._bytes, self._index)
        self.labels: NDArray[np.int64] = _frozen(rows["label"], np.int64)
        self.heights: NDArray[np.int32] = _frozen(rows["image"]["height"], np.int32)
        self.widths: NDArray[np.int32] = _frozen(rows["image"]["width"], np.int32)
        self.offsets: NDArray[np.uint64] = _frozen(allocations["ptr"], np.uint64)
        self.sizes: NDArray[np.uint64] = _frozen(allocations["size"], np.uint64)
        self.crc32: NDArray[np.uint32] = _frozen(self._index.records["crc32"], np.uint32)
        self._check_manifest()
        self._seen = np.zeros(len(self), dtype=np.bool_)

    def __len__(self) -> int:
        return self._index.num_samples

    def __reduce__(self) -> tuple[type[Split], tuple[Path, str, SplitRecord, Verify]]:
        return Split, self._arguments

    def encoded(self, sample_id: int) -> NDArray[np.uint8]:
        """Return a sample's JPEG bytes: uint8 (size,), read-only, not copied.

        Raises:
            DamagedSampleError: the bytes fail their checksum.
            IndexError: there is no such sample.
        """
        data = self._data(sample_id)
        if self._verify == "always" or (self._verify == "first" and not self._seen[sample_id]):
            self._check(sample_id, data)
        return data

    def verify(self, sample_ids: NDArray[np.int64]) -> None:
        """Check the bytes of `sample_ids` as reading them would.

        Raises:
            DamagedSampleError: a sample's bytes fail their checksum.
            IndexError: there is no such sample.
        """
        for sample_id in sample_ids.tolist():
            self.encoded(sample_id)

    def key(self, sample_id: int) -> str:
        """Return the sample's name in the source it was converted from."""
        return self._index.key(sample_id)

    def info(self, sample_id: int) -> SampleInfo:
        """Return what the index says of a sample."""
        return self._index[sample_id]

    def _data(self, sample_id: int) -> NDArray[np.uint8]:
        if not 0 <= sample_id < len(self):
            raise IndexError(f"{self.path}: there is no sample {sample_id}; ids are 0 to {len(self) - 1}")
        start = int(self.offsets[sample_id])
        return self._bytes[start : start + int(self.sizes[sample_id])]

    def _check(self, sample_id: int, data: NDArray[np.uint8]) -> None:
        found, expected = zlib.crc32(data.data), int(self.crc32[sample_id])
        if found != expected:
            raise DamagedSampleError(
                sample_id,
                f"{self.path}: sample {sample_id} ({self.key(sample_id)}) is damaged: the crc32 of its bytes is "
                f"{found:08x}, it was written with {expected:08x}. Restore the file from a copy, or convert again.",
            )
        self._seen[sample_id] = True

    def _check_manifest(self) -> None:
        """Check what pipelines preallocate by: a wrong maximum would be an overrun later."""
        num_classes = len(self.record.class_counts)
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < num_classes:
            raise StoreError(f"{self.path}: has labels outside 0 to {num_classes - 1}. {_AGAIN}")
        found = {
            "num_samples": len(self),
            "class_counts": tuple(np.bincount(self.labels, minlength=num_classes).tolist()),
            "max_height": int(self.heights.max(initial=0)),
            "max_width": int(self.widths.max(initial=0)),
            "max_bytes": int(self.sizes.max(initial=0)),
        }
        for name, value in found.items():
            if getattr(self.record, name) != value:
                raise StoreError(
                    f"{self.path}: disagrees with manifest.json about {name} of split {self.name}. One of the two is "
                    f"of another conversion: {_AGAIN.lower()}"
                )


class Store:
    """A store that `fastbot convert` wrote.

    Args:
        path: its folder.
        verify: when a sample's bytes are checked: at its `first` read in this process, `always`, or `never`.

    Attributes:
        path, manifest, class_names, splits: as the manifest says; every split is open.

    Raises:
        StoreError: it is missing, damaged, or of another version.
    """

    def __init__(self, path: Path | str, verify: Verify = "first") -> None:
        self.path = Path(path)
        self.manifest = Manifest.load(self.path)
        self.class_names = self.manifest.class_names
        self._verify = verify
        self.splits: Mapping[str, Split] = MappingProxyType(
            {name: self._open(name, record) for name, record in self.manifest.splits.items()}
        )

    @property
    def num_classes(self) -> int:
        """How many classes the labels name."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """Return a split by name.

        Raises:
            StoreError: there is none of that name; the message lists those that exist.
        """
        if name not in self.splits:
            raise StoreError(f"{self.path}: has no split {name!r}; it has {', '.join(self.splits)}.")
        return self.splits[name]

    def __reduce__(self) -> tuple[type[Store], tuple[Path, Verify]]:
        return Store, (self.path, self._verify)

    def _open(self, name: str, record: SplitRecord) -> Split:
        if len(record.class_counts) != self.num_classes:
            raise StoreError(
                f"{self.path}/manifest.json: split {name} counts {len(record.class_counts)} classes, class_names has "
                f"{self.num_classes}. {_AGAIN}"
            )
        return Split(self.path, name, record, self._verify)


def _frozen(column: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    array = np.ascontiguousarray(column, dtype=dtype)
    array.flags.writeable = False
    return array


def _check_size(path: Path, record: FileRecord) -> None:
    """Refuse a file whose size is not the one the manifest promises."""
    if not path.is_file():
        raise StoreError(f"{path}: is missing. {_AGAIN}")
    size = path.stat().st_size
    if size != record.size:
        state = "was cut short" if size < record.size else "is of another conversion"
        raise StoreError(
            f"{path}: {state}: it has {size:,} bytes, manifest.json says {record.size:,}. Copy it again, or "
            "convert the store again from its source."
        )


def _open_index(folder: Path, record: SplitRecord) -> Index:
    path = folder / record.index.name
    _check_size(path, record.index)
    return Index(path)


def _tables(path: Path, data: NDArray[np.uint8], index: Index) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a `.beton` file's metadata rows and allocations, checked against the index's checksum of them."""
    if data.size < beton.METADATA_START or data[:2].view("<u2")[0] != beton.VERSION:
        raise StoreError(f"{path}: is not an FFCV file of version {beton.VERSION}. {_AGAIN}")
    header = data[: beton.HEADER.itemsize].view(beton.HEADER)[0]
    num_samples = int(header["num_samples"])
    if num_samples != index.num_samples:
        raise StoreError(f"{path}: has {num_samples:,} samples, its index {index.num_samples:,}. {_AGAIN}")
    head = data[: beton.metadata_end(num_samples)]
    tail = data[int(header["alloc_table_ptr"]) :]
    if tail.size != num_samples * beton.ALLOCATION.itemsize or _crc32(head, tail) != index.beton_crc32:
        raise StoreError(
            f"{path}: is damaged, or is not the file its index was written for: the checksum of its tables is "
            f"wrong. {_AGAIN}"
        )
    return head[beton.METADATA_START :].view(beton.METADATA_ROW), tail.view(beton.ALLOCATION)


def _crc32(head: NDArray[np.uint8], tail: NDArray[np.uint8]) -> int:
    return zlib.crc32(tail.data, zlib.crc32(head.data))
