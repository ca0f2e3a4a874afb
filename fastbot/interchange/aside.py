"""Files and folders that are whole or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastbot.checkpoint import sync
from fastbot.errors import RunError


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write a file or folder to, which becomes `path` once the block ends without error.

    What is at `path` already stays until then, and is then replaced.

    Raises:
        RunError: the folder around `path` cannot be written to.
    """
    aside = path.parent / f".writing-{path.name}"  # in front: some libraries tell formats by how a name ends
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(aside)
        yield aside
        _sync(aside)
        _put(aside, path)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: {error.strerror or error}. Free space, or choose another --out"
        ) from error
    finally:
        _remove(aside)


def _put(aside: Path, path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # a folder cannot be replaced in one step as a file can
        old = path.parent / f".replaced-{path.name}"
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
