"""A folder that comes into being whole or not at all: written aside, made durable, renamed last."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets_tools.errors import ConversionError


@contextmanager
def atomic_folder(destination: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `destination` when the block ends without an error, and is removed otherwise.

    It lies beside the destination, hidden and locked. A killed process leaves it behind without its lock; the next
    call for the same destination removes it.

    Args:
        destination: must not exist, or be an empty folder.

    Raises:
        ConversionError: the destination is taken.
        OSError: something cannot be written.
    """
    _check_free(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(destination)
    folder = destination.with_name(f".{destination.name}.partial-{os.getpid()}")
    folder.mkdir()
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
        os.fsync(lock)
        folder.rename(destination)
        _sync(destination.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gone already where it was renamed
        os.close(lock)


def _check_free(destination: Path) -> None:
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise ConversionError(f"{destination}: exists and is no folder. Choose another destination.")
    if destination.is_dir() and any(destination.iterdir()):
        raise ConversionError(
            f"{destination}: exists and is not empty; a conversion never overwrites. Choose another destination, or "
            "remove it first."
        )


def _remove_abandoned(destination: Path) -> None:
    for folder in destination.parent.glob(f".{glob.escape(destination.name)}.partial-*"):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            continue  # another conversion is writing it now
        finally:
            os.close(lock)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
