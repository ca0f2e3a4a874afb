"""How fast do decoders turn JPEG bytes in memory into pixels, with no loader around them?

All decode the same pictures in the same order: whole, and the window of each that a random resized crop needs. The
codec of backend `turbo` decodes that window alone; the libraries beside it decode the whole picture and cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Effort, Result, measure
from benchmarks.options import Data, Device, JsonFile, Repeats, Seconds
from benchmarks.peers.photos import Photos
from benchmarks.publishing import Publish, publishing
from benchmarks.rungs.decode_cases import DecodeCases
from datasets_tools import jpeg
from datasets_tools.store import Split, Store
from datasets_tools.store.index import StoredFormat
from fastbot.distributed import pick_device
from fastbot.errors import RunError
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

_COLOURS = 3  # components: of a grey picture less is decoded


def run(
    data: Path,
    *,
    num_pictures: int = 128,
    size: int = 224,
    threads: tuple[int, ...] = (1,),
    device: torch.device | None = None,
    effort: Effort | None = None,
    leave_out: Callable[[str, str], object] = print,
    publish: Publish = lambda _: None,
) -> list[Result]:
    """Measure decoders over pictures of the `train` split of a store.

    Args:
        data: a store.
        num_pictures: at the most.
        size: of the crops whose windows are decoded, in pixels.
        threads: every case runs with each of these counts.
        device: CUDA: also there; None: the CPU alone.
        effort: how much measuring.
        leave_out: is told the name of each decoder that cannot be measured, and why.
        publish: gets the results of the CPU, and then those of the GPU, as soon as they are there.

    Raises:
        RunError: the store has no JPEGs in colour, or fastbot's pixels are not those of the pictures.
    """
    photos = photos_of(Store(data).split("train"), num_pictures, size)
    chosen = effort or effort_of(5, 0)
    results: list[Result] = []
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)  # a core is a core: torch would copy what it cut out with all of them
        cases = DecodeCases(photos, size, threads, stack, leave_out)
        on_cpu = measure("decode", list(cases.on_cpu()), chosen, unit="images/s per core")
        publish(found := cases.described(on_cpu))
        results += found
        if device is not None and device.type == "cuda":
            on_gpu = measure("decode", list(cases.on_gpu()), chosen, synchronize=torch.cuda.synchronize)
            publish(found := cases.described(on_gpu))
            results += found
    return results


def effort_of(repeats: int, seconds: float) -> Effort:
    """Return the effort of so many rounds of turns of so many seconds.

    Decoders load libraries and compile in their first turn: only the second tells how long one takes.
    """
    return Effort(repeats, seconds, warmups=2)


def photos_of(split: Split, num_pictures: int, size: int) -> Photos:
    """Return JPEGs in colour in the order of a training's first epoch, each with its crop's window.

    Args:
        split: where they are.
        num_pictures: at the most.
        size: of the crops, in pixels.

    Raises:
        RunError: there are none.
    """
    found = list(islice(_planned(split, size), num_pictures))
    if not found:
        raise RunError(f"{split.path}: split {split.name} has no JPEG in colour: give a store of photographs")
    ids, windows = zip(*found, strict=True)
    shapes = [(int(split.heights[sample_id]), int(split.widths[sample_id])) for sample_id in ids]
    return Photos.of([split.encoded(sample_id) for sample_id in ids], shapes, windows)


def _planned(split: Split, size: int) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Yield ids and windows of one epoch."""
    plan = TrainPlan(DataSpec(global_batch_size=1, crop_size=size), split.heights, split.widths, seed=0)
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(0, step)
        sample_id = int(batch.ids[0])
        if split.formats[sample_id] != StoredFormat.RAW and _components(split.encoded(sample_id)) == _COLOURS:
            top, left, height, width = batch.windows[0].tolist()
            yield sample_id, (top, left, height, width)


def _components(data: NDArray[np.uint8]) -> int:
    return jpeg.frame(data).components


def command(
    data: Data,
    num_pictures: Annotated[int, typer.Option("--count", min=1, help="Pictures that a turn decodes.")] = 128,
    size: Annotated[int, typer.Option(min=1, help="Of the crops whose windows are decoded, in pixels.")] = 224,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Give several to see how they scale.")] = None,
    device: Device = "auto",
    repeats: Repeats = 5,
    seconds: Seconds = 1.0,
    json_file: JsonFile = None,
) -> None:
    """Measure decoders alone: JPEG bytes in memory to pixels, whole pictures and regions.

    Example: [bold]fastbot bench decode --data corpus --threads 1[/]
    """
    counts = tuple(threads or (1,))
    missing: dict[str, str] = {}

    def leave_out(name: str, problem: str) -> None:
        missing[name] = problem
        typer.echo(f"left out: {name}: {problem}")

    settings = {
        "size": size,
        "num_decoded": num_pictures,
        "threads": ", ".join(map(str, counts)),
        "seconds": seconds,
        "peers_missing": missing,
        **store_identity(data),
    }
    with publishing(settings, json_file, f"decoding, windows of crops to {size}", device="cpu") as publish:
        run(
            data,
            num_pictures=num_pictures,
            size=size,
            threads=counts,
            device=pick_device(device),
            effort=effort_of(repeats, seconds),
            leave_out=leave_out,
            publish=publish,
        )
