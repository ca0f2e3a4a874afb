from __future__ import annotations

import errno
import io
import json
import os
import pickle
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stores import StoredPicture, file_record, flip_bytes, write_split, write_store

from datasets_tools.errors import DamagedSampleError, StoreError
from datasets_tools.store import Split, Store, beton
from datasets_tools.store.index import HEADER, RECORD, Flag, StoredFormat

NAMES = ("cat", "dog", "eel")


def noise(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def picture(k: int, split: str = "t") -> StoredPicture:
    """Every third is raw pixels; the others are as good as JPEGs here."""
    if k % 3 == 1:
        return StoredPicture(f"{split}{k}", noise(4 * (k + 1) * 3, k), 4, k + 1, label=k % 3, raw=True)
    return StoredPicture(f"{split}{k}.jpg", noise(300 + k, k), 40 + 3 * k, 64 - k, label=k % 3)


PICTURES = [picture(k) for k in range(10)]
SPLITS = {"train": PICTURES, "val": [picture(k, "v") for k in range(4)]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", SPLITS, NAMES)
    return tmp_path / "store"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    label_sets = {"val": {"real": [[0], [], [2, 1], [1]]}}
    write_store(tmp_path / "sharded", SPLITS, NAMES, num_shards=3, label_sets=label_sets)
    return tmp_path / "sharded"


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def edit_manifest(path: Path, edit: Callable[[Any], None]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    edit(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def assert_holds(split: Split, pictures: Sequence[StoredPicture]) -> None:
    assert len(split) == len(pictures)
    for k, stored in enumerate(pictures):
        assert split.encoded(k).tobytes() == stored.data
        place = slice(int(split.offsets[k]), int(split.offsets[k] + split.sizes[k]))
        assert split.data[place].tobytes() == stored.data
        assert (split.key(k), split.labels[k], split.info(k).key) == (stored.key, stored.label, stored.key)
        assert (split.heights[k], split.widths[k]) == (stored.height, stored.width)
        assert split.formats[k] == split.info(k).stored_format == (StoredFormat.RAW if stored.raw else 0)
        assert split.crc32[k] == zlib.crc32(stored.data)


def test_everything_that_went_in_comes_out(path: Path) -> None:
    store = Store(path)
    assert store.class_names == NAMES
    assert store.num_classes == 3
    assert list(store.splits) == ["train", "val"]
    for name, pictures in SPLITS.items():
        assert_holds(store.split(name), pictures)
        assert store.split(name).path == path / f"{name}.beton"


@pytest.mark.parametrize("num_shards", [2, 3, 7, 10, 13])
def test_many_shards_read_as_one(tmp_path: Path, num_shards: int) -> None:
    """Thirteen shards of ten samples: some have none."""
    split = write_split(tmp_path, PICTURES, num_classes=3, num_shards=num_shards)
    assert_holds(split, PICTURES)
    assert len(split.shards) == num_shards
    assert [shard.first_id for shard in split.shards] == [k * 10 // num_shards for k in range(num_shards)]
    assert sum(shard.num_samples for shard in split.shards) == 10
    for shard in split.shards:
        assert split.data[shard.start : shard.start + shard.size].tobytes() == shard.path.read_bytes()
    split.verify(np.arange(10))


def test_a_split_may_be_empty(tmp_path: Path) -> None:
    split = write_split(tmp_path, [], num_classes=3)
    assert (len(split), split.labels.tolist(), split.record.class_counts) == (0, [], (0, 0, 0))
    split.verify(np.zeros(0, dtype=np.int64))
    with pytest.raises(IndexError):
        split.encoded(0)


def test_arrays_have_the_agreed_types_and_are_read_only(sharded: Path) -> None:
    split = Store(sharded).split("train")
    kinds = {"labels": "int64", "heights": "int32", "widths": "int32", "offsets": "uint64", "sizes": "uint64"}
    for name, kind in (kinds | {"crc32": "uint32", "formats": "uint8", "data": "uint8"}).items():
        array = getattr(split, name)
        assert array.dtype == kind
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert not split.encoded(0).flags.writeable


def test_encoded_is_a_view_not_a_copy(path: Path) -> None:
    split = Store(path).split("train")
    assert np.shares_memory(split.encoded(1), split.data)


def test_bytes_outlive_their_store(path: Path) -> None:
    encoded = Store(path).split("train").encoded(2)
    assert encoded.tobytes() == PICTURES[2].data


def test_an_unknown_split_lists_those_that_exist(path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'test'; it has train, val"):
        Store(path).split("test")


@pytest.mark.parametrize("sample_id", [-1, 10])
def test_an_id_outside_the_split_is_an_index_error(sharded: Path, sample_id: int) -> None:
    split = Store(sharded).split("train")
    for read in (split.encoded, split.key, split.info, lambda k: split.verify(np.array([0, k]))):
        with pytest.raises(IndexError, match=f"no sample {sample_id}; ids are 0 to 9"):
            read(sample_id)


@pytest.mark.parametrize("folder", ["path", "sharded"])
def test_a_flipped_bit_is_loud_at_every_read(folder: str, request: pytest.FixtureRequest) -> None:
    store = request.getfixturevalue(folder)
    flip_bytes(Store(store).split("train"), 5)
    split = Store(store).split("train")
    split.encoded(2)
    for read in (lambda: split.encoded(5), lambda: split.verify(np.arange(10)), lambda: split.encoded(5)):
        with pytest.raises(DamagedSampleError, match=r"train.*\.beton: sample 5 \(t5\.jpg\) is damaged") as caught:
            read()
        assert caught.value.sample_id == 5
    split.verify(np.array([0, 1, 2, 3, 4, 6, 7, 8, 9]))


def test_verify_first_checks_once_always_each_time_never_not_at_all(path: Path) -> None:
    first, always, never = (Store(path, verify=policy).split("train") for policy in ("first", "always", "never"))
    for split in (first, always, never):
        split.encoded(3)
    flip_bytes(first, 3)
    for split in (first, never):
        split.encoded(3)
        split.verify(np.array([3]))
    for read in (lambda: always.encoded(3), lambda: always.verify(np.array([3]))):
        with pytest.raises(DamagedSampleError):
            read()


def test_a_file_cut_after_opening_is_refused_before_it_is_read(sharded: Path) -> None:
    split = Store(sharded).split("train")
    split.verify(np.arange(10))
    os.truncate(split.shards[1].path, 4096)
    for read in (lambda: split.encoded(4), lambda: split.verify(np.array([0, 4]))):
        with pytest.raises(StoreError, match=r"train-00001-of-00003\.beton: has changed since it was opened"):
            read()
    assert split.encoded(0).tobytes() == PICTURES[0].data


def test_a_file_removed_after_opening_is_still_read(path: Path) -> None:
    split = Store(path).split("train")
    split.path.unlink()
    assert split.encoded(4).tobytes() == PICTURES[4].data


def test_an_open_store_holds_no_descriptor(sharded: Path) -> None:
    """A store of a thousand shards opens where a process may have as many files open."""
    before = list(Path("/proc/self/fd").iterdir())
    store = Store(sharded)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)
    assert_holds(store.split("train"), PICTURES)


@pytest.mark.parametrize("name", ["manifest.json", "train-00001-of-00003.index", "train-00001-of-00003.beton"])
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, r"Too many open files\. Raise the limit \(ulimit -n\)\.$"),
        (errno.EACCES, r"Permission denied\. Give this user the right to read it\.$"),
        (errno.EIO, r"Input/output error\. The disk or its connection failed: read the system's log \(dmesg\)\.$"),
    ],
    ids=errno.errorcode.get,
)
def test_what_the_system_refuses_is_said_as_it_is(
    sharded: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, said: str
) -> None:
    """Nothing is wrong with the store then: to convert it again would be hours for nothing."""
    system_open = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).name == name:
            raise OSError(number, os.strerror(number), path)
        return system_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(io, "open", partial(open, opener=refusing))
    with pytest.raises(StoreError, match=rf"{name}: cannot be read: {said}"):
        Store(sharded)


def test_a_cut_beton_is_refused_at_opening(sharded: Path) -> None:
    beton_path = sharded / "train-00002-of-00003.beton"
    content = beton_path.read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 0):
        beton_path.write_bytes(content[:kept])
        with pytest.raises(StoreError, match=r"train-00002-of-00003\.beton: was cut short"):
            Store(sharded)


