"""torchvision's classification data sets, by name, from local files; nothing is ever downloaded.

Where a data set's pictures are files, their own bytes are taken. Where it has pixels only (MNIST, CIFAR, SVHN ...),
they are encoded as PNG, without loss, for the picture policy to decide.
"""

from __future__ import annotations

import inspect
import io
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_tools import files
from datasets_tools.errors import PictureError, SourceError
from datasets_tools.sources import idx, torchvision_catalogue
from datasets_tools.sources.base import Entries, Names, Options, check_name, cuts
from datasets_tools.sources.picture_files import FileEntries
from datasets_tools.sources.torchvision_catalogue import Arguments, Dataset, Pixels


@dataclass(frozen=True, slots=True)
class PixelRun:
    """Consecutive pictures that are pixels.

    Attributes:
        keys: their names.
        pixels: uint8 (N, H, W) grey or (N, H, W, 3) RGB.
    """

    keys: tuple[str, ...]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def first_key(self) -> str:
        """The first picture's key."""
        return self.keys[0]

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and the picture as PNG."""
        for key, pixels in zip(self.keys, self.pixels, strict=True):
            stored = io.BytesIO()
            Image.fromarray(pixels).save(stored, "PNG", compress_level=1)  # It is decoded again at once.
            yield key, stored.getvalue()


class PixelEntries:
    """Pictures that are pixels in memory, named by their numbers.

    Args:
        pixels: uint8 (N, H, W) grey or (N, H, W, 3) RGB.
        labels: their classes, int64 (N,).
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        assert len(pixels) == len(labels)
        self.labels = labels
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self.labels)

    def key(self, index: int) -> str:
        """Return a picture's name, for example `000042.png`."""
        return f"{index:06d}.png"

    def runs(self, start: int, stop: int) -> Iterator[PixelRun]:
        """Yield runs of at most `RUN_LENGTH` pictures."""
        for first, last in cuts(start, stop):
            yield PixelRun(tuple(map(self.key, range(first, last))), self._pixels[first:last])


class TorchvisionSource:
    """List the pictures of one of torchvision's data sets.

    Args:
        dataset: its name, for example `flowers102` or `Fashion-MNIST`.
        root: torchvision's `root`: the local folder that holds the data set's own folder, or that folder itself.

    Attributes:
        class_names: those torchvision gives; else the numbers.
        splits: the pictures of each split; its test split is val where it has no other.
        notes: which of torchvision's splits became which.

    Raises:
        SourceError: there is no such data set, its files are not there, or torchvision cannot read them.
    """

    name = "torchvision"

    def __init__(self, dataset: str, root: str) -> None:
        full_name, known = torchvision_catalogue.find(dataset)
        if files.is_remote(root):
            raise SourceError(f"{root}: torchvision reads local files only. Fetch the data set first.")
        self.options: Options = {"dataset": full_name}
        self.label_sets: Mapping[str, Mapping[str, Sequence[Sequence[int]]]] = {}
        reader = _Files(known, root) if known.files else _Pixels(known, root)
        self.splits: Mapping[str, Entries] = {name: reader.entries(split) for name, split in known.splits.items()}
        self.class_names: Sequence[str] = reader.class_names(self.splits)
        missing = () if "val" in self.splits else (f"{root} has no val split: training needs both",)
        self.notes: Sequence[str] = (known.described(), *missing)


class _Reader:
    """A data set in its root, constructed split by split."""

    def __init__(self, known: Dataset, root: str) -> None:
        self._known = known
        self._root = _root_of(known, root)
        self._classes: Sequence[str] | None = None

    def class_names(self, splits: Mapping[str, Entries]) -> Sequence[str]:
        """Return the names by label, once all splits have been read."""
        num_classes = 1 + max(int(entries.labels.max()) for entries in splits.values())
        names = self._classes if self._classes is not None else [str(label) for label in range(num_classes)]
        if num_classes > len(names) or min(int(entries.labels.min()) for entries in splits.values()) < 0:
            raise SourceError(f"{self._root}: a label is none of the {len(names):,} classes. Fetch the data set again.")
        return names

    def _constructed(self, split: Arguments) -> Any:
        parameters = inspect.signature(self._known.constructor).parameters
        reading = {"download": False, "loader": str}
        chosen = {name: value for name, value in reading.items() if name in parameters}
        dataset = self._known.constructor(str(self._root), **split, **self._known.arguments, **chosen)
        self._take_classes(dataset)
        return dataset

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what torchvision's readers raise (what pickle, scipy, csv and they themselves raise) into one error."""
        try:
            yield
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(_not_found(self._known, self._root, f"{type(error).__name__}: {error}")) from error

    def _take_classes(self, dataset: Any) -> None:
        found = (getattr(dataset, name, None) for name in ("classes", "categories", "all_categories"))
        listed = next((names for names in found if names is not None), None)
        if listed is None:
            return
        # Imagenette's names are tuples of synonyms.
        names = [name if isinstance(name, str) else ", ".join(name) for name in listed]
        if self._classes is not None and names != self._classes:
            raise SourceError(f"{self._root}: the splits have different classes. Fetch the data set again.")
        self._classes = names


class _Files(_Reader):
    """A data set whose pictures are files."""

    def entries(self, split: Arguments) -> Entries:
        assert self._known.files is not None
        keys, labels = Names(), array("q")
        with self._explained():
            for path, label in self._known.files(self._constructed(split)):
                key = path.removeprefix(f"{self._root}/")
                check_name(key, str(self._root))
                keys.append(key)
                labels.append(label)
        if not labels:
            raise SourceError(_not_found(self._known, self._root, f"no picture with {dict(split)}"))
        return FileEntries(str(self._root), keys, np.frombuffer(labels, np.int64))


class _Pixels(_Reader):
    """A data set whose pictures are arrays."""

    def entries(self, split: Arguments) -> Entries:
        if self._known.pixels is None:
            pixels, labels = self._idx(split)
        else:
            with self._explained():
                pixels, labels = self._known.pixels(self._constructed(split))
        if not len(labels):
            raise SourceError(_not_found(self._known, self._root, f"no picture with {dict(split)}"))
        return PixelEntries(pixels, labels)

    def _idx(self, split: Arguments) -> Pixels:
        folder = idx.find(self._root, self._known.class_name)
        if folder is None:
            raise SourceError(_not_found(self._known, self._root, "no train-images-idx3-ubyte, nor with .gz"))
        self._take_classes(self._known.constructor)
        return idx.load(folder, "train" if split["train"] else "test")


def _root_of(known: Dataset, root: str) -> Path:
    """Return torchvision's `root`, also when the data set's own folder was named."""
    given = Path(root).absolute()
    if not given.is_dir():
        raise SourceError(_not_found(known, given, files.why_no_folder(root)))
    if not known.folder or (given / known.folder).exists():
        return given
    if given.parts[-len(Path(known.folder).parts) :] == Path(known.folder).parts:
        return given.parents[len(Path(known.folder).parts) - 1]
    raise SourceError(_not_found(known, given, f"it holds no {known.folder}"))


def _not_found(known: Dataset, root: Path, found: str) -> str:
    return (
        f"{root}: torchvision's {known.class_name} is not here in its form: {found}. Name its root, the folder that "
        f"holds {known.folder or 'its files'}; fetch it with torchvision.datasets.{known.class_name}(root, "
        "..., download=True)."
    )
