from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from sources import ListSource, good_source

from datasets_tools.convert import ConvertOptions, convert
from datasets_tools.errors import DamagedSampleError, StoreError
from datasets_tools.store import Store


@pytest.fixture
def source() -> ListSource:
    return good_source()


@pytest.fixture
def path(tmp_path: Path, source: ListSource) -> Path:
    convert(source, tmp_path / "store", ConvertOptions("0"), lambda progress: None)
    return tmp_path / "store"


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_everything_that_went_in_comes_out(path: Path, source: ListSource) -> None:
    store = Store(path)
    assert store.class_names == ("cat", "dog")
    assert store.num_classes == 2
    assert list(store.splits) == ["train", "val"]
    for name, entries in source.splits.items():
        split = store.split(name)
        assert len(split) == len(entries)
        assert split.path == path / f"{name}.beton"
        for k, entry in enumerate(entries):
            assert split.encoded(k).tobytes() == entry.data
            assert (split.key(k), split.labels[k]) == (entry.key, entry.label)
            assert (split.heights[k], split.widths[k]) == (40 + 3 * k, 64 - k)


def test_arrays_have_the_agreed_types_and_are_read_only(path: Path) -> None:
    split = Store(path).split("train")
    kinds = {"labels": "int64", "heights": "int32", "widths": "int32", "offsets": "uint64", "sizes": "uint64"}
    for name, kind in (kinds | {"crc32": "uint32"}).items():
        array = getattr(split, name)
        assert array.dtype == kind
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert not split.encoded(0).flags.writeable


def test_encoded_is_a_view_not_a_copy(path: Path) -> None:
    split = Store(path).split("train")
    assert np.shares_memory(split.encoded(1), split.encoded(1))


def test_an_unknown_split_lists_those_that_exist(path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'test'; it has train, val"):
        Store(path).split("test")


@pytest.mark.parametrize("sample_id", [-1, 6])
def test_an_id_outside_the_split_is_an_index_error(path: Path, sample_id: int) -> None:
    with pytest.raises(IndexError, match="ids are 0 to 5"):
        Store(path).split("train").encoded(sample_id)


def test_a_flipped_bit_is_loud_at_the_first_read(path: Path) -> None:
    offset = int(Store(path).split("train").offsets[3])
    flip(path / "train.beton", offset + 100)
    split = Store(path).split("train")
    split.encoded(2)
    for read in (lambda: split.encoded(3), lambda: split.verify(np.arange(6)), lambda: split.encoded(3)):
        with pytest.raises(DamagedSampleError, match=r"train\.beton: sample 3 \(t3\.jpg\) is damaged") as caught:
            read()
        assert caught.value.sample_id == 3
    split.verify(np.array([0, 1, 2, 4, 5]))


def test_verify_first_checks_once_always_each_time_never_not_at_all(path: Path) -> None:
    first, always, never = (Store(path, verify=policy).split("train") for policy in ("first", "always", "never"))
    for split in (first, always, never):
        split.encoded(3)
    flip(path / "train.beton", int(first.offsets[3]) + 100)
    first.encoded(3)
    never.encoded(3)
    with pytest.raises(DamagedSampleError):
        always.encoded(3)


def test_a_cut_beton_is_refused_at_opening(path: Path) -> None:
    content = (path / "train.beton").read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 0):
        (path / "train.beton").write_bytes(content[:kept])
        with pytest.raises(StoreError, match=r"train\.beton: was cut short"):
            Store(path)


def test_a_longer_or_missing_file_is_refused(path: Path) -> None:
    with (path / "val.index").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match=r"val\.index: is of another conversion"):
        Store(path)
    (path / "val.index").unlink()
    with pytest.raises(StoreError, match=r"val\.index: is missing"):
        Store(path)


@pytest.mark.parametrize("offset", [8, 24 + 2, 24 + 2 * 1041 + 16, -1])
def test_a_flipped_bit_in_the_tables_is_refused_at_opening(path: Path, offset: int) -> None:
    """Sample count, a field's name, a label, an allocation."""
    size = (path / "train.beton").stat().st_size
    flip(path / "train.beton", offset % size)
    with pytest.raises(StoreError, match=r"train\.beton"):
        Store(path)


def test_files_of_another_conversion_are_refused(path: Path, tmp_path: Path) -> None:
    other = good_source()
    entries = [*other.splits["train"][1:], other.splits["train"][0]]
    convert(ListSource({"train": entries}), tmp_path / "other", ConvertOptions("0"), lambda progress: None)
    beton = tmp_path / "other" / "train.beton"
    assert beton.stat().st_size == (path / "train.beton").stat().st_size
    (path / "train.beton").write_bytes(beton.read_bytes())
    with pytest.raises(StoreError, match="not the file its index was written for"):
        Store(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_samples", 5), ("class_counts", [2, 4]), ("max_height", 54), ("max_width", 65), ("max_bytes", 1)],
)
def test_a_manifest_that_disagrees_with_the_file_is_refused(path: Path, name: str, value: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["splits"]["train"][name] = value
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"disagrees with manifest.json about {name} of split train"):
        Store(path)


def test_class_names_that_disagree_with_the_counts_are_refused(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["class_names"].append("bird")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="counts 2 classes, class_names has 3"):
        Store(path)


def test_stores_and_splits_pickle_small_and_open_again(path: Path) -> None:
    store = Store(path, verify="always")
    for original, travelled in [
        (store.split("val"), pickle.loads(pickle.dumps(store.split("val")))),
        (store.split("val"), pickle.loads(pickle.dumps(store)).split("val")),
    ]:
        assert len(pickle.dumps(original)) < 3000
        assert travelled.encoded(1).tobytes() == original.encoded(1).tobytes()
