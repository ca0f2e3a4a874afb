"""Miniatures of torchvision's data sets in the form that its classes download: true names and nesting, few pictures."""

from __future__ import annotations

import bz2
import csv
import io
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from layouts import plant
from sources import encoded, jpeg, pixels
from torchvision import datasets

Contents = Mapping[str, bytes]


@dataclass(frozen=True)
class Miniature:
    """One data set.

    Attributes:
        name: as the user types it.
        files: content by path below torchvision's root.
        theirs: torchvision's own objects for the splits, given the root.
        in_order: torchvision lists the pictures in an order of its own; otherwise in the file system's.
    """

    name: str
    files: Callable[[], Contents]
    theirs: Mapping[str, Callable[[str], Any]]
    in_order: bool = True

    def plant(self, root: Path) -> Path:
        return plant(root, self.files())


def picture(seed: int) -> bytes:
    return jpeg(9 + seed % 3, 8, seed=seed)


def lines(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def mat(**values: Any) -> bytes:
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, values)
    return buffer.getvalue()


def idx(values: np.ndarray[Any, Any], kind: int = 8) -> bytes:
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def grey(count: int, side: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), np.uint8)


def mnist(prefix: str = "FashionMNIST/raw/") -> Contents:
    return {
        f"{prefix}train-images-idx3-ubyte": idx(grey(5, 28, 1)),
        f"{prefix}train-labels-idx1-ubyte": idx(np.array([9, 0, 1, 2, 2], np.uint8)),
        f"{prefix}t10k-images-idx3-ubyte": idx(grey(3, 28, 2)),
        f"{prefix}t10k-labels-idx1-ubyte": idx(np.array([1, 9, 0], np.uint8)),
    }


def emnist() -> Contents:
    labels = {"train": np.array([1, 26, 3], np.uint8), "test": np.array([2, 1], np.uint8)}
    files = {}
    for seed, (split, values) in enumerate(labels.items()):
        files[f"EMNIST/raw/emnist-letters-{split}-images-idx3-ubyte"] = idx(grey(len(values), 28, seed))
        files[f"EMNIST/raw/emnist-letters-{split}-labels-idx1-ubyte"] = idx(values)
    return files


def qmnist() -> Contents:
    files = {}
    for seed, split in enumerate(("train", "test")):
        rows = np.array([[3, 0, 1, 2, 3, 4, 0, 0], [7, 1, 1, 2, 3, 4, 0, 0]], ">i4")
        files[f"QMNIST/raw/qmnist-{split}-images-idx3-ubyte"] = idx(grey(2, 28, seed))
        files[f"QMNIST/raw/qmnist-{split}-labels-idx2-int"] = idx(rows, kind=12)
    return files


def cifar10() -> Contents:
    generator = np.random.default_rng(0)

    def batch(labels: list[int]) -> bytes:
        return pickle.dumps({"data": generator.integers(0, 256, (len(labels), 3072), np.uint8), "labels": labels})

    train = {f"cifar-10-batches-py/data_batch_{k}": batch([k, 10 - k]) for k in range(1, 6)}
    names = pickle.dumps({"label_names": [f"name {k}" for k in range(11)]})
    return {**train, "cifar-10-batches-py/test_batch": batch([3, 4]), "cifar-10-batches-py/batches.meta": names}


def cifar100() -> Contents:
    generator = np.random.default_rng(0)

    def batch(labels: list[int]) -> bytes:
        data = generator.integers(0, 256, (len(labels), 3072), np.uint8)
        return pickle.dumps({"data": data, "fine_labels": labels, "coarse_labels": [0] * len(labels)})

    meta = pickle.dumps({"fine_label_names": [f"name {k}" for k in range(100)], "coarse_label_names": ["all"]})
    folder = "cifar-100-python"
    return {f"{folder}/train": batch([99, 0, 5]), f"{folder}/test": batch([1]), f"{folder}/meta": meta}


def svhn() -> Contents:
    generator = np.random.default_rng(0)

    def split(labels: list[int]) -> bytes:
        data = generator.integers(0, 256, (32, 32, 3, len(labels)), np.uint8)
        return mat(X=data, y=np.array(labels, np.uint8)[:, None])

    return {"train_32x32.mat": split([1, 10, 9, 2]), "test_32x32.mat": split([10, 3])}


