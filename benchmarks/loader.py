"""How fast does each backend turn JPEG bytes into cropped pixels, beside the stock loader it stands on?

Every case reads the same bytes, does a random resized crop to `size` and delivers uint8 pixels; rates are per core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks import peers
from benchmarks.corpus import STATISTICS_NAME, CorpusStatistics
from benchmarks.measure import Case, Result, conditions, measure, report
from datasets_tools.store import Split, Store
from datasets_tools.store.index import StoredFormat
from fastbot.distributed import cores
from fastbot.errors import RunError
from pipelines.backends import choose
from pipelines.batch import Backend, BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

# our backend -> the stock loader it is compared with
PEERS = {"torch": "torchvision DataLoader", "dali": "stock DALI CPU", "ffcv": "stock FFCV"}


def ours(backend: Backend, plan: TrainPlan) -> peers.Epoch:
    """Return a callable that runs the next epoch of `plan` through `backend` and counts pictures."""
    epochs = iter(range(1 << 30))

    def plans(epoch: int) -> Iterator[BatchPlan]:
        return (plan.batch(epoch, step) for step in range(plan.steps_per_epoch))

    return lambda: sum(len(pixels) for pixels in backend.pixels(plans(next(epochs))))


def run(
    data: Path, size: int = 224, batch_size: int = 64, threads: int | None = None, repeats: int = 5
) -> list[Result]:
    """Measure every backend that can run here, and its peer, over the `train` split of a store.

    Args:
        data: a store.
        size: of the crops, in pixels.
        batch_size: pictures a batch.
        threads: decoding threads or worker processes of every case; by default one per core.
        repeats: counted rounds.

    Raises:
        RunError: the stock loaders cannot read the same bytes.
    """
    split = Store(data).split("train")
    _check_comparable(split)
    num_threads = threads or cores()
    peers.page_in(split.path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastbot-loader-")))
        cases = _cases(split, folder, size, batch_size, num_threads, stack)
        synchronize: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        return measure("loader", cases, repeats=repeats, unit="images/s per core", synchronize=synchronize)


def _check_comparable(split: Split) -> None:
    num_raw = int((split.formats == StoredFormat.RAW).sum())
    if num_raw or len(split.shards) > 1:
        raise RunError(
            f"{split.path}: split {split.name} has {len(split.shards)} shards and {num_raw:,} raw pictures. Stock "
            "loaders read one .beton file, or JPEG files: give a store of JPEGs converted without --shards"
        )


def _cases(split: Split, folder: Path, size: int, batch_size: int, num_threads: int, stack: ExitStack) -> list[Case]:
    usable = [name for name in PEERS if choose.available()[name].usable]
    files = peers.extract(split, folder)
    stock = {
        "torch": lambda: peers.torchvision_loader(files, size, batch_size, num_threads),
        "dali": lambda: peers.dali_loader(folder, len(files), size, batch_size, num_threads),
        "ffcv": lambda: peers.ffcv_loader(split.path, size, batch_size, num_threads),
    }
    spec = DataSpec(global_batch_size=batch_size, crop_size=size)
    plan = TrainPlan(spec, split.heights, split.widths, seed=0)
    cases = []
    for name in usable:
        cases.append(_our_case(name, f"fastbot {name}", split, plan, torch.device("cpu"), num_threads, stack))
        cases.append(Case(PEERS[name], stock[name](), PEERS[name], num_threads))
    if "dali" in usable:
        fancy = peers.dali_loader(folder, len(files), size, batch_size, num_threads, fancy_upsampling=True)
        cases.append(Case("stock DALI CPU, fancy upsampling", fancy, PEERS["dali"], num_threads))
    if "dali" in usable and torch.cuda.is_available():
        cases.append(_our_case("dali", "fastbot dali on GPU", split, plan, torch.device("cuda", 0), num_threads, stack))
    return cases


def _our_case(
    name: str, title: str, split: Split, plan: TrainPlan, device: torch.device, num_threads: int, stack: ExitStack
) -> Case:
    backend = choose.build(name, split, device=device, num_threads=num_threads)
    stack.callback(backend.close)
    return Case(title, ours(backend, plan), PEERS[name], num_threads)


def loader(
    data: Annotated[Path, typer.Option(help="A store; `fastbot bench corpus` makes the one our figures are of.")],
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[int | None, typer.Option(min=1, help="Decoding threads; by default one per core.")] = None,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Append one JSON line per result.")] = None,
) -> None:
    """Measure each backend beside the stock loader it stands on.

    Example: [bold]fastbot bench loader --data corpus --json loader.jsonl[/]
    """
    results = run(data, size, batch_size, threads, repeats)
    statistics: dict[str, object] = {"store": "not the corpus"}
    if (data / STATISTICS_NAME).is_file():
        found = CorpusStatistics.load(data)
        statistics = asdict(found)
        Console().print(found.table())
    settings = {"size": size, "batch_size": batch_size, "threads": threads or cores(), "corpus": statistics}
    report(results, conditions() | settings, json_file, f"random resized crop to {size}, {threads or cores()} threads")
