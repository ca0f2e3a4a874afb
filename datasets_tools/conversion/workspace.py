"""Where a conversion builds its store: a hidden folder beside the destination that knows what it is for.

A kill leaves it as it is. `run.json` in it says what the conversion was asked for, so that `--resume` goes on with the
same one or not at all. A manifest in it says that everything else is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from datasets_tools.conversion.purpose import Purpose, changes
from datasets_tools.conversion.shards import Shard, ShardResult, finished, remove_traces
from datasets_tools.errors import ConversionError
from datasets_tools.staging import aside_of, check_free, locked_folder, publish, remove_all, write_whole
from datasets_tools.store.manifest import MANIFEST_NAME, Manifest

RUN_NAME = "run.json"
# Which pictures were bad, where a conversion ended because of them.
BAD_PICTURES_NAME = "bad-pictures.txt"


class Workspace(Protocol):
    """Where shards are built and where they go."""

    @property
    def folder(self) -> Path:
        """The local folder in which shards are written."""
        ...

    @property
    def url(self) -> str | None:
        """Where shards are uploaded to; None where `folder` becomes the store."""
        ...

    def finished(self, shard: Shard) -> ShardResult | None:
        """Return the result of a shard that needs no more work."""
        ...

    def forget(self, shard: Shard) -> None:
        """Take back that a shard is finished: it is about to be written again."""
        ...

    def deliver(self, shard: Shard, result: ShardResult) -> None:
        """Take a shard that was just finished in `folder` to where it belongs."""
        ...

    def note(self, shard: Shard, result: ShardResult) -> None:
        """Remember a shard that another machine has finished and taken to where it belongs."""
        ...

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], shards: Sequence[Shard]) -> None:
        """Write what belongs to the store as a whole, the manifest last, and make the store visible."""
        ...

    def reveal(self, shards: Sequence[Shard]) -> None:
        """Make a store visible whose manifest is in `folder`."""
        ...


class LocalWorkspace:
    """A store that is built where it will stay.

    Args:
        folder: where it is built.
        destination: what the folder will be called.
    """

    url = None

    def __init__(self, folder: Path, destination: Path) -> None:
        self.folder = folder
        self._destination = destination

    def finished(self, shard: Shard) -> ShardResult | None:
        """Return the result of a shard whose files are whole."""
        return finished(self.folder, shard)

    def forget(self, shard: Shard) -> None:
        """Do nothing: who writes a shard begins by removing the mark that it is finished."""

    def deliver(self, shard: Shard, result: ShardResult) -> None:
        """Do nothing: the files are where they belong."""

    def note(self, shard: Shard, result: ShardResult) -> None:
        """Do nothing: the files are where they belong, with the mark that the shard is finished."""

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], shards: Sequence[Shard]) -> None:
        """Write the small files and the manifest, clean up, and rename the folder.

        Raises:
            OSError: something cannot be written.
        """
        for name, data in files.items():
            write_whole(self.folder / name, data)
        manifest.save(self.folder)
        self.reveal(shards)

    def reveal(self, shards: Sequence[Shard]) -> None:
        """Clean up and rename the folder.

        Raises:
            OSError: it cannot be renamed.
        """
        remove_traces(self.folder, shards)
        for name in (BAD_PICTURES_NAME, RUN_NAME):
            (self.folder / name).unlink(missing_ok=True)
        publish(self.folder, self._destination)


@contextmanager
def local_workspace(destination: Path, purpose: Purpose, *, resume: bool) -> Iterator[LocalWorkspace]:
    """Open the workspace of a destination; it stays where the block fails, unless nothing was done in it.

    Args:
        destination: must not exist, or be an empty folder.
        purpose: what `purpose_of` returns.
        resume: go on with what an interrupted conversion has left.

    Raises:
        ConversionError: the destination is taken, or the workspace is another conversion's, or is at work.
        OSError: the workspace cannot be written.
    """
    check_free(destination)
    with locked_folder(aside_of(destination)) as folder:
        begin(folder, purpose, is_new=is_untouched(folder), resume=resume)
        try:
            yield LocalWorkspace(folder, destination)
        finally:
            if folder.is_dir() and is_untouched(folder):
                shutil.rmtree(folder, ignore_errors=True)


def begin(folder: Path, purpose: Purpose, *, is_new: bool, resume: bool) -> None:
    """Take possession of a workspace: a new one, or that of the same conversion.

    Args:
        folder: the workspace.
        purpose: what `purpose_of` returns.
        is_new: nothing would be lost if the conversion began anew.
        resume: go on with what an interrupted conversion has left.

    Raises:
        ConversionError: it holds an interrupted conversion and `resume` is False, or that of another one.
        OSError: it cannot be written.
    """
    path = folder / RUN_NAME
    if is_new:
        if path.is_file():  # killed before anything was safe: what it left belongs to no store
            remove_all(folder)
        write_whole(path, json.dumps(purpose, indent=2).encode())
        return
    if not path.is_file() and not is_whole(folder):
        raise ConversionError(
            f"{folder}: holds files, but no conversion. Remove that folder, or choose another destination."
        )
    if not resume:
        raise ConversionError(_interrupted(folder))
    before = json.loads(path.read_bytes()) if path.is_file() else dict(purpose)
    if differing := changes(before, purpose):
        raise ConversionError(
            f"{folder}: the interrupted conversion was another one ({differing}). Resume it with what it was begun "
            "with, or remove that folder to start again."
        )


def check_destination(destination: Path, *, resume: bool) -> None:
    """Refuse, before a source is listed, what `local_workspace` would refuse after it.

    Args:
        destination: where the store will be.
        resume: an interrupted conversion, or a store that is whole, may be there.

    Raises:
        ConversionError: the destination is taken, cannot be written, or holds an interrupted conversion.
    """
    if not (resume and is_whole(destination)):
        check_free(destination)
    parent = next(folder for folder in destination.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        problem = "cannot be written to" if parent.is_dir() else "is no folder"
        raise ConversionError(f"{destination}: {parent} {problem}. Choose another destination.")
    aside = aside_of(destination)
    if not resume and aside.is_dir() and not is_untouched(aside):
        raise ConversionError(_interrupted(aside))


def _interrupted(folder: Path) -> str:
    return (
        f"{folder}: holds a conversion that was interrupted. Go on with it by --resume, or remove that folder to "
        "start again."
    )


def is_whole(folder: Path) -> bool:
    """Return whether only the renaming is missing."""
    return (folder / MANIFEST_NAME).is_file()


def is_untouched(folder: Path) -> bool:
    """Return whether no picture is safe in it yet: nothing would be lost."""
    kept = (child for child in folder.iterdir() if child.suffix in (".journal", ".json") and child.name != RUN_NAME)
    return not any(child.stat().st_size for child in kept)
