"""One process at a time in a folder: the kernel's locks, which end with the process that has them, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastbot.errors import RunError

_NAME = ".lock"


@contextmanager
def locked(folder: Path, busy: str, patience_s: float) -> Iterator[int]:
    """Keep others out of a folder, as long as this process or one that keeps the descriptor open lives.

    Args:
        folder: made where it is not there.
        busy: what to say where others are at work in it.
        patience_s: how long to wait for them.

    Yields:
        a file descriptor for children to keep open: the lock is theirs too.

    Raises:
        RunError: the folder cannot be made or locked, or others are at work in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _NAME, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise RunError(f"folder {folder} cannot be made: {error}. Choose another --out") from error
    try:
        _acquire(descriptor, fcntl.LOCK_EX, folder, busy, patience_s)
        yield descriptor
    finally:
        os.close(descriptor)


def check_unlocked(folder: Path, busy: str, patience_s: float) -> None:
    """Check that nobody is at work in a folder; it need not be there, and nothing is written.

    Raises:
        RunError: others are at work in it.
    """
    try:
        descriptor = os.open(folder / _NAME, os.O_RDONLY)
    except OSError:
        return  # nobody has ever locked it, or `locked` will say what keeps this process from it
    try:
        _acquire(descriptor, fcntl.LOCK_SH, folder, busy, patience_s)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, kind: int, folder: Path, busy: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise RunError(busy) from error
        except OSError as error:
            raise RunError(
                f"{folder / _NAME} cannot be locked: {error.strerror}. Choose --out on a file system that has locks"
            ) from error
        time.sleep(0.1)
