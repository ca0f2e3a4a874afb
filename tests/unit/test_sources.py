from __future__ import annotations

import os
from pathlib import Path

import pytest
import torchvision
from sources import jpeg

from datasets_tools.errors import SourceError
from datasets_tools.sources.folder import FolderSource
from datasets_tools.sources.imagenet import ImageNetSource


def plant(root: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(8, 8, seed=k))
    return root


def test_classes_and_order_are_those_of_torchvisions_image_folder(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "train/dog/b.jpg",
        "train/dog/a/z.JPEG",
        "train/dog/a.jpg",
        "train/cat/10.jpg",
        "train/cat/9.png",
        "train/Zebra/x.webp",
        "val/cat/v.jpg",
        "val/dog/v.jpg",
    )
    source = FolderSource(tmp_path)
    theirs = torchvision.datasets.ImageFolder(tmp_path / "train")
    assert list(source.class_names) == theirs.classes
    ours = [(str(tmp_path / "train" / entry.key), entry.label) for entry in source.splits["train"]]
    assert ours == theirs.samples
    assert source.splits["train"][0].read() == (tmp_path / "train/Zebra/x.webp").read_bytes()
    # A class may lack a folder in val, and keeps its label all the same.
    assert [(entry.key, entry.label) for entry in source.splits["val"]] == [("cat/v.jpg", 1), ("dog/v.jpg", 2)]


def test_other_splits_count_when_they_hold_classes(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "extra/a/1.jpg", "flat/1.jpg", ".hidden/a/1.jpg", "val/a/1.jpg")
    assert list(FolderSource(tmp_path).splits) == ["train", "val", "extra"]


def test_val_alone_is_enough(tmp_path: Path) -> None:
    assert list(FolderSource(plant(tmp_path, "val/a/1.jpg")).splits) == ["val"]


def test_other_files_are_left_out_and_counted_and_hidden_ones_left_out(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/notes.txt", "train/a/Thumbs.db", "train/a/._1.jpg", "train/a/.x/2.jpg")
    source = FolderSource(tmp_path)
    assert [entry.key for entry in source.splits["train"]] == ["a/1.jpg"]
    assert source.notes == (
        f"{tmp_path}/train: 2 files that are no pictures are left out",
        f"{tmp_path} has no val folder: training needs both",
    )


def test_a_gif_is_listed_so_that_it_is_refused_by_name(tmp_path: Path) -> None:
    source = FolderSource(plant(tmp_path, "train/a/1.GIF"))
    assert [entry.key for entry in source.splits["train"]] == ["a/1.GIF"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has neither a train nor a val folder (it holds no folder)"),
        (("cat/1.jpg", "dog/1.jpg"), "has neither a train nor a val folder (it holds cat, dog)"),
        (("train/1.jpg",), "train: holds no class folders; expected"),
        (("train/a/1.jpg", "val/1.jpg"), "val: holds no class folders; expected"),
        (("train/a/1.jpg", "train/empty/notes.txt"), "class empty is empty: no file in it ends in one of .bmp"),
        (("train/a/1.jpg", "val/a/1.jpg", "val/b/1.jpg"), "class b is not a class of the train split"),
    ],
)
def test_what_does_not_fit_the_layout_is_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        FolderSource(plant(tmp_path, *names))
    assert message in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: no such folder; expected .*absent/train/<class>"):
        FolderSource(tmp_path / "absent")


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg")
    Path(os.fsdecode(bytes(tmp_path / "train/a") + b"/\xff.jpg")).write_bytes(b"")
    with pytest.raises(SourceError, match="is not UTF-8"):
        FolderSource(tmp_path)


@pytest.mark.parametrize("nesting", [".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC"])
def test_imagenet_is_found_at_the_top_and_nested(tmp_path: Path, nesting: str) -> None:
    plant(
        tmp_path / nesting,
        "train/n02000002/n02000002_1.JPEG",
        "train/n01000001/n01000001_1.JPEG",
        "val/n02000002/ILSVRC2012_val_00000001.JPEG",
    )
    source = ImageNetSource(tmp_path)
    assert source.class_names == ["n01000001", "n02000002"]
    assert [entry.label for entry in source.splits["train"]] == [0, 1]
    assert [entry.key for entry in source.splits["val"]] == ["n02000002/ILSVRC2012_val_00000001.JPEG"]
    assert source.notes[-1].endswith("has 2 classes; ILSVRC2012 has 1,000")


def test_imagenet_takes_names_from_kaggles_mapping(tmp_path: Path) -> None:
    plant(tmp_path, "train/n02012849/1.JPEG", "train/n03126707/1.JPEG", "train/n01440764/1.JPEG")
    # Two ILSVRC classes are called crane: a name alone would not be unique.
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\nn09999999 other\n"
    )
    assert ImageNetSource(tmp_path).class_names == [
        "n01440764 tench, Tinca tinca",
        "n02012849 crane",
        "n03126707 crane",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("n01440764/1.JPEG",), "no extracted ILSVRC2012 here; expected"),
        (("train/n01440764/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"), "lie in no class folder; expected"),
        (("train/cat/1.JPEG",), "class folder cat is not a WordNet id like n01440764. Use `fastbot convert folder`"),
    ],
)
def test_what_is_not_imagenet_is_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        ImageNetSource(plant(tmp_path, *names))
    assert message in str(caught.value)
