"""What decides a store's bytes: a conversion is gone on with where all of it is the same, and else says what is not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import PIL

from datasets_tools.conversion.shards import shards_of
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import Entries, Source
from datasets_tools.store.manifest import Manifest

Purpose = dict[str, Any]

# Fields of `Policy` that are on unless `--no-NAME` is given.
_ON = ("policy.transcode", "policy.check")


def purpose_of(source: Source, policy: Policy, num_shards: int, fastbot_version: str) -> Purpose:
    """Return everything that decides a store's bytes, as one flat JSON object."""
    return {
        **_recorded(source.name, source.options, asdict(policy), source.class_names, fastbot_version),
        "Pillow": PIL.__version__,
        "shards": num_shards,
        **{f"pictures of {split}": _pictures(entries) for split, entries in source.splits.items()},
    }


def changes_since(manifest: Manifest, source: Source, policy: Policy, num_shards: int, fastbot_version: str) -> str:
    """Say what differs between a conversion and the one that wrote a store, as far as its manifest knows.

    Args:
        manifest: the store's.
        source, policy, num_shards, fastbot_version: of the conversion, as `purpose_of` takes them.

    Returns:
        As `changes` does: nothing where the conversion would write this store.
    """
    record, splits = manifest.source, manifest.splits
    fields = manifest.policy.model_dump() if manifest.policy else {}
    then = _recorded(record.name, record.options, fields, manifest.class_names, manifest.fastbot_version)
    num_then = {split: each.num_samples + len(each.quarantined) for split, each in splits.items()}
    now = _recorded(source.name, source.options, asdict(policy), source.class_names, fastbot_version)
    num_now = {split: len(entries) for split, entries in source.splits.items()}
    files_now = Counter(shard.split for shard in shards_of(num_now, num_shards))
    return changes(
        then | _counts(num_then, {split: len(each.shards) for split, each in splits.items()}),
        now | _counts(num_now, files_now),
    )


def changes(before: Purpose, now: Purpose) -> str:
    """Say what differs between two purposes, by the options that decide it; nothing where they are the same."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if "source" in names:
        names = ["source"]  # another layout has other options and pictures: all of them differ
    return "; ".join(_change(name, before.get(name), now.get(name)) for name in names)


def _recorded(
    source_name: str,
    source_options: Mapping[str, Any],
    policy: Mapping[str, Any],
    class_names: Sequence[str],
    fastbot_version: str,
) -> Purpose:
    """Return what both a manifest and a source know."""
    return {
        "fastbot": fastbot_version,
        "source": source_name,
        **{f"source.{name}": value for name, value in source_options.items()},
        **{f"policy.{name}": value for name, value in policy.items()},
        "classes": _digest(class_names),
    }


def _counts(num_pictures: Mapping[str, int], num_files: Mapping[str, int]) -> Purpose:
    pictures = {f"pictures of {split}": f"{count:,}" for split, count in num_pictures.items()}
    return pictures | {f"files of {split} (--shards)": count for split, count in num_files.items()}


def _change(name: str, before: Any, now: Any) -> str:
    """Say what differs; of a count with a digest, the digest only decides."""
    if name == "policy.repair":
        option, values = "--on-bad-image", ["repair" if value else "fail or skip" for value in (before, now)]
    elif name in _ON:
        option = f"--no-{name.removeprefix('policy.')}"
        values = ["not given" if value else "given" for value in (before, now)]
    else:
        option = _option(name)
        absent = "not given" if option.startswith("--") else "none"
        values = [_shown(value, absent) for value in (before, now)]
    if values[0] == values[1]:
        return f"{option}: {values[0]} then and now, but with other names or labels"
    return f"{option}: {values[0]} then, {values[1]} now"


def _option(name: str) -> str:
    """Return the option that decides a value, or what the value is of where no option does."""
    table, _, field = name.partition(".")
    if name == "source.dataset":
        return "data set"  # of torchvision: an argument
    if table in ("policy", "source") and field:
        return f"--{field.replace('_', '-')}"
    return {"source": "layout", "shards": "--shards"}.get(name, name)


def _shown(value: Any, absent: str) -> str:
    if value is True:
        return "given"
    return absent if value is None or value is False else str(value).partition(" (")[0]


def _pictures(entries: Entries) -> str:
    digest = hashlib.sha256(entries.labels.tobytes())
    for place in range(len(entries)):
        digest.update(entries.key(place).encode() + b"\0")
    return f"{len(entries):,} ({digest.hexdigest()[:16]})"


def _digest(names: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()
    return f"{len(names):,} ({digest[:16]})"
