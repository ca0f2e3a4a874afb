"""The cases of the loader benchmark over one set of pictures: our backends, and other people's loaders beside them.

A turn begins and ends with nothing under way. The workers of torchvision, timm, webdataset and litdata make whole
batches by themselves: in an epoch of 11 batches 16 of them would stand idle for most of it. So every case, ours too,
is shown the pictures as often as it takes to give each worker `BATCHES_A_WORKER` in a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

import torch

from benchmarks.corpora.derived import Corpus
from benchmarks.measure import Case, Result
from benchmarks.peers.files import extract, linked
from benchmarks.peers.peer import Epoch, Peer, PeerInput, Running
from benchmarks.rungs.fidelity import fidelities
from benchmarks.rungs.region_decoding import RegionDecoding
from pipelines.backends import choose
from pipelines.batch import Backend, BatchPlan
from pipelines.plan import TrainPlan
from pipelines.spec import DataSpec

# The peer that a backend stands on; a backend that is not here stands on its own, and meets all of them.
STOCK = {"torch": "torchvision", "dali": "dali", "ffcv": "ffcv"}
DECODING = "turbo's region decode alone"
BATCHES_A_WORKER = 8
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
        at_least_s: that a case runs in each, in seconds; an epoch at the least.
        peers: their names; none: all that are here.
    """

    size: int = 224
    batch_size: int = 64
    threads: tuple[int, ...] = ()
    repeats: int = 5
    at_least_s: float = 0.0
    peers: tuple[str, ...] = ()


def ours(backend: Backend, plan: TrainPlan, times: int = 1) -> Epoch:
    """Return a callable that runs the next epochs of `plan` through `backend` in one go, and counts pictures.

    Args:
        backend: what decodes.
        plan: of an epoch.
        times: epochs a call.
    """
    starts = count(step=times)

    def plans(start: int) -> Iterator[BatchPlan]:
        epochs = range(start, start + times)
        return (plan.batch(epoch, step) for epoch in epochs for step in range(plan.steps_per_epoch))

    return lambda: sum(len(decoded.pixels) for decoded in backend.pixels(plans(next(starts))))


