"""ImageNet-V2 and ImageNet-ReaL beside ILSVRC2012."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import layouts
import pytest
from layouts import VAL_WNIDS, in_memory, plant, samples, tar

from datasets_tools.errors import SourceError
from datasets_tools.sources import imagenet
from datasets_tools.sources.imagenet import ImageNetSource
from datasets_tools.sources.imagenet_classes import official_wnids

VAL = "ILSVRC2012_val_0000000{}.JPEG"


def v2(root: Path, labels: range = range(1000)) -> Path:
    """Class folders of an ImageNet-V2; those of the first labels hold two pictures."""
    names = {label: ("b.jpeg", "a.jpeg") if label < 2 else ("a.jpeg",) for label in labels}
    return plant(root, {f"{label}/{name}": f"{label}{name}".encode() for label in labels for name in names[label]})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.thousand(tmp_path_factory.mktemp("whole"), official_wnids())


def test_v2_is_a_split_labelled_by_the_numbers_of_its_folders(tmp_path: Path, whole: Path) -> None:
    name = "imagenetv2-matched-frequency-format-val"
    folder = v2(tmp_path / name)
    contents = [(f"{name}/{path.relative_to(folder)}", path.read_bytes()) for path in sorted(folder.rglob("*.jpeg"))]
    packed = plant(tmp_path, {"v2.tar": tar(contents)}) / "v2.tar"
    sources = [ImageNetSource(str(whole), partial=True, v2=str(at)) for at in (folder, packed)]
    expected = [("0/a.jpeg", 0, b"0a.jpeg"), ("0/b.jpeg", 0, b"0b.jpeg"), ("1/a.jpeg", 1, b"1a.jpeg")]
    for source, at in zip(sources, (folder, packed), strict=True):
        assert list(source.splits) == ["train", "val", "v2"]
        found = samples(source.splits["v2"])
        assert found[:3] == expected
        assert [label for _, label, _ in found] == [0, 0, 1, *range(1, 1000)]
        assert f"v2: {at}" in source.notes[-1]
        assert dict(source.options) == {"partial": True, "v2": True}
    assert samples(sources[0].splits["v2"]) == samples(sources[1].splits["v2"])


def test_files_of_a_v2_that_are_no_pictures_are_counted(tmp_path: Path, whole: Path) -> None:
    folder = v2(tmp_path / "folder", range(3))
    plant(folder, {"README.md": b"", "0/list.txt": b"", "2/Thumbs.db": b""})
    contents = [(f"v2/{path.relative_to(folder)}", path.read_bytes()) for path in sorted(folder.glob("*/*"))]
    packed = plant(tmp_path, {"packed.tar": tar([("README.md", b""), *contents])}) / "packed.tar"
    for at in (folder, packed):
        source = ImageNetSource(str(whole), partial=True, v2=str(at))
        assert len(source.splits["v2"]) == len(list(folder.glob("*/*.jpeg")))
        assert f"v2: {at}: 3 files and folders that are no pictures are left out" in source.notes


def test_v2_lies_behind_a_network_too(tmp_path: Path, whole: Path) -> None:
    folder = v2(tmp_path, range(12))
    source = ImageNetSource(str(whole), partial=True, v2=in_memory(folder))
    local = ImageNetSource(str(whole), partial=True, v2=str(folder))
    assert samples(source.splits["v2"]) == samples(local.splits["v2"])
    assert [key for key, _, _ in samples(source.splits["v2"])][-3:] == ["9/a.jpeg", "10/a.jpeg", "11/a.jpeg"]


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"n01440764/a.jpeg": b""}, "holds a folder 'n01440764'; ImageNet-V2's folders are called 0 to 999"),
        ({"007/a.jpeg": b""}, "holds a folder '007'"),
        ({"1000/a.jpeg": b""}, "holds a folder '1000'"),
        ({"a.jpeg": b""}, "holds no folders"),
        ({"7/readme.txt": b""}, "7: holds no picture"),
    ],
)
def test_what_is_no_v2_is_named(tmp_path: Path, whole: Path, contents: dict[str, bytes], message: str) -> None:
    plant(tmp_path / "folder", contents)
    plant(
        tmp_path,
        {"packed.tar": tar([(f"v2/{name}" if "/" in name else name, data) for name, data in contents.items()])},
    )
    for name in ("folder", "packed.tar"):
        with pytest.raises(SourceError) as caught:
            ImageNetSource(str(whole), partial=True, v2=str(tmp_path / name))
        assert message in str(caught.value)


def test_v2_must_be_whole_readable_and_there(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "NUM_PICTURES", {"train": 1000, "val": 6})
    with pytest.raises(SourceError, match=r"holds 7 of ImageNet-V2's 1,000 class folders; 7 is not there. .*--partial"):
        ImageNetSource(str(whole), v2=str(v2(tmp_path / "few", range(7))))
    packed = plant(tmp_path, {"v2.tar.gz": gzip.compress(tar([("v2/0/a.jpeg", b"")]))}) / "v2.tar.gz"
    with pytest.raises(SourceError, match=r"is compressed \(gzip\).*Decompress it first"):
        ImageNetSource(str(whole), v2=str(packed))
    with pytest.raises(SourceError, match="absent: no such folder or file"):
        ImageNetSource(str(whole), v2=str(tmp_path / "absent"))


def real(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_real_labels_come_in_the_order_of_the_entries(tmp_path: Path, whole: Path) -> None:
    # Picture k + 1 is right as class 10 k, and the third as nothing.
    lists = [[], [10], [], [30, 7], [40], [50]]
    source = ImageNetSource(str(whole), partial=True, real=real(tmp_path / "real.json", lists))
    found = source.label_sets["val"]["real"]
    val = source.splits["val"]
    assert len(found) == len(val) == 6
    by_name = {val.key(k): found[k] for k in range(6)}
    assert by_name == {f"{w}/{VAL.format(k + 1)}": lists[k] for k, w in enumerate(VAL_WNIDS)}
    assert dict(source.options) == {"partial": True, "real": True}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no list of lists of labels"),
        ([[1]] * 5, "has 5 lists of labels, none for ILSVRC2012_val_00000006.JPEG"),
        ([[1]] * 5 + [[1000]], "item 6 is [1000]; allowed are lists of labels from 0 to 999"),
        ([[1]] * 5 + [[-1]], "item 6 is [-1]"),
        ([[1]] * 5 + [[True]], "item 6 is [True]"),
        ([[1]] * 5 + [7], "item 6 is 7"),
    ],
)
def test_what_is_no_real_is_named(tmp_path: Path, whole: Path, content: object, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        ImageNetSource(str(whole), partial=True, real=real(tmp_path / "real.json", content))
    assert message in str(caught.value)


def test_real_needs_a_file_and_val(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "real.json"
    path.write_text("[[1]")
    with pytest.raises(SourceError, match="cannot be read as JSON"):
        ImageNetSource(str(whole), partial=True, real=str(path))
    with pytest.raises(SourceError, match="cannot be read as JSON"):
        ImageNetSource(str(whole), partial=True, real=str(tmp_path / "absent"))
    other = plant(
        tmp_path / "train_only", {"ILSVRC2012_img_train.tar": (whole / "ILSVRC2012_img_train.tar").read_bytes()}
    )
    with pytest.raises(SourceError, match="validation pictures, of which there are none"):
        ImageNetSource(str(other), partial=True, real=real(path, [[1]]))


@pytest.mark.parametrize("options", [{"v2": "anywhere"}, {"real": "anywhere"}])
def test_labels_of_a_thousand_classes_need_them_all(tmp_path: Path, options: dict[str, str]) -> None:
    root = layouts.extracted(tmp_path)
    with pytest.raises(
        SourceError, match="has 3 classes; ImageNet-V2 and ImageNet-ReaL are labelled with the numbers of"
    ):
        ImageNetSource(str(root), partial=True, **options)  # type: ignore[arg-type]


def test_a_class_that_is_not_among_the_thousand_is_named_where_their_numbers_are_needed(tmp_path: Path) -> None:
    root = layouts.thousand(tmp_path, [*official_wnids()[:-1], "n99999999"])
    with pytest.raises(
        SourceError, match=r"class n99999999 is not one of ILSVRC2012's 1,000 .*Leave out --v2 and --real"
    ):
        ImageNetSource(str(root), partial=True, real="anywhere")
