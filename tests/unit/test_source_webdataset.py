from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from layouts import in_memory, plant, samples, tar, train_pictures

from datasets_tools.errors import SourceError
from datasets_tools.sources.webdataset import WebDatasetSource

# The webdataset package leaves its shards open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

PICTURES = [data for pictures in train_pictures().values() for data in pictures.values()]


def shard(first: int, count: int = 4, image: str = "jpg", label: str = "cls") -> bytes:
    """Samples with a picture, a label (their number modulo 3), and files that are neither."""
    contents: list[tuple[str, bytes]] = []
    for k in range(first, first + count):
        written = str(k % 3).encode() if label == "cls" else json.dumps({"label": k % 3, "caption": "a"}).encode()
        contents += [(f"{k:04d}.{label}", written), (f"{k:04d}.{image}", PICTURES[k]), (f"{k:04d}.txt", b"a caption")]
    return tar(contents)


FLAT = {
    "imagenet-train-000000.tar": shard(0),
    "imagenet-train-000001.tar": shard(4, image="jpeg", label="json"),
    "imagenet-validation-000000.tar": shard(8, image="PNG"),
}
FOLDERS = {
    "train/000000.tar": FLAT["imagenet-train-000000.tar"],
    "train/000001.tar": FLAT["imagenet-train-000001.tar"],
    "val/000000.tar": FLAT["imagenet-validation-000000.tar"],
    "README.md": b"shards",
}


def theirs(*paths: Path) -> list[tuple[str, int, bytes]]:
    """What the webdataset package reads."""
    found = []
    for sample in webdataset.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False):
        picture = next(sample[name] for name in ("jpg", "jpeg", "png") if name in sample)
        label = int(sample["cls"]) if "cls" in sample else json.loads(sample["json"])["label"]
        found.append((sample["__key__"], label, picture))
    return found


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("layout", [FLAT, FOLDERS], ids=["flat", "folders"])
def test_samples_are_those_of_the_webdataset_package(tmp_path: Path, layout: Mapping[str, bytes], remote: bool) -> None:
    root = plant(tmp_path, layout)
    source = WebDatasetSource(in_memory(root) if remote else str(root))
    names = [name for name in layout if name.endswith(".tar")]
    assert list(source.splits) == ["train", "val"]
    assert samples(source.splits["train"]) == theirs(*(root / name for name in names[:2]))
    assert samples(source.splits["val"]) == theirs(root / names[2])
    assert [len(entries) for entries in source.splits.values()] == [8, 4]
    assert source.splits["val"].labels.dtype == np.int64
    assert list(source.class_names) == ["0", "1", "2"]
    assert [note.partition(": ")[2] for note in source.notes] == ["tar shards: 2 of train, 1 of val"]
    assert dict(source.label_sets) == dict(source.options) == {}


def test_keys_are_those_of_the_webdataset_package(tmp_path: Path) -> None:
    names = ["a.b/c.jpg", "a.b/c.cls", "d.e.f.txt", "d.jpg", "d.CLS", "x/y/z.JPG", "x/y/z.cls", "x/y/z.seg.png"]
    contents = [(name, b"1" if name.lower().endswith("cls") else b"picture") for name in names]
    root = plant(tmp_path, {"train.tar": tar(contents), "classes.txt": b"cat\ndog\n"})
    found = [sample["__key__"] for sample in webdataset.WebDataset(str(root / "train.tar"), shardshuffle=False)]
    assert (
        [key for key, _, _ in samples(WebDatasetSource(str(root)).splits["train"])] == found == ["a.b/c", "d", "x/y/z"]
    )


def test_shards_without_a_split_in_their_names_are_train(tmp_path: Path) -> None:
    root = plant(tmp_path, {"photos-000.tar": shard(0), "photos-001.tar": shard(4)})
    source = WebDatasetSource(str(root))
    assert list(source.splits) == ["train"]
    assert samples(source.splits["train"]) == theirs(root / "photos-000.tar", root / "photos-001.tar")


def test_keys_that_shards_share_begin_with_the_shards_names(tmp_path: Path) -> None:
    root = plant(tmp_path, {"train-0.tar": shard(0), "train-1.tar": shard(0), "val-0.tar": shard(0)})
    source = WebDatasetSource(str(root))
    assert [key for key, _, _ in samples(source.splits["train"])] == [
        f"train-{s}/{k:04d}" for s in range(2) for k in range(4)
    ]
    assert source.splits["val"].key(0) == "0000"
    assert source.notes[1:] == (f"{root}: train: shards share keys, so each key begins with its shard's name",)


