"""The conversion run: a source in, a whole store out; killed at any moment, it can be gone on with.

The splits are cut into shards, an engine writes them, and their results become the manifest. A store's bytes depend on
its source and its options alone: on no engine, number of workers, or interruption.
"""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from datasets_tools.conversion.engines.local import run_locally
from datasets_tools.conversion.estimate import Say, check_space, estimate
from datasets_tools.conversion.preparation import Preparation
from datasets_tools.conversion.progress import Meter, ProgressCallback
from datasets_tools.conversion.purpose import Purpose, changes_since, purpose_of
from datasets_tools.conversion.remote_workspace import remote_workspace
from datasets_tools.conversion.shards import Shard, ShardResult, shards_of
from datasets_tools.conversion.workspace import (
    BAD_PICTURES_NAME,
    Workspace,
    is_whole,
    local_workspace,
)
from datasets_tools.errors import ConversionError
from datasets_tools.files import is_remote
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import Entries, Source
from datasets_tools.staging import write_whole
from datasets_tools.store.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Counts,
    FileRecord,
    Manifest,
    PolicyRecord,
    Quarantined,
    SourceRecord,
    SplitRecord,
)
from datasets_tools.wording import counted

# More bad pictures than this are listed in a file only.
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How to convert.

    Attributes:
        fastbot_version: goes into the manifest.
        policy: what is asked of every picture; `repair` follows from `on_bad_image`.
        on_bad_image: `fail` when any picture is bad, after all were looked at; `skip` and quarantine them; or `repair`:
            store what can be decoded of them, marked, and quarantine the rest.
        workers: processes that prepare pictures; 1 prepares them in this process.
        shards: files per split.
        resume: go on with an interrupted conversion to the same destination.
        engine: who writes the shards: this machine's `workers`, or one task each on a Ray cluster.
        ray_address: of the cluster; None for that in RAY_ADDRESS, or else a Ray that is started on this machine.
        work_folder: where shards are built that go to a URL; None for a folder in the user's cache.
    """

    fastbot_version: str
    policy: Policy = field(default_factory=Policy)
    on_bad_image: Literal["fail", "skip", "repair"] = "fail"
    workers: int = 1
    shards: int = 1
    resume: bool = False
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    work_folder: Path | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("shards", self.shards)):
            if value < 1:
                raise ConversionError(f"{name} is {value}; at least 1 is needed")


def convert(
    source: Source,
    destination: str | Path,
    options: ConvertOptions,
    progress: ProgressCallback = lambda _: None,
    say: Say = lambda _: None,
) -> Manifest:
    """Write a store of all pictures of `source`.

    Args:
        source: what to convert.
        destination: the store's folder, a path or URL; must not exist, or be empty.
        options: how.
        progress: called as pictures are done.
        say: called with lines for the user: the estimate of the store's size.

    Returns:
        The manifest that was written.

    Raises:
        ConversionError: the destination is taken, pictures are bad, a class lost all its pictures, a worker died, the
            source has gone, or there is no space left. What was done is kept aside for `resume`.
    """
    _check_not_empty(source)
    policy = replace(options.policy, repair=options.on_bad_image == "repair")
    if options.resume and (manifest := _result_of_before(source, policy, destination, options)) is not None:
        say(f"{destination} is whole already")
        return manifest
    purpose = purpose_of(source, policy, options.shards, options.fastbot_version)
    with ExitStack() as stack:
        try:
            workspace = stack.enter_context(_workspace(destination, purpose, options))
        except OSError as error:
            raise ConversionError(f"{destination}: cannot be written: {error}. Nothing was done.") from error
        try:
            return _converted(source, policy, workspace, options, progress, say)
        except OSError as error:
            raise ConversionError(_writing_failed(destination, error)) from error


def _converted(
    source: Source,
    policy: Policy,
    workspace: Workspace,
    options: ConvertOptions,
    progress: ProgressCallback,
    say: Say,
) -> Manifest:
    if is_whole(workspace.folder):
        return _revealed(source, policy, workspace, options)
    with Preparation(policy, options.workers) as preparation:
        share = _share_here(source, workspace, options)
        check_space(estimate(source, preparation, options.shards), workspace.folder, share, say)
        engine = _engine(source, policy, workspace, preparation, options, say)
        return _written(source, policy, workspace, engine, options, progress)


def _check_not_empty(source: Source) -> None:
    empty = [split for split, entries in source.splits.items() if not len(entries)]
    if empty or not source.splits or not source.class_names:
        what = f"split {empty[0]} of the source" if empty else "the source"
        raise ConversionError(f"{what} holds no pictures. A store has at least one picture in every split.")


def _result_of_before(
    source: Source, policy: Policy, destination: str | Path, options: ConvertOptions
) -> Manifest | None:
    """Return the manifest of a store that this very conversion has written before, None where there is no store."""
    if is_remote(str(destination)) or not (Path(destination) / MANIFEST_NAME).is_file():
        return None
    manifest = Manifest.load(Path(destination))
    if changes := changes_since(manifest, source, policy, options.shards, options.fastbot_version):
        raise ConversionError(
            f"{destination}: is a whole store, of another conversion ({changes}). Choose another destination, or "
            "remove it first."
        )
    return manifest


def _workspace(destination: str | Path, purpose: Purpose, options: ConvertOptions) -> AbstractContextManager[Workspace]:
    if is_remote(str(destination)):
        return remote_workspace(str(destination), purpose, options.work_folder, resume=options.resume)
    return local_workspace(Path(destination), purpose, resume=options.resume)


def _revealed(source: Source, policy: Policy, workspace: Workspace, options: ConvertOptions) -> Manifest:
    """Do what a kill after the manifest was written left undone."""
    manifest = Manifest.load(workspace.folder)
    if changes := changes_since(manifest, source, policy, options.shards, options.fastbot_version):
        raise ConversionError(
            f"{workspace.folder}: holds the whole store of another conversion ({changes}), which was killed before it "
            "got its name. Resume that one, or remove the folder."
        )
    workspace.reveal(shards_of(_num_pictures(source), options.shards))
    return manifest


def _written(
    source: Source,
    policy: Policy,
    workspace: Workspace,
    engine: _Engine,
    options: ConvertOptions,
    progress: ProgressCallback,
) -> Manifest:
    num_pictures = _num_pictures(source)
    shards = shards_of(num_pictures, options.shards)
    retry = options.on_bad_image == "fail"
    meter = Meter(sum(num_pictures.values()), progress)
    results = {shard: result for shard in shards if (result := workspace.finished(shard)) is not None}
    if retry:
        results = {shard: result for shard, result in results.items() if not result.rejected}
    for shard, result in results.items():
        meter.resumed(shard.split, len(shard), len(result.rejected))

    missing = [shard for shard in shards if shard not in results]
    for shard in missing:
        workspace.forget(shard)
    engine(missing, retry=retry, deliver=results.__setitem__, meter=meter)
    by_split = {split: [results[shard] for shard in shards if shard.split == split] for split in source.splits}
    if retry:
        _check_none_bad(by_split, sum(num_pictures.values()), workspace.folder)
    for split, entries in source.splits.items():
        _check_classes(split, entries, source.class_names, by_split[split])
    label_files = _label_files(source, by_split)
    manifest = _manifest(source, policy, options.fastbot_version, by_split, label_files)
    workspace.publish(manifest, {record.name: data for record, data in label_files.values()}, shards)
    return manifest


class _Engine(Protocol):
    """Writes shards, takes them to where they belong, and hands over their results."""

    def __call__(
        self, shards: Sequence[Shard], *, retry: bool, deliver: Callable[[Shard, ShardResult], None], meter: Meter
    ) -> None: ...


def _engine(
    source: Source, policy: Policy, workspace: Workspace, preparation: Preparation, options: ConvertOptions, say: Say
) -> _Engine:
    if options.engine == "local":
        return partial(run_locally, splits=source.splits, workspace=workspace, preparation=preparation)
    from datasets_tools.conversion.engines.ray import run_on_ray

    return partial(
        run_on_ray,
        splits=source.splits,
        workspace=workspace,
        policy=policy,
        address=options.ray_address,
        say=say,
    )


def _share_here(source: Source, workspace: Workspace, options: ConvertOptions) -> float | None:
    """Return how much of a store lies here at once on its way to a URL, None for one that stays."""
    if workspace.url is None:
        return None
    if options.engine == "ray":
        return 0.0  # shards are built on the nodes
    num_pictures = _num_pictures(source)
    sizes = sorted(len(shard) for shard in shards_of(num_pictures, options.shards))
    return sum(sizes[-2:]) / max(1, sum(sizes))  # one is written while the other is uploaded


def _num_pictures(source: Source) -> dict[str, int]:
    return {split: len(entries) for split, entries in source.splits.items()}


def _check_none_bad(results: Mapping[str, Sequence[ShardResult]], num_pictures: int, folder: Path) -> None:
    lines = [
        f"{split}/{key}: {reason}"
        for split, shards in results.items()
        for shard in shards
        for _, key, reason in shard.rejected
    ]
    if lines:
        list_path = folder / BAD_PICTURES_NAME
        write_whole(list_path, "".join(f"{line}\n" for line in lines).encode())
        bad = "\n".join(f"  {line}" for line in lines[:_MOST_LISTED])
        rest = f"\n  and {counted(len(lines) - _MOST_LISTED, 'other')}" if len(lines) > _MOST_LISTED else ""
        raise ConversionError(
            f"{len(lines):,} of {num_pictures:,} pictures cannot be used; no store was written:\n{bad}{rest}\n"
            f"{list_path} lists them. The others are done: go on with --resume --on-bad-image skip to leave these "
            "out. Or replace (not remove) them and go on with --resume alone, which begins again at the first of them "
            "in each file. With --on-bad-image repair, from the start, what can be decoded of them is stored."
        )


def _check_classes(split: str, entries: Entries, class_names: Sequence[str], results: Sequence[ShardResult]) -> None:
    """Refuse to write a class that lost all its pictures: a training would go on without noticing."""
    kept = sum((Counter(result.class_counts) for result in results), Counter())
    labels = entries.labels
    bad = {labels[place]: (key, reason) for result in results for place, key, reason in result.rejected[::-1]}
    for label, (key, reason) in bad.items():
        if not kept[label]:
            raise ConversionError(
                f"class {class_names[label]} of split {split} lost all its pictures "
                f"({np.count_nonzero(labels == label):,}), none can be used; the first: {key}: {reason}. "
                "Replace them, or remove the class."
            )


def _label_files(
    source: Source, results: Mapping[str, Sequence[ShardResult]]
) -> dict[tuple[str, str], tuple[FileRecord, bytes]]:
    """Return record and content of the file of each label set, by split and name, without the pictures left out."""
    files = {}
    for split, label_sets in source.label_sets.items():
        left_out = {place for result in results[split] for place, _, _ in result.rejected}
        for name, lists in label_sets.items():
            kept = [list(labels) for place, labels in enumerate(lists) if place not in left_out]
            data = json.dumps(kept, separators=(",", ":")).encode()
            files[split, name] = (FileRecord.of(f"{split}.{name}.json", data), data)
    return files


def _manifest(
    source: Source,
    policy: Policy,
    fastbot_version: str,
    results: Mapping[str, Sequence[ShardResult]],
    label_files: Mapping[tuple[str, str], tuple[FileRecord, bytes]],
) -> Manifest:
    num_classes = len(source.class_names)
    return Manifest(
        format_version=FORMAT_VERSION,
        fastbot_version=fastbot_version,
        source=SourceRecord(name=source.name, options=dict(source.options)),
        policy=PolicyRecord(**asdict(policy)),
        class_names=tuple(source.class_names),
        splits={
            split: _split_record(
                shards, num_classes, {name: record for (of, name), (record, _) in label_files.items() if of == split}
            )
            for split, shards in results.items()
        },
    )


def _split_record(
    results: Sequence[ShardResult], num_classes: int, label_sets: Mapping[str, FileRecord]
) -> SplitRecord:
    class_counts = sum((Counter(result.class_counts) for result in results), Counter())
    num_samples = sum(result.record.num_samples for result in results)
    return SplitRecord(
        shards=tuple(result.record for result in results),
        num_samples=num_samples,
        class_counts=tuple(class_counts[label] for label in range(num_classes)),
        max_height=max(result.max_height for result in results),
        max_width=max(result.max_width for result in results),
        max_bytes=max(result.max_bytes for result in results),
        mean_bytes=sum(result.total_bytes for result in results) / max(1, num_samples),
        counts=Counts.total([result.counts for result in results]),
        quarantined=tuple(
            Quarantined(key=key, reason=reason) for result in results for _, key, reason in result.rejected
        ),
        label_sets=dict(label_sets),
    )


def _writing_failed(destination: str | Path, error: OSError) -> str:
    kept = "go on with --resume: what was safe by then is kept, and not done again"
    if error.errno == errno.EFBIG:
        return (
            f"{destination}: no space left while writing ({error.strerror}: a limit of the file system, or of "
            f"`ulimit -f`). Lift it or free space, and {kept}."
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{destination}: no space left while writing ({error.strerror}): free space, and {kept}."
    return f"{destination}: cannot be written: {error}. See to it, and {kept}."
