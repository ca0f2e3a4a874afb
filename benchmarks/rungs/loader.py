"""How fast does each backend turn JPEG bytes into cropped pixels, beside the stock loaders?

Every case shows the same pictures, does a random resized crop to `size` and delivers uint8 pixels; rates are per core.
Beside them stands what `turbo` would reach if resizing were free, and how near each backend's pixels are to exact ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.corpora.corpus import STATISTICS_NAME, CorpusStatistics
from benchmarks.corpora.derived import Corpus, by_size, large, progressive, whole
from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.options import Data, JsonFile, Repeats
from benchmarks.peers import loaders as peers
from benchmarks.publishing import publish
from benchmarks.rungs.fidelity import fidelities
from benchmarks.rungs.region_decoding import RegionDecoding
from datasets_tools.store import Store
from pipelines.backends import choose
from pipelines.batch import Backend, BatchPlan
from pipelines.cores import cores
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

# The stock loader that a backend stands on; a backend that is not here stands on its own, and meets all of them.
STOCK = {"torch": "torchvision DataLoader", "dali": "stock DALI CPU", "ffcv": "stock FFCV"}
_DECODING = "turbo's region decode alone"
_STOCK_GPU_LOADS = (0.0, 0.65, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the loaders are measured.

    Attributes:
        size: of the crops, in pixels.
        batch_size: pictures a batch.
        threads: decoding threads or worker processes of every case. With the whole store every case runs with each of
            these counts, and is also compared with itself at the first; with other pictures it runs with the last.
        repeats: counted rounds.
    """

    size: int = 224
    batch_size: int = 64
    threads: tuple[int, ...] = ()
    repeats: int = 5


def ours(backend: Backend, plan: TrainPlan) -> peers.Epoch:
    """Return a callable that runs the next epoch of `plan` through `backend` and counts pictures."""
    epochs = iter(range(1 << 30))

    def plans(epoch: int) -> Iterator[BatchPlan]:
        return (plan.batch(epoch, step) for step in range(plan.steps_per_epoch))

    return lambda: sum(len(decoded.pixels) for decoded in backend.pixels(plans(next(epochs))))


def run(
    data: Path,
    settings: Settings = Settings(),
    *,
    bins: bool = False,
    progressive_sources: bool = False,
    large_pictures: bool = False,
) -> list[Result]:
    """Measure every backend that can run here, and the stock loaders, over the `train` split of a store.

    Args:
        data: a store.
        settings: how.
        bins: also measure pictures of about 50, 75, 110 and 160 kB by themselves.
        progressive_sources: also measure the pictures as progressive JPEGs, which the stock loaders read as they are
            and fastbot as it converts them.
        large_pictures: also measure pictures of 1000 x 750 pixels, which are not of the store.

    Raises:
        RunError: the stock loaders cannot read the same bytes, a bin is empty, or no large photograph is installed.
    """
    split = Store(data).split("train")
    results = _measured(whole(split), settings)
    once = replace(settings, threads=settings.threads[-1:])
    with tempfile.TemporaryDirectory(prefix="fastbot-loader-") as folder:
        if bins:
            for corpus in by_size(split, Path(folder)):
                results += _measured(corpus, once)
        if progressive_sources:
            results += _measured(progressive(split, Path(folder)), once)
        if large_pictures:
            results += _measured(large(Path(folder)), once)
    return results


