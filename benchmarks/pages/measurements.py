"""The lines of one or more files, put in order: which are of the same measurement, and under which settings.

Two lines are of the same measurement if benchmark, case, peer, device and settings are equal. Where a file has several
of them, as a benchmark was run again and appended, the samples of all that are of the last one's commit and versions
count together: what differs from process to process is noise, too, and makes their range wider. All others are left
aside; a commit with changes of its own, or none that is known, may be other code each time, so that only its last run
counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from benchmarks.lines import Line, load
from fastbot.errors import RunError

# What two figures must share to be of the same work, as rungs call it in their details or settings.
SETTINGS = (
    *("device", "model", "recipe", "backend", "batch_size", "micro_batches", "size", "dtype", "precision", "tf32"),
    *("memory_format", "channels_last", "compiled", "compile"),
    *("threads", "workers", "ranks", "cores", "count", "store_size", "samples", "steps"),
)
_DIGITS = 12  # of a digest: enough to tell two apart
# What GPUs are called by PyTorch: of lines whose conditions do not say on what kind of device they were measured.
_GPUS = ("NVIDIA", "Tesla", "AMD Instinct", "AMD Radeon")

Settings = Mapping[str, str]


def settings(line: Line) -> Settings:
    """Return what a line's figure depends on, by name; what belongs to the case alone stands before the rung's.

    `device` is its kind, `cpu` or `cuda`: that ratios may be held against those of another machine. `corpus` is the
    hash of the corpus's recipe, `store` that of another store's manifest.
    """
    known = {**line.conditions, **line.result.details, "device": kind_of_device(line)}
    found = {name: _written(known[name]) for name in SETTINGS if known.get(name) is not None}
    stores = {"corpus": corpus_of(line).get("recipe_hash"), "store": line.conditions.get("store")}
    digests = [(name, str(digest)[:_DIGITS]) for name, digest in stores.items() if digest]
    return found | dict(digests[:1])


def kind_of_device(line: Line) -> str:
    """Return on what kind of device a line was measured: `cpu` or `cuda`."""
    said = str(line.conditions.get("device", "cuda" if line.device.startswith(_GPUS) else "cpu"))
    return said.partition(":")[0]


def corpus_of(line: Line) -> Mapping[str, object]:
    """Return the statistics of the corpus that a line was measured on; empty where there was none."""
    corpus = line.conditions.get("corpus")
    return corpus if isinstance(corpus, Mapping) else {}


def merged(lines: Iterable[Line]) -> list[Line]:
    """Return one line for each measurement, in the order of their first lines."""
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in lines:
        identity = (line.device, *line.key, *sorted(settings(line).items()))
        groups.setdefault(identity, []).append(line)
    return [_together(group) for group in groups.values()]


def gather(paths: Sequence[Path]) -> list[Line]:
    """Read files of results, and all `.jsonl` files in folders and below.

    Args:
        paths: of files and folders.

    Raises:
        RunError: one cannot be read, has a line that is no result, or is a folder without results.
    """
    return merged(chain.from_iterable(load(file) for path in paths for file in _files(path)))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.rglob("*.jsonl"))
    if not files:
        raise RunError(f"{path}: has no .jsonl file. Give a folder that benchmarks wrote into with --json")
    return files


def _together(lines: Sequence[Line]) -> Line:
    last = lines[-1]
    counted = [line.result for line in lines if line is last or _same_code(line, last)]
    samples = tuple(chain.from_iterable(result.samples for result in counted))
    ratios = tuple(chain.from_iterable(result.ratios for result in counted))
    return replace(last, result=replace(last.result, samples=samples, ratios=ratios))


def _same_code(one: Line, other: Line) -> bool:
    is_known = one.commit != "unknown" and not one.commit.endswith("-dirty")
    return is_known and _code(one) == _code(other)


def _code(line: Line) -> tuple[object, ...]:
    return line.commit, dict(line.versions), line.conditions.get("python"), line.conditions.get("gpu")


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