def test_a_longer_or_missing_file_is_refused(path: Path) -> None:
    with (path / "val.index").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match=r"val\.index: is of another conversion"):
        Store(path)
    (path / "val.index").unlink()
    with pytest.raises(StoreError, match=r"val\.index: is missing"):
        Store(path)
    (path / "val.index").mkdir()
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
    turned = [replace(PICTURES[0], label=1), *PICTURES[1:]]
    write_split(tmp_path, turned, num_classes=3)
    assert (tmp_path / "train.beton").stat().st_size == (path / "train.beton").stat().st_size
    (path / "train.beton").write_bytes((tmp_path / "train.beton").read_bytes())
    with pytest.raises(StoreError, match=r"train\.beton: .*not the file its index was written for"):
        Store(path)


def test_swapped_shards_are_refused(sharded: Path) -> None:
    def swap(manifest: Any) -> None:
        shards = manifest["splits"]["train"]["shards"]
        shards[0]["index"], shards[2]["index"] = shards[2]["index"], shards[0]["index"]

    edit_manifest(sharded, swap)
    with pytest.raises(StoreError, match=r"train-0000[02]-of-00003\.index: disagrees with manifest\.json"):
        Store(sharded)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_samples", 9), ("class_counts", [3, 4, 3]), ("max_height", 70), ("max_width", 65), ("max_bytes", 1)],
)
def test_a_manifest_that_disagrees_with_the_files_is_refused(sharded: Path, name: str, value: object) -> None:
    edit_manifest(sharded, lambda manifest: manifest["splits"]["train"].update({name: value}))
    with pytest.raises(StoreError, match=f"disagrees with manifest.json about {name} of split train"):
        Store(sharded)


