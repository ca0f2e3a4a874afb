"""MNIST's own file format, as it is and gzipped: also where torchvision would not find it, as in Debian's packages."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_tools.errors import SourceError

# The training and the test pictures, as Yann LeCun named the files; each kind also goes with a dot before `idx`.
_PREFIXES = {"train": "train", "test": "t10k"}
_UINT8 = 8


def find(root: Path, class_name: str) -> Path | None:
    """Return the folder of a data set's idx files: `root` itself, or where torchvision keeps them below it.

    Args:
        root: where to look.
        class_name: torchvision's name of the data set, for example `FashionMNIST`.
    """
    folders = (root, root / "raw", root / class_name / "raw")
    return next((folder for folder in folders if _file(folder, "train", "images-idx3-ubyte")), None)


def load(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the pictures and labels of a split.

    Args:
        folder: where the files are.
        split: `train` or `test`.

    Returns:
        Grey pictures, uint8 (N, H, W), and their classes, int64 (N,).

    Raises:
        SourceError: a file is missing or damaged, or there are not as many labels as pictures.
    """
    images = _read(folder, split, "images-idx3-ubyte", num_dimensions=3)
    labels = _read(folder, split, "labels-idx1-ubyte", num_dimensions=1)
    if len(images) != len(labels):
        raise SourceError(f"{folder}: {split} has {len(images):,} pictures and {len(labels):,} labels. Fetch it again.")
    return images, labels.astype(np.int64)


def _read(folder: Path, split: str, kind: str, num_dimensions: int) -> NDArray[np.uint8]:
    path = _file(folder, split, kind)
    if path is None:
        raise SourceError(f"{folder / _PREFIXES[split]}-{kind}: no such file, nor with .gz. Fetch the data set again.")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return _parse(data, num_dimensions)
    except (OSError, EOFError, zlib.error, ValueError, struct.error) as error:
        raise SourceError(f"{path}: cannot be read as an idx file: {error}. Fetch it again.") from error


def _parse(data: bytes, num_dimensions: int) -> NDArray[np.uint8]:
    """Parse an idx file: two zero bytes, the type, the number of dimensions, each as a big-endian int, the values."""
    if data[:4] != bytes([0, 0, _UINT8, num_dimensions]):
        raise ValueError(f"it begins with {data[:4].hex() or 'nothing'}, not with 0000{_UINT8:02x}{num_dimensions:02x}")
    start = 4 + 4 * num_dimensions
    shape = struct.unpack(f">{num_dimensions}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise ValueError(f"it holds {len(data) - start:,} of {math.prod(shape):,} values")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _file(folder: Path, split: str, kind: str) -> Path | None:
    stems = (f"{_PREFIXES[split]}-{kind}", f"{_PREFIXES[split]}-{kind.replace('-idx', '.idx')}")
    paths = (folder / f"{stem}{ending}" for stem in stems for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)
