"""One shard of a split: the unit of work of a conversion, resumable at any moment.

A shard is a `.beton` file, its index, and while it is being written a journal. Its bytes depend on its pictures alone:
on no worker, engine or interruption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datasets_tools.conversion.journal import Journal, Outcome, Rejected, Stored
from datasets_tools.digest import FileDigest
from datasets_tools.pictures import Picture
from datasets_tools.staging import write_whole
from datasets_tools.store import beton
from datasets_tools.store.index import Flag, IndexBuilder, StoredFormat
from datasets_tools.store.manifest import Counts, FileRecord, ShardRecord
from datasets_tools.store.writer import BetonWriter

# A kill costs at most the work since the last checkpoint; a checkpoint costs the disk a flush.
CHECKPOINT_SAMPLES = 1024
CHECKPOINT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """Which pictures a shard is made of.

    Attributes:
        split: the split's name.
        name: of its files, without their suffixes.
        start, stop: its pictures among the split's entries.
    """

    split: str
    name: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def shards_of(num_pictures: Mapping[str, int], num_shards: int) -> list[Shard]:
    """Cut every split into shards of consecutive pictures, as equal as can be.

    Args:
        num_pictures: by split.
        num_shards: per split; a split of fewer pictures has as many shards as pictures.
    """
    return [shard for split, count in num_pictures.items() for shard in _shards_of(split, count, num_shards)]


def _shards_of(split: str, count: int, num_shards: int) -> Iterator[Shard]:
    num_shards = max(1, min(num_shards, count))
    for number in range(num_shards):
        name = split if num_shards == 1 else f"{split}-{number:05d}-of-{num_shards:05d}"
        yield Shard(split, name, number * count // num_shards, (number + 1) * count // num_shards)


class ShardResult(BaseModel):
    """What a finished shard came to.

    Attributes:
        record: its files.
        class_counts: pictures by label; labels without any are left out.
        max_height, max_width, max_bytes, total_bytes: of its samples.
        counts: what became of the pictures.
        rejected: pictures left out: place among the split's entries, key, reason.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    record: ShardRecord
    class_counts: dict[int, int]
    max_height: int
    max_width: int
    max_bytes: int
    total_bytes: int
    counts: Counts
    rejected: tuple[tuple[int, str, str], ...]


