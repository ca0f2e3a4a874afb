"""How do batches arrive: the first one of a process, those at the borders of epochs, and the memory they take?

Every figure is of a process of its own, which `delivery_process` is. The peer is torchvision's `DataLoader` with
workers that persist, which decodes and crops as ours does; ours augments, normalizes and mixes besides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import Result, compared
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.peers import loaders as peers
from benchmarks.publishing import publish
from benchmarks.rungs.delivery_process import RECIPES, Setting
from benchmarks.units import figure
from datasets_tools.store import Store
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.backends import choose
from pipelines.cores import cores

BATCHES = 200, 2000  # between which memory shall not grow
_STOCK = "torchvision DataLoader"
_MODULE = "benchmarks.rungs.delivery_process"


def run(setting: Setting, repeats: int = 5, epochs: int = 5, batches: tuple[int, int] = BATCHES) -> list[Result]:
    """Measure a backend's delivery.

    Args:
        setting: whose.
        repeats: processes that are asked for their first batch.
        epochs: whose first batches are waited for, after one that tells how long a step shall be.
        batches: after which memory is looked at.

    Raises:
        RunError: a process failed.
    """
    with tempfile.TemporaryDirectory(prefix="fastbot-delivery-") as folder:
        cache, files = Path(folder, "numba"), Path(folder, "files")
        peers.extract(Store(Path(setting.data)).split("train"), files)
        results = _compiling(setting, cache)
        results += _first_batches(setting, cache, files, repeats)
        results += _borders(setting, cache, files, epochs)
        return results + _memory(setting, cache, batches)


def _compiling(setting: Setting, cache: Path) -> list[Result]:
    """Ask how long numba compiles once per installation, and what the next process still compiles."""
    empty, kept = "numba compiles, cache empty", "numba compiles, cache kept"
    figures = {name: _ask(cache, "everything", setting)["compiling_s"] for name in (empty, kept)}
    # Each by itself: a ratio to nothing, which the second may be, is none.
    return [Result("delivery", name, name, "s", (seconds,), (1.0,)) for name, seconds in figures.items()]


def _first_batches(setting: Setting, cache: Path, files: Path, repeats: int) -> list[Result]:
    stock = f"first batch, {_STOCK}"
    names = {recipe: f"first batch, {recipe}, numba's cache kept" for recipe in RECIPES}
    figures: dict[str, list[float]] = {name: [] for name in (*names.values(), stock)}
    for _ in range(repeats):
        for recipe, name in names.items():
            figures[name].append(_ask(cache, "first_batch", setting, recipe)["first_s"])
        figures[stock].append(_ask(cache, "stock_first_batch", setting, str(files))["first_s"])
    return [compared("delivery", name, stock, figures, "s") for name in figures]


def _borders(setting: Setting, cache: Path, files: Path, epochs: int) -> list[Result]:
    results = []
    for title, answer in (
        ("fastbot", _ask(cache, "borders", setting, epochs)),
        (_STOCK, _ask(cache, "stock_borders", setting, epochs, str(files))),
    ):
        first, others = f"wait at an epoch's start, {title}", f"wait elsewhere, {title}"
        figures = {
            first: [1e3 * seconds for seconds in answer["first_s"]],
            others: [1e3 * answer["others_s"]] * epochs,
        }
        notes = f"steps of {1e3 * answer['step_s']:.0f} ms; longest wait at a start {figure(max(figures[first]))} ms"
        results += [replace(compared("delivery", name, others, figures, "ms"), notes=notes) for name in figures]
    return results


def _memory(setting: Setting, cache: Path, batches: tuple[int, int]) -> list[Result]:
    answer = _ask(cache, "memory", setting, *batches)
    early, late = (f"memory, {number:,} batches" for number in batches)
    results = []
    for kind, words in (("host_mb", ""), ("device_mb", " of the device")):
        figures = {
            f"{name}{words}": [answer[str(number)][kind]] for name, number in zip((early, late), batches, strict=True)
        }
        if kind == "host_mb" or setting.device != "cpu":
            results += [compared("delivery", name, f"{early}{words}", figures, "MB") for name in figures]
    return results


def _ask(cache: Path, question: str, setting: Setting, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", _MODULE, question, json.dumps(asdict(setting)), json.dumps(arguments)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{' '.join(command)} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def command(
    data: Data,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=32, help="A multiple of 32, in which RSB mixes.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads, and workers of the peer.")] = cores(),
    repeats: Repeats = 5,
    batches: Annotated[
        int, typer.Option(min=2, help="After which memory is looked at, and after a tenth of it.")
    ] = 2000,
    json_file: JsonFile = None,
) -> None:
    """Measure the first batch of a process, the wait at the borders of epochs, and memory over many batches.

    Example: [bold]fastbot bench delivery --data corpus --json delivery.jsonl[/]
    """
    target = pick_device(device)
    name = choose.choose(backend, target).name
    setting = Setting(str(data), name, str(target), batch_size, size, threads)
    results = run(setting, repeats, epochs=repeats, batches=(max(1, batches // 10), batches))
    publish(results, asdict(setting), json_file, f"delivery by {name} to {target}, {threads} threads")
