"""`verify_store`: every byte of a store against what was written, and all that is wrong rather than the first of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_tools.errors import StoreError
from datasets_tools.inspection.shard_check import FileProblem, ShardCheck
from datasets_tools.store import Split
from datasets_tools.store.label_sets import read_label_lists
from datasets_tools.store.manifest import MANIFEST_NAME, FileRecord, Manifest, SplitRecord

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SampleProblem:
    """A sample, by its split, id and key, and what is wrong with it."""

    split: str
    sample_id: int
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify_store` found.

    Attributes:
        files: what is wrong with files, in the manifest's order.
        samples: what is wrong with samples, by split and id.
        num_files: that the manifest names.
        num_samples: whose bytes were checked.
        num_bytes: of the `.beton` files, that were read.
    """

    files: tuple[FileProblem, ...]
    samples: tuple[SampleProblem, ...]
    num_files: int
    num_samples: int
    num_bytes: int

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.files and not self.samples


def verify_store(path: Path, *, deep: bool, workers: int, progress: Progress) -> Verification:
    """Check a store: sizes and SHA-256 of its files, their tables, and the crc32 of every sample.

    A damaged file does not end it: the samples in it are still checked, one by one, which says what is left of them.
    Only an index that is damaged itself is not trusted: its samples are not checked.

    Args:
        path: the store's folder.
        deep: decode every JPEG too.
        workers: threads that check samples, at least 1; the caller's thread reads and hashes.
        progress: is told how many bytes of the `.beton` files were read, of how many.

    Raises:
        StoreError: the manifest is missing, damaged or of another version: there is nothing to check against.
    """
    manifest = Manifest.load(path)
    run = _Run(path, manifest, deep, workers, progress)
    for name, record in manifest.splits.items():
        run.check_split(name, record)
    num_files = sum(len(record.files) for record in manifest.splits.values())
    return Verification(tuple(run.files), tuple(run.samples), num_files, run.num_samples, run.num_bytes)


class _Run:
    """What was found so far."""

    def __init__(self, path: Path, manifest: Manifest, deep: bool, workers: int, progress: Progress) -> None:
        self.files: list[FileProblem] = []
        self.samples: list[SampleProblem] = []
        self.num_samples = 0
        self.num_bytes = 0
        self._path = path
        self._num_classes = len(manifest.class_names)
        self._deep = deep
        self._workers = workers
        self._progress = progress
        self._total = sum(shard.beton.size for record in manifest.splits.values() for shard in record.shards)

    def check_split(self, name: str, record: SplitRecord) -> None:
        found_before = len(self.files) + len(self.samples)
        first_id = 0
        for shard in record.shards:
            check = ShardCheck(self._path, shard, self._num_classes, deep=self._deep)
            for num_bytes in check.run(self._workers):
                self.num_bytes += num_bytes
                self._progress(self.num_bytes, self._total)
            self.files += check.files
            self.samples += _problems(name, first_id, check)
            self.num_samples += check.num_checked
            first_id += shard.num_samples
        for file in record.label_sets.values():
            self._check_labels(record, file)
        if len(self.files) + len(self.samples) == found_before:
            self._check_agreement(name, record)

    def _check_labels(self, record: SplitRecord, file: FileRecord) -> None:
        path = self._path / file.name
        try:
            read_label_lists(path, file, record.num_samples, self._num_classes)
        except StoreError as error:
            self.files.append(FileProblem(file.name, str(error).removeprefix(f"{path}: ")))

    def _check_agreement(self, name: str, record: SplitRecord) -> None:
        """Files that are whole may still not be those the manifest sums up: counts and maxima."""
        try:
            Split(self._path, name, record)
        except StoreError as error:
            self.files.append(FileProblem(MANIFEST_NAME, str(error)))


def _problems(split: str, first_id: int, check: ShardCheck) -> Iterator[SampleProblem]:
    for local_id in sorted(check.samples):
        key = check.index.key(local_id) if check.index is not None else ""
        yield SampleProblem(split, first_id + local_id, key, check.samples[local_id])
