"""The journal of a shard that is being written: what became of each picture so far, durable and in order.

One line per checkpoint: a checksum, how many outcomes came before, and those since, as JSON. A line is written only
after the pictures it speaks of are durable in the shard's file. A torn line, the mark of a kill while writing it, is
where the journal ends.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from datasets_tools.jpeg import Subsampling
from datasets_tools.pictures import Picture
from datasets_tools.store.index import Flag, SampleInfo, StoredFormat


@dataclass(frozen=True, slots=True)
class Rejected:
    """A picture that cannot be used, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A picture that lies in the shard's file: all that is known of it but its bytes and its place.

    Attributes:
        size: of its bytes.
        height, width: in pixels.
        info: the index's record.
        reencoded: what the source held, as in `Picture`.
    """

    size: int
    height: int
    width: int
    info: SampleInfo
    reencoded: str | None

    @classmethod
    def of(cls, picture: Picture) -> Stored:
        """Return what is to be remembered of a picture."""
        return cls(len(picture.data), picture.height, picture.width, picture.info, picture.reencoded)


Outcome = Stored | Rejected


class Journal:
    """Read what a shard's journal says, and go on writing it.

    Args:
        path: its file; created where there is none.
        retry: end before the first picture that was rejected, so that it is tried again.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, *, retry: bool = False) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b")
        self._retry = retry
        self._num_outcomes = 0

    def replayed(self) -> Iterator[Outcome]:
        """Yield the outcomes that the file speaks of, in order, and cut off what is torn; to be called first.

        Raises:
            OSError: it cannot be read or written.
        """
        end = 0
        remainder: list[Outcome] = []
        for line in self._file:
            outcomes = _checked(line, self._num_outcomes)
            if outcomes is None:
                break
            if self._retry and any(isinstance(outcome, Rejected) for outcome in outcomes):
                remainder = list(takewhile(lambda outcome: isinstance(outcome, Stored), outcomes))
                break
            yield from outcomes
            self._num_outcomes += len(outcomes)
            end += len(line)
        self._file.truncate(end)
        self._file.seek(end)
        if remainder:
            self.append(remainder)
            yield from remainder

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def append(self, outcomes: Sequence[Outcome]) -> None:
        """Write one line and make it durable.

        Raises:
            OSError: it cannot be written.
        """
        records = [_record(outcome) for outcome in outcomes]
        text = json.dumps([self._num_outcomes, records], separators=(",", ":")).encode()
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._num_outcomes += len(outcomes)


def _checked(line: bytes, num_before: int) -> list[Outcome] | None:
    """Return the outcomes of a whole line that follows `num_before` outcomes, None for any other."""
    checksum, text = line[:8], line[9:-1]
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    first, records = json.loads(text)
    return [_outcome(record) for record in records] if first == num_before else None


def _record(outcome: Outcome) -> list[int | str | None]:
    if isinstance(outcome, Rejected):
        return [outcome.key, outcome.reason]
    return [outcome.size, outcome.height, outcome.width, outcome.reencoded, *_info_fields(outcome.info)]


def _info_fields(info: SampleInfo) -> Iterator[int | str]:
    yield from (info.key, info.crc32, info.components, int(info.subsampling), info.orientation)
    yield from (info.restart_interval, int(info.flags), int(info.stored_format))


def _outcome(record: list[Any]) -> Outcome:
    if len(record) == 2:
        return Rejected(*record)
    size, height, width, reencoded, key, crc32, components, subsampling, orientation, interval, flags, form = record
    info = SampleInfo(
        key, crc32, components, Subsampling(subsampling), orientation, interval, Flag(flags), StoredFormat(form)
    )
    return Stored(size, height, width, info, reencoded)
