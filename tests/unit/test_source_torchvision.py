from __future__ import annotations

import gzip
import inspect
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision_miniatures as miniatures
from layouts import plant, samples
from PIL import Image
from torchvision import datasets
from torchvision_miniatures import MINIATURES, Miniature

from datasets_tools.errors import SourceError
from datasets_tools.sources import torchvision_catalogue
from datasets_tools.sources.torchvision_datasets import TorchvisionSource


@pytest.fixture(autouse=True)
def any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take miniatures for whole: torchvision knows the checksums of the real files."""
    for name, module in list(sys.modules.items()):
        if name.startswith("torchvision.datasets.") and hasattr(module, "check_integrity"):
            monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: Path(path).is_file())


Shown = tuple[int, tuple[int, ...], bytes]


def shown(image: Image.Image, label: int) -> Shown:
    pixels = np.asarray(image)
    return int(label), pixels.shape, pixels.tobytes()


def decoded(data: bytes, mode: str) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert(mode)


def theirs(dataset: Any) -> list[Shown]:
    return [shown(*dataset[index]) for index in range(len(dataset))]


@pytest.mark.parametrize("miniature", MINIATURES, ids=lambda miniature: miniature.name)
def test_pictures_and_labels_are_torchvisions(tmp_path: Path, miniature: Miniature) -> None:
    root = str(miniature.plant(tmp_path))
    source = TorchvisionSource(miniature.name, root)
    assert list(source.splits) == list(miniature.theirs)
    for split, construct in miniature.theirs.items():
        dataset = construct(root)
        with dataset[0][0] as first:
            mode = first.mode
        entries = source.splits[split]
        ours = [shown(decoded(data, mode), label) for _, label, data in samples(entries)]
        expected = theirs(dataset)
        assert (ours if miniature.in_order else sorted(ours)) == (expected if miniature.in_order else sorted(expected))
        assert entries.labels.dtype == np.int64
        keys = [key for key, _, _ in samples(entries)]
        assert len(set(keys)) == len(keys)
        assert not any(key.startswith("/") for key in keys)
        assert int(entries.labels.max()) < len(source.class_names)


@pytest.mark.parametrize("miniature", MINIATURES, ids=lambda miniature: miniature.name)
def test_class_names_are_torchvisions(tmp_path: Path, miniature: Miniature) -> None:
    root = str(miniature.plant(tmp_path))
    dataset = miniature.theirs["train"](root)
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    names = names or getattr(dataset, "all_categories", None)
    ours = list(TorchvisionSource(miniature.name, root).class_names)
    if names is None:
        assert ours == [str(label) for label in range(len(ours))]
    else:
        assert ours == [name if isinstance(name, str) else ", ".join(name) for name in names]


def test_bytes_of_files_are_passed_on_as_they_are(tmp_path: Path) -> None:
    contents = miniatures.flowers102()
    source = TorchvisionSource("flowers102", str(plant(tmp_path, contents)))
    assert [(key, data) for key, _, data in samples(source.splits["train"])] == [
        (f"flowers-102/jpg/image_{k:05d}.jpg", contents[f"flowers-102/jpg/image_{k:05d}.jpg"]) for k in (6, 2)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_not_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    root = str(plant(tmp_path, miniatures.inaturalist()))
    listdir = os.listdir
    generator = np.random.default_rng(seed)
    monkeypatch.setattr(os, "listdir", lambda path: list(generator.permutation(listdir(path))))
    keys = [key for key, _, _ in samples(TorchvisionSource("inaturalist-mini", root).splits["train"])]
    assert keys == sorted(keys)


@pytest.mark.parametrize("name", ["flowers102", "dtd", "CIFAR-10", "fer2013"])
def test_the_data_sets_own_folder_does_as_well(tmp_path: Path, name: str) -> None:
    miniature = next(known for known in MINIATURES if known.name == name)
    root = miniature.plant(tmp_path)
    inner = root / torchvision_catalogue.find(name)[1].folder
    inside, outside = TorchvisionSource(name, str(inner)), TorchvisionSource(name, str(root))
    assert samples(inside.splits["val"]) == samples(outside.splits["val"])


@pytest.mark.parametrize("folder", ["", "raw/", "FashionMNIST/raw/"])
@pytest.mark.parametrize("form", ["plain", "gzipped", "dots"])
def test_idx_files_are_found_wherever_people_keep_them(tmp_path: Path, folder: str, form: str) -> None:
    plant(tmp_path / "torchvision", miniatures.mnist())
    dataset = datasets.FashionMNIST(str(tmp_path / "torchvision"), train=False)
    contents = miniatures.mnist(folder)
    if form == "gzipped":
        contents = {f"{name}.gz": gzip.compress(data) for name, data in contents.items()}
    elif form == "dots":
        contents = {name.replace("-idx", ".idx"): data for name, data in contents.items()}
    source = TorchvisionSource("fashionmnist", str(plant(tmp_path / "own", contents)))
    assert [shown(decoded(data, "L"), label) for _, label, data in samples(source.splits["val"])] == theirs(dataset)


def cut_short(data: bytes) -> bytes:
    return data[:-1]


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", cut_short, "it holds 3,919 of 3,920 values"),
        ("train-images-idx3-ubyte", lambda data: b"", "it begins with nothing, not with 00000803"),
        ("train-labels-idx1-ubyte", lambda data: data + b"1", "it holds 6 of 5 values"),
        ("train-labels-idx1-ubyte", lambda data: miniatures.idx(np.zeros(4, np.uint8)), "5 pictures and 4 labels"),
        ("t10k-labels-idx1-ubyte", lambda data: None, "t10k-labels-idx1-ubyte: no such file, nor with .gz"),
        ("train-labels-idx1-ubyte", lambda data: data[:-1] + b"\x0a", "a label is none of the 10 classes"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    contents = dict(miniatures.mnist(""))
    contents[name] = damage(contents[name])
    plant(tmp_path, {name: data for name, data in contents.items() if data is not None})
    with pytest.raises(SourceError) as caught:
        TorchvisionSource("mnist", str(tmp_path))
    assert message in str(caught.value)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    contents = {f"{name}.gz": gzip.compress(data)[:-20] for name, data in miniatures.mnist("").items()}
    with pytest.raises(
        SourceError, match=r"train-images-idx3-ubyte\.gz: cannot be read as an idx file: .*end-of-stream"
    ):
        TorchvisionSource("mnist", str(plant(tmp_path, contents)))


def test_notes_say_what_became_what(tmp_path: Path) -> None:
    def notes(name: str, contents: miniatures.Contents) -> str:
        return "; ".join(TorchvisionSource(name, str(plant(tmp_path / name, contents))).notes)

    pets = notes("oxfordiiitpet", miniatures.pets())
    assert "train is split=trainval, val is split=test; it has no validation split" in pets
    flowers = notes("flowers102", miniatures.flowers102())
    assert "train is split=train, val is split=val, test is split=test" in flowers
    assert "no validation split" not in flowers
    assert "has no splits: all of it is stored as train" in notes("eurosat", miniatures.eurosat())
    assert "eurosat has no val split: training needs both" in notes("eurosat", miniatures.eurosat())


def test_no_test_split_is_trained_on() -> None:
    for name, known in torchvision_catalogue.CATALOGUE.items():
        train = known.splits["train"]
        assert train.get("split") in (None, "train", "trainval", "train-standard", "train-challenge"), name
        assert train.get("train", True) is True
        named = {str(arguments.get("split")) for arguments in known.splits.values()}
        # A set that has a validation split never puts its test split there.
        if named & {"val", "valid"}:
            assert known.splits["val"]["split"] in ("val", "valid")
        values = [str(arguments) for arguments in known.splits.values()]
        assert len(set(values)) == len(values), name


@pytest.mark.parametrize("written", ["Flowers102", "flowers-102", "FLOWERS_102", "flowers102"])
def test_names_match_however_they_are_written(written: str) -> None:
    assert torchvision_catalogue.find(written)[0] == "Flowers102"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flower102", "no such data set. Did you mean Flowers102"),
        ("cifar", "Did you mean CIFAR10"),
        ("xyzzy", "There are: CIFAR10, CIFAR100, Caltech101"),
        ("CocoDetection", "is no classification data set that fastbot knows. Those are: CIFAR10"),
        ("Kinetics", "is no classification data set"),
        ("ImageNet", "use `fastbot convert imagenet`"),
        ("ImageFolder", "use `fastbot convert folder`"),
        ("emnist", "name one of its variants: EMNIST-balanced, EMNIST-byclass"),
        ("pcam", "its HDF5 files are not supported"),
    ],
)
def test_names_that_cannot_be_served_say_why(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        TorchvisionSource(name, str(tmp_path))
    assert message in str(caught.value)


def test_the_catalogue_is_of_this_torchvision() -> None:
    for name, known in torchvision_catalogue.CATALOGUE.items():
        parameters = inspect.signature(known.constructor).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for arguments in known.splits.values():
            assert takes_any or {*arguments, *known.arguments} <= {*parameters}, name


@pytest.mark.parametrize("known", torchvision_catalogue.CATALOGUE.values(), ids=list(torchvision_catalogue.CATALOGUE))
def test_an_empty_root_is_named_and_stays_empty(tmp_path: Path, known: torchvision_catalogue.Dataset) -> None:
    name = next(name for name, other in torchvision_catalogue.CATALOGUE.items() if other is known)
    with pytest.raises(
        SourceError, match=rf"torchvision's {known.class_name} is not here in its form: .*download=True"
    ):
        TorchvisionSource(name, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError, match="no such folder"):
        TorchvisionSource(name, f"{tmp_path}/absent")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="is a file, not a folder"):
        TorchvisionSource(name, f"{tmp_path}/file")


@pytest.fixture
def half_a_set(tmp_path: Path) -> Path:
    contents = dict(miniatures.cifar10())
    contents["cifar-10-batches-py/data_batch_3"] = b"no pickle"
    return plant(tmp_path, contents)


def test_what_torchvision_cannot_read_is_named(half_a_set: Path) -> None:
    with pytest.raises(SourceError, match=r"torchvision's CIFAR10 is not here in its form: UnpicklingError"):
        TorchvisionSource("cifar10", str(half_a_set))
    contents = dict(miniatures.aircraft())
    contents["fgvc-aircraft-2013b/data/images_variant_val.txt"] = b"0481847 unknown\n"
    with pytest.raises(SourceError, match=r"FGVCAircraft is not here in its form: KeyError: 'unknown'"):
        TorchvisionSource("fgvcaircraft", str(plant(half_a_set / "b", contents)))


def test_test_pictures_without_labels_are_refused(tmp_path: Path) -> None:
    """Kaggle's own files of FER2013 keep the labels of the test set back."""
    values = " ".join(["7"] * 48 * 48)
    train, test = f"emotion,pixels\n3,{values}\n", f"pixels\n{values}\n"
    plant(tmp_path, {"fer2013/train.csv": train.encode(), "fer2013/test.csv": test.encode()})
    with pytest.raises(SourceError, match="FER2013 is not here in its form: TypeError"):
        TorchvisionSource("fer2013", str(tmp_path))


def test_a_url_is_refused() -> None:
    with pytest.raises(SourceError, match=r"s3://bucket: torchvision reads local files only"):
        TorchvisionSource("cifar10", "s3://bucket")


def test_options_name_the_data_set_and_no_path(tmp_path: Path) -> None:
    source = TorchvisionSource("cifar-10", str(plant(tmp_path, miniatures.cifar10())))
    assert (source.name, source.options, source.label_sets) == ("torchvision", {"dataset": "CIFAR10"}, {})
