"""How much memory does delivery take: with the batch size, with the size of the store, and with time?

Every figure is of a process of its own, its children included: what they have between them besides pages of mapped
files, which are the system's cache. The peer is torchvision's `DataLoader`, which decodes and crops as ours does; ours
augments and normalizes besides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.corpora.identity import store_identity
from benchmarks.corpora.repeated import repeated
from benchmarks.measure import Result, compared
from benchmarks.options import Data, Device, JsonFile, Repeats
from benchmarks.peers.files import extract
from benchmarks.progress import progress
from benchmarks.publishing import Publish, publishing
from benchmarks.rungs import fresh_process, memory_answers
from benchmarks.rungs.delivery_answers import Setting
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.training import place_settings
from datasets_tools.store import Store
from fastbot.distributed import pick_device
from pipelines.backends import choose
from pipelines.cores import cores

_STOCK = "torchvision DataLoader"
_KINDS = {"host_mb": "", "device_mb": ", on the device"}


@dataclass(frozen=True, slots=True)
class Extent:
    """What is varied.

    Attributes:
        batch_sizes: pictures a batch, with the store as it is.
        store_sizes: pictures of the store, with the first batch size.
        batches: how many each process delivers.
        looks: after how many batches memory is looked at again, to see whether it grows; ours alone.
    """

    batch_sizes: tuple[int, ...] = (32, 64, 128, 256)
    store_sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    batches: int = 20
    looks: tuple[int, int] = (200, 2000)


def run(
    setting: Setting, extent: Extent = Extent(), repeats: int = 1, publish: Publish = lambda _: None
) -> list[Result]:
    """Measure the memory of delivery.

    Args:
        setting: of what; its batch size is the extent's.
        extent: what is varied.
        repeats: processes for each figure.
        publish: gets the results of each batch size, of each store and of the growth as soon as they are there.

    Raises:
        RunError: a process failed.
    """
    results: list[Result] = []
    for found in _groups(setting, extent, repeats):
        publish(group := list(found))
        results += group
    return results


def _groups(setting: Setting, extent: Extent, repeats: int) -> Iterator[Iterator[Result]]:
    with tempfile.TemporaryDirectory(prefix="fastbot-memory-") as folder:
        files, store = Path(folder, "files"), Store(Path(setting.data))
        num_files = len(extract(store.split("train"), files))
        for batch_size in extent.batch_sizes:
            now = replace(setting, batch_size=batch_size)
            yield _beside(now, f"batches of {batch_size}", files, num_files, extent.batches, repeats)
        first = replace(setting, batch_size=extent.batch_sizes[0])
        for store_size in extent.store_sizes:
            larger = repeated(store, store_size, Path(folder, str(store_size)))
            now, count = replace(first, data=str(larger.path)), len(larger.split("train"))
            yield _beside(now, f"store of {count:,}", files, count, extent.batches, repeats)
        yield _growth(first, extent.looks, repeats)


def _beside(setting: Setting, title: str, files: Path, num_files: int, batches: int, repeats: int) -> Iterator[Result]:
    """Yield the peaks of ours and of the peer."""
    ours, stock = f"{title}, fastbot", f"{title}, {_STOCK}"
    answers: dict[str, list[Answer]] = {ours: [], stock: []}
    arguments = asdict(setting), [batches], str(files), num_files
    with progress("memory", 2 * repeats) as tell:
        for _ in range(repeats):
            tell(ours)
            answers[ours].append(fresh_process.ask(memory_answers.ours, asdict(setting), [batches]))
            tell(stock)
            answers[stock].append(fresh_process.ask(memory_answers.stock, *arguments))
    found = {name: [answer[str(batches)] for answer in given] for name, given in answers.items()}
    details = {"batch_size": setting.batch_size, "store_size": num_files, "threads": setting.threads}
    yield from _results(found, stock, setting, details)


def _growth(setting: Setting, looks: tuple[int, int], repeats: int) -> Iterator[Result]:
    """Yield the peak up to an early batch, and from there up to a late one."""
    answers = [fresh_process.ask(memory_answers.ours, asdict(setting), list(looks)) for _ in range(repeats)]
    early, late = (f"{number:,} batches, fastbot" for number in looks)
    found = {
        name: [answer[str(number)] for answer in answers] for name, number in zip((early, late), looks, strict=True)
    }
    yield from _results(found, early, setting, {"batch_size": setting.batch_size, "threads": setting.threads})


def _results(
    found: Mapping[str, Sequence[Mapping[str, float]]], peer: str, setting: Setting, details: Mapping[str, object]
) -> Iterator[Result]:
    for kind, words in _KINDS.items():
        if kind == "device_mb" and setting.device == "cpu":
            continue
        figures = {f"{name}{words}": [each[kind] for each in given] for name, given in found.items()}
        for name in figures:
            yield replace(compared("memory", name, f"{peer}{words}", figures, "MB"), details=details)


def command(
    data: Data,
    backend: Annotated[str, typer.Option(help="Of those that `fastbot doctor` lists, or auto.")] = "auto",
    device: Device = "auto",
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=32, help="Multiples of 32, in which pictures are mixed; may be repeated.")
    ] = None,
    store_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Pictures that the store is repeated to; may be repeated.")
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="Batches of every process.")] = 20,
    until: Annotated[
        int, typer.Option(min=2, help="Batches after which memory shall not have grown, since a tenth of them.")
    ] = 2000,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads, and workers of the peer.")] = cores(),
    repeats: Repeats = 1,
    json_file: JsonFile = None,
) -> None:
    """Measure the memory of delivery: by batch size, by size of the store, and over many batches.

    Example: [bold]fastbot bench memory --data corpus --size 64 --until 500[/]
    """
    target = pick_device(device)
    name = choose.choose(backend, target).name
    usual = Extent()
    extent = Extent(
        tuple(batch_size or usual.batch_sizes),
        tuple(store_size or usual.store_sizes),
        batches,
        (max(1, until // 10), until),
    )
    setting = Setting(str(data), name, str(target), extent.batch_sizes[0], size, threads)
    known = {
        **store_identity(data),
        **place_settings(backend, device),
        "size": size,
        "threads": threads,
        "batches": batches,
    }
    title = f"memory of delivery by {name} to {target}, {threads} threads"
    with publishing(known, json_file, title, device=target) as publish:
        run(setting, extent, repeats, publish)