def stl10() -> Contents:
    generator = np.random.default_rng(0)
    files = {}
    for split, labels in {"train": [10, 1, 2], "test": [3, 1]}.items():
        files[f"stl10_binary/{split}_X.bin"] = generator.bytes(3 * 96 * 96 * len(labels))
        files[f"stl10_binary/{split}_y.bin"] = bytes(labels)
    classes = lines("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    unlabelled = {"stl10_binary/unlabeled_X.bin": b"", "stl10_binary/fold_indices.txt": b""}
    return {**files, **unlabelled, "stl10_binary/class_names.txt": classes}


def usps() -> Contents:
    def rows(labels: list[int]) -> bytes:
        values = np.random.default_rng(len(labels)).uniform(-1, 1, (len(labels), 256))
        text = (
            " ".join([str(label), *(f"{k + 1}:{value:.4f}" for k, value in enumerate(row))])
            for label, row in zip(labels, values, strict=True)
        )
        return bz2.compress(lines(*text))

    return {"usps.bz2": rows([1, 10, 3]), "usps.t.bz2": rows([2, 1])}


def semeion() -> Contents:
    generator = np.random.default_rng(0)
    rows = [" ".join(map(str, [*generator.integers(0, 2, 256), *np.eye(10, dtype=int)[k]])) for k in (3, 0, 9)]
    return {"semeion.data": lines(*rows)}


def fer2013() -> Contents:
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["emotion", "pixels", "Usage"])
    for seed, (emotion, usage) in enumerate([(0, "Training"), (6, "Training"), (3, "PublicTest"), (2, "PrivateTest")]):
        rows.writerow([emotion, " ".join(map(str, grey(1, 48, seed).ravel())), usage])
    return {"fer2013/fer2013.csv": text.getvalue().encode()}


def flowers102() -> Contents:
    pictures = {f"flowers-102/jpg/image_{k:05d}.jpg": picture(k) for k in range(1, 7)}
    labels = mat(labels=np.array([[77, 1, 102, 1, 77, 102]], np.uint8))
    ids = {"trnid": [[6, 2]], "valid": [[1, 3]], "tstid": [[4, 5]]}
    setid = mat(**{name: np.array(values, np.uint16) for name, values in ids.items()})
    return {**pictures, "flowers-102/imagelabels.mat": labels, "flowers-102/setid.mat": setid}


def food101() -> Contents:
    listed = {"train": {"pizza": ["pizza/11", "pizza/12"], "apple_pie": ["apple_pie/7"]}}
    listed["test"] = {"apple_pie": ["apple_pie/8"], "pizza": ["pizza/13"]}
    names = [name for split in listed.values() for paths in split.values() for name in paths]
    pictures = {f"food-101/images/{name}.jpg": picture(seed) for seed, name in enumerate(names)}
    return {**pictures, **{f"food-101/meta/{split}.json": json.dumps(it).encode() for split, it in listed.items()}}


def pets() -> Contents:
    folder = "oxford-iiit-pet"
    trainval = ["yorkshire_terrier_2 2 2 25", "Abyssinian_10 1 1 1", "Abyssinian_9 1 1 1"]
    test = ["Abyssinian_1 1 1 1", "yorkshire_terrier_1 2 2 25"]
    lists = {"trainval": trainval, "test": test}
    names = [row.split()[0] for row in trainval + test]
    return {
        **{f"{folder}/images/{name}.jpg": picture(seed) for seed, name in enumerate(names)},
        **{f"{folder}/annotations/{split}.txt": lines(*rows) for split, rows in lists.items()},
    }


def cars() -> Contents:
    fields = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]

    def annotations(*rows: tuple[int, str]) -> bytes:
        values = np.array([[(1, 2, 3, 4, label, name) for label, name in rows]], dtype=fields)
        return mat(annotations=values)

    names = np.array([["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Smart fortwo 2012"]], dtype=object)
    return {
        "stanford_cars/devkit/cars_meta.mat": mat(class_names=names),
        "stanford_cars/devkit/cars_train_annos.mat": annotations((3, "00001.jpg"), (1, "00002.jpg"), (2, "00003.jpg")),
        "stanford_cars/cars_test_annos_withlabels.mat": annotations((2, "00001.jpg"), (3, "00002.jpg")),
        **{f"stanford_cars/cars_train/0000{k}.jpg": picture(k) for k in (1, 2, 3)},
        **{f"stanford_cars/cars_test/0000{k}.jpg": picture(10 + k) for k in (1, 2)},
    }


