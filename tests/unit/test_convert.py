from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sources import BytesEntry, DyingEntry, ListSource, encoded, good_source, jpeg, pixels

from datasets_tools.convert import ConvertOptions, Progress, convert
from datasets_tools.errors import ConversionError
from datasets_tools.manifest import Manifest
from datasets_tools.pictures import Encoding
from datasets_tools.store import Store
from datasets_tools.writer import BetonWriter


def run(source: ListSource, destination: Path, **options: Any) -> Manifest:
    return convert(source, destination, ConvertOptions("0", **options), lambda progress: None)


def mixed_source() -> ListSource:
    """Good pictures of both classes among one of everything that is converted or refused."""
    data = [
        jpeg(),
        encoded(pixels(30, 40), "PNG"),
        encoded(pixels(30, 40).convert("CMYK")),
        encoded(pixels(30, 40), "GIF"),
        jpeg()[:-500],
        b"",
        jpeg(100, 50, seed=3),
        encoded(pixels(30, 40, 1), "PNG"),
    ]
    entries = [BytesEntry(f"{k}.jpg", k % 2, content) for k, content in enumerate(data)]
    val = [BytesEntry("bad.jpg", 0, b"no picture"), BytesEntry("v", 1, jpeg()), BytesEntry("w", 0, jpeg())]
    return ListSource({"train": entries, "val": val})


def test_the_manifest_says_what_was_written(tmp_path: Path) -> None:
    manifest = run(good_source(), tmp_path / "store", encoding=Encoding(max_side=60))
    assert manifest == Manifest.load(tmp_path / "store")
    assert manifest.class_names == ("cat", "dog")
    assert manifest.source.name == "list"
    assert (manifest.encoding.max_side, manifest.encoding.quality) == (60, 90)
    split, record = Store(tmp_path / "store").split("train"), manifest.splits["train"]
    assert record.num_samples == 6
    assert record.class_counts == (3, 3)
    assert record.mean_bytes == pytest.approx(split.sizes.mean())
    for file in (record.beton, record.index):
        content = (tmp_path / "store" / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    # Widths are 64 to 59: four had to shrink.
    assert (record.kept, record.resized, record.reencoded) == (2, 4, {"jpeg": 4})
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
def test_all_bad_pictures_of_all_splits_are_listed_and_nothing_is_left(tmp_path: Path, workers: int) -> None:
    with pytest.raises(ConversionError) as caught:
        run(mixed_source(), tmp_path / "store", workers=workers)
    message = str(caught.value)
    assert message.startswith("4 of 11 pictures cannot be used; nothing was written:")
    for line in (
        "  train/3.jpg: is a GIF; ",
        "  train/4.jpg: ends early: the JPEG has no end-of-image marker",
        "  train/5.jpg: is empty",
        "  val/bad.jpg: is no picture",
    ):
        assert f"\n{line}" in message
    assert "--on-bad-image skip" in message
    assert list(tmp_path.iterdir()) == []


def test_skipped_pictures_are_quarantined_by_name_and_reason(tmp_path: Path) -> None:
    manifest = run(mixed_source(), tmp_path / "store", on_bad_image="skip")
    record = manifest.splits["train"]
    assert [bad.key for bad in record.quarantined] == ["3.jpg", "4.jpg", "5.jpg"]
    assert record.quarantined[2].reason == "is empty"
    assert (record.num_samples, record.class_counts) == (5, (3, 2))
    assert (record.kept, record.reencoded) == (2, {"jpeg cmyk": 1, "png": 2})
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
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_a_class_is_allowed(tmp_path: Path) -> None:
    source = ListSource({"train": good_source().splits["train"], "val": [BytesEntry("a", 1, jpeg())]})
    assert run(source, tmp_path / "store").splits["val"].class_counts == (0, 1)


@pytest.mark.parametrize("failing", ["append", "finish"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_space_left_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(BetonWriter, failing, full)
    with pytest.raises(ConversionError, match=r"store: no space left while writing.*Free space") as caught:
        run(good_source(), tmp_path / "store", workers=2)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_writing_error_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(BetonWriter, "finish", broken)
    with pytest.raises(ConversionError, match=r"cannot be written: .*Input/output error"):
        run(good_source(), tmp_path / "store")


def test_a_dead_worker_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    entries = [*good_source().splits["train"], DyingEntry("x", 0)]
    with pytest.raises(ConversionError, match="a worker process died"):
        run(ListSource({"train": entries}), tmp_path / "store", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_the_total_over_all_splits(tmp_path: Path) -> None:
    seen: list[Progress] = []
    source = mixed_source()
    convert(source, tmp_path / "store", ConvertOptions("0", on_bad_image="skip"), seen.append)
    pictures = [progress for progress in seen if progress.stage == "pictures"]
    assert [progress.num_done for progress in pictures] == list(range(1, 12))
    assert {progress.num_total for progress in seen} == {11}
    assert (seen[-1].stage, seen[-1].split, seen[-1].num_bad) == ("checksums", "val", 4)
    store = Store(tmp_path / "store")
    assert seen[-1].num_bytes == sum(int(split.sizes.sum()) for split in store.splits.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"encoding": Encoding(max_side=0)}, "max_side is 0"),
        ({"encoding": Encoding(quality=101)}, "quality is 101"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        ConvertOptions("0", **options)


def test_source_options_reach_the_manifest(tmp_path: Path) -> None:
    source = ListSource(good_source().splits, options={"seed": 3})
    run(source, tmp_path / "store")
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["source"] == {
        "name": "list",
        "options": {"seed": 3},
    }
