"""Files to and from a remote file system; none counts as there before its bytes were read back and hashed.

Everything streams in blocks, and is tried again while the trouble may pass.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from datasets_tools.digest import Digest
from datasets_tools.errors import StoreError
from datasets_tools.files import is_remote, join
from datasets_tools.protocols import Pause, persistently, reached
from datasets_tools.store.manifest import FileRecord

_BLOCK_BYTES = 8 << 20
_PROBE_NAME = ".writable"


def names(url: str) -> list[str]:
    """Return the names of what lies in a remote folder; none where there is no such folder.

    Raises:
        OSError: it cannot be listed.
    """

    def listed() -> list[str]:
        with reached(url) as (file_system, folder):
            file_system.invalidate_cache(folder)
            paths = [str(path).rstrip("/") for path in file_system.ls(folder, detail=False)]
        # An object store also lists the folder's own marker, an empty object of its name.
        return [path.rsplit("/", 1)[-1] for path in paths if path.strip("/") != folder.strip("/")]

    try:
        return sorted(set(persistently(listed)) - {_PROBE_NAME})
    except FileNotFoundError:
        return []


def make_folder(url: str) -> None:
    """Write an empty file into a remote folder and remove it: wrong credentials show before the work, not after it.

    Raises:
        OSError: it cannot be written.
    """

    def touch() -> None:
        with reached(join(url, _PROBE_NAME)) as (file_system, path):
            try:
                file_system.pipe_file(path, b"")
            except FileNotFoundError:  # object stores need no folders, others do
                file_system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                file_system.pipe_file(path, b"")
            with suppress(Exception):  # who may write need not be allowed to delete, and it does no harm
                file_system.rm_file(path)

    persistently(touch)


def upload(path: Path, url: str, record: FileRecord) -> None:
    """Copy a local file to a URL, and read it back: its size and SHA-256 must be what they are here.

    Args:
        path: the file.
        url: of the file it becomes; what is there is replaced.
        record: its size and SHA-256.

    Raises:
        OSError: it failed several times, or cannot succeed.
    """

    def attempt() -> None:
        with reached(url) as (file_system, remote_path):
            # Each file system has its own way to do this in parts; all of them stream.
            file_system.put_file(os.fspath(path), remote_path)
        size, sha256 = _size_and_sha256(url)
        if (size, sha256) != (record.size, record.sha256):
            raise OSError(
                f"{url}: was uploaded, but reads back as {size:,} bytes with SHA-256 {sha256}, not as {record.size:,} "
                f"with {record.sha256}"
            )

    persistently(attempt)


def download(
    location: str, path: Path, record: FileRecord, advance: Callable[[int], None], pause: Pause = time.sleep
) -> None:
    """Bring a file here and check it; what is here of it already is not fetched again.

    Args:
        location: path or URL of the file.
        path: where to; what lies there is taken for its beginning, until its SHA-256 proves otherwise.
        record: its size and SHA-256.
        advance: called with the number of bytes that are now here, a negative one where they turned out wrong; the
            only call that may raise to stop the work.
        pause: how to wait.

    Raises:
        StoreError: its SHA-256 is wrong even when it is fetched anew.
        OSError: it cannot be fetched, or not be written here.
    """
    if _size_here(path) > record.size:
        path.unlink()
    advance(_size_here(path))
    for _ in range(2):
        persistently(
            lambda: _append_rest(location, path, record.size, advance), pause, progress=lambda: _size_here(path)
        )
        found = FileRecord.of_file(path).sha256
        if found == record.sha256:
            return
        path.unlink()
        advance(-record.size)
    raise StoreError(
        f"{location}: is damaged: its SHA-256 is {found}, the manifest says {record.sha256}; so it was when fetched "
        "anew. Upload the store again, or convert again."
    )


def blocks(location: str, start: int, stop: int) -> Iterator[bytes]:
    """Yield a file's bytes from `start` to `stop`, or to its end where that comes first, in blocks.

    Args:
        location: path or URL.
        start, stop: in bytes.

    Raises:
        OSError: it cannot be read.
    """
    if start >= stop:
        return
    with _opened(location) as file:
        if start:
            file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK_BYTES, stop - start))):
            start += len(block)
            yield block


def _size_and_sha256(url: str) -> tuple[int, str]:
    digest, size = Digest(), 0
    try:
        with _opened(url) as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:  # not as when nothing was ever there: this may pass
        raise OSError(f"{url}: was uploaded, but is not there") from None
    return size, digest.text()


def _size_here(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append_rest(location: str, path: Path, size: int, advance: Callable[[int], None]) -> None:
    with path.open("ab") as file:
        for block in blocks(location, file.tell(), size):
            file.write(block)
            advance(len(block))
        file.flush()
        os.fsync(file.fileno())
        position = file.tell()
    if position < size:
        raise OSError(f"{location}: ends early: {position:,} of {size:,} bytes")


@contextmanager
def _opened(location: str) -> Iterator[BinaryIO]:
    if is_remote(location):
        with reached(location) as (file_system, path), file_system.open(path, "rb", block_size=_BLOCK_BYTES) as file:
            yield cast(BinaryIO, file)
    else:
        with Path(location).open("rb") as file:
            yield file
