"""The corpus everything is measured on: a store of ImageNet-like pictures that anyone can make again.

`corpus_recipe` says what is in it. This module writes it and measures what came out; those statistics lie beside the
store's manifest and go with every result that was measured on it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import __version__ as pillow_version
from PIL import features
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from benchmarks.corpora.recipe import FILE_BYTES, PROGRESSIVE, ROTATED, SIZES, STORAGE, CorpusSource
from datasets_tools import photographs
from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.progress import Progress, ProgressCallback
from datasets_tools.errors import StoreError
from datasets_tools.jpeg import Subsampling
from datasets_tools.pictures import Policy
from datasets_tools.store import Split, Store
from datasets_tools.store.index import Flag
from fastbot import __version__

STATISTICS_NAME = "corpus.json"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Files farther than this from their target count as missed: from one quality to the next, near 100, a file grows by a
# quarter, so half of that is rounding.
_MISSED = 0.15
_NUM_FREQUENT = 5
_SUBSAMPLING_NAMES = {Subsampling.S444: "4:4:4", Subsampling.S420: "4:2:0", Subsampling.GREY: "grey"}


@dataclass(frozen=True, slots=True)
class CorpusStatistics:
    """What a corpus came out as, measured on the stored files of its split `train`.

    Attributes:
        recipe_hash: SHA-256 over every picture's recipe and the pixels of the photographs they are cut from.
        seed: of the recipe.
        encoder: what encoded the pictures; another one may give other bytes for the same recipe.
        num_train, num_val: pictures.
        mean_width, mean_height, max_width, max_height: in pixels.
        mean_bytes: of a file.
        byte_quantiles: bytes of a file by quantile.
        missed_share: pictures whose file is more than 15 % from its target, as no allowed quality comes nearer.
        size_shares: share of each of the most frequent sizes, as `500x375`.
        shares: of `4:4:4`, `4:2:0`, `grey`, `progressive` and `rotated` pictures.
        wallpaper_share: pictures cut from Debian's wallpapers, because no packaged photograph is large enough.
        reduced_share: pictures smaller than drawn, because no photograph on this machine is large enough.
    """

    recipe_hash: str
    seed: int
    encoder: str
    num_train: int
    num_val: int
    mean_width: float
    mean_height: float
    max_width: int
    max_height: int
    mean_bytes: float
    byte_quantiles: Mapping[str, int]
    missed_share: float
    size_shares: Mapping[str, float]
    shares: Mapping[str, float]
    wallpaper_share: float
    reduced_share: float

    @classmethod
    def load(cls, store: Path) -> CorpusStatistics:
        """Read the statistics that lie in a corpus's folder.

        Raises:
            StoreError: the folder is no corpus.
        """
        path = store / STATISTICS_NAME
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{path}: cannot be read as a corpus's statistics: {error}. "
                "Make the corpus again with `fastbot bench corpus`."
            ) from error

    def save(self, store: Path) -> None:
        """Write the statistics into a corpus's folder, whole or not at all."""
        aside = store / f".{STATISTICS_NAME}.partial"
        aside.write_text(json.dumps(asdict(self), indent=2) + "\n")
        aside.replace(store / STATISTICS_NAME)

    def table(self) -> Table:
        """Return the statistics beside what the recipe's tables say."""
        table = Table("statistic", "measured", "recipe", title=f"corpus {self.recipe_hash[:12]} (seed {self.seed})")
        table.add_row("pictures (train, val)", f"{self.num_train:,}, {self.num_val:,}", "")
        recipe_width, recipe_height = _recipe_mean_size()
        mean = f"{self.mean_width:.0f} x {self.mean_height:.0f} px"
        table.add_row("mean width x height", mean, f"{recipe_width:.0f} x {recipe_height:.0f} px")
        largest = f"{max(width for width, _, _ in SIZES)}, {max(height for _, height, _ in SIZES)} px"
        table.add_row("largest width, height", f"{self.max_width}, {self.max_height} px", largest)
        expected_sizes = {f"{width}x{height}": share for width, height, share in SIZES}
        for size, share in self.size_shares.items():
            table.add_row(f"share of {size}", f"{share:.1%}", f"{expected_sizes.get(size, 0):.1%}")
        table.add_row("mean file", f"{self.mean_bytes / 1e3:.1f} kB", f"{_recipe_bytes().mean() / 1e3:.1f} kB")
        for quantile, file_bytes in self.byte_quantiles.items():
            expected = np.quantile(_recipe_bytes(), float(quantile))
            table.add_row(f"file, quantile {quantile}", f"{file_bytes / 1e3:.1f} kB", f"{expected / 1e3:.1f} kB")
        expected_shares: dict[str, float] = {**dict(STORAGE), "progressive": PROGRESSIVE, "rotated": ROTATED}
        for name, share in self.shares.items():
            table.add_row(f"share of {name}", f"{share:.1%}", f"{expected_shares[name]:.1%}")
        table.add_row("file more than 15 % off its target", f"{self.missed_share:.1%}", "")
        table.add_row("cut from wallpapers", f"{self.wallpaper_share:.1%}", "")
        table.add_row("smaller than drawn", f"{self.reduced_share:.1%}", "")
        table.add_row("encoder", self.encoder, "")
        return table


