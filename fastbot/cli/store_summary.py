"""What `fastbot store` prints of a store and of what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table

from datasets_tools.inspection.verify import SampleProblem, Verification
from datasets_tools.store.manifest import Manifest, PolicyRecord, SplitRecord
from datasets_tools.wording import counted

_MAX_CLASSES = 20
_MAX_SAMPLES = 5
# Enough of a SHA-256 to tell stores apart; the manifest has all of it.
_DIGEST_LENGTH = 12


def print_manifest(console: Console, manifest: Manifest) -> None:
    """Print the summary of a store: its origin, a table of its splits, its classes, and what was left out."""
    origin, *earlier = _origins_of(manifest.source.name, manifest.source.options)
    console.print(plain(f"source: {origin}, written by fastbot {manifest.fastbot_version}"), soft_wrap=True)
    for origin in earlier:
        console.print(plain(f"cut from: {origin}"), soft_wrap=True)
    console.print(f"policy: {_policy(manifest.policy)}", soft_wrap=True)
    table = Table("", *manifest.splits)
    for title, cells in _rows(tuple(manifest.splits.values())):
        table.add_row(title, *cells)
    console.print(table)
    names = [plain(name) for name in manifest.class_names]
    shown = ", ".join(names[:_MAX_CLASSES])
    dots = ", ..." if len(names) > _MAX_CLASSES else ""
    console.print(f"{counted(len(names), 'class', 'classes')}: {shown}{dots}", soft_wrap=True)
    for name, record in manifest.splits.items():
        for bad in record.quarantined:
            console.print(f"left out of {name}: {plain(bad.key)}: {plain(bad.reason)}", style="yellow", soft_wrap=True)


def print_counts(console: Console, manifest: Manifest) -> None:
    """Print one line for each split: its pictures and its size."""
    for name, record in manifest.splits.items():
        console.print(
            f"{name}: {counted(record.num_samples, 'picture')}, {_per_class(record)} per class, {_megabytes(record)}",
            soft_wrap=True,
        )


def print_verification(console: Console, found: Verification) -> None:
    """Print all that is wrong with files, what is wrong with the first samples of each split, or that all is whole."""
    for file in found.files:
        console.print(f"{file.file}: {plain(file.reason)}", style="red", soft_wrap=True)
    for split, problems in groupby(found.samples, key=lambda problem: problem.split):
        _print_samples(console, split, tuple(problems))
    checked = _files_and_samples(found.num_files, found.num_samples)
    wrong = _files_and_samples(len(found.files), len(found.samples))
    console.print(f"{checked}: whole" if found.ok else f"{checked}; wrong: {wrong}", soft_wrap=True)


def plain(text: str) -> str:
    """Return a text as one line without control characters, which would steer the terminal: a store may hold any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _print_samples(console: Console, split: str, problems: Sequence[SampleProblem]) -> None:
    for problem in problems[:_MAX_SAMPLES]:
        where = f"{split}: sample {problem.sample_id:,} ({plain(problem.key)})"
        console.print(f"{where}: {plain(problem.reason)}", style="red", soft_wrap=True)
    if (rest := len(problems) - _MAX_SAMPLES) > 0:
        console.print(f"{split}: and {counted(rest, 'more damaged sample')}", style="red", soft_wrap=True)


def _files_and_samples(num_files: int, num_samples: int) -> str:
    return f"{counted(num_files, 'file')}, {counted(num_samples, 'sample')}"


def _origins_of(name: str, options: Mapping[str, object]) -> Iterator[str]:
    """Yield where a store comes from; of a subset then where the store it was cut from does, which its options say."""
    if name != "subset":
        yield "".join([name, *(f" {option}={value}" for option, value in options.items())])
        return
    own, before = dict[str, object](), dict[str, object]()
    for option, value in options.items():
        if option.startswith("source."):
            before[option.removeprefix("source.")] = value
        else:
            own[option] = value
    source, digest = str(own.pop("source", "unknown")), str(own.pop("manifest_sha256", ""))[:_DIGEST_LENGTH]
    yield "".join([name, *(f" {option}={value}" for option, value in own.items())])
    origin, *earlier = _origins_of(source, before)
    yield f"{origin}, manifest {digest}"
    yield from earlier


def _policy(policy: PolicyRecord | None) -> str:
    """Return what was asked of the pictures; what was not asked is left out."""
    if policy is None:
        return "unknown"
    asked = {name: value for name, value in policy.model_dump().items() if value not in (None, False, 0.0)}
    return " ".join(name if value is True else f"{name}={value}" for name, value in asked.items())


def _rows(records: Sequence[SplitRecord]) -> Iterator[tuple[str, list[str]]]:
    yield "pictures", [f"{record.num_samples:,}" for record in records]
    yield "per class", [_per_class(record) for record in records]
    yield "kept as they were", [f"{record.counts.kept:,}" for record in records]
    yield "rewritten without loss", [f"{record.counts.transcoded:,}" for record in records]
    yield "encoded anew", [_origins(record) for record in records]
    for name, title in (
        ("resized", "  resized"),
        ("rotated", "  turned upright"),
        ("raw", "  stored raw"),
        ("repaired", "  repaired"),
    ):
        counts = [getattr(record.counts, name) for record in records]
        if any(counts):
            yield title, [f"{count:,}" for count in counts]
    yield "left out", [f"{len(record.quarantined):,}" for record in records]
    yield "largest height x width", [f"{record.max_height:,} x {record.max_width:,}" for record in records]
    sizes = [f"{record.mean_bytes / 1e3:,.1f} / {record.max_bytes / 1e3:,.1f} kB" for record in records]
    yield "mean / largest picture", sizes
    if any(record.label_sets for record in records):
        yield "further labels", [", ".join(record.label_sets) for record in records]
    yield "files", [f"{_shards(record)}{_megabytes(record)}" for record in records]


def _per_class(record: SplitRecord) -> str:
    fewest, most = min(record.class_counts), max(record.class_counts)
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def _origins(record: SplitRecord) -> str:
    return ", ".join(f"{count:,} {plain(origin)}" for origin, count in record.counts.reencoded.items()) or "0"


def _shards(record: SplitRecord) -> str:
    return f"{len(record.shards):,} shards, " if len(record.shards) > 1 else ""


def _megabytes(record: SplitRecord) -> str:
    return f"{sum(file.size for file in record.files) / 1e6:,.1f} MB"
