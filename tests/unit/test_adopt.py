from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import encoded, jpeg, pixels

from datasets_tools.errors import StoreError
from datasets_tools.exchange.adopt import adopt
from datasets_tools.inspection.verify import verify_store
from datasets_tools.jpeg import Subsampling
from datasets_tools.store import Store, beton
from datasets_tools.store.index import Flag, StoredFormat
from datasets_tools.store.manifest import Manifest

Change = Callable[[np.ndarray, np.ndarray, np.ndarray], None]
Sample = tuple[bytes, int, int, int, int]  # mode, label, height, width


def samples(count: int = 6) -> list[Sample]:
    """Of every kind that FFCV writes, and two that its decoder takes: grey and progressive."""
    found: list[Sample] = []
    for k in range(count):
        height, width = 30 + k, 50 - k
        picture = pixels(height, width, k)
        if k % 3 == 1:
            found.append((np.asarray(picture).tobytes(), beton.RAW_MODE, k % 4, height, width))
        else:
            data = encoded(picture.convert("L") if k == 3 else picture, progressive=k == 5)
            found.append((data, beton.JPEG_MODE, k % 4, height, width))
    return found


def write_stock(
    path: Path,
    stored: list[Sample],
    *,
    names: tuple[str, str] = ("image", "label"),
    label_first: bool = False,
    change: Change = lambda header, rows, allocations: None,
) -> Path:
    """Write the layout of ffcv 1.0.2 by hand, pages of samples in reverse, the allocation table shuffled."""
    row = [("image", beton.IMAGE_RECORD), ("label", "<i8")]
    rows = np.zeros(len(stored), dtype=np.dtype(row[::-1] if label_first else row, align=True))
    allocations = np.zeros(len(stored), dtype=beton.ALLOCATION)
    header, descriptors = np.zeros(1, dtype=beton.HEADER), np.zeros(2, dtype=beton.FIELD_DESCRIPTOR)
    fields = [(beton.RGB_IMAGE_FIELD, names[0]), (beton.INT_FIELD, names[1])]
    for descriptor, (type_id, name) in zip(descriptors, fields[::-1] if label_first else fields, strict=True):
        descriptor["type_id"] = type_id
        descriptor["name"][: len(name)] = np.frombuffer(name.encode(), dtype=np.uint8)
    page = 2**21
    end = page * (1 + len(stored))
    for k, (data, mode, label, height, width) in enumerate(stored):
        start = page * (len(stored) - k) + 16 * k
        rows[k]["label"], rows[k]["image"] = label, (mode, width, height, start)
        allocations[k] = (k, start, len(data))
    places = allocations["ptr"].tolist()
    allocations = allocations[np.random.default_rng(0).permutation(len(stored))]
    header[0] = (beton.VERSION, 2, page, len(stored), end)
    change(header, rows, allocations)
    with path.open("wb") as file:
        file.write(header.tobytes() + descriptors.tobytes() + rows.tobytes())
        for start, (data, *_) in zip(places, stored, strict=True):
            file.seek(start)
            file.write(data)
        file.seek(end)
        file.write(allocations.tobytes())
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def take(*files: Any, into: Path, class_names: Any = None) -> Manifest:
    return adopt(files, into, class_names=class_names, fastbot_version="1.2.3")


@pytest.mark.parametrize("label_first", [False, True])
def test_every_sample_and_fact_comes_out(tmp_path: Path, label_first: bool) -> None:
    file = write_stock(tmp_path / "train_500.beton", samples(), names=("x", "y"), label_first=label_first)
    manifest = take(file, into=tmp_path / "store")
    assert manifest == Manifest.load(tmp_path / "store")
    assert (manifest.fastbot_version, manifest.policy, manifest.class_names) == ("1.2.3", None, ("0", "1", "2", "3"))
    split = Store(tmp_path / "store").split("train")
    for k, (data, mode, label, height, width) in enumerate(samples()):
        assert split.encoded(k).tobytes() == data
        assert (split.formats[k], split.labels[k], split.heights[k], split.widths[k]) == (mode, label, height, width)
        assert split.crc32[k] == zlib.crc32(data)
        assert split.key(k) == f"train_500:{k}"
    assert split.info(0).subsampling == Subsampling.S420
    assert split.info(1).stored_format == StoredFormat.RAW
    assert (split.info(3).components, split.info(3).subsampling) == (1, Subsampling.GREY)
    assert split.info(5).flags == Flag.PROGRESSIVE
    record = manifest.splits["train"]
    assert record.shards[0].beton.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (record.counts.kept, record.counts.raw, record.class_counts) == (6, 2, (2, 2, 1, 1))
    assert verify_store(tmp_path / "store", deep=True, workers=1, progress=lambda done, total: None).ok