def aircraft() -> Contents:
    data = "fgvc-aircraft-2013b/data"
    lists = {"train": ("0056978 707-320", "1025794 A300B4"), "val": ("0481847 A300B4",), "test": ("1234567 707-320",)}
    numbers = [row.split()[0] for rows in lists.values() for row in rows]
    return {
        f"{data}/variants.txt": lines("707-320", "A300B4"),
        **{f"{data}/images_variant_{split}.txt": lines(*rows) for split, rows in lists.items()},
        **{f"{data}/images/{number}.jpg": picture(seed) for seed, number in enumerate(numbers)},
    }


def places() -> Contents:
    train = ("/a/airfield/00000001.jpg 0", "/b/bar/00000003.jpg 1", "/a/airfield/00000002.jpg 0")
    val = ("Places365_val_00000002.jpg 1", "Places365_val_00000001.jpg 0")
    return {
        "categories_places365.txt": lines("/a/airfield 0", "/b/bar 1"),
        "places365_train_standard.txt": lines(*train),
        "places365_val.txt": lines(*val),
        **{f"data_256_standard{row.split()[0]}": picture(k) for k, row in enumerate(train)},
        **{f"val_256/{row.split()[0]}": picture(10 + k) for k, row in enumerate(val)},
    }


def dtd() -> Contents:
    lists = {"train": ("zigzagged/z_1.jpg", "banded/b_2.jpg"), "val": ("banded/b_3.jpg", "zigzagged/z_3.jpg")}
    lists["test"] = ("banded/b_4.jpg", "zigzagged/z_4.jpg")
    names = [name for rows in lists.values() for name in rows]
    return {
        **{f"dtd/dtd/labels/{split}1.txt": lines(*rows) for split, rows in lists.items()},
        **{f"dtd/dtd/images/{name}": picture(seed) for seed, name in enumerate(names)},
    }


def gtsrb() -> Contents:
    folder = "gtsrb/GTSRB"
    rows = (
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId",
        "00000.ppm;8;8;0;0;8;8;1",
        "00001.ppm;8;8;0;0;8;8;0",
    )
    ppm = [encoded(pixels(8, 9, seed), "PPM") for seed in range(5)]
    return {
        f"{folder}/Training/00000/00000_00000.ppm": ppm[0],
        f"{folder}/Training/00000/GT-00000.csv": lines("Filename;Width"),
        f"{folder}/Training/00001/00000_00000.ppm": ppm[1],
        f"{folder}/Training/00001/00000_00001.ppm": ppm[2],
        f"{folder}/Final_Test/Images/00000.ppm": ppm[3],
        f"{folder}/Final_Test/Images/00001.ppm": ppm[4],
        "gtsrb/GT-final_test.csv": lines(*rows),
    }


def eurosat() -> Contents:
    names = ("Forest/Forest_2.jpg", "Forest/Forest_10.jpg", "AnnualCrop/AnnualCrop_1.jpg")
    return {f"eurosat/2750/{name}": picture(seed) for seed, name in enumerate(names)}


def caltech101() -> Contents:
    names = ("crab/image_0001.jpg", "crab/image_0002.jpg", "ant/image_0001.jpg", "BACKGROUND_Google/image_0001.jpg")
    return {f"caltech101/101_ObjectCategories/{name}": picture(seed) for seed, name in enumerate(names)}


def caltech256() -> Contents:
    names = ("001.ak47/001_0001.jpg", "001.ak47/001_0002.jpg", "002.flag/002_0001.jpg")
    return {f"caltech256/256_ObjectCategories/{name}": picture(seed) for seed, name in enumerate(names)}


def country211() -> Contents:
    names = [f"{split}/{land}/{k}.jpg" for split in ("train", "valid", "test") for land in ("CH", "AD") for k in (1, 2)]
    return {f"country211/{name}": picture(seed) for seed, name in enumerate(names)}


def rendered_sst2() -> Contents:
    names = [
        f"{split}/{mood}/{k}.png"
        for split in ("train", "valid", "test")
        for mood in ("positive", "negative")
        for k in (1, 2)
    ]
    return {f"rendered-sst2/{name}": encoded(pixels(8, 9, seed), "PNG") for seed, name in enumerate(names)}


def imagenette() -> Contents:
    names = [
        f"{split}/{wnid}/{wnid}_{k}.JPEG"
        for split in ("train", "val")
        for wnid in ("n03888257", "n01440764")
        for k in (1, 2)
    ]
    return {f"imagenette2-160/{name}": picture(seed) for seed, name in enumerate(names)}


def sun397() -> Contents:
    names = ("a/abbey/sun_b.jpg", "a/abbey/sun_a.jpg", "b/bar/inner/sun_c.jpg", "a/airfield/sun_d.jpg")
    pictures = {f"SUN397/{name}": picture(seed) for seed, name in enumerate(names)}
    return {**pictures, "SUN397/ClassName.txt": lines("/a/abbey", "/a/airfield", "/b/bar/inner")}


