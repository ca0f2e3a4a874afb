"""What a Ray task does on its node: one shard, written where all nodes see it, or uploaded from the node's own disk.

Ray never runs two attempts of a task at once, but it cannot tell a lost node from a dead one: a lock on the journal
keeps the next attempt away until the file system has given up the lost one. On a node's own disk there is no other, and
an upload that comes late brings the same bytes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from datasets_tools.conversion.preparation import Preparation
from datasets_tools.conversion.remote_workspace import upload_shard
from datasets_tools.conversion.shards import Shard, ShardResult, ShardWriter, journal_path
from datasets_tools.conversion.workspace import RUN_NAME
from datasets_tools.errors import ConversionError, DataError
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import Entries
from datasets_tools.staging import is_locked_now

# What decides a store's bytes besides the options.
_DECISIVE_PACKAGES = ("fastbot", "pillow")
# NFS: a server keeps the locks of a lost client for its lease, 90 s as a rule.
_LOCK_PATIENCE_S = 120.0


class PassingError(ConversionError):
    """What may be gone at the next attempt."""


def installed_versions() -> dict[str, str | None]:
    """Return the versions of the packages that decide a store's bytes; None for one that is not installed."""

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in _DECISIVE_PACKAGES}


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a run are told.

    Attributes:
        folder: the workspace's; nodes see it unless there is a `url`.
        purpose: the content of its `run.json`.
        url: where to upload to, None for a shared folder.
        policy: for every picture.
        retry: try pictures again that an interrupted run had to leave out.
        versions: of the driver's packages.
        name: of the run; nobody can know it beforehand.
    """

    folder: Path
    purpose: bytes
    url: str | None
    policy: Policy
    retry: bool
    versions: Mapping[str, str | None] = field(default_factory=installed_versions)
    name: str = field(default_factory=lambda: secrets.token_hex(8))


def carry_out(job: Job, shard: Shard, entries: Entries) -> ShardResult:
    """Write a shard, on a node.

    Args:
        job: what all tasks are told.
        shard: what to write.
        entries: of its split.

    Raises:
        PassingError: the source, the folder or the URL failed.
        ConversionError: this node cannot do it, or nobody can.
    """
    where = f"shard {shard.name}, on node {socket.gethostname()}"
    try:
        if (found := installed_versions()) != job.versions:
            raise ConversionError(f"it has {found}, but the driver {job.versions}. Install the same everywhere.")
        return _written(job, shard, entries) if job.url is None else _uploaded(job, job.url, shard, entries)
    except OSError as error:
        raise PassingError(f"{where}: {error}. What was done is kept: see to it, and go on with --resume.") from None
    except DataError as error:
        may_pass = isinstance(error, PassingError) or isinstance(error.__cause__, OSError)  # as when a source is gone
        raise (PassingError if may_pass else ConversionError)(f"{where}: {error}") from None


def not_shared(folder: Path) -> str:
    """Return what to do about a folder that a node does not see."""
    return (
        f"{folder}: it is not on a file system that all nodes share. Choose a destination that is, or a URL "
        "(s3://...): then every node works on its own disk."
    )


def _written(job: Job, shard: Shard, entries: Entries) -> ShardResult:
    """Write a shard into the shared folder."""
    try:
        is_shared = (job.folder / RUN_NAME).read_bytes() == job.purpose
    except FileNotFoundError:
        is_shared = False
    if not is_shared:
        raise ConversionError(f"this node does not see {not_shared(job.folder)}")
    return _write(job, shard, job.folder, entries)


def _uploaded(job: Job, url: str, shard: Shard, entries: Entries) -> ShardResult:
    """Write a shard on the node's own disk, and upload it."""
    # An attempt that was killed leaves the folder to the next one, if that comes to the same node.
    folder = Path(tempfile.gettempdir()) / f"fastbot-{job.name}-{shard.name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        result = _write(job, shard, folder, entries)
        upload_shard(folder, result, url)
        return result
    finally:
        shutil.rmtree(folder)


def _write(job: Job, shard: Shard, folder: Path, entries: Entries) -> ShardResult:
    with _alone(journal_path(folder, shard)), Preparation(job.policy, 1) as preparation:
        writer = ShardWriter(folder, shard, entries.labels, retry=job.retry)
        try:
            with closing(preparation.outcomes(entries, writer.next, shard.stop)) as outcomes:
                for outcome in outcomes:
                    writer.append(outcome)
        except BaseException as error:
            writer.abandon(error)
            raise
        return writer.finish()


@contextmanager
def _alone(journal: Path) -> Iterator[None]:
    """Hold a shard's journal, waiting until another attempt has let go of it."""
    descriptor = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline_s = time.monotonic() + _LOCK_PATIENCE_S
        # Without locks, two attempts would write the same bytes to the same places.
        while not is_locked_now(descriptor):
            if time.monotonic() > deadline_s:
                raise PassingError(
                    f"{journal}: another process is writing this shard. End it, and go on with --resume."
                )
            time.sleep(0.5)
        yield
    finally:
        os.close(descriptor)