def one_sample(label: bytes, extension: str = "json") -> dict[str, bytes]:
    return {"train.tar": tar([("a.jpg", b"picture"), (f"a.{extension}", label)])}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"label": 1}, 1),
        ({"cls": 2, "caption": "a"}, 2),
        ({"class": "dog"}, 1),
        ({"target": 0}, 0),
        (2, 2),
        ("fish", 2),
    ],
)
def test_labels_in_json_are_numbers_or_names(tmp_path: Path, label: Any, expected: int) -> None:
    root = plant(tmp_path, {**one_sample(json.dumps(label).encode()), "classes.txt": b"cat\ndog\nfish\n"})
    source = WebDatasetSource(str(root))
    assert source.splits["train"].labels.tolist() == [expected]
    assert list(source.class_names) == ["cat", "dog", "fish"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", b"cat\ndog\nfish\n"),
        ("classnames.txt", b"cat\r\ndog\r\nfish"),
        ("dataset.json", b'{"class_names": ["cat", "dog", "fish"], "size": 8}'),
        ("dataset.json", b'{"classes": ["cat", "dog", "fish"]}'),
        ("dataset.json", b'["cat", "dog", "fish"]'),
    ],
)
def test_a_list_of_classes_names_them(tmp_path: Path, name: str, content: bytes) -> None:
    source = WebDatasetSource(str(plant(tmp_path, {**FLAT, name: content})))
    assert list(source.class_names) == ["cat", "dog", "fish"]
    assert source.splits["train"].labels.tolist() == [k % 3 for k in range(8)]


def test_names_alone_are_numbered_in_their_order(tmp_path: Path) -> None:
    contents = [
        (f"{k}.{kind}", data)
        for k, name in enumerate("cab")
        for kind, data in (("jpg", b"x"), ("json", json.dumps(name).encode()))
    ]
    source = WebDatasetSource(str(plant(tmp_path, {"train.tar": tar(contents)})))
    assert list(source.class_names) == ["a", "b", "c"]
    assert source.splits["train"].labels.tolist() == [2, 0, 1]


def test_files_of_no_sample_are_counted(tmp_path: Path) -> None:
    contents = [
        *(("Makefile", b"x"), ("._a.jpg", b"x"), ("a.jpg", b"x"), ("a.cls", b"0"), ("__meta__", b"x")),
        *(("README.md", b"x"), ("README.txt", b"x"), ("meta/info.json", b"{}"), ("LICENSE.txt", b"x")),
    ]
    root = plant(tmp_path, {"train.tar": tar(contents)})
    source = WebDatasetSource(str(root))
    assert [key for key, _, _ in samples(source.splits["train"])] == ["a"]
    assert source.notes[1:] == (f"{root}/train.tar: 7 files that belong to no picture are left out",)


