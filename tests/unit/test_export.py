from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
import webdataset
from PIL import Image
from sources import jpeg
from stores import StoredPicture, flip_bytes, write_store

from datasets_tools.errors import ConversionError, DamagedSampleError
from datasets_tools.exchange.export import Layout, export, folder_names
from datasets_tools.sources.folder import FolderSource
from datasets_tools.sources.webdataset import WebDatasetSource
from datasets_tools.store import Split, Store

CLASSES = ("n00000001 cat, house cat", "n00000002 dog", "n00000003 fox")


def raw(height: int, width: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, height * width * 3, np.uint8).tobytes()


def stored(key: str, label: int, seed: int) -> StoredPicture:
    """Every third one raw."""
    is_raw = seed % 3 == 2
    data = raw(20 + seed, 30, seed) if is_raw else jpeg(20 + seed, 30, seed)
    return StoredPicture(key, data, 20 + seed, 30, label, raw=is_raw)


@pytest.fixture
def source(tmp_path: Path) -> Store:
    train = [stored(f"folder {seed % 3}/{seed}.JPEG", seed % 3, seed) for seed in range(10)]
    val = [stored(f"{seed}.png", (seed + 1) % 3, seed) for seed in range(5)]
    real = {"val": {"real": [[0], [], [1, 2], [2], [0]]}}
    return write_store(tmp_path / "source", {"train": train, "val": val}, CLASSES, num_shards=2, label_sets=real)


def write(source: Store, destination: Path, layout: Layout, shard_size: int = 4) -> tuple[str, ...]:
    return export(source.path, destination, layout, lambda split, done, total: None, shard_size=shard_size)


def is_same(split: Split, sample_id: int, file: bytes) -> bool:
    """Whether a file is the sample's JPEG, or a PNG of its raw pixels."""
    data = split.encoded(sample_id).tobytes()
    if file[:8] != b"\x89PNG\r\n\x1a\n":
        return file == data
    picture = Image.open(io.BytesIO(file))
    return (picture.height, picture.width) == (split.heights[sample_id], split.widths[sample_id]) and (
        np.asarray(picture).tobytes() == data
    )


def test_folders_are_torchvisions(source: Store, tmp_path: Path) -> None:
    write(source, tmp_path / "out", "folder")
    for name, split in source.splits.items():
        ids = {split.key(sample_id).rsplit("/", 1)[-1].split(".")[0]: sample_id for sample_id in range(len(split))}
        found = torchvision.datasets.ImageFolder(str(tmp_path / "out" / name))
        assert found.classes == ["n00000001", "n00000002", "n00000003"]
        assert len(found) == len(split)
        for path, label in found.samples:
            sample_id = ids[Path(path).stem]
            assert label == split.labels[sample_id]
            assert is_same(split, sample_id, Path(path).read_bytes())
    suffixes = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert suffixes == {".JPEG", ".jpg", ".png", ".txt"}
    assert (tmp_path / "out/classes.txt").read_text().splitlines() == list(CLASSES)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves closing to the collector
def test_tars_are_webdatasets(source: Store, tmp_path: Path) -> None:
    assert write(source, tmp_path / "out", "webdataset") == ()
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tar"))
    assert names == ["train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar", "val-000001.tar"]
    for name, split in source.splits.items():
        tars = sorted(str(path) for path in (tmp_path / "out").glob(f"{name}-*.tar"))
        found = list(webdataset.WebDataset(tars, shardshuffle=False))
        assert len(found) == len(split)
        for sample_id, sample in enumerate(found):
            assert is_same(split, sample_id, sample.get("jpg") or sample["png"])
            assert int(sample["cls"]) == split.labels[sample_id]
            facts = json.loads(sample["json"])
            assert facts["key"] == split.key(sample_id)
            assert facts["class"] == CLASSES[split.labels[sample_id]]
            if name == "val":
                assert tuple(facts["label_sets"]["real"]) == split.label_lists("real")[sample_id]


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_what_was_exported_can_be_converted(source: Store, tmp_path: Path, layout: Layout) -> None:
    """The sources read the same pictures, with the same labels and names."""
    write(source, tmp_path / "out", layout)
    make = FolderSource if layout == "folder" else WebDatasetSource
    again = make(str(tmp_path / "out"))
    expected = [name.split()[0] for name in CLASSES] if layout == "folder" else list(CLASSES)
    assert list(again.class_names) == expected
    assert list(again.splits) == ["train", "val"]
    for name, entries in again.splits.items():
        split = source.split(name)
        files = [file for run in entries.runs(0, len(entries)) for _, file in run.read()]
        assert len(files) == len(split)
        matches = [[sample_id for sample_id in range(len(split)) if is_same(split, sample_id, file)] for file in files]
        assert sorted(matches) == [[sample_id] for sample_id in range(len(split))]
        assert entries.labels.tolist() == [split.labels[sample_id] for (sample_id,) in matches]


