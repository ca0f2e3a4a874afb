"""Files and folders that are whole or absent."""

from __future__ import annotations

import glob
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastbot.checkpoint import sync
from fastbot.errors import RunError


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write a file or folder to, which becomes `path` once the block ends without error.

    What is at `path` already stays until then, and is then replaced. Of several at once each writes under a name of its
    own, and what the last one wrote stays.

    Raises:
        RunError: the folder around `path` cannot be written to.
    """
    aside = path.parent / _aside_name(str(os.getpid()), path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(path)
        yield aside
        _sync(aside)
        _put(aside, path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Free space, or choose another --out"
        ) from error
    finally:
        _remove(aside)


def _aside_name(process: str, path: Path) -> str:
    # In front: some libraries tell formats by how a name ends.
    return f".writing-{process}-{socket.gethostname()}-{path.name}"


def _remove_left_behind(path: Path) -> None:
    """Remove what killed processes of this machine have left of the same."""
    before, after = _aside_name("*", path).split("*", 1)
    for left in path.parent.glob(f"{before}*{glob.escape(after)}"):
        process = left.name.removeprefix(before).removesuffix(after)
        if process == str(os.getpid()) or not Path("/proc", process).exists():
            _remove(left)


def _put(aside: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # a folder cannot be replaced in one step as a file can
        old = path.parent / f".replaced-{os.getpid()}-{path.name}"
        _remove(old)
        path.rename(old)
        aside.rename(path)
        _remove(old)
    else:
        aside.replace(path)
    sync(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def _sync(path: Path) -> None:
    for inner in sorted(path.rglob("*"), reverse=True):
        if not inner.is_symlink():
            sync(inner)
    sync(path)
