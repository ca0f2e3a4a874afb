from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets_tools import digest
from datasets_tools.conversion import shards as module
from datasets_tools.conversion.journal import Rejected
from datasets_tools.conversion.shards import Shard, ShardResult, ShardWriter, finished, remove_traces, shards_of
from datasets_tools.digest import Digest
from datasets_tools.errors import ConversionError
from datasets_tools.jpeg import Subsampling
from datasets_tools.pictures import Picture
from datasets_tools.store.index import Flag, SampleInfo, StoredFormat
from datasets_tools.store.manifest import FileRecord

SHARD = Shard("train", "train-00001-of-00002", 10, 40)
LABELS = np.arange(50) % 3


def outcome(place: int) -> Picture | Rejected:
    """Bytes of every size up to a few pages, some raw, some left out."""
    if place % 7 == 5:
        return Rejected(f"{place}.jpg", "is empty")
    data = bytes([place]) * (1 + (place * 300_007) % 1_500_000)
    raw = place % 5 == 0
    flags = Flag.REENCODED if raw else Flag.TRANSCODED if place % 2 else Flag(0)
    form = StoredFormat.RAW if raw else StoredFormat.JPEG
    info = SampleInfo(f"{place}.jpg", zlib.crc32(data), 3, Subsampling.S420, 0, 0, flags, form)
    return Picture(data, 10 + place, 20 + place, info, "png" if raw else None)


