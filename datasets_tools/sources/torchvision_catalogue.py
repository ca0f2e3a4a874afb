"""torchvision's classification data sets: how each is constructed, which split becomes which, where its pictures are.

A table, for two reasons: torchvision's classes share no interface beyond `__getitem__`, and whether a test split serves
for validation is to be said, not guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from datasets_tools.errors import SourceError

Arguments = Mapping[str, object]
# A picture's file and class.
Listed = Iterable[tuple[str, int]]
# Pixels, uint8 (N, H, W) or (N, H, W, 3), and classes, int64 (N,).
Pixels = tuple[NDArray[np.uint8], NDArray[np.int64]]


def by_loader(dataset: Any) -> Listed:
    """List the files of a data set that was constructed with `loader=str`: what it loads are then the paths."""
    return (dataset[index] for index in range(len(dataset)))


def _by_loader_sorted(dataset: Any) -> Listed:
    """List the files of a data set that torchvision lists in the file system's order, which is any."""
    return sorted(by_loader(dataset))


def _gtsrb(dataset: Any) -> Listed:
    yield from dataset._samples


def _pets(dataset: Any) -> Listed:
    return zip(map(str, dataset._images), dataset._labels, strict=True)


def _caltech101(dataset: Any) -> Listed:
    folder = Path(dataset.root, "101_ObjectCategories")
    for label, number in zip(dataset.y, dataset.index, strict=True):
        yield str(folder / dataset.categories[label] / f"image_{number:04d}.jpg"), label


def _caltech256(dataset: Any) -> Listed:
    folder = Path(dataset.root, "256_ObjectCategories")
    for label, number in zip(dataset.y, dataset.index, strict=True):
        yield str(folder / dataset.categories[label] / f"{label + 1:03d}_{number:04d}.jpg"), label


def from_arrays(dataset: Any) -> Pixels:
    """Return the pixels of a data set that keeps them in `data`, and its `targets` or `labels`."""
    pixels = np.asarray(dataset.data, np.uint8)
    if pixels.ndim == 4 and pixels.shape[1] == 3:
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = np.asarray(dataset.targets if hasattr(dataset, "targets") else dataset.labels, np.int64)
    return pixels, labels[:, 0] if labels.ndim == 2 else labels  # QMNIST's rows begin with the class.


def _one_by_one(dataset: Any) -> Pixels:
    pictures, labels = zip(*(dataset[index] for index in range(len(dataset))), strict=True)
    return np.stack([np.asarray(picture, np.uint8) for picture in pictures]), np.asarray(labels, np.int64)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set, or one variant of it.

    Attributes:
        class_name: its class in `torchvision.datasets`.
        splits: the constructor's arguments for each split of the store.
        folder: a path that exists in the root; "" where that depends.
        files: lists its pictures, where they are files.
        pixels: returns its pictures, where they are not; exactly one of the two is given, none for idx files.
        arguments: the constructor's arguments for the variant.
    """

    class_name: str
    splits: Mapping[str, Arguments]
    folder: str = ""
    files: Callable[[Any], Listed] | None = None
    pixels: Callable[[Any], Pixels] | None = None
    arguments: Arguments = field(default_factory=dict)

    @property
    def constructor(self) -> Callable[..., Any]:
        """The class."""
        constructor: Callable[..., Any] = getattr(datasets, self.class_name)
        return constructor

    def described(self) -> str:
        """Say which of torchvision's splits became which."""
        if not self.splits["train"]:
            return f"torchvision's {self.class_name} has no splits: all of it is stored as train"
        became = ", ".join(
            f"{name} is {' '.join(f'{argument}={value}' for argument, value in arguments.items())}"
            for name, arguments in self.splits.items()
        )
        tested = self.splits.get("val") in (_FLAG["val"], _TRAIN_TEST["val"])
        warning = "; it has no validation split, so that what is chosen by val is chosen by its test set"
        return f"torchvision's {self.class_name}: {became}{warning if tested else ''}"


_FLAG: Mapping[str, Arguments] = {"train": {"train": True}, "val": {"train": False}}
_TRAIN_TEST: Mapping[str, Arguments] = {"train": {"split": "train"}, "val": {"split": "test"}}
_TRAIN_VAL: Mapping[str, Arguments] = {"train": {"split": "train"}, "val": {"split": "val"}}
_TRAIN_VAL_TEST: Mapping[str, Arguments] = {**_TRAIN_VAL, "test": {"split": "test"}}
_ALL: Mapping[str, Arguments] = {"train": {}}


def _places(folder: str, train: str, *, small: bool) -> Dataset:
    splits = {"train": {"split": train}, "val": {"split": "val"}}
    return Dataset("Places365", splits, folder, by_loader, arguments={"small": small})


def _aircraft(level: str) -> Dataset:
    arguments = {"annotation_level": level}
    return Dataset("FGVCAircraft", _TRAIN_VAL_TEST, "fgvc-aircraft-2013b", by_loader, arguments=arguments)


def _imagenette(folder: str, size: str) -> Dataset:
    return Dataset("Imagenette", _TRAIN_VAL, folder, by_loader, arguments={"size": size})


def _emnist(split: str) -> Dataset:
    return Dataset("EMNIST", _FLAG, "EMNIST", pixels=from_arrays, arguments={"split": split})


