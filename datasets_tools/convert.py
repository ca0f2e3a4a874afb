"""The conversion run: a source in, a whole store out, or nothing.

Worker processes read, check and encode pictures; one ordered appender writes them, so that the result does not depend
on the workers. At most a window of pictures is in flight. Everything is written into a folder aside, made durable, and
renamed last: a folder with a manifest is whole.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from datasets_tools.errors import ConversionError
from datasets_tools.index import IndexBuilder
from datasets_tools.manifest import (
    FORMAT_VERSION,
    EncodingRecord,
    FileRecord,
    Manifest,
    Quarantined,
    SourceRecord,
    SplitRecord,
)
from datasets_tools.pictures import Encoding, Picture
from datasets_tools.preparation import prepared
from datasets_tools.sources.base import Entry, Source
from datasets_tools.staging import atomic_folder
from datasets_tools.writer import BetonWriter


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        fastbot_version: goes into the manifest.
        encoding: size and quality of the stored pictures.
        on_bad_image: `fail` when any picture is bad, after all were looked at, or `skip` and quarantine them.
        workers: processes that prepare pictures; 1 prepares them in this process.
    """

    fastbot_version: str
    encoding: Encoding = field(default_factory=Encoding)
    on_bad_image: Literal["fail", "skip"] = "fail"
    workers: int = 1

    def __post_init__(self) -> None:
        max_side, quality = self.encoding.max_side, self.encoding.quality
        if max_side is not None and max_side < 1:
            raise ConversionError(f"max_side is {max_side}; it must be at least 1 pixel")
        if not 1 <= quality <= 95:
            raise ConversionError(f"quality is {quality}; libjpeg's useful range is 1 to 95")
        if self.workers < 1:
            raise ConversionError(f"workers is {self.workers}; at least 1 is needed")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is.

    Attributes:
        stage: `pictures`, or `checksums` while a finished file is read once more for its SHA-256.
        split: the split at work.
        num_done, num_total: pictures, over all splits.
        num_bad: pictures refused so far.
        num_bytes: written so far.
    """

    stage: Literal["pictures", "checksums"]
    split: str
    num_done: int
    num_total: int
    num_bad: int
    num_bytes: int


ProgressCallback = Callable[[Progress], None]


def convert(source: Source, destination: Path, options: ConvertOptions, progress: ProgressCallback) -> Manifest:
    """Write a store of all pictures of `source`.

    Args:
        source: what to convert.
        destination: the store's folder; must not exist, or be empty.
        options: how.
        progress: called as pictures are done.

    Returns:
        The manifest that was written.

    Raises:
        ConversionError: the destination is taken, pictures are bad, a class lost all its pictures, a worker died, or
            there is no space left; nothing is left behind.
    """
    try:
        with atomic_folder(destination) as folder:
            manifest = _Run(source, folder, options, progress).manifest()
            manifest.save(folder)
    except OSError as error:
        raise ConversionError(_writing_failed(destination, error)) from error
    return manifest


@dataclass(slots=True)
class _Tally:
    """What a split's manifest record counts, gathered as pictures pass."""

    class_counts: list[int]
    max_height: int = 0
    max_width: int = 0
    max_bytes: int = 0
    total_bytes: int = 0
    kept: int = 0
    resized: int = 0
    reencoded: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)

    def add(self, picture: Picture, label: int) -> None:
        self.class_counts[label] += 1
        self.max_height = max(self.max_height, picture.height)
        self.max_width = max(self.max_width, picture.width)
        self.max_bytes = max(self.max_bytes, len(picture.data))
        self.total_bytes += len(picture.data)
        self.resized += picture.resized
        if picture.reencoded is None:
            self.kept += 1
        else:
            self.reencoded[picture.reencoded] = self.reencoded.get(picture.reencoded, 0) + 1

    def record(self, beton: FileRecord, index: FileRecord) -> SplitRecord:
        num_samples = sum(self.class_counts)
        return SplitRecord(
            beton=beton,
            index=index,
            num_samples=num_samples,
            class_counts=tuple(self.class_counts),
            max_height=self.max_height,
            max_width=self.max_width,
            max_bytes=self.max_bytes,
            mean_bytes=self.total_bytes / max(1, num_samples),
            kept=self.kept,
            reencoded=dict(sorted(self.reencoded.items())),
            resized=self.resized,
            quarantined=tuple(self.quarantined),
        )


