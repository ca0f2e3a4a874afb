"""Do batches arrive evenly: how long is the wait at the borders of epochs, and elsewhere?

Every figure is of a process of its own. The peer is torchvision's `DataLoader` with workers that persist, which decodes
and crops as ours does; ours augments and normalizes besides.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.measure import Result, compared
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.peers.files import extract
from benchmarks.publishing import publish
from benchmarks.rungs import delivery_answers, fresh_process
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.units import figure
from datasets_tools.store import Store
from fastbot.distributed import pick_device
from pipelines.backends import choose
from pipelines.cores import cores

_STOCK = "torchvision DataLoader"


def run(setting: Setting, epochs: int = 5) -> list[Result]:
    """Measure a backend's delivery.

    Args:
        setting: whose.
        epochs: whose first batches are waited for, after one that tells how long a step shall be.

    Raises:
        RunError: a process failed.
    """
    with tempfile.TemporaryDirectory(prefix="fastbot-delivery-") as folder:
        extract(Store(Path(setting.data)).split("train"), Path(folder))
        answers = {
            "fastbot": fresh_process.ask(delivery_answers.borders, asdict(setting), epochs),
            _STOCK: fresh_process.ask(delivery_answers.stock_borders, asdict(setting), epochs, folder),
        }
    results = []
    for title, answer in answers.items():
        first, others = f"wait at an epoch's start, {title}", f"wait elsewhere, {title}"
        figures = {
            first: [1e3 * seconds for seconds in answer["first_s"]],
            others: [1e3 * answer["others_s"]] * epochs,
        }
        notes = f"steps of {1e3 * answer['step_s']:.0f} ms; longest wait at a start {figure(max(figures[first]))} ms"
        results += [replace(compared("delivery", name, others, figures, "ms"), notes=notes) for name in figures]
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
    results = run(setting, epochs=repeats)
    publish(results, asdict(setting), json_file, f"delivery by {name} to {target}, {threads} threads")