def test_files_in_the_destination_are_used_in_place(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "train.beton", samples())
    before = file.read_bytes()
    manifest = take(file, into=tmp_path)
    assert names_in(tmp_path) == ["manifest.json", "train.beton", "train.index"]
    assert manifest.source.options == {"linked": 0}
    assert not file.is_symlink()
    assert file.read_bytes() == before


def test_files_elsewhere_are_linked_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_stock(tmp_path / "data" / "train.ffcv", samples())
    monkeypatch.chdir(tmp_path / "data")
    manifest = take("train.ffcv", into=tmp_path / "deep" / "store")
    link = tmp_path / "deep" / "store" / "train.ffcv"
    assert link.readlink() == (tmp_path / "data" / "train.ffcv").resolve()
    assert manifest.source.options == {"linked": 1}
    assert names_in(link.parent) == ["manifest.json", "train.ffcv", "train.index"]
    monkeypatch.chdir("/")
    assert len(Store(link.parent).split("train")) == 6


def test_files_of_one_split_become_its_shards(tmp_path: Path) -> None:
    files = [
        write_stock(tmp_path / "train_b.beton", samples(4)),
        write_stock(tmp_path / "train_a.beton", samples(3)),
        write_stock(tmp_path / "validation.beton", samples(2)),
        f"v2={write_stock(tmp_path / 'other.beton', samples(5))}",
    ]
    take(*files, into=tmp_path)
    store = Store(tmp_path)
    assert {name: len(split) for name, split in store.splits.items()} == {"train": 7, "val": 2, "v2": 5}
    assert [shard.path.name for shard in store.split("train").shards] == ["train_b.beton", "train_a.beton"]
    assert [store.split("train").key(k) for k in (3, 4)] == ["train_b:3", "train_a:0"]


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "train_lr=1.beton", samples())
    assert list(take(file, into=tmp_path).splits) == ["train"]


def test_class_names_may_be_given(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "train.beton", samples())
    with pytest.raises(StoreError, match="has the label 3, but 2 class names were given"):
        take(file, into=tmp_path, class_names=["a", "b"])
    assert take(file, into=tmp_path, class_names=list("abcde")).splits["train"].class_counts == (2, 2, 1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is no file to adopt"),
        (["pictures.beton"], "pictures.beton: its name does not begin with train, val, test. Say which split it is"),
        (["../x=train.beton"], "'../x' is no name of a split"),
        (["train.beton", "val=train.beton"], "another file is called train too"),
        (["train_absent.beton"], "train_absent.beton: no such file"),
        (["train\x1b[2J.beton"], r"'train\\x1b\[2J\.beton' is no plain file name"),
        (["train\\a.beton"], "is no plain file name"),
        (["train\udcff.beton"], "is no plain file name"),
        (["train" + "x" * 246 + ".bet"], r"x\.index' is no plain file name"),
    ],
)
def test_arguments_that_make_no_store_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train.beton", "pictures.beton"):
        write_stock(Path(name), samples())
    with pytest.raises(StoreError, match=message):
        take(*arguments, into=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def set_field(table: int, field: str, value: int, row: int = 2) -> Change:
    """Change a number of one of the three tables."""

    def change(*tables: np.ndarray) -> None:
        inner = tables[table]["image"] if field in beton.IMAGE_RECORD.names and table == 1 else tables[table]
        inner[field][row if table else 0] = value

    return change


def overlap(header: np.ndarray, rows: np.ndarray, allocations: np.ndarray) -> None:
    """Let sample 2 begin in the middle of sample 3: each alone is where it may be."""
    start = int(rows["image"]["data_ptr"][3]) + 20
    rows["image"]["data_ptr"][2] = start
    allocations["ptr"][allocations["sample_id"] == 2] = start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_field(0, "version", 1), "is not an FFCV file of version 2"),
        (set_field(0, "num_fields", 3), "has 3 fields"),
        (set_field(0, "num_samples", 2**64 - 1), "do not fit a file"),
        (set_field(0, "num_samples", 5), "do not fit a file"),
        (set_field(0, "num_samples", 0), "has no samples"),
        (set_field(0, "alloc_table_ptr", 2**63), "do not fit a file"),
        (set_field(1, "label", -1), "has labels from -1 to"),
        (set_field(1, "label", 2**62), "has labels from 0 to 4611686018427387904"),
        (set_field(1, "data_ptr", 5), "has not one entry for sample 2"),
        (set_field(1, "mode", 9), "sample 2: its format is unknown"),
        (set_field(1, "mode", 1), "sample 2: its size is not height x width x 3"),
        (set_field(1, "width", 1), "1 of 6 samples are damaged: sample 2 is 32 x 48 pixels, its row says 32 x 1"),
        (set_field(1, "height", 0), "sample 2: its height or width is 0"),
        (set_field(2, "sample_id", 2**64 - 1), "has not one entry for sample"),
        (set_field(2, "ptr", 2**64 - 1), "has not one entry for sample"),
        (set_field(2, "size", 2**64 - 1), "its bytes lie outside"),
        (set_field(2, "size", 2**23), "sample 5 leaves its page"),
        (set_field(2, "size", 0), "its bytes lie outside"),
        (set_field(0, "page_size", 0), "is damaged: its pages have 0 bytes"),
        (set_field(0, "page_size", 3), "is damaged: its pages have 3 bytes"),
        (overlap, "is damaged: sample 2 begins before the sample before it in the file ends"),
    ],
)
def test_damaged_tables_are_refused_and_nothing_is_written(tmp_path: Path, change: Change, message: str) -> None:
    file = write_stock(tmp_path / "train.beton", samples(), change=change)
    with pytest.raises(StoreError, match=message):
        take(file, into=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_damaged_samples_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    stored = samples()
    stored[0] = (stored[0][0][:-40], *stored[0][1:])
    stored[2] = (b"GIF89a" + stored[2][0], *stored[2][1:])
    stored[5] = (encoded(pixels(35, 45).convert("CMYK")), *stored[5][1:])
    file = write_stock(tmp_path / "train.beton", stored)
    with pytest.raises(
        StoreError, match="3 of 6 samples are damaged: sample 0 ends early; sample 2 is no JPEG"
    ) as caught:
        take(file, into=tmp_path)
    assert "sample 5 is a JPEG of 8 bits and 4 components" in str(caught.value)
    assert names_in(tmp_path) == ["train.beton"]


def test_other_fields_are_refused_by_name(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "train.beton", samples())
    with file.open("r+b") as stream:
        stream.seek(24 + 1041)
        stream.write(b"\0")
    with pytest.raises(StoreError, match=r"2 fields \('image': RGBImageField, 'label': FloatField\)"):
        take(file, into=tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 3000, 2**21 + 5, -1])