def _inaturalist(train: str) -> Dataset:
    splits = {"train": {"version": train}, "val": {"version": "2021_valid"}}
    return Dataset("INaturalist", splits, train, _by_loader_sorted)


CATALOGUE: Mapping[str, Dataset] = {
    "CIFAR10": Dataset("CIFAR10", _FLAG, "cifar-10-batches-py", pixels=from_arrays),
    "CIFAR100": Dataset("CIFAR100", _FLAG, "cifar-100-python", pixels=from_arrays),
    "Caltech101": Dataset("Caltech101", _ALL, "caltech101", _caltech101),
    "Caltech256": Dataset("Caltech256", _ALL, "caltech256", _caltech256),
    "Country211": Dataset(
        "Country211",
        {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
        "country211",
        by_loader,
    ),
    "DTD": Dataset("DTD", _TRAIN_VAL_TEST, "dtd/dtd", by_loader),
    **{f"EMNIST-{split}": _emnist(split) for split in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")},
    "EuroSAT": Dataset("EuroSAT", _ALL, "eurosat", by_loader),
    "FER2013": Dataset("FER2013", _TRAIN_TEST, "fer2013", pixels=_one_by_one),
    "FGVCAircraft": _aircraft("variant"),
    "FGVCAircraft-family": _aircraft("family"),
    "FGVCAircraft-manufacturer": _aircraft("manufacturer"),
    "FashionMNIST": Dataset("FashionMNIST", _FLAG),
    "Flowers102": Dataset("Flowers102", _TRAIN_VAL_TEST, "flowers-102", by_loader),
    "Food101": Dataset("Food101", _TRAIN_TEST, "food-101", by_loader),
    "GTSRB": Dataset("GTSRB", _TRAIN_TEST, "gtsrb", _gtsrb),
    "INaturalist": _inaturalist("2021_train"),
    "INaturalist-mini": _inaturalist("2021_train_mini"),
    "Imagenette": _imagenette("imagenette2", "full"),
    "Imagenette-160px": _imagenette("imagenette2-160", "160px"),
    "Imagenette-320px": _imagenette("imagenette2-320", "320px"),
    "KMNIST": Dataset("KMNIST", _FLAG),
    "MNIST": Dataset("MNIST", _FLAG),
    "OxfordIIITPet": Dataset(
        "OxfordIIITPet", {"train": {"split": "trainval"}, "val": {"split": "test"}}, "oxford-iiit-pet", _pets
    ),
    "Places365": _places("data_large_standard", "train-standard", small=False),
    "Places365-challenge": _places("data_large_challenge", "train-challenge", small=False),
    "Places365-challenge-small": _places("data_256_challenge", "train-challenge", small=True),
    "Places365-small": _places("data_256_standard", "train-standard", small=True),
    "QMNIST": Dataset("QMNIST", _FLAG, "QMNIST", pixels=from_arrays),
    "RenderedSST2": Dataset("RenderedSST2", _TRAIN_VAL_TEST, "rendered-sst2", by_loader),
    "SEMEION": Dataset("SEMEION", _ALL, "semeion.data", pixels=from_arrays),
    "STL10": Dataset("STL10", _TRAIN_TEST, "stl10_binary", pixels=from_arrays),
    "SUN397": Dataset("SUN397", _ALL, "SUN397", _by_loader_sorted),
    "SVHN": Dataset("SVHN", _TRAIN_TEST, "train_32x32.mat", pixels=from_arrays),
    "StanfordCars": Dataset("StanfordCars", _TRAIN_TEST, "stanford_cars", by_loader),
    "USPS": Dataset("USPS", _FLAG, "usps.bz2", pixels=from_arrays),
}
# Those that another source reads better, and what would not be expected to be missing.
_ELSEWHERE: Mapping[str, str] = {
    "imagenet": "use `fastbot convert imagenet`, which reads the archives as they are",
    "imagefolder": "use `fastbot convert folder`",
    "datasetfolder": "use `fastbot convert folder`",
    "celeba": "its attributes are many labels a picture, and its identities differ between splits",
    "pcam": "its HDF5 files are not supported; export them as pictures and use `fastbot convert folder`",
    "clevrclassification": "its labels are counts of objects",
    "emnist": f"name one of its variants: {', '.join(name for name in CATALOGUE if name.startswith('EMNIST'))}",
}


def find(name: str) -> tuple[str, Dataset]:
    """Return a data set's full name and its place in the catalogue; case, `-` and `_` do not matter.

    Raises:
        SourceError: torchvision has no such data set, or it is not one of pictures and classes.
    """
    wanted = _plain(name)
    by_plain = {_plain(known): known for known in CATALOGUE}
    if wanted in by_plain:
        return by_plain[wanted], CATALOGUE[by_plain[wanted]]
    if wanted in _ELSEWHERE:
        raise SourceError(f"torchvision:{name}: cannot be converted as such: {_ELSEWHERE[wanted]}.")
    if wanted in map(_plain, datasets.__all__):
        raise SourceError(
            f"torchvision:{name}: is no classification data set that fastbot knows. Those are: {', '.join(CATALOGUE)}."
        )
    near = [by_plain[plain] for plain in difflib.get_close_matches(wanted, by_plain, n=3)]
    hint = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(CATALOGUE)}."
    raise SourceError(f"torchvision:{name}: no such data set. {hint}")


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name.lower())
