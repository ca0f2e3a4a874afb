from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import in_memory, samples
from sources import jpeg

from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources import parquet_reader
from datasets_tools.sources.base import Entries
from datasets_tools.sources.parquet import ParquetSource

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
NAMES = ("tench", "crane", "crane bird")


@pytest.fixture(autouse=True)
def no_open_files() -> None:
    """Files of one name in different tests are different files."""
    parquet_reader._cursor.cache_clear()
    parquet_reader._open_file.cache_clear()


def picture(number: int) -> bytes:
    return jpeg(8, 8, seed=number)


def hub_table(numbers: Sequence[int], labels: Sequence[int], names: Sequence[str] | None = NAMES) -> pa.Table:
    """A table as Hugging Face's `datasets` writes one."""
    images = pa.array([{"bytes": picture(number), "path": f"{number:04d}.jpg"} for number in numbers], IMAGE)
    table = pa.table({"image": images, "label": pa.array(labels, pa.int64())})
    if names is None:
        return table
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(table: pa.Table, path: Path, row_group_size: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A data set as it comes from the hub: two training files, validation, and a test split without labels."""
    data = tmp_path / "data"
    write(hub_table(range(5), [0, 1, 2, 1, 0]), data / "train-00000-of-00002.parquet", row_group_size=2)
    write(hub_table(range(5, 8), [2, 2, 0]), data / "train-00001-of-00002.parquet", row_group_size=2)
    write(hub_table(range(8, 10), [1, 0]), data / "validation-00000-of-00001.parquet")
    write(hub_table(range(10, 12), [-1, -1]), data / "test-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("---\nlicense: other\n---\n")
    return tmp_path


def expected(numbers: Sequence[int], labels: Sequence[int]) -> list[tuple[str, int, bytes]]:
    return [(f"{n:04d}.jpg", label, picture(n)) for n, label in zip(numbers, labels, strict=True)]


def test_the_hubs_layout_is_read(hub: Path) -> None:
    source = ParquetSource(str(hub))
    assert list(source.splits) == ["train", "val"]
    assert tuple(source.class_names) == NAMES
    assert samples(source.splits["train"]) == expected(range(8), [0, 1, 2, 1, 0, 2, 2, 0])
    assert samples(source.splits["val"]) == expected([8, 9], [1, 0])
    assert source.splits["train"].labels.dtype == np.int64
    assert source.notes == (
        f"{hub}: pictures in column image.bytes, labels in column label",
        f"{hub}: test is left out: its labels are all -1",
    )
    assert (source.options, source.label_sets) == ({}, {})


def test_a_url_gives_the_same_as_a_path(hub: Path) -> None:
    local, remote = ParquetSource(str(hub)), ParquetSource(in_memory(hub))
    for split, entries in local.splits.items():
        assert samples(remote.splits[split]) == samples(entries)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train.parquet", "valid.parquet"),
        ("train/0000.parquet", "val/0000.parquet"),
        ("data/train-00000-of-00001-0123456789abcdef.parquet", "data/val-00000-of-00001-0123456789abcdef.parquet"),
        ("default/train/0000.parquet", "default/validation/0000.parquet"),
        ("training/part-1.parquet", "dev/part-1.parquet"),
    ],
)
def test_splits_go_by_the_names_of_files_and_folders(tmp_path: Path, train: str, val: str) -> None:
    write(hub_table([1, 2, 3], [0, 1, 2]), tmp_path / train)
    write(hub_table([4], [0]), tmp_path / val)
    source = ParquetSource(str(tmp_path))
    assert {name: len(entries) for name, entries in source.splits.items()} == {"train": 3, "val": 1}


def test_a_single_file_is_train(tmp_path: Path) -> None:
    path = write(hub_table([1, 2, 3], [0, 1, 2]), tmp_path / "anything.parquet")
    assert samples(ParquetSource(str(path)).splits["train"]) == expected([1, 2, 3], [0, 1, 2])


def test_missing_files_of_a_series_are_named_and_may_be_allowed(hub: Path) -> None:
    (hub / "data/train-00000-of-00002.parquet").unlink()
    with pytest.raises(SourceError, match=r"1 of the 2 files train-\*-of-00002\.parquet are missing, the first is"):
        ParquetSource(str(hub))
    source = ParquetSource(str(hub), partial=True)
    assert len(source.splits["train"]) == 3
    assert any("1 of the 2 files" in note for note in source.notes)


A, B = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"train-00000-of-00001-{A}.parquet", f"train-00000-of-00001-{B}.parquet"),
        (f"train-00000-of-00001-{A}.parquet", "train-00000-of-00001.parquet"),
        ("train-00000-of-00001.parquet", "train-00000-of-00002.parquet"),
        ("train-00000-of-00001.parquet", "train-00001-of-00002.parquet"),
        ("train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"),
        ("train-00000-of-00001.parquet", "train.parquet"),
        ("train-00000-of-00001.parquet", "train/0000.parquet"),
        ("train-00000-of-00001.parquet", "training-00000-of-00001.parquet"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_two_downloads_of_one_split_are_refused(tmp_path: Path, first: str, second: str, partial: bool) -> None:
    for name in (first, second):
        write(hub_table([1, 2, 3], [0, 1, 2]), tmp_path / name)
    with pytest.raises(SourceError, match="does not go with") as caught:
        ParquetSource(str(tmp_path), partial=partial)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_every_file_of_a_series_may_have_its_own_hash(tmp_path: Path) -> None:
    write(hub_table([1, 2], [0, 1]), tmp_path / f"train-00000-of-00002-{A}.parquet")
    write(hub_table([3], [2]), tmp_path / f"train-00001-of-00002-{B}.parquet")
    assert len(ParquetSource(str(tmp_path)).splits["train"]) == 3


def test_the_same_pictures_in_two_files_are_noted(tmp_path: Path) -> None:
    for name in ("train-a.parquet", "train-b.parquet"):
        write(hub_table([1, 2], [0, 1]), tmp_path / name)
    source = ParquetSource(str(tmp_path))
    assert (
        f"{tmp_path}: train-a.parquet:0 and train-b.parquet:0 are both called '0001.jpg', so pictures are called "
        "<file>:<row>; look whether some are there twice"
    ) in source.notes


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["b", "a", "b", "c"]),
        pa.array(["b", "a", "b", "c"], pa.large_string()),
        pa.array(["b", "a", "b", "c"]).dictionary_encode(),
    ],
)
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_names_as_labels_and_plain_bytes(tmp_path: Path, labels: pa.Array, kind: pa.DataType) -> None:
    table = pa.table({"extra": pa.array([0.5] * 4), "y": labels, "jpg": pa.array([picture(k) for k in range(4)], kind)})
    write(table, tmp_path / "train.parquet", row_group_size=3)
    source = ParquetSource(str(tmp_path))
    assert list(source.class_names) == ["a", "b", "c"]
    keys = [f"train.parquet:{row}" for row in range(4)]
    assert samples(source.splits["train"]) == [(keys[k], [1, 0, 1, 2][k], picture(k)) for k in range(4)]


def test_numbers_without_names_are_the_classes(tmp_path: Path) -> None:
    write(hub_table([1, 2, 3], [2, 0, 1], names=None), tmp_path / "train.parquet")
    assert list(ParquetSource(str(tmp_path)).class_names) == ["0", "1", "2"]


@pytest.mark.parametrize("paths", [["a.jpg", "b.jpg", "a.jpg"], ["a.jpg", None, "b.jpg"], [None] * 3])
def test_paths_that_name_no_single_picture_give_way_to_rows(tmp_path: Path, paths: list[str | None]) -> None:
    images = pa.array([{"bytes": picture(k), "path": path} for k, path in enumerate(paths)], IMAGE)
    write(pa.table({"image": images, "label": [0, 0, 0]}), tmp_path / "train.parquet", row_group_size=2)
    entries = ParquetSource(str(tmp_path)).splits["train"]
    assert [key for key, _, _ in samples(entries)] == [f"train.parquet:{row}" for row in range(3)]


def test_columns_are_chosen_when_asked_and_refused_when_unclear(tmp_path: Path) -> None:
    columns = {"left": [picture(1)], "right": [picture(2)], "coarse": [0], "fine": ["a"]}
    write(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=r"train\.parquet: 2 columns may hold pictures .*left \(binary\), right"):
        ParquetSource(str(tmp_path))
    with pytest.raises(SourceError, match=r"2 columns may hold labels .*--label-column"):
        ParquetSource(str(tmp_path), image_column="right")
    with pytest.raises(SourceError, match=r"there is no column middle; the columns are left \(binary\), right"):
        ParquetSource(str(tmp_path), image_column="middle")
    with pytest.raises(SourceError, match=r"there is no column foo; the columns are .*fine \(string\).*--label-column"):
        ParquetSource(str(tmp_path), image_column="right", label_column="foo")
    with pytest.raises(SourceError, match=r"column left does not hold labels"):
        ParquetSource(str(tmp_path), image_column="right", label_column="left")
    source = ParquetSource(str(tmp_path), image_column="right", label_column="fine")
    assert samples(source.splits["train"]) == [("train.parquet:0", 0, picture(2))]
    assert source.options == {"image_column": "right", "label_column": "fine"}


def test_a_null_picture_is_one_bad_picture(tmp_path: Path) -> None:
    images = pa.array([{"bytes": picture(0), "path": "a"}, {"bytes": None, "path": "b"}, None], IMAGE)
    write(pa.table({"image": images, "label": [0, 0, 0]}), tmp_path / "train.parquet")
    (run,) = ParquetSource(str(tmp_path)).splits["train"].runs(0, 3)
    (_, first), (_, second), (key, third) = run.read()
    assert first == picture(0)
    assert isinstance(second, PictureError)
    assert str(third) == f"{key}: has no bytes: column image.bytes is null"


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, None, 1], NAMES, "train.parquet: row 1: the label is null"),
        ([0, 1, 3], NAMES, "train.parquet:2: label 3 is none of the 3 classes in the file's metadata"),
        ([0, -1, 1], NAMES, "train.parquet:1: label -1 is no class: numbers of classes count from 0, and -1"),
        ([0, 1, -1], None, "train.parquet:2: label -1 is no class: numbers of classes count from 0, and -1"),
        (["0", "-1", "1"], None, "train.parquet: row 0 or later: label -1 is no class"),
        (["7", "1.5", "1"], None, "some labels are whole numbers ('7'), others are names ('1.5')"),
        (np.array([0, 2**64 - 1], np.uint64), None, "train.parquet: row 0 or later: a label is no number of a class"),
        ([0, 1, 99999999999], None, "found 3 numbers from 0 to 99999999999, and no 2"),
        ([0, 1, 3], None, "numbers must be 0 to 2 without a gap; found 3 numbers from 0 to 3, and no 2"),
        ([-1, -1, -1], NAMES, "no picture has a label: all are -1"),
        (["a", "b\nc", "d"], None, "'b\\nc' is empty or holds a line break"),
    ],
)
def test_wrong_labels_are_named_with_file_and_row(
    tmp_path: Path, labels: list[Any], names: Sequence[str] | None, message: str
) -> None:
    table = hub_table(range(len(labels)), [0] * len(labels), names)
    table = table.set_column(1, "label", pa.array(labels)).replace_schema_metadata(table.schema.metadata)
    write(table, tmp_path / "train.parquet", row_group_size=2)
    with pytest.raises(SourceError) as caught:
        ParquetSource(str(tmp_path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "None is no list of names"),
        (5, "5 is no list of names"),
        ("ab", "ab is no list of names"),
        ([], r"\[\] is no list of names"),
        (["a", 1], "is no list of names"),
        (["a\nb", "c"], r"'a\\nb' is empty or holds a line break"),
        (["a", "a"], "'a' is there twice"),
    ],
)
def test_wrong_class_names_in_the_metadata_are_named(tmp_path: Path, names: Any, message: str) -> None:
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = hub_table([0, 1], [0, 1], names=None)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    write(table, tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=rf"train\.parquet: class names of label in the metadata: .*{message}"):
        ParquetSource(str(tmp_path))


@pytest.mark.parametrize("column", ["label", "path"])
def test_text_that_is_not_utf8_is_named(tmp_path: Path, column: str) -> None:
    good, bad = pa.array(["a", "b"]), pa.array([b"a", b"\xff"]).view(pa.string())
    images = pa.StructArray.from_arrays(
        [pa.array([picture(0), picture(1)]), bad if column == "path" else good], ["bytes", "path"]
    )
    write(pa.table({"image": images, "label": bad if column == "label" else good}), tmp_path / "train.parquet")
    with pytest.raises(SourceError, match=r"train\.parquet: holds text that is not UTF-8: .*Write the labels"):
        ParquetSource(str(tmp_path))


def test_a_picture_that_is_too_large_is_one_bad_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pa.table({"jpg": [picture(0), bytes(100_000), b""], "label": [0, 0, 0]}), tmp_path / "train.parquet")
    monkeypatch.setattr("datasets_tools.sources.base.MAX_PICTURE_BYTES", 99_999)
    (run,) = ParquetSource(str(tmp_path)).splits["train"].runs(0, 3)
    first, (key, error), third = run.read()
    assert (first[1], third[1]) == (picture(0), b"")
    assert str(error) == f"{key}: is too large: 100,000 bytes, where at most 99,999 are allowed"


def test_a_class_that_train_lacks_is_named(tmp_path: Path) -> None:
    write(hub_table([0, 1], [0, 1], names=None), tmp_path / "train.parquet")
    write(hub_table([2, 3], [0, 2], names=None), tmp_path / "val.parquet")
    with pytest.raises(SourceError, match=r"val\.parquet:1: class 2 is not a class of the train split"):
        ParquetSource(str(tmp_path))
    # Where the metadata name the classes, it is one.
    write(hub_table([0, 1], [0, 1]), tmp_path / "train.parquet")
    write(hub_table([2, 3], [0, 2]), tmp_path / "val.parquet")
    assert ParquetSource(str(tmp_path)).splits["val"].labels.tolist() == [0, 2]


@pytest.mark.parametrize("second", ["train-00001-of-00002.parquet", "validation-00000-of-00001.parquet"])
def test_files_that_do_not_belong_together_are_named(hub: Path, second: str) -> None:
    write(hub_table([1, 2], [0, 1], names=("other", "names", "here")), hub / "data" / second)
    with pytest.raises(SourceError, match=rf"{second}.* other .*class names than"):
        ParquetSource(str(hub))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "It is no Parquet file, or damaged: fetch it again"),
        (lambda data: b"", "It is no Parquet file, or damaged: fetch it again"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "It is no Parquet file, or damaged"),
    ],
)
def test_a_damaged_file_is_named(hub: Path, damage: Any, message: str) -> None:
    path = hub / "data/train-00001-of-00002.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match=rf"train-00001-of-00002\.parquet: .*{message}"):
        ParquetSource(str(hub))


def test_places_without_such_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no Parquet files; expected train-\*\.parquet"):
        ParquetSource(str(tmp_path))
    with pytest.raises(SourceError, match=r"absent: cannot be listed"):
        ParquetSource(f"{tmp_path}/absent")
    with pytest.raises(SourceError, match=r"absent\.parquet: .*No such file") as caught:
        ParquetSource(f"{tmp_path}/absent.parquet")
    assert "damaged" not in str(caught.value)
    with pytest.raises(SourceError, match=r"^nosuch://a/b\.parquet: there is no protocol nosuch://\.$"):
        ParquetSource("nosuch://a/b.parquet")
    write(hub_table([0], [0]), tmp_path / "part-0.parquet")
    with pytest.raises(SourceError, match=r"part-0\.parquet: its name does not say which split it is of"):
        ParquetSource(str(tmp_path))


def test_runs_stay_in_their_row_groups_and_are_small(tmp_path: Path) -> None:
    write(hub_table(range(300), [0] * 300), tmp_path / "train.parquet", row_group_size=140)
    entries = ParquetSource(str(tmp_path)).splits["train"]
    runs = list(entries.runs(0, 300))
    whole = [*((first, 32) for first in range(0, 128, 32)), (128, 12)]
    assert [(run.row_group, run.first, len(run)) for run in runs] == [
        *((group, first, count) for group in (0, 1) for first, count in whole),
        (2, 0, 20),
    ]
    assert max(len(pickle.dumps(run)) for run in runs) < 2000
    part = list(entries.runs(135, 150))
    assert [(run.row_group, run.first, len(run)) for run in part] == [(0, 135, 5), (1, 0, 10)]
    assert [key for run in part for key, _ in run.read()] == [f"{k:04d}.jpg" for k in range(135, 150)]


def read_all(run: Any) -> list[bytes]:
    return [data for _, data in run.read()]


def test_runs_may_be_read_in_any_order_and_interleaved(tmp_path: Path) -> None:
    write(hub_table(range(400), [0] * 400), tmp_path / "train.parquet", row_group_size=400)
    runs = list(ParquetSource(str(tmp_path)).splits["train"].runs(0, 400))
    wanted = [[picture(k) for k in range(run.first, run.first + len(run))] for run in runs]
    for number in (2, 0, 3, 3, 1):
        assert read_all(runs[number]) == wanted[number]
    first, second = runs[1].read(), runs[2].read()
    pairs = [(next(first)[1], next(second)[1]) for _ in range(30)]
    assert pairs == list(zip(wanted[1][:30], wanted[2][:30], strict=True))


def test_runs_in_order_read_a_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(hub_table(range(400), [0] * 400), tmp_path / "train.parquet", row_group_size=400)
    runs = list(ParquetSource(str(tmp_path)).splits["train"].runs(0, 400))
    decoded = []
    convert = parquet_reader._pictures
    monkeypatch.setattr(parquet_reader, "_pictures", lambda batch: decoded.append(len(batch)) or convert(batch))
    for run in runs:
        read_all(run)
    assert sum(decoded) == 400
    # Nor is a run held up by its whole group, or all of it kept: rows come in small batches.
    assert max(decoded) <= 16


def test_a_file_that_shrinks_or_goes_stops_the_run(tmp_path: Path) -> None:
    path = write(hub_table(range(32), [0] * 32), tmp_path / "train.parquet")
    (run,) = ParquetSource(str(tmp_path)).splits["train"].runs(0, 32)
    write(hub_table(range(20), [0] * 20), path)
    with pytest.raises(OSError, match=r"train\.parquet: row group 0: has 20 rows; row 20 was expected"):
        read_all(run)
    path.unlink()
    with pytest.raises(OSError, match=r"train\.parquet"):
        read_all(run)


def test_corrupt_pages_stop_the_run_and_name_the_file(tmp_path: Path) -> None:
    path = write(hub_table(range(32), [0] * 32), tmp_path / "train.parquet")
    (run,) = ParquetSource(str(tmp_path)).splits["train"].runs(0, 32)
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"train\.parquet: row group 0"):
        read_all(run)


def test_a_row_group_of_a_whole_file_does_not_come_into_memory(tmp_path: Path) -> None:
    """Pages are as the writer made them; beyond one of them, no more than a batch is held."""
    images = pa.array([np.random.default_rng(k).bytes(100_000) for k in range(400)], pa.binary())
    table = pa.table({"image": images, "label": [0] * 400})
    pq.write_table(table, tmp_path / "train.parquet", write_batch_size=10, use_dictionary=False)
    del images, table
    (run, *_) = ParquetSource(str(tmp_path)).splits["train"].runs(0, 400)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in run.read()]
    assert max(held) < 15_000_000


def test_names_match_pyarrows_own_reading(hub: Path) -> None:
    table = pa.concat_tables([pq.read_table(path) for path in sorted((hub / "data").glob("train*"))])
    entries: Entries = ParquetSource(str(hub)).splits["train"]
    rows = table.to_pylist()
    assert [(key, label) for key, label, _ in samples(entries)] == [(r["image"]["path"], r["label"]) for r in rows]
