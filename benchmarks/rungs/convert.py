"""How fast is a conversion, beside what the same pictures cost others, and how much memory does it take?

Every row is timed from the listing of the source to the return of `convert`: the start of the worker processes, the
estimate, the hashes and all writing to the disk are in it. The source is in the page cache. Pictures are a few
thousand files under many names (hard links), so that a run is long beside its start.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.corpora.corpus import write_corpus
from benchmarks.corpora.identity import store_identity
from benchmarks.measure import Case, Effort, Result, compared, measure
from benchmarks.options import JsonFile, Repeats
from benchmarks.peers.files import extract
from benchmarks.peers.peer import is_installed
from benchmarks.publishing import publish
from benchmarks.rungs.convert_memory import peak_bytes
from benchmarks.rungs.convert_peers import Examiners, copied, ffcv_writer
from datasets_tools import jpeg
from datasets_tools.conversion.convert import ConvertOptions
from datasets_tools.conversion.convert import convert as convert_source
from datasets_tools.pictures import Policy
from datasets_tools.sources.folder import FolderSource
from datasets_tools.store import Split, Store
from fastbot import __version__
from fastbot.distributed import cores
from fastbot.errors import RunError

# Of the corpus that is made where none is given: its files repeat after that.
_NUM_MADE = 1000
_MAX_SIDE, _SHORT_SIDE, _QUALITY = 400, 256, 90
_CLASS_SIZE = 1000


@dataclass(frozen=True, slots=True)
class Pictures:
    """A split's pictures as files.

    Attributes:
        files: all of them.
        kept: places among them of the baseline ones, which a conversion stores as they are.
    """

    files: Sequence[Path]
    kept: Sequence[int]

    @classmethod
    def of(cls, split: Split, folder: Path) -> Pictures:
        """Write a split's pictures to files.

        Raises:
            RunError: the split has raw pictures, or none that is kept.
        """
        files = extract(split, folder)
        kept = [place for place, file in enumerate(files) if not jpeg.inspect(file.read_bytes()).progressive]
        if not kept:
            raise RunError(f"{split.path}: all JPEGs of split {split.name} are progressive. Give a store of others too")
        return cls(files, kept)


def linked(files: Sequence[Path], folder: Path, count: int) -> Path:
    """Link `count` pictures, taking `files` again from the start where they end, in the layout of `FolderSource`."""
    for number in range(count):
        target = folder / "train" / f"{number // _CLASS_SIZE:04d}" / f"{number % _CLASS_SIZE:03d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], target)
    return folder


class Bench:
    """Conversions and their peers over the same pictures.

    Args:
        pictures: what is converted.
        folder: where links, copies and stores go.
        workers: processes of every case.
        repeats: counted rounds.
    """

    def __init__(self, pictures: Pictures, folder: Path, workers: int, repeats: int) -> None:
        self._files, self._kept = pictures.files, pictures.kept
        self._kept_files = [pictures.files[place] for place in pictures.kept]
        self._folder = folder
        self._workers = workers
        self._repeats = repeats

    def checked(self, count: int) -> list[Result]:
        """Measure conversions that keep pictures, beside their check alone."""
        kept = linked(self._kept_files, self._folder / "kept", count)
        everything = linked(self._files, self._folder / "everything", count)
        kept_places = np.resize(np.array(self._kept), count).tolist()
        places = np.resize(np.arange(len(self._files)), count).tolist()
        check, decode, check_all = "check alone", "decoding to pixels alone", "check alone, with progressive"
        with Examiners(self._files, self._workers) as examiners:
            cases = [
                Case(check, examiners.epoch(jpeg.check, kept_places), check),
                Case(decode, examiners.epoch(jpeg.decode, kept_places), check),
                self._conversion("convert", check, kept, count, Policy(), second_peer=decode),
                self._conversion("convert --shards 8", check, kept, count, Policy(), second_peer=decode, shards=8),
                Case(check_all, examiners.epoch(jpeg.check, places), check_all),
                self._conversion("convert, with progressive", check_all, everything, count, Policy()),
            ]
            return measure("convert", cases, Effort(self._repeats))

    def unchecked(self, count: int) -> list[Result]:
        """Measure a conversion that only looks at markers, beside `cp` and `sync`."""
        source, target, peer = linked(self._kept_files, self._folder / "unchecked", count), self._target(), "cp, sync"
        cases = [
            Case(peer, copied(source, target, count), peer, before=partial(_cleared, target)),
            self._conversion("convert --no-check", peer, source, count, Policy(check=False)),
        ]
        return measure("convert", cases, Effort(self._repeats))

    def resized(self, count: int) -> list[Result]:
        """Measure conversions that make pictures smaller, beside FFCV's writer."""
        source, target, peer = linked(self._files, self._folder / "resized", count), self._target(), "FFCV's writer"
        writer = ffcv_writer(source / "train", target, _MAX_SIDE, _QUALITY, self._workers)
        longer, shorter = Policy(max_side=_MAX_SIDE, quality=_QUALITY), Policy(short_side=_SHORT_SIDE, quality=_QUALITY)
        cases = [
            Case(peer, writer, peer, before=partial(_cleared, target)),
            self._conversion(f"convert --max-side {_MAX_SIDE}", peer, source, count, longer),
            self._conversion(f"convert --short-side {_SHORT_SIDE}", peer, source, count, shorter),
        ]
        return measure("convert", cases, Effort(self._repeats))

    def memory(self, counts: Sequence[int]) -> list[Result]:
        """Measure the peak memory of conversions of `counts` pictures, beside that of the first."""
        names = {f"peak memory, {count:,} pictures": count for count in counts}
        sources = {name: linked(self._files, self._folder / f"memory-{count}", count) for name, count in names.items()}
        figures: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(self._repeats):
            for name, source in sources.items():
                _cleared(self._target())
                figures[name].append(peak_bytes(source, self._target(), self._workers) / 1e6)
        first, *_ = names
        return [compared("convert", name, first, figures, "MB") for name in names]

    def _conversion(
        self,
        name: str,
        peer: str,
        source: Path,
        count: int,
        policy: Policy,
        *,
        second_peer: str | None = None,
        shards: int = 1,
    ) -> Case:
        target = self._target()
        options = ConvertOptions(__version__, policy=policy, workers=self._workers, shards=shards)

        def run() -> int:
            convert_source(FolderSource(str(source)), target, options)
            return count

        others = () if second_peer is None else (second_peer,)
        return Case(name, run, peer, other_peers=others, before=partial(_cleared, target))

    def _target(self) -> Path:
        """Return where the output goes: of one run at a time, as `_cleared` empties it before each."""
        return self._folder / "target"