def write(folder: Path, upto: int = SHARD.stop, **options: Any) -> ShardResult | None:
    """Append what is missing up to `upto`; finish where that is the end, abandon otherwise."""
    writer = ShardWriter(folder, SHARD, LABELS, **options)
    while writer.next < upto:
        writer.append(outcome(writer.next))
    if upto == SHARD.stop:
        return writer.finish()
    writer.abandon(KeyboardInterrupt())
    return None


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a shard that was written in one go."""
    folder = tmp_path_factory.mktemp("whole")
    write(folder)
    return {name: data for name, data in contents(folder).items() if not name.endswith(".journal")}


@pytest.mark.parametrize(("count", "number", "sizes"), [(10, 3, [3, 3, 4]), (2, 5, [1, 1]), (0, 4, [0]), (7, 1, [7])])
def test_shards_are_consecutive_and_as_equal_as_can_be(count: int, number: int, sizes: list[int]) -> None:
    shards = shards_of({"train": count}, number)
    assert [len(shard) for shard in shards] == sizes
    assert shards[0].start == 0
    assert [shard.stop for shard in shards[:-1]] == [shard.start for shard in shards[1:]]
    assert shards[-1].stop == count
    last = len(sizes) - 1
    assert shards[-1].name == ("train" if last == 0 else f"train-{last:05d}-of-{last + 1:05d}")


def test_the_result_says_what_was_written(tmp_path: Path) -> None:
    result = write(tmp_path)
    assert result is not None
    kept = [found for place in range(10, 40) if isinstance(found := outcome(place), Picture)]
    labels = [int(LABELS[place]) for place in range(10, 40) if place % 7 != 5]
    assert result.record.num_samples == len(kept)
    assert result.class_counts == {label: labels.count(label) for label in set(labels)}
    assert result.total_bytes == sum(len(picture.data) for picture in kept)
    assert (result.max_height, result.max_width) == (49, 59)
    assert result.rejected == tuple((place, f"{place}.jpg", "is empty") for place in (12, 19, 26, 33))
    assert result.counts.raw == sum(picture.info.stored_format == StoredFormat.RAW for picture in kept)
    assert result.counts.kept + result.counts.transcoded + sum(result.counts.reencoded.values()) == len(kept)
    for file in (result.record.beton, result.record.index):
        data = (tmp_path / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert finished(tmp_path, SHARD) == result


def test_a_file_of_many_parts_has_the_digest_of_its_final_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest, "PART_BYTES", 1 << 16)
    monkeypatch.setattr(module, "CHECKPOINT_SAMPLES", 3)
    write(tmp_path, 20)
    result = write(tmp_path)
    assert result is not None
    file = tmp_path / result.record.beton.name
    assert result.record.beton == FileRecord(
        name=file.name, size=file.stat().st_size, sha256=Digest(file.read_bytes()).text()
    )
    assert int(result.record.beton.sha256.split("-")[1]) > 100


@pytest.mark.parametrize("first", [10, 11, 13, 25, 39])
def test_an_abandoned_shard_is_gone_on_with_to_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], first: int
) -> None:
    write(tmp_path, first)
    assert finished(tmp_path, SHARD) is None
    writer = ShardWriter(tmp_path, SHARD, LABELS)
    assert writer.next == first
    writer.abandon(KeyboardInterrupt())
    write(tmp_path, min(first + 3, 39))
    write(tmp_path)
    remaining = contents(tmp_path)
    assert {name: remaining[name] for name in whole} == whole


def test_what_was_written_after_the_last_checkpoint_is_written_again(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_SAMPLES", 4)
    writer = ShardWriter(tmp_path, SHARD, LABELS)
    for place in range(10, 25):
        writer.append(outcome(place))
    writer.abandon(OSError("the disk is full"))  # as a kill: no last checkpoint
    with (tmp_path / f"{SHARD.name}.beton").open("ab") as file:
        file.write(b"torn" * 1000)
    resumed = ShardWriter(tmp_path, SHARD, LABELS)
    assert resumed.next == 22
    resumed.abandon(KeyboardInterrupt())
    write(tmp_path)
    remaining = contents(tmp_path)
    assert {name: remaining[name] for name in whole} == whole


def test_an_interrupt_at_a_checkpoint_notes_no_picture_twice(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ShardWriter(tmp_path, SHARD, LABELS)
    for place in range(10, 25):
        writer.append(outcome(place))
    submit = writer._saver.submit

    def interrupted(*work: Any) -> Any:
        monkeypatch.setattr(writer._saver, "submit", submit)
        writer._saving = submit(*work)
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._saver, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer._checkpoint()
    writer.abandon(KeyboardInterrupt())
    resumed = ShardWriter(tmp_path, SHARD, LABELS)
    assert resumed.next == 25
    resumed.abandon(KeyboardInterrupt())
    write(tmp_path)
    remaining = contents(tmp_path)
    assert {name: remaining[name] for name in whole} == whole


def test_a_kill_between_the_last_file_and_the_marker_changes_nothing(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write(tmp_path)
    (tmp_path / f"{SHARD.name}.finished.json").unlink()
    assert finished(tmp_path, SHARD) is None
    write(tmp_path)
    remaining = contents(tmp_path)
    assert {name: remaining[name] for name in whole} == whole


def test_a_file_that_lost_bytes_is_not_taken_for_whole(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / f"{SHARD.name}.beton").open("r+b") as file:
        file.truncate(1000)
    assert finished(tmp_path, SHARD) is None
    with pytest.raises(ConversionError, match="fewer than the .* that an interrupted conversion had written"):
        ShardWriter(tmp_path, SHARD, LABELS)


def test_retrying_tries_the_first_rejected_picture_again(tmp_path: Path) -> None:
    write(tmp_path)
    writer = ShardWriter(tmp_path, SHARD, LABELS, retry=True)
    assert (writer.next, writer.num_rejected) == (12, 0)
    writer.abandon(KeyboardInterrupt())
    assert finished(tmp_path, SHARD) is None


def test_a_picture_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    huge = np.zeros(2**31 + 1, dtype=np.uint8)  # address space only: nothing is written of it
    info = SampleInfo("a", 0, 3, Subsampling.S420, 0, 0, Flag(0))
    writer = ShardWriter(tmp_path, SHARD, LABELS)
    with pytest.raises(ConversionError, match="--max-side"):
        writer.append(Picture(huge.data, 1, 1, info, None))
    writer.abandon(ConversionError())


def test_traces_are_removed(tmp_path: Path) -> None:
    write(tmp_path)
    remove_traces(tmp_path, [SHARD])
    assert sorted(contents(tmp_path)) == [f"{SHARD.name}.beton", f"{SHARD.name}.index"]
