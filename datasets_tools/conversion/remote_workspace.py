"""Where a conversion to a URL works: a local folder of its own, from which every shard is uploaded as it is finished.

The folder remembers which shards were uploaded and read back; their files are removed. The manifest is uploaded last:
what has none is no store. A manifest in the folder says that everything else was uploaded.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from datasets_tools import remote
from datasets_tools.conversion.purpose import Purpose
from datasets_tools.conversion.shards import Shard, ShardResult, remove_traces
from datasets_tools.conversion.workspace import RUN_NAME, begin, is_untouched, is_whole
from datasets_tools.errors import ConversionError
from datasets_tools.files import join, read
from datasets_tools.staging import locked_folder, write_whole
from datasets_tools.store.manifest import MANIFEST_NAME, FileRecord, Manifest


class RemoteWorkspace:
    """A store that is built here, shard by shard, and uploaded.

    Args:
        folder: where shards are built.
        url: of the store.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def finished(self, shard: Shard) -> ShardResult | None:
        """Return the result of a shard that was uploaded and read back."""
        marker = self._marker(shard)
        if not marker.is_file():
            return None
        _remove_files(self.folder, shard)  # a kill may have come before it
        return ShardResult.model_validate_json(marker.read_bytes())

    def forget(self, shard: Shard) -> None:
        """Take back that a shard was uploaded: another one of its name is about to take its place.

        Raises:
            OSError: the folder cannot be written.
        """
        self._marker(shard).unlink(missing_ok=True)

    def deliver(self, shard: Shard, result: ShardResult) -> None:
        """Upload a shard, read it back, and remove its files here.

        Raises:
            OSError: it cannot be uploaded.
        """
        upload_shard(self.folder, result, self.url)
        self.note(shard, result)
        _remove_files(self.folder, shard)

    def note(self, shard: Shard, result: ShardResult) -> None:
        """Remember that a shard was uploaded.

        Raises:
            OSError: the folder cannot be written.
        """
        write_whole(self._marker(shard), result.model_dump_json().encode())

    def publish(self, manifest: Manifest, files: Mapping[str, bytes], shards: Sequence[Shard]) -> None:
        """Upload the small files and then the manifest, and remove the folder.

        Raises:
            OSError: something cannot be uploaded.
        """
        for name, data in files.items():
            write_whole(self.folder / name, data)
            self._upload(name)
        manifest.save(self.folder)
        self.reveal(shards)

    def reveal(self, shards: Sequence[Shard]) -> None:
        """Upload the manifest, and remove the folder.

        Raises:
            OSError: it cannot be uploaded.
        """
        self._upload(MANIFEST_NAME)
        shutil.rmtree(self.folder)

    def _upload(self, name: str) -> None:
        remote.upload(self.folder / name, join(self.url, name), FileRecord.of_file(self.folder / name))

    def _marker(self, shard: Shard) -> Path:
        return self.folder / f"{shard.name}.uploaded.json"


@contextmanager
def remote_workspace(
    url: str, purpose: Purpose, work_folder: Path | None, *, resume: bool
) -> Iterator[RemoteWorkspace]:
    """Open the workspace of a URL; it stays where the block fails, unless nothing was done in it.

    Args:
        url: of the store's folder: there must be none, or an empty one.
        purpose: what `purpose_of` returns.
        work_folder: where workspaces lie; None for `$XDG_CACHE_HOME/fastbot/convert`, or that in `~/.cache`.
        resume: go on with what an interrupted conversion has left.

    Raises:
        ConversionError: the URL is taken, or the workspace is another conversion's, or is at work.
        OSError: the URL cannot be reached, or the workspace not be written.
    """
    url = url.rstrip("/")
    with locked_folder(workspace_of(url, work_folder)) as folder:
        present = remote.names(url)
        _check_free(url, present, folder)
        begin(folder, purpose, is_new=is_untouched(folder) and not present, resume=resume)
        try:
            remote.make_folder(url)
            yield RemoteWorkspace(folder, url)
        finally:
            # Other machines may have uploaded what is not noted here yet: only the purpose says whose that is.
            if folder.is_dir() and is_untouched(folder) and _is_known_empty(url):
                shutil.rmtree(folder, ignore_errors=True)


def workspace_of(url: str, work_folder: Path | None) -> Path:
    """Return the local folder that belongs to a URL; arguments as `remote_workspace`."""
    if work_folder is None:
        work_folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastbot" / "convert"
    return work_folder / hashlib.sha256(url.encode()).hexdigest()[:16]


def upload_shard(folder: Path, result: ShardResult, url: str) -> None:
    """Upload the files of a finished shard, and read them back.

    Args:
        folder: where they lie.
        result: of the shard.
        url: of the store.

    Raises:
        OSError: they cannot be uploaded.
    """
    for record in (result.record.beton, result.record.index):
        remote.upload(folder / record.name, join(url, record.name), record)


def _remove_files(folder: Path, shard: Shard) -> None:
    """Remove a shard's files, the journal first: it speaks of the others."""
    remove_traces(folder, [shard])
    for suffix in (".beton", ".index"):
        (folder / f"{shard.name}{suffix}").unlink(missing_ok=True)


def _check_free(url: str, present: Sequence[str], folder: Path) -> None:
    """Refuse a URL where anything lies that this workspace's conversion has not uploaded."""
    if MANIFEST_NAME in present:
        manifest = join(url, MANIFEST_NAME)
        if not is_whole(folder) or read(manifest) != (folder / MANIFEST_NAME).read_bytes():
            raise ConversionError(
                f"{url}: holds a store already; nothing is ever overwritten. Choose another destination, or remove it "
                "first."
            )
    elif present and not (folder / RUN_NAME).is_file():
        raise ConversionError(
            f"{url}: is not empty ({present[0]}, ...), and no conversion of this machine was interrupted there; "
            "nothing is ever overwritten. Choose another destination, remove what is there, or go on with --resume on "
            "the machine that began it, or with its --work-dir."
        )


def _is_known_empty(url: str) -> bool:
    try:
        return not remote.names(url)
    except OSError:
        return False