ONE = shard(0, 3)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "holds no shards of train or val; expected"),
        ({"test-0.tar": ONE}, "holds no shards of train or val; expected"),
        ({"train-0.tar": ONE, "photos-0.tar": ONE}, "photos-0.tar: the name says no split (train, val or test)"),
        ({"train-val-0.tar": ONE}, "train-val-0.tar: the name says train and val"),
        ({"train/0.tar": ONE, "train-1.tar": ONE}, "holds both shards ("),
        ({"train/0.tar": ONE, "val/0.tar": ONE, "valid/0.tar": ONE}, "another folder holds shards of val too"),
        ({"train-0.tar.gz": b""}, "train-0.tar.gz: a compressed shard cannot be read picture by picture"),
        ({"train-0.tar": b"\x1f\x8b" + bytes(600)}, "is compressed (gzip)"),
        ({"train-0.tar": ONE[:2000]}, "train-0.tar: ends early"),
        ({"train.tar": tar([("a.cls", b"0")])}, "train.tar: a: has 0 pictures, among its files a.cls; exactly one of"),
        ({"train.tar": tar([("a.jpg", b""), ("a.png", b"")])}, "a: has 2 pictures, among its files a.jpg, a.png"),
        ({"train.tar": tar([("a.jpg", b"")])}, "a: has no label, among its files a.jpg; .cls or .json is needed"),
        ({"train.tar": tar([("a.jpg", b""), ("a.jpg", b"")])}, "a: has two files .jpg"),
        (
            {"train.tar": tar([("a.jpg", b""), ("a.cls", b"0"), ("b.jpg", b""), ("b.cls", b"0"), ("a.txt", b"")])},
            "a: comes twice, or its files do not lie side by side",
        ),
        (one_sample(b"-1", "cls"), "train.tar: a: label -1 is no class: numbers of classes count from 0, and -1"),
        (one_sample(b"-1"), "train.tar: a: label -1 is no class"),
        (one_sample(b"cat", "cls"), "a.cls: b'cat' is no label; allowed is a whole number of at most 18 digits"),
        (one_sample(b"99999999999", "cls"), "found 1 numbers from 99999999999 to 99999999999, and no 0"),
        (one_sample(b"99999999999"), "found 1 numbers from 99999999999 to 99999999999, and no 0"),
        ({"train.tar": tar([("a.gif", b""), ("a.json", b"0")])}, "train.tar: a: has 0 pictures, among its files a.gif"),
        ({"train.tar": tar([])}, "split train holds no pictures: no sample in"),
        (
            {"train-0.tar": ONE, "val-0.tar": tar([("a.txt", b"")])},
            "split val holds no pictures: no sample in",
        ),
        (one_sample(b"9" * 5000, "cls"), "is no label"),
        (one_sample(b"\xd9\xa3", "cls"), "is no label"),
        (one_sample(b"0" * (2 << 20), "cls"), "a.cls: a label of 2,097,152 bytes"),
        (one_sample(b"{}"), "a.json: b'{}' is no label; allowed is a label, or an object with label or cls"),
        (one_sample(b"{"), "is no label"),
        (one_sample(b"[" * 100_000), "is no label"),
        (one_sample(b'{"label": 1.5}'), "is no label"),
        (one_sample(b'{"label": true}'), "is no label"),
        (one_sample(b'{"label": [1]}'), "is no label"),
        (one_sample(b'"a\\nb"'), "holds a line break"),
        (one_sample(b"999999999", "cls"), "labels that are numbers must be 0 to 0 without a gap"),
        (
            {**one_sample(b"3", "cls"), "classes.txt": b"cat\ndog\n"},
            "train.tar: a: label 3 is none of the 2 classes of",
        ),
        (
            {**one_sample(b'"cow"'), "classes.txt": b"cat\ndog\n"},
            "train.tar: a: label 'cow' is none of the 2 classes of",
        ),
        ({**one_sample(b"-1"), "classes.txt": b"cat\ndog\n"}, "train.tar: a: label -1 is no class"),
        ({**one_sample(b"0"), "classes.txt": b"cat\ncat\n"}, "classes.txt: lists 'cat' twice"),
        ({**one_sample(b"0"), "classes.txt": b"\xff"}, "classes.txt: the list of classes cannot be read"),
        ({**one_sample(b"0"), "classes.txt": b""}, "classes.txt: lists no classes"),
        ({**one_sample(b"0"), "dataset.json": b'{"classes": {}}'}, "dataset.json: lists no classes"),
        ({"train-0.tar": shard(0, 1), "val-0.tar": shard(0, 2)}, "class 1 is not a class of the train split"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, contents: Mapping[str, bytes], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        WebDatasetSource(str(plant(tmp_path, contents)))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_shard_without_pictures_beside_others_is_nothing_wrong(tmp_path: Path) -> None:
    root = plant(tmp_path, {"train-0.tar": shard(0), "train-1.tar": tar([])})
    assert len(WebDatasetSource(str(root)).splits["train"]) == 4


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize(("name", "split"), [("photos.tar", "train"), ("photos-val-3.tar", "val")])
def test_a_single_shard_is_the_split_that_its_name_says(tmp_path: Path, name: str, split: str, remote: bool) -> None:
    root = plant(tmp_path, {name: shard(0), "train-other.tar": shard(4), "classes.txt": b"cat\ndog\nfish\n"})
    source = WebDatasetSource(f"{in_memory(root) if remote else root}/{name}")
    assert {split: samples(entries) for split, entries in source.splits.items()} == {split: theirs(root / name)}
    assert list(source.class_names) == ["cat", "dog", "fish"]


def test_what_is_no_folder_and_no_shard_is_named(tmp_path: Path) -> None:
    plant(tmp_path, {"notes.txt": b"x", "test-0.tar": ONE, "train.tar.gz": b""})
    with pytest.raises(SourceError, match=r"notes\.txt: is a file, not a folder; expected"):
        WebDatasetSource(f"{tmp_path}/notes.txt")
    with pytest.raises(SourceError, match=r"train\.tar\.gz: a compressed shard cannot be read"):
        WebDatasetSource(f"{tmp_path}/train.tar.gz")
    with pytest.raises(SourceError, match=r"test-0\.tar: holds no shards of train or val"):
        WebDatasetSource(f"{tmp_path}/test-0.tar")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent: no such folder; expected"):
        WebDatasetSource(str(tmp_path / "absent"))


def test_a_location_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(SourceError, match="^nonsense://a/b: cannot be reached: "):
        WebDatasetSource("nonsense://a/b")
