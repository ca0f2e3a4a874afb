"""Folders and files that come into being whole or not at all: written aside, made durable, renamed last."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datasets_tools.errors import ConversionError


@contextmanager
def atomic_folder(destination: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `destination` when the block ends without an error, and is removed otherwise.

    Args:
        destination: must not exist, or be an empty folder.

    Raises:
        ConversionError: the destination is taken, or another process is writing it.
        OSError: something cannot be written.
    """
    check_free(destination)
    # Another name than `aside_of`, where an interrupted conversion may have left what can be gone on with.
    destination = destination.absolute()
    with locked_folder(destination.with_name(f".{destination.name}.new")) as folder:
        remove_all(folder)  # a killed process may have left something
        try:
            yield folder
            publish(folder, destination)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def aside_of(destination: Path) -> Path:
    """Return the hidden folder beside `destination` in which it is built."""
    destination = destination.absolute()
    return destination.with_name(f".{destination.name}.partial")


@contextmanager
def locked_folder(folder: Path) -> Iterator[Path]:
    """Create a folder where there is none, and keep other processes out of it while the block runs.

    Raises:
        ConversionError: another process is in it.
        OSError: it cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not is_locked_now(lock):
            raise ConversionError(
                f"{folder}: another process is writing there. Wait for it, or choose another destination."
            )
        yield folder
    finally:
        os.close(lock)


def is_locked_now(descriptor: int) -> bool:
    """Lock an open file or folder for this process, and return whether that worked: False where another one has it.

    Some file systems have no locks (Lustre as it is often mounted): there everybody gets it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    return True


def check_free(destination: Path) -> None:
    """Refuse a destination that holds anything, or cannot come into being by renaming.

    Raises:
        ConversionError: it is a file, a folder that is not empty, or a mount point.
    """
    if os.path.ismount(destination):
        raise ConversionError(
            f"{destination}: is a mount point, which nothing can be renamed to. Name a folder inside it: "
            f"{destination / 'store'}"
        )
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise ConversionError(f"{destination}: exists and is no folder. Choose another destination.")
    if destination.is_dir() and any(destination.iterdir()):
        raise ConversionError(
            f"{destination}: exists and is not empty; nothing is ever overwritten. Choose another destination, or "
            "remove it first."
        )


def publish(folder: Path, destination: Path) -> None:
    """Give a folder its name, durably; what lies in it must be durable already.

    Raises:
        OSError: it cannot be renamed.
    """
    sync_folder(folder)
    folder.rename(destination)
    sync_folder(destination.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, durably; a file of that name is replaced.

    Raises:
        OSError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_all(folder: Path) -> None:
    """Remove everything in a folder."""
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()