def test_class_names_that_disagree_with_the_counts_are_refused(path: Path) -> None:
    edit_manifest(path, lambda manifest: manifest["class_names"].append("fox"))
    with pytest.raises(StoreError, match="counts 3 classes, class_names has 4"):
        Store(path)


@pytest.mark.parametrize(("field", "value"), [("offset", 2**63), ("label", 3), ("size", 10**9), ("height", 0)])
def test_a_record_that_would_lead_astray_is_refused_although_its_checksum_is_right(
    sharded: Path, field: str, value: int
) -> None:
    index = sharded / "train-00001-of-00003.index"
    data = np.fromfile(index, dtype=np.uint8)
    count = int(data[: HEADER.itemsize].view(HEADER)["num_samples"][0])
    data[HEADER.itemsize :][: count * RECORD.itemsize].view(RECORD)[field][1] = value
    data[: HEADER.itemsize].view(HEADER)["crc32"] = zlib.crc32(data[HEADER.itemsize :])
    data.tofile(index)
    with pytest.raises(StoreError, match=r"train-00001-of-00003\.beton: its index is damaged: sample 4: its "):
        Store(sharded)


def test_stores_and_splits_pickle_small_and_open_again(sharded: Path) -> None:
    store = Store(sharded, verify="always")
    for original, travelled in [
        (store.split("val"), pickle.loads(pickle.dumps(store.split("val")))),
        (store.split("val"), pickle.loads(pickle.dumps(store)).split("val")),
    ]:
        assert len(pickle.dumps(original)) < 4000
        assert travelled.encoded(1).tobytes() == original.encoded(1).tobytes()


def test_info_is_what_the_index_holds(path: Path) -> None:
    info = Store(path).split("train").info(1)
    assert (info.flags, info.components, info.restart_interval, info.orientation) == (Flag(0), 3, 0, 0)