def inaturalist() -> Contents:
    kinds = ("00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",)
    kinds = (*kinds, "00001_Animalia_Annelida_Polychaeta_Sabellida_Sabellidae_Sabella_spallanzanii")
    names = [f"{split}/{kind}/{k}.jpg" for split in ("2021_train_mini", "2021_valid") for kind in kinds for k in "ba"]
    return {name: picture(seed) for seed, name in enumerate(names)}


def _splits(make: Callable[..., Any], **splits: Mapping[str, object]) -> dict[str, Callable[[str], Any]]:
    return {name: lambda root, chosen=chosen: make(root, **chosen) for name, chosen in splits.items()}


_FLAG: dict[str, Mapping[str, object]] = {"train": {"train": True}, "val": {"train": False}}
_TEST: dict[str, Mapping[str, object]] = {"train": {"split": "train"}, "val": {"split": "test"}}
_THREE: dict[str, Mapping[str, object]] = {name: {"split": name} for name in ("train", "val", "test")}
_VALID: dict[str, Mapping[str, object]] = {**_THREE, "val": {"split": "valid"}}
_PETS: dict[str, Mapping[str, object]] = {"train": {"split": "trainval"}, "val": {"split": "test"}}
_PLACES: dict[str, Mapping[str, object]] = {
    "train": {"split": "train-standard", "small": True},
    "val": {"split": "val", "small": True},
}
_NETTE: dict[str, Mapping[str, object]] = {name: {"split": name, "size": "160px"} for name in ("train", "val")}
_NATURE: dict[str, Mapping[str, object]] = {"train": {"version": "2021_train_mini"}, "val": {"version": "2021_valid"}}
_LETTERS: dict[str, Mapping[str, object]] = {name: {"split": "letters", **flag} for name, flag in _FLAG.items()}

MINIATURES = (
    Miniature("Fashion-MNIST", mnist, _splits(datasets.FashionMNIST, **_FLAG)),
    Miniature("emnist_letters", emnist, _splits(datasets.EMNIST, **_LETTERS)),
    Miniature("qmnist", qmnist, _splits(datasets.QMNIST, **_FLAG)),
    Miniature("CIFAR-10", cifar10, _splits(datasets.CIFAR10, **_FLAG)),
    Miniature("cifar100", cifar100, _splits(datasets.CIFAR100, **_FLAG)),
    Miniature("svhn", svhn, _splits(datasets.SVHN, **_TEST)),
    Miniature("stl10", stl10, _splits(datasets.STL10, **_TEST)),
    Miniature("usps", usps, _splits(datasets.USPS, **_FLAG)),
    Miniature("semeion", semeion, _splits(datasets.SEMEION, train={"download": False})),
    Miniature("fer2013", fer2013, _splits(datasets.FER2013, **_TEST)),
    Miniature("flowers102", flowers102, _splits(datasets.Flowers102, **_THREE)),
    Miniature("food101", food101, _splits(datasets.Food101, **_TEST)),
    Miniature("oxford-iiit-pet", pets, _splits(datasets.OxfordIIITPet, **_PETS)),
    Miniature("stanford_cars", cars, _splits(datasets.StanfordCars, **_TEST)),
    Miniature("FGVCAircraft", aircraft, _splits(datasets.FGVCAircraft, **_THREE)),
    Miniature("places365-small", places, _splits(datasets.Places365, **_PLACES)),
    Miniature("dtd", dtd, _splits(datasets.DTD, **_THREE)),
    Miniature("gtsrb", gtsrb, _splits(datasets.GTSRB, **_TEST)),
    Miniature("eurosat", eurosat, _splits(datasets.EuroSAT, train={})),
    Miniature("caltech101", caltech101, _splits(datasets.Caltech101, train={})),
    Miniature("caltech256", caltech256, _splits(datasets.Caltech256, train={})),
    Miniature("country211", country211, _splits(datasets.Country211, **_VALID)),
    Miniature("renderedsst2", rendered_sst2, _splits(datasets.RenderedSST2, **_THREE)),
    Miniature("imagenette-160px", imagenette, _splits(datasets.Imagenette, **_NETTE)),
    Miniature("sun397", sun397, _splits(datasets.SUN397, train={}), in_order=False),
    Miniature("inaturalist-mini", inaturalist, _splits(datasets.INaturalist, **_NATURE), in_order=False),
)
