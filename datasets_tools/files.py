"""Files by path or URL: the few operations that sources and remote stores need, local or on anything fsspec reaches.

A location is a string: a local path, or a URL like `s3://bucket/folder`. Local files take the direct way through `os`;
everything else goes through fsspec, whose package for a protocol (s3fs, gcsfs, ...) the user installs. Whatever goes
wrong comes out as an OSError: every protocol has errors of its own, and no caller could know them all. Reading over a
network is tried again while the trouble may pass.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from datasets_tools.errors import SourceError
from datasets_tools.protocols import open_remote, persistently, reached


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of a folder: its name, and whether it is a folder (links followed)."""

    name: str
    is_folder: bool


def is_remote(location: str) -> bool:
    """Return whether a location is a URL."""
    return "://" in location


def absolute(location: str) -> str:
    """Return a location that means the same in every process: local paths from the root, URLs as they are."""
    return location if is_remote(location) else str(Path(location).absolute())


def join(location: str, *names: str) -> str:
    """Return the location of something below a folder."""
    folder = location.rstrip("/")
    return "/".join([f"{folder}//" if is_remote(location) and folder.endswith(":") else folder, *names])


def parent(location: str) -> str:
    """Return the location of the folder that something is in."""
    folder = location.rpartition("/")[0]
    if is_remote(location):
        return f"{folder}/" if folder.endswith(":/") else folder
    return folder or ("/" if location.startswith("/") else ".")


def children(folder: str, *, hidden: bool = False) -> list[Child]:
    """Return what a folder holds, sorted by name.

    Args:
        folder: path or URL.
        hidden: whether names that begin with a dot count.

    Raises:
        SourceError: there is no such folder, or it cannot be listed.
    """
    try:
        found = _remote_children(folder) if is_remote(folder) else _local_children(folder)
        visible = [child for child in found if hidden or not child.name.startswith(".")]
    except OSError as error:
        is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        hint = " Name a folder that exists." if is_absent else ""
        raise SourceError(f"{folder}: cannot be listed: {why(error)}.{hint}") from error
    return sorted(visible, key=lambda child: child.name)


def walk(folder: str, *, hidden: bool = False) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it, in torchvision's `ImageFolder` order.

    Args:
        folder: path or URL.
        hidden: whether files whose names begin with a dot count; folders of such names never do.

    Raises:
        SourceError: there is no such folder, it cannot be listed, or a link in it leads back to a folder above.

    Source: `torchvision.datasets.folder.make_dataset`: folders by their whole paths, then files by name.
    """
    # A folder's path sorts after its parent's, so the smallest path that waits is the next of all that will ever come.
    waiting = [""]
    while waiting:
        path = heapq.heappop(waiting)
        _check_no_cycle(folder, path)
        prefix = f"{path}/" if path else ""
        for child in children(join(folder, path) if path else folder, hidden=hidden):
            if not child.is_folder:
                yield prefix + child.name
            elif not child.name.startswith("."):
                heapq.heappush(waiting, prefix + child.name)


def is_folder(location: str) -> bool:
    """Return whether a location is a folder that exists.

    Raises:
        OSError: a remote location cannot be reached.
    """
    if not is_remote(location):
        return Path(location).is_dir()
    with reached(location) as (file_system, path):
        return bool(file_system.isdir(path))


def is_file(location: str) -> bool:
    """Return whether a location is a regular file that exists.

    Raises:
        OSError: a remote location cannot be reached.
    """
    if not is_remote(location):
        return Path(location).is_file()
    try:
        # Not `isfile`: it answers False for whatever goes wrong.
        with reached(location) as (file_system, path):
            return bool(file_system.info(path)["type"] == "file")
    except FileNotFoundError:
        return False


def why_no_folder(location: str) -> str:
    """Return what is wrong with a location that is not a folder, in words.

    Raises:
        OSError: a remote location cannot be reached.
    """
    return "is a file, not a folder" if is_file(location) else "no such folder"


def size(location: str) -> int:
    """Return a file's size in bytes.

    Raises:
        OSError: there is no such file.
    """
    if not is_remote(location):
        return Path(location).stat().st_size
    with reached(location) as (file_system, path):
        return int(file_system.size(path))


def open_binary(location: str) -> BinaryIO:
    """Open a file for reading, seekable; what it raises while being read is an OSError, too.

    Raises:
        OSError: it cannot be read.
    """
    if not is_remote(location):
        return Path(location).open("rb")
    return open_remote(location)


def read(location: str) -> bytes:
    """Return a file's content.

    Raises:
        OSError: it cannot be read.
    """
    if is_remote(location):
        return _fetched(location)
    return Path(location).read_bytes()


def read_range(location: str, start: int, count: int) -> bytes:
    """Return `count` bytes of a file from `start`; local files stay open for the next call.

    Raises:
        OSError: it cannot be read, or ends before.
    """
    if is_remote(location):
        data = _fetched(location, start=start, end=start + count)
    else:
        data = _read_local_range(location, start, count)
    if len(data) != count:
        raise OSError(f"{location}: ends early: {len(data):,} of {count:,} bytes at {start:,}")
    return data


def why(error: OSError) -> str:
    """Return an error's reason in words, without its number."""
    absent = "no such file or folder" if isinstance(error, FileNotFoundError) else None
    return error.strerror or absent or str(error) or type(error).__name__


def _fetched(url: str, **part: int) -> bytes:
    def attempt() -> bytes:
        with reached(url) as (file_system, path):
            return cast(bytes, file_system.cat_file(path, **part))

    return persistently(attempt)


class _Descriptor:
    """An open file that is closed when nothing refers to it any more."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=32)
def _descriptor(path: str) -> _Descriptor:
    return _Descriptor(path)


def _read_local_range(path: str, start: int, count: int) -> bytes:
    """Read until all is there or the file ends: one `pread` returns at most 2 GiB, on network file systems less."""
    descriptor = _descriptor(path)
    data = os.pread(descriptor.number, count, start)
    while 0 < len(data) < count:
        more = os.pread(descriptor.number, count - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def _check_no_cycle(folder: str, path: str) -> None:
    """Refuse a link to a folder that holds it: two such links double what is below with every level."""
    location = join(folder, path)
    if is_remote(folder) or not path or not Path(location).is_symlink():
        return
    parts = path.split("/")
    for length in range(len(parts)):
        above = join(folder, *parts[:length])
        if Path(above).samefile(location):
            raise SourceError(f"{location}: is a link to {above}, which holds it. Remove the link.")


def _local_children(folder: str) -> Iterator[Child]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield Child(entry.name, _is_local_folder(entry))


def _is_local_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry leads to a folder; a link that leads in circles is a file, to be refused when read."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def _remote_children(folder: str) -> list[Child]:
    with reached(folder) as (file_system, path):
        listed = file_system.ls(path, detail=True)
        # Object stores keep every listing they made: of a million pictures, gigabytes of small dictionaries.
        file_system.invalidate_cache(path)
    found = [(entry["name"].rstrip("/"), entry["type"] == "directory") for entry in listed]
    # They also list the folder's own marker, an empty object of its name.
    return [Child(name.rsplit("/", 1)[-1], is_dir) for name, is_dir in found if name.strip("/") != path.strip("/")]