def write_corpus(
    destination: Path, count: int, seed: int, workers: int = 1, progress: ProgressCallback = lambda _: None
) -> CorpusStatistics:
    """Write a corpus as a store, and its statistics beside the manifest.

    Args:
        destination: the store's folder; must not exist, or be empty.
        count: training pictures, at least 1; a split `val` of 5 % more comes with them.
        seed: decides every picture; 0 <= seed < 2**64.
        workers: processes that cut and encode; the result does not depend on them.
        progress: called as pictures are done.

    Returns:
        What was measured on the result.

    Raises:
        ConversionError: the destination is taken, or cannot be written.
        SourceError: scikit-image or scikit-learn is not installed.
    """
    source = CorpusSource(count, seed)
    # Without a rewrite of progressive pictures: they shall stay what the recipe says.
    options = ConvertOptions(__version__, policy=Policy(transcode=False), workers=workers)
    convert(source, destination, options, progress)
    statistics = _measure(source, Store(destination))
    statistics.save(destination)
    return statistics


def command(
    destination: Annotated[
        Path, typer.Argument(metavar="DST", help="The store to write: a folder that does not exist yet.")
    ],
    count: Annotated[
        int, typer.Option(min=1, help="Training pictures; a val split of 5 % more comes with them.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Decides every picture.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that cut and encode.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Write the benchmark corpus: ImageNet-like JPEGs cut from photographs that install with packages.

    Pictures larger than those photographs are cut from Debian's wallpapers where they are installed
    (apt-get install mate-backgrounds), and are as large as possible where they are not; the statistics say how many.

    Example: [bold]fastbot bench corpus /tmp/corpus --count 1000 --seed 0[/]
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console()
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("pictures", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, description=progress.stage, completed=progress.num_done, total=progress.num_total)

        statistics = write_corpus(destination, count, seed, workers, show)
    console.print(statistics.table())
    if statistics.reduced_share and not photographs.wallpapers():
        console.print("Larger pictures need Debian's wallpapers: apt-get install mate-backgrounds")


def _measure(source: CorpusSource, store: Store) -> CorpusStatistics:
    train, entries = store.split("train"), source.splits["train"].entries
    file_bytes = train.sizes.astype(np.float64)
    target_bytes = np.array([entry.target_bytes for entry in entries])
    wallpapers = photographs.wallpapers()
    sizes = Counter(zip(train.widths.tolist(), train.heights.tolist(), strict=True))
    return CorpusStatistics(
        recipe_hash=source.recipe_hash,
        seed=source.seed,
        encoder=f"Pillow {pillow_version}, libjpeg-turbo {features.version('libjpeg_turbo')}",
        num_train=len(train),
        num_val=len(store.split("val")),
        mean_width=float(train.widths.mean()),
        mean_height=float(train.heights.mean()),
        max_width=int(train.widths.max()),
        max_height=int(train.heights.max()),
        mean_bytes=float(file_bytes.mean()),
        byte_quantiles={str(quantile): int(np.quantile(file_bytes, quantile)) for quantile in QUANTILES},
        missed_share=float(np.mean(np.abs(file_bytes / target_bytes - 1) > _MISSED)),
        size_shares={f"{w}x{h}": count / len(train) for (w, h), count in sizes.most_common(_NUM_FREQUENT)},
        shares=_storage_shares(train),
        wallpaper_share=sum(entry.photograph in wallpapers for entry in entries) / len(entries),
        reduced_share=sum(entry.is_reduced for entry in entries) / len(entries),
    )


def _storage_shares(split: Split) -> dict[str, float]:
    counts = Counter(dict.fromkeys((*_SUBSAMPLING_NAMES.values(), "progressive", "rotated"), 0))
    for sample_id in range(len(split)):
        info = split.info(sample_id)
        counts[_SUBSAMPLING_NAMES[info.subsampling]] += 1
        counts["progressive"] += Flag.PROGRESSIVE in info.flags
        counts["rotated"] += info.orientation > 1
    return {name: count / len(split) for name, count in counts.items()}


def _recipe_mean_size() -> tuple[float, float]:
    return sum(width * share for width, _, share in SIZES), sum(height * share for _, height, share in SIZES)


def _recipe_bytes() -> NDArray[np.float64]:
    """Return the stated byte table as ten thousand evenly drawn files."""
    quantiles, file_bytes = zip(*FILE_BYTES, strict=True)
    evenly = (np.arange(10_000) + 0.5) / 10_000
    drawn: NDArray[np.float64] = np.interp(evenly, np.array(quantiles), np.array(file_bytes))
    return drawn
