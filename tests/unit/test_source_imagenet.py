from __future__ import annotations

import csv
import functools
import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import layouts
import numpy as np
import pytest
import torchvision
from layouts import VAL_WNIDS, WNIDS, in_memory, plant, samples, tar

from datasets_tools.errors import SourceError
from datasets_tools.sources import imagenet, imagenet_labels
from datasets_tools.sources.imagenet import ImageNetSource
from datasets_tools.sources.imagenet_classes import class_names, official_wnids

LAYOUTS = (layouts.original, layouts.extracted, layouts.flat_val, layouts.class_tars, layouts.kaggle)
CLASS_NAMES = ["n01440764 tench", "n02012849 crane bird", "n03126707 crane"]


@pytest.fixture(autouse=True, scope="module")
def _read_each_development_kit_once() -> Iterator[None]:
    """A process for each test that needs the same `meta.mat` would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imagenet_labels, "wnids_by_id", functools.cache(imagenet_labels.wnids_by_id))
        yield


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[layouts.Sample]]:
    """What torchvision makes of the original archives: it unpacks them and sorts val by the development kit."""
    root = layouts.original(tmp_path_factory.mktemp("torchvision"))
    module = torchvision.datasets.imagenet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_verify_archive", lambda *_: None)  # the checksums are of the real archives
        module.parse_devkit_archive(root)
        module.parse_train_archive(root)
        module.parse_val_archive(root)
    found = {}
    for split in ("train", "val"):
        folder = torchvision.datasets.ImageFolder(root / split)
        assert folder.classes == list(WNIDS)
        found[split] = [
            (str(Path(path).relative_to(root / split)), label, Path(path).read_bytes())
            for path, label in folder.samples
        ]
    return found


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_yields_torchvisions_samples(
    tmp_path: Path, theirs: dict[str, list[layouts.Sample]], layout: Callable[[Path], Path], remote: bool
) -> None:
    root = layout(tmp_path)
    source = ImageNetSource(in_memory(root) if remote else str(root), partial=True)
    assert list(source.splits) == ["train", "val"]
    for split, entries in source.splits.items():
        assert samples(entries) == theirs[split]
        assert entries.labels.dtype == np.int64
    assert list(source.class_names) == CLASS_NAMES
    assert dict(source.options) == {"partial": True}
    assert dict(source.label_sets) == {}


def test_what_was_recognized_is_said_in_one_line(tmp_path: Path) -> None:
    roots = [layout(tmp_path / layout.__name__) for layout in LAYOUTS]
    said = [ImageNetSource(str(root), partial=True).notes[0].replace(str(root), "ROOT") for root in roots]
    assert said == [
        "original archives: train from ROOT/ILSVRC2012_img_train.tar, "
        "val from ROOT/ILSVRC2012_img_val.tar (labels of ROOT/ILSVRC2012_devkit_t12.tar.gz)",
        "extracted folders: train from ROOT/train (class folders), val from ROOT/val (class folders)",
        "folders, val as in the archive: train from ROOT/train (class folders), "
        "val from ROOT/val (flat, labels of ROOT/ILSVRC2012_devkit_t12.tar.gz)",
        "original archives: train from ROOT/ILSVRC2012_img_train (a tar file for each class), "
        "val from ROOT/ILSVRC2012_img_val.tar (labels of ROOT/ILSVRC2012_devkit_t12)",
        "folders, val as in the archive: train from ROOT/ILSVRC/Data/CLS-LOC/train (class folders), "
        "val from ROOT/ILSVRC/Data/CLS-LOC/val (flat, labels of ROOT/LOC_val_solution.csv)",
    ]


@pytest.mark.parametrize("below", ["ILSVRC", "ILSVRC/Data/CLS-LOC"])
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_kaggles_labels_are_found_above_its_folders(
    tmp_path: Path, theirs: dict[str, list[layouts.Sample]], monkeypatch: pytest.MonkeyPatch, below: str, remote: bool
) -> None:
    root = layouts.kaggle(tmp_path)
    url = in_memory(root)
    source = ImageNetSource(f"{url}/{below}" if remote else str(root / below), partial=True)
    assert samples(source.splits["val"]) == theirs["val"]
    monkeypatch.chdir(root / below)
    assert samples(ImageNetSource(".", partial=True).splits["val"]) == theirs["val"]


def test_runs_of_a_relative_location_are_read_from_anywhere(
    tmp_path: Path, theirs: dict[str, list[layouts.Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for layout in LAYOUTS:
        layout(tmp_path / layout.__name__)
    monkeypatch.chdir(tmp_path)
    sources = [ImageNetSource(layout.__name__, partial=True) for layout in LAYOUTS]
    runs = [list(source.splits["val"].runs(0, 6)) for source in sources]
    monkeypatch.chdir("/")
    assert all([data for run in group for _, data in run.read()] == [row[2] for row in theirs["val"]] for group in runs)


def test_the_numbers_of_the_whole_are_checked(tmp_path: Path) -> None:
    root = layouts.original(tmp_path)
    with pytest.raises(SourceError) as caught:
        ImageNetSource(str(root))
    missing = "12 train pictures (of 1,281,167), 6 val pictures (of 50,000), 3 classes (of 1,000)"
    assert str(caught.value).startswith(f"{root}: is not the whole of ILSVRC2012: {missing}. ")
    assert "--partial" in str(caught.value)
    source = ImageNetSource(str(root), partial=True)
    assert source.notes[-1] == (f"{root}: partial: {missing}; classes are numbered by the WordNet ids that are there")


def test_a_whole_copy_needs_no_leave_and_leaves_no_trace_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "NUM_PICTURES", {"train": 1000, "val": 6})
    root = layouts.thousand(tmp_path, official_wnids())
    for partial in (False, True):
        source = ImageNetSource(str(root), partial=partial)
        assert dict(source.options) == {}
        assert len(source.notes) == 1
    assert source.splits["train"].labels.tolist() == list(range(1000))
    # The label of each WordNet id is the official one: torchvision's list of categories is in that order.
    categories = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"]
    assert [name.partition(" ")[2] for name in source.class_names] == categories
    assert source.class_names[0] == "n01440764 tench"


def test_a_thousand_classes_that_are_not_the_official_ones_are_not_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet, "NUM_PICTURES", {"train": 1000, "val": 6})
    root = layouts.thousand(tmp_path, [*official_wnids()[:-1], "n99999999"])
    with pytest.raises(SourceError, match=r"1 classes are not ILSVRC2012's \(n99999999\)"):
        ImageNetSource(str(root))


def test_class_names_are_timms_order_and_unknown_ids_stay_alone() -> None:
    timm_data = pytest.importorskip("timm.data")
    assert list(official_wnids()) == timm_data.ImageNetInfo("imagenet-1k").label_names()
    assert class_names(["n01440764", "n00000001"]) == ("n01440764 tench", "n00000001")


def test_one_split_alone_is_partial(tmp_path: Path) -> None:
    root = layouts.original(tmp_path)
    (root / "ILSVRC2012_img_train.tar").unlink()
    source = ImageNetSource(str(root), partial=True)
    assert list(source.splits) == ["val"]
    assert "0 train pictures" in source.notes[-2]
    assert source.notes[-1] == f"{root} has no train pictures: training needs both"


def test_archives_and_folders_may_be_mixed(tmp_path: Path, theirs: dict[str, list[layouts.Sample]]) -> None:
    root = layouts.extracted(tmp_path)
    archive = (layouts.original(tmp_path / "other") / "ILSVRC2012_img_train.tar").rename(
        root / "ILSVRC2012_img_train.tar"
    )
    source = ImageNetSource(str(root), partial=True)
    assert source.notes[0].startswith(f"archives and extracted folders: train from {archive}, val from {root}/val")
    assert [samples(entries) for entries in source.splits.values()] == list(theirs.values())


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    root = layouts.extracted(tmp_path / "folders")
    extra = {
        "train/n01440764/notes.txt": b"x",
        "train/n01440764/below/n01440764_5.JPEG": b"x",
        "train/n01440764/._a": b"",
    }
    source = ImageNetSource(str(plant(root, extra)), partial=True)
    assert len(source.splits["train"]) == 12
    assert source.notes[1] == f"{root}/train: 2 files and folders that are no pictures are left out"
    members = [*layouts.val_pictures().items(), ("readme.txt", b"x")]
    archives = plant(layouts.original(tmp_path / "archives"), {"ILSVRC2012_img_val.tar": tar(members)})
    source = ImageNetSource(str(archives), partial=True)
    assert source.notes[1] == f"{archives}/ILSVRC2012_img_val.tar: 1 other file is left out"


def replaced(layout: Callable[[Path], Path], **contents: bytes) -> Callable[[Path], Path]:
    return lambda root: plant(layout(root), contents)


def train_tar(*members: tuple[str, bytes]) -> Callable[[Path], Path]:
    return lambda root: plant(root, {"ILSVRC2012_img_train.tar": tar(members)})


def without(layout: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        layout(root)
        (root / name).unlink()
        return root

    return make


VAL = "ILSVRC2012_val_0000000{}.JPEG"
INNER = tar([("n01440764_1.JPEG", b"x"), ("n01440764_1.JPEG", b"y")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "absent", "absent: no such folder; expected"),
        (lambda root: plant(root, {"cat/1.jpg": b""}), "no ILSVRC2012 here; expected"),
        (
            lambda root: plant(root, {"imagenet_object_localization_patched2019.tar.gz": b""}),
            "a compressed archive cannot be read picture by picture. Extract it first",
        ),
        (replaced(layouts.extracted, **{"train/cat/1.jpg": b""}), "class folder 'cat' is not a WordNet id"),
        (
            replaced(layouts.extracted, **{"val/n01443537/1.JPEG": b""}),
            "1 classes that train does not have (n01443537)",
        ),
        (replaced(layouts.extracted, **{f"val/{VAL.format(9)}": b""}), "holds both class folders (n01440764, ...) and"),
        (replaced(layouts.extracted, **{"train/n01443537/notes.txt": b""}), "n01443537: holds no picture"),
        (replaced(layouts.extracted, **{"train/n01440764/a\nb.JPEG": b""}), "holds a line break"),
        (
            without(layouts.original, "ILSVRC2012_devkit_t12.tar.gz"),
            "Development kit, Task 1 & 2, of ILSVRC2012 at image",
        ),
        (without(layouts.kaggle, "LOC_val_solution.csv"), "nor Kaggle's LOC_val_solution.csv. Put one of them there"),
        (replaced(layouts.flat_val, **{f"val/{VAL.format(7)}": b""}), f"has no label for {VAL.format(7)}; it has 6."),
        (
            train_tar(("n01440764_1.JPEG", b"")),
            "holds n01440764_1.JPEG; ILSVRC2012's holds n01440764.tar and so on",
        ),
        (train_tar(), "ILSVRC2012_img_train.tar: is empty"),
        (
            train_tar(("n01440764.tar", INNER)),
            "ILSVRC2012_img_train.tar: n01440764.tar: holds 'n01440764_1.JPEG' twice",
        ),
        (
            train_tar(("n01440764.tar", b""), ("n01440764.tar", b"")),
            "holds the tar file of a class twice",
        ),
        (
            train_tar(("n01440764.tar", INNER[:1200])),
            "n01440764.tar: ends early",
        ),
        (
            replaced(
                layouts.original, **{"ILSVRC2012_img_val.tar": tar([(VAL.format(1), b""), (f"a/{VAL.format(1)}", b"")])}
            ),
            f"ILSVRC2012_img_val.tar: holds '{VAL.format(1)}' twice",
        ),
        (
            replaced(layouts.original, **{"ILSVRC2012_img_val.tar": gzip.compress(tar([]))}),
            "ILSVRC2012_img_val.tar: is compressed (gzip)",
        ),
        (replaced(layouts.original, **{"ILSVRC2012_devkit_t12.tar.gz": b"x"}), "tar.gz: cannot be unpacked"),
        (
            replaced(layouts.original, **{"ILSVRC2012_devkit_t12.tar.gz": layouts.devkit()[:300]}),
            "tar.gz: cannot be unpacked",
        ),
        (
            replaced(
                layouts.original, **{"ILSVRC2012_devkit_t12.tar.gz": gzip.compress(tar([("data/meta.mat", b"")]))}
            ),
            "holds no data/ILSVRC2012_validation_ground_truth.txt: it is not ILSVRC2012's development kit",
        ),
        (
            replaced(layouts.class_tars, **{"ILSVRC2012_devkit_t12/data/meta.mat": b"nonsense" * 100}),
            "data/meta.mat cannot be read",
        ),
        (
            replaced(
                layouts.class_tars,
                **{"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": b"449\n1001\n"},
            ),
            "line 2: b'1001' is no ILSVRC2012_ID of data/meta.mat",
        ),
        (
            replaced(
                layouts.kaggle, **{"LOC_val_solution.csv": b"ImageId,PredictionString\nILSVRC2012_val_1,n01440764\n"}
            ),
            "LOC_val_solution.csv, line 2: 'ILSVRC2012_val_1,n01440764' is not like",
        ),
        (replaced(layouts.kaggle, **{"LOC_val_solution.csv": b"\xff"}), "LOC_val_solution.csv: is no CSV file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    root = make(tmp_path)
    with pytest.raises(SourceError) as caught:
        ImageNetSource(str(root), partial=True)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_meta_file_that_crashes_its_reader_is_an_error(tmp_path: Path) -> None:
    root = layouts.class_tars(tmp_path)
    meta = root / "ILSVRC2012_devkit_t12/data/meta.mat"
    data = bytearray(meta.read_bytes())
    data[2080] = 183  # scipy 1.17 ends with a segmentation fault
    meta.write_bytes(data)
    with pytest.raises(SourceError, match=r"data/meta\.mat cannot be read: .*\. Get the development kit again"):
        ImageNetSource(str(root), partial=True)


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    root = layouts.extracted(tmp_path)
    Path(os.fsdecode(bytes(root / "train/n01440764") + b"/\xff.JPEG")).write_bytes(b"")
    with pytest.raises(SourceError, match="is not UTF-8"):
        ImageNetSource(str(root), partial=True)


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    root = layouts.original(tmp_path)
    with pytest.raises(SourceError, match=r"ILSVRC2012_img_train\.tar: is a file, not a folder; expected"):
        ImageNetSource(f"{root}/ILSVRC2012_img_train.tar")


def test_the_miniature_solution_is_a_csv_file_like_kaggles(tmp_path: Path) -> None:
    with (layouts.kaggle(tmp_path) / "LOC_val_solution.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["ImageId"][-1]: row["PredictionString"].split()[0] for row in rows} == {
        str(k + 1): wnid for k, wnid in enumerate(VAL_WNIDS)
    }


def test_a_location_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(SourceError, match="^nonsense://a/b: cannot be reached: "):
        ImageNetSource("nonsense://a/b")