def _measured(corpus: Corpus, settings: Settings) -> list[Result]:
    peers.page_in(corpus.ours.path)
    peers.page_in(corpus.originals.path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastbot-loader-")))
        cases = _Cases(corpus, settings, folder, stack)
        synchronize: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        every = [case for num_threads in settings.threads or (cores(),) for case in cases.with_threads(num_threads)]
        results = measure("loader", every, Effort(settings.repeats), unit="images/s per core", synchronize=synchronize)
        return cases.described(results)


class _Cases:
    """The cases of one corpus.

    Args:
        corpus: what they read.
        settings: how.
        folder: where the peers' files go.
        stack: closes the backends.
    """

    def __init__(self, corpus: Corpus, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self._corpus = corpus
        self._settings = settings
        self._folder = folder
        self._stack = stack
        self._files = peers.extract(corpus.originals, folder)
        self._usable = [name for name, status in choose.available().items() if status.usable and name != "synthetic"]
        spec = DataSpec(global_batch_size=settings.batch_size, crop_size=settings.size)
        self._plan = TrainPlan(spec, corpus.ours.heights, corpus.ours.widths, seed=0)
        self._num_threads: dict[str, int] = {}  # by case
        self._backends: dict[str, Backend] = {}

    def with_threads(self, num_threads: int) -> Iterator[Case]:
        """Yield all cases with a number of threads."""
        stock = {STOCK[name]: self._stock(name) for name in STOCK if name in self._usable}
        for title, build in stock.items():
            yield self._case(title, build(num_threads), num_threads, title)
        for name in self._usable:
            own = [STOCK[name]] if name in STOCK else [*stock, _DECODING]
            yield self._ours(name, f"fastbot {name}", torch.device("cpu"), num_threads, *own)
        if "turbo" in self._usable:
            yield self._decoding(num_threads)
        if "dali" in self._usable:
            fancy = self._dali(num_threads, fancy_upsampling=True)
            yield self._case("stock DALI CPU, fancy upsampling", fancy, num_threads, STOCK["dali"])
            if torch.cuda.is_available():
                yield from self._on_gpu(num_threads)

    def described(self, results: Sequence[Result]) -> list[Result]:
        """Return results with their rate in all, and with the fidelity of our backends' pixels."""
        found = fidelities(self._corpus.ours, self._plan, self._backends)
        mean_kb = float(self._corpus.originals.sizes.mean()) / 1e3
        described: list[Result] = []
        for result in results:
            num_threads = self._num_threads[result.case]
            in_all = result.value * num_threads
            details: dict[str, object] = {"threads": num_threads, "images_per_s_in_all": in_all, "mean_kb": mean_kb}
            notes = [f"{in_all:,.0f} images/s in all"]
            if result.case in found:
                details["psnr"] = asdict(found[result.case])
                notes.append(str(found[result.case]))
            is_first = all(result.case != other.case for other in described)
            described.append(replace(result, details=details, notes="; ".join(notes) if is_first else ""))
        return described

    def _on_gpu(self, num_threads: int) -> Iterator[Case]:
        titles = {load: f"stock DALI GPU, hardware load {load:g}" for load in _STOCK_GPU_LOADS}
        for load, title in titles.items():
            yield self._case(title, self._dali(num_threads, hardware_load=load), num_threads, title)
        yield self._ours("dali", "fastbot dali on GPU", torch.device("cuda", 0), num_threads, *titles.values())

    def _stock(self, name: str) -> Callable[[int], peers.Epoch]:
        size, batch_size = self._settings.size, self._settings.batch_size
        builders: Mapping[str, Callable[[int], peers.Epoch]] = {
            "torch": lambda threads: peers.torchvision_loader(self._files, size, batch_size, threads),
            "dali": self._dali,
            "ffcv": lambda threads: peers.ffcv_loader(self._corpus.originals.path, size, batch_size, threads),
        }
        return builders[name]

    def _dali(
        self, num_threads: int, *, fancy_upsampling: bool = False, hardware_load: float | None = None
    ) -> peers.Epoch:
        return peers.dali_loader(
            self._folder,
            len(self._files),
            self._settings.size,
            self._settings.batch_size,
            num_threads,
            fancy_upsampling=fancy_upsampling,
            hardware_load=hardware_load,
        )

    def _ours(self, name: str, title: str, device: torch.device, num_threads: int, *beside: str) -> Case:
        backend = choose.build(name, self._corpus.ours, device=device, num_threads=num_threads)
        self._stack.callback(backend.close)
        self._backends[self._name(title, num_threads)] = backend
        return self._case(title, ours(backend, self._plan), num_threads, *beside)

    def _decoding(self, num_threads: int) -> Case:
        decoding = RegionDecoding(self._corpus.ours, self._plan, num_threads)
        self._stack.callback(decoding.close)
        return replace(self._case(_DECODING, decoding.run, num_threads, _DECODING), before=decoding.prepare)

    def _case(self, title: str, epoch: peers.Epoch, num_threads: int, *beside: str) -> Case:
        """Return a case; rates are per core, so that its ratio to itself with fewer threads is 1 where it scales."""
        peer, *others = (self._name(other, num_threads) for other in beside)
        first = (self._settings.threads or (num_threads,))[0]
        if num_threads != first:
            others.append(self._name(title, first))
        name = self._name(title, num_threads)
        self._num_threads[name] = num_threads
        return Case(name, epoch, peer, num_threads, tuple(others))

    def _name(self, title: str, num_threads: int) -> str:
        counted = f"{num_threads} thread{'s' if num_threads > 1 else ''}"
        threads = [counted] if len(self._settings.threads) > 1 else []
        return ", ".join([title, *([self._corpus.label] if self._corpus.label else []), *threads])


def loader(
    data: Data,
    size: Annotated[int, typer.Option(min=1, help="Crop size in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Decoding threads, by default one per core; give several to see how they scale. With --bins and the "
            "like, the last counts.",
        ),
    ] = None,
    repeats: Repeats = 5,
    bins: Annotated[bool, typer.Option("--bins", help="Also by size: about 50, 75, 110 and 160 kB.")] = False,
    progressive_sources: Annotated[
        bool, typer.Option("--progressive", help="Also progressive JPEGs: ours converted, the peers' as they are.")
    ] = False,
    large_pictures: Annotated[
        bool, typer.Option("--large", help="Also pictures of 1000 x 750 pixels: apt-get install mate-backgrounds.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Measure each backend beside the stock loaders.

    Example: [bold]fastbot bench loader --data corpus --bins --json loader.jsonl[/]
    """
    counts = tuple(threads or (cores(),))
    settings = Settings(size, batch_size, counts, repeats)
    results = run(data, settings, bins=bins, progressive_sources=progressive_sources, large_pictures=large_pictures)
    statistics: dict[str, object] = {"store": "not the corpus"}
    if (data / STATISTICS_NAME).is_file():
        found = CorpusStatistics.load(data)
        statistics = asdict(found)
        Console().print(found.table())
    words = ", ".join(map(str, counts))
    known = {"size": size, "batch_size": batch_size, "threads": words, "corpus": statistics}
    publish(results, known, json_file, f"random resized crop to {size}, {words} threads")
