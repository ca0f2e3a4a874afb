"""Do batches arrive evenly: how long is the wait at the borders of epochs, and elsewhere?

Every figure is of a process of its own. The peer is torchvision's `DataLoader` with workers that persist, which decodes
and crops as ours does; ours augments and normalizes besides.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Result, compared
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.peers.files import extract
from benchmarks.progress import progress
from benchmarks.publishing import publish
from benchmarks.rungs import delivery_answers, fresh_process
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.rungs.fresh_process import Answer
from benchmarks.units import figure
from datasets_tools.store import Store
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.backends import choose
from pipelines.cores import cores

_STOCK = "torchvision DataLoader"
_MOMENTS = {"wait at an epoch's start": "first_s", "wait elsewhere": "others_s"}


def run(setting: Setting, repeats: int = 5, epochs: int = 3) -> list[Result]:
    """Measure a backend's delivery beside the peer's, process by process in turns.

    Args:
        setting: whose.
        repeats: processes of each.
        epochs: of a process, in which waits are measured; the median over them is one sample.

    Raises:
        RunError: a process failed, or an epoch has no two batches.
    """
    split = Store(Path(setting.data)).split("train")
    if len(split) < 2 * setting.batch_size:
        raise RunError(
            f"{setting.data} has {len(split)} pictures, and an epoch needs two batches of {setting.batch_size}: lower "
            "--batch-size, or give a larger store"
        )
    answers: dict[str, list[Answer]] = {"fastbot": [], _STOCK: []}
    with tempfile.TemporaryDirectory(prefix="fastbot-delivery-") as folder:
        extract(split, Path(folder))
        arguments = asdict(setting), epochs
        with progress("delivery", 2 * repeats) as tell:
            for _ in range(repeats):
                tell("fastbot")
                answers["fastbot"].append(fresh_process.ask(delivery_answers.borders, *arguments))
                tell(_STOCK)
                answers[_STOCK].append(fresh_process.ask(delivery_answers.stock_borders, *arguments, folder))
    return [result for moment in _MOMENTS for result in _results(moment, answers)]


def _results(moment: str, answers: Mapping[str, list[Answer]]) -> list[Result]:
    """Return the waits at a moment, ours beside the peer's."""
    key, peer = _MOMENTS[moment], f"{moment}, {_STOCK}"
    figures = {
        f"{moment}, {name}": [1e3 * statistics.median(each[key]) for each in found] for name, found in answers.items()
    }
    results = []
    for case, found in zip(figures, answers.values(), strict=True):
        details = {
            "step_ms": 1e3 * statistics.median(each["step_s"] for each in found),
            "longest_ms": 1e3 * max(max(each[key]) for each in found),
        }
        longest = "longest wait" if key == "first_s" else "longest of an epoch's medians"
        notes = f"steps of {figure(details['step_ms'])} ms; {longest} {figure(details['longest_ms'])} ms"
        results.append(replace(compared("delivery", case, peer, figures, "ms"), details=details, notes=notes))
    return results


def command(
    data: Data,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=32, help="A multiple of 32, in which pictures are mixed.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads, and workers of the peer.")] = cores(),
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure the wait for batches at the borders of epochs, and elsewhere.

    Example: [bold]fastbot bench delivery --data corpus --json delivery.jsonl[/]
    """
    target = pick_device(device)
    name = choose.choose(backend, target).name
    setting = Setting(str(data), name, str(target), batch_size, size, threads)
    results = run(setting, repeats)
    title = f"delivery by {name} to {target}, {threads} threads"
    publish(results, {**asdict(setting), **store_identity(data)}, json_file, title, device=target)