class _Run:
    """One conversion into an open folder."""

    def __init__(self, source: Source, folder: Path, options: ConvertOptions, progress: ProgressCallback) -> None:
        self._source = source
        self._folder = folder
        self._options = options
        self._progress = progress
        self._num_total = sum(len(entries) for entries in source.splits.values())
        self._num_done = self._num_bytes = 0
        self._bad: list[str] = []

    def manifest(self) -> Manifest:
        """Write every split and return what was written."""
        tallies = {name: self._write(name, entries) for name, entries in self._source.splits.items()}
        if self._bad and self._options.on_bad_image == "fail":
            raise ConversionError(self._bad_pictures())
        for name, entries in self._source.splits.items():
            self._check_classes(name, entries, tallies[name])
        encoding = self._options.encoding
        return Manifest(
            format_version=FORMAT_VERSION,
            fastbot_version=self._options.fastbot_version,
            source=SourceRecord(name=self._source.name, options=dict(self._source.options)),
            encoding=EncodingRecord(max_side=encoding.max_side, quality=encoding.quality),
            class_names=tuple(self._source.class_names),
            splits={name: self._record(name, tally) for name, tally in tallies.items()},
        )

    def _write(self, split: str, entries: Sequence[Entry]) -> _Tally:
        tally = _Tally([0] * len(self._source.class_names))
        index = IndexBuilder(len(entries))
        outcomes = prepared(entries, self._options.encoding, self._options.workers)
        with closing(outcomes), BetonWriter(self._folder / f"{split}.beton", len(entries)) as writer:
            for entry, outcome in zip(entries, outcomes, strict=True):
                if isinstance(outcome, Picture):
                    writer.append(outcome.data, height=outcome.height, width=outcome.width, label=entry.label)
                    index.append(outcome.info)
                    tally.add(outcome, entry.label)
                    self._num_bytes += len(outcome.data)
                else:
                    tally.quarantined.append(Quarantined(key=outcome.key, reason=outcome.reason))
                    self._bad.append(f"{split}/{outcome.key}: {outcome.reason}")
                self._num_done += 1
                self._report("pictures", split)
            beton_crc32 = writer.finish()
        index.write(self._folder / f"{split}.index", beton_crc32)
        return tally

    def _record(self, split: str, tally: _Tally) -> SplitRecord:
        self._report("checksums", split)
        return tally.record(
            _file_record(self._folder / f"{split}.beton"), _file_record(self._folder / f"{split}.index")
        )

    def _report(self, stage: Literal["pictures", "checksums"], split: str) -> None:
        self._progress(Progress(stage, split, self._num_done, self._num_total, len(self._bad), self._num_bytes))

    def _bad_pictures(self) -> str:
        lines = "\n".join(f"  {line}" for line in self._bad)
        return (
            f"{len(self._bad):,} of {self._num_total:,} pictures cannot be used; nothing was written:\n{lines}\n"
            "Repair or remove them, or leave them out with --on-bad-image skip."
        )

    def _check_classes(self, split: str, entries: Sequence[Entry], tally: _Tally) -> None:
        labels = np.fromiter((entry.label for entry in entries), dtype=np.int64, count=len(entries))
        listed = np.bincount(labels, minlength=len(tally.class_counts))
        for label, (before, after) in enumerate(zip(listed, tally.class_counts, strict=True)):
            if before and not after:
                keys = {entry.key for entry in entries if entry.label == label}
                first = next(bad for bad in tally.quarantined if bad.key in keys)
                raise ConversionError(
                    f"class {self._source.class_names[label]} of split {split} lost all its pictures ({before:,}), "
                    f"none can be used; the first: {first.key}: {first.reason}. Repair them or remove the class."
                )


def _file_record(path: Path) -> FileRecord:
    """Read a finished file once more: the tables at its start were written last, so no running hash covers it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(name=path.name, size=path.stat().st_size, sha256=digest)


def _writing_failed(destination: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{destination}: no space left while writing ({error.strerror}); nothing was kept. Free space, choose "
            "another destination, or shrink the pictures with --max-side."
        )
    return f"{destination}: cannot be written: {error}. Nothing was kept."
