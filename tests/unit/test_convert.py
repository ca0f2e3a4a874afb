from __future__ import annotations

import errno
import hashlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conversions import mixed_source, run
from sources import BytesEntry, ListSource, good_entries, good_source, jpeg

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.estimate import estimate
from datasets_tools.conversion.preparation import Preparation
from datasets_tools.conversion.progress import Progress
from datasets_tools.conversion.shards import ShardWriter
from datasets_tools.errors import ConversionError
from datasets_tools.pictures import Policy
from datasets_tools.store import Store
from datasets_tools.store.index import Flag
from datasets_tools.store.manifest import Manifest
from datasets_tools.store.writer import BetonWriter


def test_the_manifest_says_what_was_written(tmp_path: Path) -> None:
    manifest = run(good_source(), tmp_path / "store", policy=Policy(max_side=60))
    assert manifest == Manifest.load(tmp_path / "store")
    assert manifest.class_names == ("cat", "dog")
    assert manifest.source.name == "list"
    assert manifest.policy is not None
    assert (manifest.policy.max_side, manifest.policy.quality) == (60, 90)
    split, record = Store(tmp_path / "store").split("train"), manifest.splits["train"]
    assert record.num_samples == 6
    assert record.class_counts == (3, 3)
    assert record.mean_bytes == pytest.approx(split.sizes.mean())
    for file in record.files:
        content = (tmp_path / "store" / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    # Widths are 64 to 59: four had to shrink.
    assert (record.counts.kept, record.counts.resized, record.counts.reencoded) == (2, 4, {"jpeg": 4})
    assert record.max_width == 60
    assert {path.name for path in (tmp_path / "store").iterdir()} == {
        "manifest.json", "train.beton", "train.index", "val.beton", "val.index",
    }  # fmt: skip


def test_the_manifest_names_no_time_host_path_or_worker_count(tmp_path: Path) -> None:
    run(good_source(), tmp_path / "one")
    run(good_source(), tmp_path / "elsewhere" / "two", workers=2)
    contents = [(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "elsewhere/two")]
    assert contents[0] == contents[1]


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        run(mixed_source(), tmp_path / str(workers), workers=workers, on_bad_image="skip")
    for name in ("train.beton", "train.index", "val.beton", "val.index", "manifest.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_bad_pictures_of_all_splits_are_listed_and_there_is_no_store(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConversionError) as caught:
        run(mixed_source(), tmp_path / "store", workers=workers)
    message = str(caught.value)
    assert message.startswith("4 of 11 pictures cannot be used; no store was written:")
    for key in ("train/3.jpg", "train/4.jpg", "train/5.jpg: is empty", "val/bad.jpg: is no picture"):
        assert f"\n  {key}" in message
    assert "--resume" in message
    assert not (tmp_path / "store").exists()


def test_repairing_stores_what_can_be_decoded_and_says_so(tmp_path: Path) -> None:
    manifest = run(mixed_source(), tmp_path / "store", on_bad_image="repair")
    record = manifest.splits["train"]
    assert [bad.key for bad in record.quarantined] == ["3.jpg", "5.jpg"]
    assert record.counts.repaired == 1
    split = Store(tmp_path / "store").split("train")
    (repaired,) = [k for k in range(len(split)) if Flag.REPAIRED in split.info(k).flags]
    assert split.key(repaired) == "4.jpg"


def test_skipped_pictures_are_quarantined_by_name_and_reason(tmp_path: Path) -> None:
    manifest = run(mixed_source(), tmp_path / "store", on_bad_image="skip")
    record = manifest.splits["train"]
    assert [bad.key for bad in record.quarantined] == ["3.jpg", "4.jpg", "5.jpg"]
    assert record.quarantined[2].reason == "is empty"
    assert (record.num_samples, record.class_counts) == (5, (3, 2))
    assert (record.counts.kept, record.counts.reencoded) == (2, {"jpeg cmyk": 1, "png": 2})
    split = Store(tmp_path / "store").split("train")
    assert [split.key(k) for k in range(len(split))] == ["0.jpg", "1.jpg", "2.jpg", "6.jpg", "7.jpg"]
    assert split.labels.tolist() == [0, 1, 0, 0, 1]
    assert split.encoded(3).tobytes() == jpeg(100, 50, seed=3)


def test_a_class_that_loses_all_its_pictures_is_an_error(tmp_path: Path) -> None:
    entries = [BytesEntry("a.jpg", 0, jpeg()), BytesEntry("b.jpg", 1, b"")]
    with pytest.raises(
        ConversionError, match=r"class dog of split train lost all its pictures \(1\).*b\.jpg: is empty"
    ):
        run(ListSource({"train": entries}), tmp_path / "store", on_bad_image="skip")
    assert not (tmp_path / "store").exists()


def test_a_split_without_a_class_is_allowed(tmp_path: Path) -> None:
    source = ListSource({"train": good_entries("t", 6), "val": [BytesEntry("a", 1, jpeg())]})
    assert run(source, tmp_path / "store").splits["val"].class_counts == (0, 1)


def test_a_conversion_that_would_not_fit_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ConversionError, match=r"not enough space: 8 pictures of .* about .*, and 0.0 MB are free"):
        run(good_source(), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_said_and_near_the_truth(tmp_path: Path) -> None:
    said: list[str] = []
    source = ListSource({"train": [BytesEntry(str(k), 0, jpeg(200, 300, seed=k)) for k in range(80)]}, ("cat",))
    convert(source, tmp_path / "store", ConvertOptions("0"), say=said.append)
    (line,) = said
    assert line.startswith("80 pictures of ")
    written = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    expected = estimate(source, Preparation(Policy(), 1), 1)
    assert expected.num_bytes + expected.num_hole_bytes == pytest.approx(written, rel=0.3)
    on_disk = sum(path.stat().st_blocks * 512 for path in (tmp_path / "store").iterdir())
    assert expected.num_bytes == pytest.approx(on_disk, rel=0.3)


def test_another_writing_error_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(BetonWriter, "finish", broken)
    with pytest.raises(ConversionError, match=r"cannot be written: .*Input/output error"):
        run(good_source(), tmp_path / "store")


def test_a_source_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="split val of the source holds no pictures"):
        run(ListSource({"train": good_entries("t", 2), "val": []}), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_to_finish_a_shard_is_not_found_after_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Slow(BytesEntry):
        def read(self) -> bytes:
            time.sleep(0.02)
            return self.data

    monkeypatch.setattr(ShardWriter, "finish", full)
    entries = [Slow(entry.key, entry.label, entry.data) for entry in good_entries("t", 80)]
    seen: list[Progress] = []
    with pytest.raises(ConversionError, match="no space left"):
        convert(ListSource({"train": entries}), tmp_path / "store", ConvertOptions("0", shards=2), seen.append)
    assert seen[-1].num_done < 60


def test_no_memory_for_a_picture_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("datasets_tools.conversion.preparation.prepare", exhausted)
    with pytest.raises(ConversionError, match=r"t0\.jpg: no memory .* fewer --workers"):
        run(good_source(), tmp_path / "store")


@pytest.mark.parametrize("shards", [2, 3, 100])
def test_shards_hold_the_same_samples_as_one_file(tmp_path: Path, shards: int) -> None:
    run(mixed_source(), tmp_path / "one", on_bad_image="skip")
    run(mixed_source(), tmp_path / "many", on_bad_image="skip", shards=shards, workers=2)
    one, many = Store(tmp_path / "one").split("train"), Store(tmp_path / "many").split("train")
    assert len(many.record.shards) == min(shards, 8)
    assert [many.key(k) for k in range(len(many))] == [one.key(k) for k in range(len(one))]
    assert many.labels.tolist() == one.labels.tolist()
    assert all(many.encoded(k).tobytes() == one.encoded(k).tobytes() for k in range(len(one)))
    assert many.record.counts == one.record.counts
    assert many.record.quarantined == one.record.quarantined


def test_label_sets_follow_the_pictures_that_are_kept(tmp_path: Path) -> None:
    entries = [BytesEntry("a", 0, jpeg()), BytesEntry("b", 1, b""), BytesEntry("c", 1, jpeg())]
    source = ListSource({"val": entries}, label_sets={"val": {"real": [[0, 1], [1], []]}})
    run(source, tmp_path / "store", on_bad_image="skip")
    assert Store(tmp_path / "store").split("val").label_lists("real") == ((0, 1), ())


def test_progress_counts_up_to_the_total_over_all_splits(tmp_path: Path) -> None:
    seen: list[Progress] = []
    source = mixed_source()
    convert(source, tmp_path / "store", ConvertOptions("0", on_bad_image="skip"), seen.append)
    pictures = [progress for progress in seen if progress.stage == "pictures"]
    assert [progress.num_done for progress in pictures] == list(range(1, 12))
    assert {progress.num_total for progress in seen} == {11}
    assert (seen[-1].stage, seen[-1].split, seen[-1].num_bad) == ("finishing", "val", 4)
    store = Store(tmp_path / "store")
    assert seen[-1].num_bytes == sum(int(split.sizes.sum()) for split in store.splits.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"shards": 0}, "shards is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        ConvertOptions("0", **options)


def test_source_options_reach_the_manifest(tmp_path: Path) -> None:
    source = ListSource({"train": good_entries("t", 2)}, options={"seed": 3})
    run(source, tmp_path / "store")
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["source"] == {
        "name": "list",
        "options": {"seed": 3},
    }
