"""Pictures that are files of their own: a table of their names below a folder, and runs that read them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_tools import files
from datasets_tools.errors import PictureError
from datasets_tools.sources.base import KeyedRun, Names, cuts, too_large

# torchvision's IMG_EXTENSIONS, and .gif: a GIF is to be refused by name, not passed over in silence.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif"})
# What is wrong with one file; anything else (gone since it was listed, I/O error, stale handle) is with the source.
_OF_ONE_FILE = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class FileRun(KeyedRun):
    """Consecutive pictures that are files.

    Attributes:
        root: the folder that relative keys start from, as an absolute path or a URL.
        keys: the files: paths below `root`, absolute paths, or URLs.
    """

    root: str
    keys: tuple[str, ...]

    def read(self) -> Iterator[tuple[str, bytes | PictureError]]:
        """Yield each picture's key and bytes, or its error where the file is none that can be read.

        Raises:
            OSError: a file has vanished, or the disk or network fails.
        """
        for key in self.keys:
            location = locate(self.root, key)
            yield key, _read_remote(location, key) if files.is_remote(location) else _read_local(location, key)


class FileEntries:
    """Pictures that are files, as a table.

    Args:
        root: the folder that relative keys start from.
        keys: the files, in the order of their sample ids; see `FileRun`.
        labels: their classes, int64 (N,).
    """

    def __init__(self, root: str, keys: Sequence[str] | Names, labels: NDArray[np.int64]) -> None:
        assert len(keys) == len(labels)
        self.root = files.absolute(root)
        self.labels = labels
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Return a picture's name."""
        return self._keys[index]

    def runs(self, start: int, stop: int) -> Iterator[FileRun]:
        """Yield runs of at most `RUN_LENGTH` files."""
        for first, last in cuts(start, stop):
            yield FileRun(self.root, tuple(self._keys[index] for index in range(first, last)))


def is_picture_name(path: str) -> bool:
    """Return whether a file's name ends as those of pictures do."""
    _, dot, ending = path.rpartition(".")
    return (dot + ending).lower() in EXTENSIONS


def locate(root: str, key: str) -> str:
    """Return where a picture's file is; a key may be an absolute path or a URL itself."""
    return key if key.startswith("/") or files.is_remote(key) else files.join(root, key)


def lists_nothing(location: str) -> bool:
    """Return whether a location is a web server's: what it lacks shows when it is read, not before."""
    return location.startswith(("http://", "https://"))


def _read_remote(url: str, key: str) -> bytes | PictureError:
    try:
        return files.read(url)
    except FileNotFoundError:
        if lists_nothing(url):
            return PictureError(key, "no such file")
        raise


def _read_local(path: str, key: str) -> bytes | PictureError:
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer, for ever if there is none.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and Path(path).is_symlink():
            return PictureError(key, "is a link to nothing")
        if error.errno in _OF_ONE_FILE:
            return PictureError(key, f"cannot be read: {files.why(error)}")
        raise
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return PictureError(key, "is no regular file")
        return too_large(key, status.st_size) or file.read()
