"""`Store` and `Split`: reading what a conversion wrote, with numpy alone.

Opening maps the files and checks that manifest, indices and `.beton` files agree; it reads no sample. The shards of a
split read as one: ids and addresses go through all of them. When a sample is read, its bytes are checked against their
crc32, and its file's size against that at opening. Stores and splits pickle as their paths: a process that receives one
opens it again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datasets_tools.checksum import crc32
from datasets_tools.errors import DamagedSampleError, StoreError
from datasets_tools.store.index import SampleInfo
from datasets_tools.store.label_sets import LabelLists, read_label_lists
from datasets_tools.store.manifest import Manifest, SplitRecord
from datasets_tools.store.shard_reader import AGAIN, Shard, open_shards

Verify = Literal["first", "always", "never"]


class Split:
    """One split of a store, memory-mapped.

    Args:
        folder: the store's folder.
        name: the split's name.
        record: what the manifest says of it.
        verify: when a sample's bytes are checked: at its `first` read in this process, `always`, or `never`.

    Attributes:
        shards: its files, in the order of sample ids.
        data: uint8, the bytes of all its `.beton` files, mapped one after another, read-only.
        labels: int64 (N,).
        heights, widths: int32 (N,), in pixels, as the JPEG headers say; EXIF orientation is ignored.
        offsets, sizes: uint64 (N,), where each sample's bytes lie in `data`.
        crc32: uint32 (N,), of each sample's bytes.
        formats: uint8 (N,), `StoredFormat`: a JPEG, or height x width x 3 raw RGB pixels.

    Raises:
        StoreError: a file is missing, damaged, or disagrees with the manifest.
    """

    def __init__(self, folder: Path, name: str, record: SplitRecord, verify: Verify = "first") -> None:
        self.name = name
        self.record = record
        self._arguments = (folder, name, record, verify)
        self._verify = verify
        self.data, self.shards, self._indices = open_shards(folder, record.shards, len(record.class_counts))
        self._first_ids = [shard.first_id for shard in self.shards]
        self.labels: NDArray[np.int64] = self._column("label", np.int64)
        self.heights: NDArray[np.int32] = self._column("height", np.int32)
        self.widths: NDArray[np.int32] = self._column("width", np.int32)
        self.sizes: NDArray[np.uint64] = self._column("size", np.uint64)
        self.crc32: NDArray[np.uint32] = self._column("crc32", np.uint32)
        self.formats: NDArray[np.uint8] = self._column("stored_format", np.uint8)
        self.offsets: NDArray[np.uint64] = self._addresses()
        self._check_manifest()
        self._seen = np.zeros(len(self), dtype=np.bool_)

    @property
    def path(self) -> Path:
        """The `.beton` file of the first shard."""
        return self.shards[0].path

    def __len__(self) -> int:
        last = self.shards[-1]
        return last.first_id + last.num_samples

    def __reduce__(self) -> tuple[type[Split], tuple[Path, str, SplitRecord, Verify]]:
        return Split, self._arguments

    def encoded(self, sample_id: int) -> NDArray[np.uint8]:
        """Return a sample's stored bytes, a JPEG or raw pixels: uint8 (size,), read-only, not copied.

        Raises:
            DamagedSampleError: the bytes fail their checksum.
            StoreError: the file has changed its size since it was opened.
            IndexError: there is no such sample.
        """
        number, _ = self._locate(sample_id)
        if self._verify != "never":
            _check_unchanged(self.shards[number])
            if self._verify == "always" or not self._seen[sample_id]:
                self._check(sample_id)
        return self._data(sample_id)

    def verify(self, sample_ids: NDArray[np.int64]) -> None:
        """Check the bytes of `sample_ids` as reading them would, at less cost.

        Args:
            sample_ids: int64 (n,).

        Raises:
            DamagedSampleError: a sample's bytes fail their checksum.
            StoreError: a file has changed its size since it was opened.
            IndexError: there is no such sample.
        """
        for error in self.damaged(sample_ids).values():
            raise error

    def damaged(self, sample_ids: NDArray[np.int64]) -> dict[int, DamagedSampleError]:
        """Check the bytes of `sample_ids` as reading them would, and return what is wrong with which of them.

        Args:
            sample_ids: int64 (n,).

        Raises:
            StoreError: a file has changed its size since it was opened.
            IndexError: there is no such sample.
        """
        self.check_unchanged(sample_ids)
        if self._verify == "never":
            return {}
        unseen = sample_ids if self._verify == "always" else sample_ids[~self._seen[sample_ids]]
        found: dict[int, DamagedSampleError] = {}
        for sample_id in unseen.tolist():
            try:
                self._check(sample_id)
            except DamagedSampleError as error:
                found[sample_id] = error
        return found

    def check_unchanged(self, sample_ids: NDArray[np.int64]) -> None:
        """Check the sizes of the files that `sample_ids` lie in: who reads `data` itself asks this first.

        Args:
            sample_ids: int64 (n,).

        Raises:
            StoreError: a file has changed its size since it was opened: reading it could kill the process.
            IndexError: there is no such sample.
        """
        if len(sample_ids) and not 0 <= sample_ids.min() <= sample_ids.max() < len(self):
            raise self._no_such_sample(int(sample_ids[(sample_ids < 0) | (sample_ids >= len(self))][0]))
        if self._verify == "never":
            return
        for number in np.unique(np.searchsorted(self._first_ids, sample_ids, side="right") - 1).tolist():
            _check_unchanged(self.shards[number])

    def key(self, sample_id: int) -> str:
        """Return the sample's name in the source it was converted from."""
        number, local_id = self._locate(sample_id)
        return self._indices[number].key(local_id)

    def info(self, sample_id: int) -> SampleInfo:
        """Return what the index says of a sample."""
        number, local_id = self._locate(sample_id)
        return self._indices[number][local_id]

    def label_lists(self, name: str) -> LabelLists:
        """Return further labels: for each sample the classes that are right, none where nobody knows.

        Args:
            name: of the label set, for example `real`.

        Raises:
            StoreError: there is none of that name, with those that exist; or its file is missing or damaged.
        """
        folder = self._arguments[0]
        if name not in self.record.label_sets:
            known = ", ".join(self.record.label_sets) or "none"
            raise StoreError(f"{folder}: split {self.name} has no label set {name!r}; it has {known}.")
        record = self.record.label_sets[name]
        return read_label_lists(folder / record.name, record, len(self), len(self.record.class_counts))

    def _locate(self, sample_id: int) -> tuple[int, int]:
        """Return the number of a sample's shard, and its id there."""
        if not 0 <= sample_id < len(self):
            raise self._no_such_sample(sample_id)
        number = bisect_right(self._first_ids, sample_id) - 1
        return number, sample_id - self._first_ids[number]

    def _no_such_sample(self, sample_id: int) -> IndexError:
        return IndexError(f"{self.path}: there is no sample {sample_id}; ids are 0 to {len(self) - 1}")

    def _data(self, sample_id: int) -> NDArray[np.uint8]:
        start = int(self.offsets[sample_id])
        return self.data[start : start + int(self.sizes[sample_id])]

    def _check(self, sample_id: int) -> None:
        found, expected = crc32(self._data(sample_id)), int(self.crc32[sample_id])
        if found != expected:
            shard = self.shards[self._locate(sample_id)[0]]
            raise DamagedSampleError(
                sample_id,
                f"{shard.path}: sample {sample_id} ({self.key(sample_id)}) is damaged: the crc32 of its bytes is "
                f"{found:08x}, it was written with {expected:08x}. Restore the file from a copy, or convert again.",
            )
        self._seen[sample_id] = True

    def _column(self, field: str, dtype: type[np.generic]) -> NDArray[Any]:
        return _frozen(np.concatenate([index.records[field] for index in self._indices], dtype=dtype))

    def _addresses(self) -> NDArray[np.uint64]:
        parts = zip(self._indices, self.shards, strict=True)
        return _frozen(np.concatenate([index.records["offset"] + np.uint64(shard.start) for index, shard in parts]))

    def _check_manifest(self) -> None:
        """Check what pipelines preallocate by: a wrong maximum would be an overrun later."""
        found = {
            "num_samples": len(self),
            "class_counts": tuple(np.bincount(self.labels, minlength=len(self.record.class_counts)).tolist()),
            "max_height": int(self.heights.max(initial=0)),
            "max_width": int(self.widths.max(initial=0)),
            "max_bytes": int(self.sizes.max(initial=0)),
        }
        for name, value in found.items():
            if getattr(self.record, name) != value:
                raise StoreError(
                    f"{self.path}: disagrees with manifest.json about {name} of split {self.name}. One of the two is "
                    f"of another conversion: {AGAIN.lower()}"
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
                f"{self.num_classes}. {AGAIN}"
            )
        return Split(self.path, name, record, self._verify)


def _check_unchanged(shard: Shard) -> None:
    """Refuse a file that was cut after it was opened: reading behind its end would kill the process (SIGBUS)."""
    try:
        size = shard.path.stat().st_size
    except FileNotFoundError:
        return  # a mapping keeps the bytes of a deleted file
    except OSError as error:
        raise StoreError(f"{shard.path}: cannot be read any more: {error.strerror}.") from error
    if size != shard.size:
        raise StoreError(
            f"{shard.path}: has changed since it was opened: it had {shard.size:,} bytes, now {size:,}. "
            "Copy it again, and start again."
        )


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
