"""Bringing a store here from where it was uploaded: killed at any moment, the same call goes on with it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from datasets_tools.errors import StoreError
from datasets_tools.files import join
from datasets_tools.protocols import persistently
from datasets_tools.remote import blocks, download
from datasets_tools.staging import aside_of, check_free, locked_folder, publish, write_whole
from datasets_tools.store.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, FileRecord, Manifest

FetchProgress = Callable[[int, int], None]

# One stream seldom fills the line to an object store; many would only crowd each other out.
_FILES_AT_ONCE = 4
# Says that the folder aside is a fetch's.
_FETCHED_NAME = "fetched.json"


def fetch(location: str, destination: Path, progress: FetchProgress = lambda done, total: None) -> Manifest:
    """Bring a store here, checked file by file; an interrupted call's files are gone on with.

    Args:
        location: path or URL of the store's folder.
        destination: must not exist, or be an empty folder.
        progress: called with the bytes that are here and those there will be, from several threads in turn.

    Returns:
        The store's manifest.

    Raises:
        ConversionError: the destination is taken.
        StoreError: there is no store, it is damaged, it cannot be reached, or there is no space for it.
    """
    check_free(destination)
    url = join(location, MANIFEST_NAME)
    try:
        content = persistently(lambda: b"".join(blocks(url, 0, MAX_MANIFEST_BYTES + 1)))
        manifest = Manifest.parse(url, content)
        records = _records(url, manifest)
        with locked_folder(aside_of(destination)) as folder:
            _check_ours(folder, content)
            write_whole(folder / _FETCHED_NAME, content)  # from here on the folder is known to be a fetch's
            _clear(folder, records)
            _check_space(folder, records)
            _fetch_all(location, folder, records, progress)
            write_whole(folder / MANIFEST_NAME, content)
            (folder / _FETCHED_NAME).unlink()
            publish(folder, destination)
    except FileNotFoundError as error:
        raise StoreError(
            f"{location}: is not a whole store: {error}. Name the folder that `fastbot convert` wrote."
        ) from error
    except OSError as error:
        raise StoreError(
            f"{location}: cannot be fetched: {error}. What is here already is kept: the same command goes on with it."
        ) from error
    return manifest


def _records(url: str, manifest: Manifest) -> list[FileRecord]:
    """Return the store's files, each of which has a name of its own."""
    records = [record for split in manifest.splits.values() for record in split.files]
    taken = {MANIFEST_NAME, _FETCHED_NAME}
    for record in records:
        if record.name in taken:
            raise StoreError(f"{url}: names two files {record.name}. It is damaged: convert the store again.")
        taken.add(record.name)
    return records


def _check_ours(folder: Path, content: bytes) -> None:
    """Refuse a folder that holds anything but an interrupted fetch."""
    manifest = folder / MANIFEST_NAME
    ours = (folder / _FETCHED_NAME).is_file() or (manifest.is_file() and manifest.read_bytes() == content)
    # A kill while the first file was written leaves it under the name it had aside.
    if not ours and any(child.name != f".{_FETCHED_NAME}.partial" for child in folder.iterdir()):
        raise StoreError(
            f"{folder}: holds a conversion that was interrupted. Choose another destination, or remove that folder."
        )


def _clear(folder: Path, records: Sequence[FileRecord]) -> None:
    """Remove what an interrupted fetch of another store has left."""
    wanted = {_FETCHED_NAME, *(record.name for record in records)}
    for child in folder.iterdir():
        if child.name not in wanted:
            child.unlink()


def _check_space(folder: Path, records: Sequence[FileRecord]) -> None:
    present = sum(child.stat().st_size for child in folder.iterdir())
    missing = sum(record.size for record in records) - present
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise StoreError(
            f"{folder.parent}: not enough space: {missing / 1e9:,.1f} GB are to be fetched, {free / 1e9:,.1f} GB are "
            "free. Free space, or choose another destination."
        )


def _fetch_all(location: str, folder: Path, records: Sequence[FileRecord], progress: FetchProgress) -> None:
    arrived = _Arrived(sum(record.size for record in records), progress)
    with ThreadPoolExecutor(_FILES_AT_ONCE, "fetch") as pool:
        try:
            futures = [
                pool.submit(
                    download,
                    join(location, record.name),
                    folder / record.name,
                    record,
                    arrived.advance,
                    arrived.stopped.wait,
                )
                for record in records
            ]
            for future in as_completed(futures):
                future.result()
        except BaseException:
            arrived.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Stopped(Exception):
    """Another file failed."""


class _Arrived:
    """Count bytes from several threads, and tell; once stopped, counting raises."""

    def __init__(self, num_total: int, progress: FetchProgress) -> None:
        self.stopped = threading.Event()
        self._num_total = num_total
        self._progress = progress
        self._lock = threading.Lock()
        self._num_done = 0

    def advance(self, num_bytes: int) -> None:
        if self.stopped.is_set():
            raise _Stopped
        with self._lock:
            self._num_done += num_bytes
            self._progress(self._num_done, self._num_total)