def finished(folder: Path, shard: Shard) -> ShardResult | None:
    """Return the result of a shard whose files are whole in `folder`, None where they are not."""
    marker = _marker(folder, shard)
    if not marker.is_file():
        return None
    result = ShardResult.model_validate_json(marker.read_bytes())
    files = (result.record.beton, result.record.index)
    whole = all((folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in files)
    return result if whole else None


def remove_traces(folder: Path, shards: Sequence[Shard]) -> None:
    """Remove what only an unfinished conversion needs."""
    for shard in shards:
        journal_path(folder, shard).unlink(missing_ok=True)
        _marker(folder, shard).unlink(missing_ok=True)


class ShardWriter:
    """Append the outcomes of a shard's pictures, in order; what is done outlives a kill.

    Ends with `finish`, or with `abandon`.

    Args:
        folder: where its files lie.
        shard: which pictures.
        labels: of the split's entries, int64.
        retry: forget what came after the first picture that an earlier run had to leave out, and try that one again.

    Attributes:
        next: the first picture, among the split's entries, whose outcome is still missing.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(self, folder: Path, shard: Shard, labels: NDArray[np.int64], *, retry: bool = False) -> None:
        self._folder = folder
        self._shard = shard
        self._labels = labels
        self.next = shard.start
        self._tally = _Tally()
        self._index = IndexBuilder(len(shard))
        self._fresh: list[Outcome] = []
        self._fresh_bytes = 0
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        _marker(folder, shard).unlink(missing_ok=True)
        self._journal = Journal(journal_path(folder, shard), retry=retry)
        self._beton = folder / f"{shard.name}.beton"
        self._writer = BetonWriter(self._beton, len(shard))
        # Its tables, at the file's start, are known last.
        self._digest = FileDigest(self._beton, num_open=beton.metadata_end(len(shard)))
        try:
            self._replay()
        except BaseException:
            self._close()
            raise

    @property
    def num_rejected(self) -> int:
        """Pictures left out so far."""
        return len(self._tally.rejected)

    def append(self, outcome: Picture | Rejected) -> None:
        """Take the outcome of picture `next`.

        Raises:
            ConversionError: the sample is larger than the format allows.
            OSError: a file cannot be written.
        """
        if isinstance(outcome, Rejected):
            self._note(outcome, start=-1)
            self._fresh.append(outcome)
        else:
            stored = Stored.of(outcome)
            self._note(stored, self._writer.append(outcome.data, **self._row(stored)))
            self._fresh.append(stored)
            self._fresh_bytes += stored.size
        if len(self._fresh) >= CHECKPOINT_SAMPLES or self._fresh_bytes >= CHECKPOINT_BYTES:
            self._checkpoint()

    def finish(self) -> ShardResult:
        """Write the tables and the index, make all of it durable, and say what it came to.

        Raises:
            OSError: a file cannot be written.
        """
        try:
            self._checkpoint()
            self._saved()
            result = self._tally.result(self._finished_files())
            write_whole(_marker(self._folder, self._shard), result.model_dump_json().encode())
            return result
        finally:
            self._close()

    def abandon(self, error: BaseException) -> None:
        """Close the files because of `error`, keeping what was appended for the next writer of the same shard."""
        try:
            if not isinstance(error, OSError):  # a full disk has no room for one more checkpoint
                self._checkpoint()
                self._saved()
        finally:
            self._close()

    def _finished_files(self) -> ShardRecord:
        """Write the tables and the index, and make both files durable."""
        beton_crc32 = self._writer.finish()
        index = self._folder / f"{self._shard.name}.index"
        index.unlink(missing_ok=True)  # an earlier run may have been killed right here
        self._index.write(index, beton_crc32)
        durable = self._saver.submit(self._writer.sync)  # the disk works while the rest is hashed
        record = ShardRecord(
            beton=FileRecord(name=self._beton.name, size=self._beton.stat().st_size, sha256=self._digest.text()),
            index=FileRecord.of_file(index),
            num_samples=self._writer.num_samples,
        )
        durable.result()
        return record

    def _close(self) -> None:
        self._saver.shutdown()
        with suppress(OSError):  # what is buffered is not in the journal either
            self._writer.close()
        self._digest.close()
        self._journal.close()

    def _replay(self) -> None:
        """Take over what an interrupted run has left, and drop what it did not get into the journal."""
        for outcome in self._journal.replayed():
            if isinstance(outcome, Stored):
                self._note(outcome, self._writer.replay(outcome.size, **self._row(outcome)))
            else:
                self._note(outcome, start=-1)
        self._writer.cut()

    def _row(self, stored: Stored) -> _Row:
        return _Row(
            height=stored.height,
            width=stored.width,
            label=int(self._labels[self.next]),
            raw=stored.info.stored_format == StoredFormat.RAW,
        )

    def _note(self, outcome: Outcome, start: int) -> None:
        """Enter an outcome, whose bytes begin at `start`, into index and tally, and go on to the next picture."""
        if isinstance(outcome, Rejected):
            self._tally.rejected.append((self.next, outcome.key, outcome.reason))
        else:
            label = int(self._labels[self.next])
            size, height, width = outcome.size, outcome.height, outcome.width
            self._index.append(outcome.info, offset=start, size=size, height=height, width=width, label=label)
            self._tally.add(outcome, label)
        self.next += 1

    def _checkpoint(self) -> None:
        """Start making everything appended so far durable, in another thread."""
        self._saved()
        self._writer.flush()
        self._digest.advance(self._writer.position)
        # Taken away first: an interrupt between the two lines must not lead to the same outcomes twice.
        fresh, self._fresh, self._fresh_bytes = self._fresh, [], 0
        self._saving = self._saver.submit(self._save, fresh)

    def _save(self, outcomes: Sequence[Outcome]) -> None:
        self._writer.sync()
        self._journal.append(outcomes)

    def _saved(self) -> None:
        """Wait for the last checkpoint."""
        if self._saving is not None:
            self._saving.result()
            self._saving = None


class _Row(TypedDict):
    """What the `.beton` file says of a sample besides its place."""

    height: int
    width: int
    label: int
    raw: bool


@dataclass(slots=True)
class _Tally:
    """What a shard's result counts, gathered as pictures pass."""

    class_counts: dict[int, int] = field(default_factory=dict)
    max_height: int = 0
    max_width: int = 0
    max_bytes: int = 0
    total_bytes: int = 0
    kept: int = 0
    raw: int = 0
    flagged: dict[Flag, int] = field(default_factory=lambda: dict.fromkeys(Flag, 0))
    reencoded: dict[str, int] = field(default_factory=dict)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)

    def add(self, stored: Stored, label: int) -> None:
        """Count one sample."""
        self.class_counts[label] = self.class_counts.get(label, 0) + 1
        self.max_height = max(self.max_height, stored.height)
        self.max_width = max(self.max_width, stored.width)
        self.max_bytes = max(self.max_bytes, stored.size)
        self.total_bytes += stored.size
        self.raw += stored.info.stored_format == StoredFormat.RAW
        flags = stored.info.flags
        if stored.reencoded is not None:
            self.reencoded[stored.reencoded] = self.reencoded.get(stored.reencoded, 0) + 1
        elif Flag.TRANSCODED not in flags:
            self.kept += 1
        for flag in flags:
            self.flagged[flag] += 1

    def result(self, record: ShardRecord) -> ShardResult:
        """Return the sums."""
        return ShardResult(
            record=record,
            class_counts=self.class_counts,
            max_height=self.max_height,
            max_width=self.max_width,
            max_bytes=self.max_bytes,
            total_bytes=self.total_bytes,
            counts=Counts(
                kept=self.kept,
                transcoded=self.flagged[Flag.TRANSCODED],
                reencoded=self.reencoded,
                resized=self.flagged[Flag.RESIZED],
                rotated=self.flagged[Flag.ROTATED],
                raw=self.raw,
                repaired=self.flagged[Flag.REPAIRED],
            ),
            rejected=tuple(self.rejected),
        )


def journal_path(folder: Path, shard: Shard) -> Path:
    """Return where a shard's journal lies."""
    return folder / f"{shard.name}.journal"


def _marker(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.name}.finished.json"