class LoaderCases:
    """The cases of one corpus.

    Args:
        corpus: what they read.
        settings: how.
        peers: beside ours.
        folder: where the peers' files go.
        stack: closes backends and peers.
    """

    def __init__(
        self, corpus: Corpus, settings: Settings, peers: Sequence[Peer], folder: Path, stack: ExitStack
    ) -> None:
        self._corpus = corpus
        self._settings = settings
        self._peers = {peer.name: peer for peer in peers}
        self._folder = folder
        self._stack = stack
        self._files = extract(corpus.originals, folder / "files")
        self._shown = self._files
        self._usable = [name for name, status in choose.available().items() if status.usable and name != "synthetic"]
        spec = DataSpec(global_batch_size=settings.batch_size, crop_size=settings.size)
        self._plan = TrainPlan(spec, corpus.ours.heights, corpus.ours.widths, seed=0)
        self._num_threads: dict[str, int] = {}  # by case
        self._notes: dict[str, str] = {}  # likewise
        self._devices: dict[str, str] = {}  # likewise, where it is not the CPU alone
        self._backends: dict[str, Backend] = {}

    def with_threads(self, num_threads: int) -> Iterator[Case]:
        """Yield all cases with a number of threads."""
        self._shown = linked(self._files, self._folder / f"files-{num_threads}", self._times(num_threads))
        titles = [peer.title for peer in self._peers.values()]
        for peer in self._peers.values():
            case = self._case(peer.title, self._started(peer.build(self._work(peer.name, num_threads))), num_threads)
            self._notes[case.name] = peer.notes
            yield case
        for name in self._usable:
            own = self._peers.get(STOCK.get(name, ""))
            beside = [own.title] if own else [*titles, *([DECODING] if name == "turbo" else [])]
            yield self._ours(name, f"fastbot {name}", torch.device("cpu"), num_threads, *beside)
        if "turbo" in self._usable:
            yield self._decoding(num_threads)
        if "dali" in self._peers:
            yield from self._other_dali(num_threads)

    def described(self, results: Sequence[Result]) -> list[Result]:
        """Return results with their rate in all, and with the fidelity of our backends' pixels."""
        found = fidelities(self._corpus.ours, self._plan, self._backends)
        mean_kb = float(self._corpus.originals.sizes.mean()) / 1e3
        described: list[Result] = []
        for result in results:
            num_threads = self._num_threads[result.case]
            in_all = result.value * num_threads
            details: dict[str, object] = {
                "threads": num_threads,
                "images_per_s_in_all": in_all,
                "mean_kb": mean_kb,
                "pictures_shown_times": self._times(num_threads),
                "device": self._devices.get(result.case, "cpu"),
            }
            notes = [f"{in_all:,.0f} images/s in all"]
            if note := self._notes.get(result.case):
                notes.append(note)
            if result.case in found:
                details["psnr"] = asdict(found[result.case])
                notes.append(str(found[result.case]))
            is_first = all(result.case != other.case for other in described)
            described.append(replace(result, details=details, notes="; ".join(notes) if is_first else ""))
        return described

    def _other_dali(self, num_threads: int) -> Iterator[Case]:
        """Yield DALI's pipeline with libjpeg's chroma, and on a GPU."""
        from benchmarks.peers import dali_loader

        work = self._work("dali-others", num_threads)
        fancy = self._started(dali_loader.build(work, fancy_upsampling=True))
        yield self._case("stock DALI CPU, fancy upsampling", fancy, num_threads, self._peers["dali"].title)
        if not torch.cuda.is_available():
            return
        titles = {load: f"stock DALI GPU, hardware load {load:g}" for load in _STOCK_GPU_LOADS}
        for load, title in titles.items():
            case = self._case(title, self._started(dali_loader.build(work, hardware_load=load)), num_threads)
            self._devices[case.name] = "cuda"
            yield case
        if "dali" in self._usable:
            yield self._ours("dali", "fastbot dali on GPU", torch.device("cuda", 0), num_threads, *titles.values())

    def _work(self, name: str, num_threads: int) -> PeerInput:
        folder = self._folder / f"{name}-{num_threads}"
        folder.mkdir()
        settings = self._settings
        return PeerInput(self._corpus.originals, self._shown, folder, settings.size, settings.batch_size, num_threads)

    def _times(self, num_threads: int) -> int:
        """Return how often a turn shows each picture."""
        return -(-BATCHES_A_WORKER * num_threads // (len(self._corpus.ours) // self._settings.batch_size))

    def _started(self, loader: Running) -> Epoch:
        self._stack.callback(loader.close)
        return loader.epoch

    def _ours(self, name: str, title: str, device: torch.device, num_threads: int, *beside: str) -> Case:
        backend = choose.build(name, self._corpus.ours, device=device, num_threads=num_threads)
        self._stack.callback(backend.close)
        case = self._case(title, ours(backend, self._plan, self._times(num_threads)), num_threads, *beside)
        self._backends[case.name] = backend
        self._devices[case.name] = device.type
        return case

    def _decoding(self, num_threads: int) -> Case:
        decoding = RegionDecoding(self._corpus.ours, self._plan, num_threads, self._times(num_threads))
        self._stack.callback(decoding.close)
        return replace(self._case(DECODING, decoding.run, num_threads), before=decoding.prepare)

    def _case(self, title: str, epoch: Epoch, num_threads: int, *beside: str) -> Case:
        """Return a case, beside itself where nothing is given.

        Rates are per core, so that its ratio to itself with fewer threads is 1 where it scales.
        """
        peer, *others = (self._name(other, num_threads) for other in beside or (title,))
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