def _cleared(target: Path) -> None:
    """Remove the output of the run before, and let the disk come to rest."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    os.sync()


def run(
    data: Path, count: int, workers: int, repeats: int, memory_counts: Sequence[int] = (2000, 20_000)
) -> list[Result]:
    """Measure conversions and their peers.

    Args:
        data: a store whose `train` pictures are converted.
        count: pictures a run; a quarter of them where they are resized.
        workers: processes of every case.
        repeats: counted rounds.
        memory_counts: pictures of the runs whose memory is compared.

    Raises:
        RunError: the store has raw pictures, or no baseline JPEG.
        DataError: the store cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="fastbot-convert-") as name:
        folder = Path(name)
        bench = Bench(Pictures.of(Store(data).split("train"), folder), folder, workers, repeats)
        results = bench.checked(count) + bench.unchecked(count)
        if is_installed("ffcv"):
            results += bench.resized(max(1, count // 4))
        return results + bench.memory(memory_counts)


def command(
    data: Annotated[
        Path | None, typer.Option(help="A store whose pictures are converted; by default a corpus is made.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures a run; the store's, again from the start.")] = 10_000,
    workers: Annotated[int | None, typer.Option(min=1, help="Of every case; by default one per core.")] = None,
    repeats: Repeats = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure conversions beside the check of their pictures, `cp`, and FFCV's writer; TMPDIR says on which disk.

    Example: [bold]fastbot bench convert --data corpus --json convert.jsonl[/]
    """
    num_workers = workers or cores()
    with tempfile.TemporaryDirectory(prefix="fastbot-corpus-") as folder:
        store = data or Path(folder) / "corpus"
        if data is None:
            write_corpus(store, _NUM_MADE, 0, num_workers)
        results = run(store, count, num_workers, repeats)
        settings = {"threads": num_workers, "count": count, **store_identity(store)}
    rates = [result for result in results if result.unit != "MB"]
    publish(rates, settings, json_file, f"{count:,} pictures, {num_workers} workers", device="cpu")
    publish(results[len(rates) :], settings, json_file, "peak memory", device="cpu")