def test_a_cut_file_is_refused(tmp_path: Path, kept: int) -> None:
    file = write_stock(tmp_path / "train.beton", samples())
    os.truncate(file, kept % (file.stat().st_size + 1) if kept >= 0 else file.stat().st_size - 1)
    with pytest.raises(StoreError, match=r"train\.beton: "):
        take(file, into=tmp_path)


def test_a_store_is_never_overwritten(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "train.beton", samples())
    take(file, into=tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(StoreError, match="is a store already"):
        take(file, into=tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_file_of_that_name_in_the_destination_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = write_stock(tmp_path / "data" / "train.beton", samples())
    (tmp_path / "train.beton").write_bytes(b"mine")
    with pytest.raises(StoreError, match="exists and is another file"):
        take(file, into=tmp_path)
    assert (tmp_path / "train.beton").read_bytes() == b"mine"
    (tmp_path / "train.beton").unlink()
    (tmp_path / "train.index").write_bytes(b"mine too")
    with pytest.raises(StoreError, match=r"train\.index: is not an index"):
        take(file, into=tmp_path)
    assert (tmp_path / "train.index").read_bytes() == b"mine too"
    assert names_in(tmp_path) == ["data", "train.index"]


def test_what_a_killed_adoption_left_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = write_stock(tmp_path / "data" / "train.beton", samples())
    manifest = take(file, into=tmp_path / "store")
    (tmp_path / "store" / "manifest.json").unlink()
    assert take(file, into=tmp_path / "store") == manifest
    assert len(Store(tmp_path / "store").split("train")) == 6


def test_a_failure_to_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    file = write_stock(tmp_path / "train.beton", samples())
    monkeypatch.setattr(Manifest, "save", full)
    with pytest.raises(StoreError, match="No space left on device. Nothing was adopted"):
        take(file, into=tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert file.is_file()


def test_one_picture_makes_a_store(tmp_path: Path) -> None:
    stored: list[Sample] = [(jpeg(30, 40), beton.JPEG_MODE, 0, 30, 40)]
    take(write_stock(tmp_path / "test.beton", stored), into=tmp_path)
    assert Store(tmp_path).class_names == ("0",)


def test_a_file_that_is_not_there_is_said_to_be_missing_whatever_its_name(tmp_path: Path) -> None:
    for name in ("cats.beton", "train.beton", "train=cats.beton"):
        with pytest.raises(StoreError, match=r"cats\.beton: no such file|train\.beton: no such file"):
            adopt([tmp_path / name], tmp_path / "store", class_names=None, fastbot_version="0")
    assert not (tmp_path / "store").exists()


def test_the_way_out_of_a_name_that_says_no_split_can_be_copied(tmp_path: Path) -> None:
    file = write_stock(tmp_path / "cats.beton", samples())
    with pytest.raises(StoreError, match=rf"NAME={file}, for example train={file}") as caught:
        adopt([file], tmp_path / "store", class_names=None, fastbot_version="0")
    suggested = str(caught.value).rpartition(" ")[2].removesuffix(".")
    assert "train" in adopt([suggested], tmp_path / "store", class_names=None, fastbot_version="0").splits