def test_label_sets_come_back(sharded: Path) -> None:
    store = Store(sharded)
    assert store.split("val").label_lists("real") == ((0,), (), (2, 1), (1,))
    with pytest.raises(StoreError, match="split val has no label set 'best'; it has real"):
        store.split("val").label_lists("best")
    with pytest.raises(StoreError, match="split train has no label set 'real'; it has none"):
        store.split("train").label_lists("real")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[0], [], [2]]", "holds 3 lists of labels, not one for each of 4"),
        ("{}", "holds no lists of labels"),
        ("[[0], [], [3], [1]]", "labels of sample 2 are no list of classes 0 to 2"),
        ("[[0], [-1], [], []]", "labels of sample 1"),
        ("[[0], [true], [], []]", "labels of sample 1"),
        ("[[0], [], [], [1.0]]", "labels of sample 3"),
        ("[[0], [], [], 1]", "labels of sample 3"),
        ("[[0], ", "cannot be parsed"),
        ("[" * 40, "cannot be parsed"),
    ],
)
def test_a_label_set_of_something_else_is_refused(sharded: Path, content: str, message: str) -> None:
    file = sharded / "val.real.json"
    file.write_text(content)
    record = json.loads(file_record(file).model_dump_json())
    edit_manifest(sharded, lambda manifest: manifest["splits"]["val"]["label_sets"].update(real=record))
    with pytest.raises(StoreError, match=rf"val\.real\.json: .*{message}"):
        Store(sharded).split("val").label_lists("real")


def test_a_label_set_is_not_parsed_unless_it_is_the_one_that_was_written(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parsing takes twenty times the file in memory: what another put there must not get that far."""
    split = Store(sharded).split("val")
    (sharded / "val.real.json").write_text("[[], [], [], [], [], []]")
    monkeypatch.setattr(json, "loads", pytest.fail)
    with pytest.raises(StoreError, match=r"val\.real\.json: is not the file that manifest.json means"):
        split.label_lists("real")


def test_a_label_set_too_large_for_its_samples_is_not_read(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sharded / "val.real.json"
    file.write_bytes(b"[" + b"[]," * 100_000 + b"[]]")
    record = json.loads(file_record(file).model_dump_json())
    edit_manifest(sharded, lambda manifest: manifest["splits"]["val"]["label_sets"].update(real=record))
    split = Store(sharded).split("val")
    monkeypatch.setattr(json, "loads", pytest.fail)
    with pytest.raises(StoreError, match=r"val\.real\.json: has 300,004 bytes; at most [\d,]+ are read"):
        split.label_lists("real")


def test_a_label_set_that_was_altered_or_removed_is_refused(sharded: Path) -> None:
    split = Store(sharded).split("val")
    (sharded / "val.real.json").write_text("[[1], [], [2, 1], [1]]")
    with pytest.raises(StoreError, match=r"val\.real\.json: .*its sha256 differs"):
        split.label_lists("real")
    (sharded / "val.real.json").unlink()
    with pytest.raises(StoreError, match=r"val\.real\.json: cannot be"):
        split.label_lists("real")


def test_a_store_of_stock_fields_in_another_order_opens(path: Path) -> None:
    """An adopted file's rows may begin with the label: only their checksum matters to reading."""
    beton_path, index_path = path / "val.beton", path / "val.index"
    data = np.fromfile(beton_path, dtype=np.uint8)
    descriptors = data[24 : beton.METADATA_START].view(beton.FIELD_DESCRIPTOR)
    descriptors[:] = descriptors[::-1].copy()
    data.tofile(beton_path)
    tables = data[: beton.metadata_end(4)].tobytes() + data[-4 * 24 :].tobytes()
    index = np.fromfile(index_path, dtype=np.uint8)
    index[: HEADER.itemsize].view(HEADER)["beton_crc32"] = zlib.crc32(tables)
    index.tofile(index_path)
    assert_holds(Store(path).split("val"), SPLITS["val"])