def test_tars_name_no_time_and_no_user(source: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(source, tmp_path / name, "webdataset")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    with tarfile.open(tmp_path / "one/train-000000.tar") as tar:
        members = tar.getmembers()
    assert len(members) == 12
    for member in members:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.isreg()


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/../../../etc/passwd.jpg", "passwd.jpg"),
        ("..", "_.jpg"),
        ("a/", "_.jpg"),
        (".hidden.jpg", "hidden.jpg"),
        ("new\nline\r.JPEG", "new_line_.JPEG"),
        ("back\\slash\0.png", "back_slash_.jpg"),
        ("v1.5", "v1.5.jpg"),
        ("x" * 300 + ".jpg", "x" * 200 + ".jpg"),
        ("ü" * 150, "ü" * 100 + ".jpg"),
    ],
)
def test_names_stay_in_their_folder(tmp_path: Path, key: str, name: str) -> None:
    store = write_store(tmp_path / "source", {"train": [StoredPicture(key, jpeg(), 48, 64)]})
    write(store, tmp_path / "out", "folder")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.is_relative_to(tmp_path / "out")]
    assert set(files) == {tmp_path / "out" / "classes.txt", tmp_path / "out" / "train" / "only" / name}


def test_equal_names_are_told_apart_by_the_sample(tmp_path: Path) -> None:
    keys = ["a/x.jpg", "b/x.jpg", "x-1.jpg", "c/x.JPG", "d/x.jpg", "d/x-4.jpg"]
    store = write_store(
        tmp_path / "source", {"train": [StoredPicture(key, jpeg(seed=k), 48, 64) for k, key in enumerate(keys)]}
    )
    write(store, tmp_path / "out", "folder")
    found = {path.name: path.read_bytes() for path in (tmp_path / "out/train/only").iterdir()}
    expected = ["x.jpg", "x-1.jpg", "x-1-2.jpg", "x.JPG", "x-4.jpg", "x-4-5.jpg"]
    assert found == {name: jpeg(seed=k) for k, name in enumerate(expected)}


@pytest.mark.parametrize(
    ("class_names", "folders"),
    [
        (("n00000001 cat", "n00000002"), ("n00000001", "n00000002")),
        (("n00000001 cat", "n00000001 dog"), ("n00000001 cat", "n00000001 dog")),
        (("n00000001 cat", "hot dog"), ("n00000001 cat", "hot dog")),
        (("T-shirt/top", "../..", ".", " "), ("T-shirt_top", "_", "_-2", "_-3")),
        (("a/b", "a_b", "A_B", "a_b-1"), ("a_b", "a_b-1", "A_B-2", "a_b-1-3")),
        (("two\nlines", "tab\t\x7f\u2028"), ("two_lines", "tab___")),
    ],
)
def test_class_folders_are_plain_and_different(class_names: tuple[str, ...], folders: tuple[str, ...]) -> None:
    assert folder_names(class_names) == folders


def test_what_folders_cannot_say_is_told(tmp_path: Path) -> None:
    splits = {"train": [stored("a", 0, 0), stored("b", 1, 1)], "val": [stored("c", 1, 0)]}
    store = write_store(tmp_path / "source", splits, ("dog", "cat\nof ours"), label_sets={"val": {"real": [[1]]}})
    order, absent, labels = write(store, tmp_path / "out", "folder")
    assert "ImageFolder numbers classes by their sorted names" in order
    assert absent.startswith("val: 1 class has no pictures")
    assert labels == "val: the labels 'real' have no place in folders and are left out"
    assert (tmp_path / "out/classes.txt").read_text() == "dog\ncat of ours\n"


@pytest.mark.parametrize("layout", ["folder", "webdataset"])
def test_a_taken_destination_is_refused_and_a_damaged_source_leaves_nothing(
    source: Store, tmp_path: Path, layout: Layout
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    with pytest.raises(ConversionError, match="not empty"):
        write(source, tmp_path / "taken", layout)
    flip_bytes(source.split("val"), 3)
    with pytest.raises(DamagedSampleError, match="sample 3"):
        write(source, tmp_path / "out", layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "taken"]
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine"]
