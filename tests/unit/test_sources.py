from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision
from layouts import in_memory, samples
from sources import jpeg

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources.base import Entries
from datasets_tools.sources.folder import ClassFolders, FolderSource


def plant(root: Path, *names: str) -> Path:
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(8, 8, seed=k))
    return root


def listed(entries: Entries) -> list[tuple[str, int]]:
    return [(entries.key(index), int(label)) for index, label in enumerate(entries.labels)]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Three classes with folders in them, and a class that val lacks."""
    return plant(
        tmp_path,
        "train/dog/b.jpg",
        "train/dog/a/z.JPEG",
        "train/dog/a-b/y.jpg",
        "train/dog/a.jpg",
        "train/cat/10.jpg",
        "train/cat/9.png",
        "train/Zebra/x.webp",
        "val/cat/v.jpg",
        "val/dog/v.jpg",
    )


def test_classes_and_order_are_those_of_torchvisions_image_folder(many: Path) -> None:
    source = FolderSource(str(many))
    theirs = torchvision.datasets.ImageFolder(many / "train")
    assert list(source.class_names) == theirs.classes
    train = source.splits["train"]
    assert [(f"{many}/train/{key}", label) for key, label in listed(train)] == theirs.samples
    assert train.labels.dtype == np.int64
    assert [data for _, _, data in samples(train)] == [Path(path).read_bytes() for path, _ in theirs.samples]
    # A class may lack a folder in val, and keeps its label all the same.
    assert listed(source.splits["val"]) == [("cat/v.jpg", 1), ("dog/v.jpg", 2)]
    assert (source.options, source.label_sets, source.notes) == ({}, {}, ())


def test_a_url_gives_the_same_as_a_path(many: Path) -> None:
    local, remote = FolderSource(str(many)), FolderSource(in_memory(many))
    assert list(local.class_names) == list(remote.class_names)
    for split, entries in local.splits.items():
        assert samples(remote.splits[split]) == samples(entries)


def test_runs_are_small_and_cover_any_range(tmp_path: Path) -> None:
    names = [f"{k:02d}.jpg" for k in range(40)]
    train = FolderSource(str(plant(tmp_path, *(f"train/a/{name}" for name in names)))).splits["train"]
    runs = list(train.runs(5, 39))
    assert [len(run) for run in runs] == [16, 16, 2]
    assert runs[1].first_key == "a/21.jpg"
    assert max(len(pickle.dumps(run)) for run in runs) < 1000
    assert [key for run in runs for key, _ in run.read()] == [f"a/{name}" for name in names[5:39]]


def test_a_relative_path_is_read_from_any_folder(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many.parent)
    run = next(FolderSource(many.name).splits["val"].runs(0, 2))
    monkeypatch.chdir("/")
    assert [key for key, data in run.read() if isinstance(data, bytes)] == ["cat/v.jpg", "dog/v.jpg"]


def test_other_splits_count_when_they_hold_classes(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "extra/a/1.jpg", "flat/1.jpg", ".hidden/a/1.jpg", "val/a/1.jpg")
    assert list(FolderSource(str(tmp_path)).splits) == ["train", "val", "extra"]


def test_pictures_without_class_folders_are_left_out_with_one_note(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "test/1.jpg", "test/2.JPEG", "test/list.txt", "scrap/1.png")
    plant(tmp_path, "documents/README.md", "test/.3.jpg")
    source = FolderSource(str(tmp_path))
    assert list(source.splits) == ["train", "val"]
    note = f"{tmp_path}: 3 pictures are left out, which lie in 'scrap', 'test' without class folders"
    assert source.notes == (note,)


def test_val_alone_is_enough(tmp_path: Path) -> None:
    assert list(FolderSource(str(plant(tmp_path, "val/a/1.jpg"))).splits) == ["val"]


def test_other_files_and_hidden_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/notes.txt", "train/a/Thumbs.db", "train/a/._1.jpg", "train/a/.x/2.jpg")
    plant(tmp_path, "train/a/b/.hid.jpg", "train/a/.DS_Store")
    source = FolderSource(str(tmp_path))
    assert listed(source.splits["train"]) == [("a/1.jpg", 0)]
    assert source.notes == (
        f"{tmp_path}/train: 3 files that are no pictures are left out",
        f"{tmp_path}/train: 2 hidden pictures are left out: names that begin with a dot",
        f"{tmp_path} has no val folder: training needs both",
    )


def test_a_gif_is_listed_so_that_it_is_refused_by_name(tmp_path: Path) -> None:
    source = FolderSource(str(plant(tmp_path, "train/a/1.GIF")))
    assert listed(source.splits["train"]) == [("a/1.GIF", 0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "has neither a train nor a val folder (it holds no folder)"),
        (("cat/1.jpg", "dog/1.jpg"), "has neither a train nor a val folder (it holds cat, dog)"),
        (
            ("cat/1.jpg", "dog/1.jpg"),
            "(it holds cat, dog); it looks like one split: its folder cat holds pictures. Move its folders to "
            "{root}/train, and make a {root}/val like it.",
        ),
        (("cat/notes.txt",), "has neither a train nor a val folder (it holds cat); expected"),
        (("train/1.jpg",), "train: holds no class folders; expected"),
        (("train/a/1.jpg", "val/1.jpg"), "val: holds no class folders; expected"),
        (("train/a/1.jpg", "train/empty/notes.txt"), "class empty is empty: no file in it ends in one of .bmp"),
        (("train/a/1.jpg", "val/a/1.jpg", "val/b/1.jpg"), "class b is not a class of the train split"),
        (("train/a/1\n2.jpg",), r"train/a: '1\n2.jpg' is empty or holds a line break. Rename it."),
        (("train/a\nb/1.jpg",), r"train: 'a\nb' is empty or holds a line break. Rename it."),
    ],
)
def test_what_does_not_fit_the_layout_is_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        FolderSource(str(plant(tmp_path, *names)))
    assert message.format(root=tmp_path) in str(caught.value)


@pytest.mark.parametrize("written", ["{root}/train", "{root}/train/", "train", "."])
def test_one_split_of_a_data_set_leads_to_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    plant(tmp_path, "train/cat/1.jpg")
    monkeypatch.chdir(tmp_path / "train" if written == "." else tmp_path)
    with pytest.raises(SourceError) as caught:
        FolderSource(written.format(root=tmp_path))
    assert str(caught.value).endswith(f"its folder cat holds pictures. Name the folder around it: {tmp_path}.")


def test_a_class_of_hidden_pictures_only_is_empty(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"class a is empty: no file in it ends in .*; 1 hidden picture"):
        FolderSource(str(plant(tmp_path, "train/a/.1.jpg")))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: no such folder; expected .*absent/train/<class>"):
        FolderSource(f"{tmp_path}/absent")
    with pytest.raises(SourceError, match=r"nosuch://bucket: cannot be reached: there is no protocol nosuch://\.$"):
        FolderSource("nosuch://bucket")
    with pytest.raises(SourceError, match=r"1\.jpg: is a file, not a folder; expected"):
        FolderSource(f"{plant(tmp_path, '1.jpg')}/1.jpg")


@pytest.mark.parametrize("where", ["train/a/%s.jpg", "train/%s/1.jpg", "%s/a/1.jpg"])
def test_a_name_that_is_not_utf8_is_named(tmp_path: Path, where: str) -> None:
    plant(tmp_path, "train/a/1.jpg")
    path = os.fsencode(tmp_path / where).replace(b"%s", b"\xff")
    Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
    Path(os.fsdecode(path)).write_bytes(b"")
    with pytest.raises(SourceError, match="is not UTF-8") as caught:
        FolderSource(str(tmp_path))
    assert str(caught.value).isprintable()


def unreadable(root: Path, kind: str) -> None:
    path = root / "train/a/2.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nothing":
        path.symlink_to(root / "absent.jpg")
    elif kind == "link to itself":
        path.symlink_to(path)
    else:
        path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "is no regular file"),
        ("device", "is no regular file"),
        ("link to nothing", "is a link to nothing"),
        ("link to itself", "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_one_bad_picture(tmp_path: Path, kind: str, reason: str) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/3.jpg")
    unreadable(tmp_path, kind)
    (run,) = FolderSource(str(tmp_path)).splits["train"].runs(0, 3)
    (_, first), (key, error), (_, third) = run.read()
    assert isinstance(first, bytes)
    assert isinstance(third, bytes)
    assert isinstance(error, PictureError)
    assert (key, error.key, error.reason) == ("a/2.jpg", "a/2.jpg", reason)


def test_a_huge_file_is_one_bad_picture(tmp_path: Path) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/2.jpg", "train/a/3.jpg")
    os.truncate(tmp_path / "train/a/2.jpg", 1 << 42)  # sparse: it takes no room
    (run,) = FolderSource(str(tmp_path)).splits["train"].runs(0, 3)
    (_, first), (_, error), (_, third) = run.read()
    assert isinstance(first, bytes)
    assert isinstance(third, bytes)
    assert isinstance(error, PictureError)
    reason = "is too large: 4,398,046,511,104 bytes, where at most 1,073,741,824 are allowed"
    assert (error.key, error.reason) == ("a/2.jpg", reason)


def test_a_file_without_permission_is_one_bad_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/2.jpg")
    really_open = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith("1.jpg"):
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, flags)

    (run,) = FolderSource(str(tmp_path)).splits["train"].runs(0, 2)
    monkeypatch.setattr(os, "open", refuse)  # root may read everything: a mode alone would not do
    (_, error), (_, data) = run.read()
    assert str(error) == "a/1.jpg: cannot be read: Permission denied"
    assert isinstance(data, bytes)


def test_a_source_that_is_going_away_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "train/a/1.jpg", "train/a/2.jpg")
    (run,) = FolderSource(str(tmp_path)).splits["train"].runs(0, 2)
    (tmp_path / "train/a/2.jpg").unlink()
    reading = run.read()
    assert isinstance(next(reading)[1], bytes)
    with pytest.raises(FileNotFoundError, match=r"train/a/2\.jpg"):
        next(reading)

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        next(run.read())


def test_a_remote_picture_that_is_gone_stops_the_run(many: Path) -> None:
    url = in_memory(many)
    (run,) = FolderSource(url).splits["val"].runs(0, 2)
    plain = type(run)(run.root, ("cat/gone.jpg",))
    with pytest.raises(FileNotFoundError, match=r"val/cat/gone\.jpg: no such file"):
        next(plain.read())


def test_many_classes_stay_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup that walks the class list would take many minutes here; the suite's time limit is its judge."""
    monkeypatch.setattr(files, "walk", lambda _, **__: iter(["1.jpg"]))
    names = [f"{k:06d}" for k in range(100_000)]
    found = ClassFolders("data/val", names, names)
    assert np.array_equal(found.entries.labels, np.arange(100_000))
