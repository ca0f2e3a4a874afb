"""The lines of one or more files, put in order: which are of the same measurement, and under which settings.

Two lines are of the same measurement if benchmark, case, peer, device and settings are equal. Where a file has several
of them, as a benchmark was run again and appended, the samples of all that are of the last one's commit count together:
what differs from process to process is noise, too. Those of other commits are left aside.
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
    *("model", "recipe", "backend", "batch_size", "micro_batches", "size", "dtype", "precision", "tf32"),
    *("memory_format", "channels_last", "compiled", "compile"),
    *("threads", "workers", "ranks", "cores", "count", "store_size", "samples", "steps"),
)
_DIGITS = 12  # of a digest: enough to tell two apart

Settings = Mapping[str, str]


def settings(line: Line) -> Settings:
    """Return what a line's figure depends on, by name; what belongs to the case alone stands before the rung's."""
    known = {**line.conditions, **line.result.details}
    found = {name: _written(known[name]) for name in SETTINGS if known.get(name) is not None}
    corpus = corpus_of(line).get("recipe_hash")
    return found | ({"corpus": str(corpus)[:_DIGITS]} if corpus else {})


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
    counted = [line.result for line in lines if line.commit == last.commit]
    samples = tuple(chain.from_iterable(result.samples for result in counted))
    ratios = tuple(chain.from_iterable(result.ratios for result in counted))
    return replace(last, result=replace(last.result, samples=samples, ratios=ratios))


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
