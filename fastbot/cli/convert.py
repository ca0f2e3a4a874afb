"""`fastbot convert`: photographs in, a store out. One command per layout of the source."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from datasets_tools.convert import ConvertOptions, Progress, convert
from datasets_tools.manifest import Manifest, SplitRecord
from datasets_tools.pictures import Encoding
from datasets_tools.sources.base import Source
from datasets_tools.sources.demo import DemoSource
from datasets_tools.sources.folder import FolderSource
from datasets_tools.sources.imagenet import ImageNetSource
from fastbot import __version__

app = typer.Typer(help="Write a store from photographs.", no_args_is_help=True, rich_markup_mode="rich")


class OnBadImage(StrEnum):
    """What to do about pictures that cannot be used."""

    FAIL = "fail"
    SKIP = "skip"


Src = Annotated[Path, typer.Argument(metavar="SRC", help="The folder to read.")]
Dst = Annotated[Path, typer.Argument(metavar="DST", help="The store to write: a folder that does not exist yet.")]
MaxSide = Annotated[
    int | None,
    typer.Option(min=1, help="Resize pictures whose longer side exceeds this many pixels.", show_default="keep sizes"),
]
Quality = Annotated[int, typer.Option(min=1, max=95, help="JPEG quality of pictures that must be encoded anew.")]
BadImage = Annotated[
    OnBadImage, typer.Option(help="fail: list every bad picture and write nothing. skip: leave them out and say so.")
]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Processes that check pictures.",
        default_factory=lambda: len(os.sched_getaffinity(0)),
        show_default="all cores",
    ),
]


@app.command()
def folder(
    src: Src,
    dst: Dst,
    workers: Workers,
    max_side: MaxSide = None,
    quality: Quality = 90,
    on_bad_image: BadImage = OnBadImage.FAIL,
) -> None:
    """Convert SRC/train/CLASS/*.jpg and SRC/val/CLASS/*.jpg.

    Example: [bold]fastbot convert folder ~/pictures stores/pictures --max-side 500[/]
    """
    _check_outside(src, dst)
    source = FolderSource(src)
    _run(source, source.notes, dst, _options(workers, max_side, quality, on_bad_image))


@app.command()
def imagenet(
    src: Src,
    dst: Dst,
    workers: Workers,
    max_side: MaxSide = None,
    quality: Quality = 90,
    on_bad_image: BadImage = OnBadImage.FAIL,
) -> None:
    """Convert the extracted folders of ILSVRC2012: SRC/train/n01440764/*.JPEG, and val sorted likewise.

    Example: [bold]fastbot convert imagenet /data/imagenet /data/imagenet.store[/]
    """
    _check_outside(src, dst)
    source = ImageNetSource(src)
    _run(source, source.notes, dst, _options(workers, max_side, quality, on_bad_image))


@app.command()
def demo(
    dst: Dst,
    workers: Workers,
    seed: Annotated[int, typer.Option(help="Where the pictures are cut.")] = DemoSource().seed,
    train_per_class: Annotated[int, typer.Option(min=1, help="Training pictures of each class.")] = (
        DemoSource().train_per_class
    ),
    val_per_class: Annotated[int, typer.Option(min=1, help="Validation pictures of each class.")] = (
        DemoSource().val_per_class
    ),
) -> None:
    """Convert the demo data set, cut from photographs that are installed already.

    Example: [bold]fastbot convert demo stores/demo[/]
    """
    source = DemoSource(seed=seed, train_per_class=train_per_class, val_per_class=val_per_class)
    _run(source, (), dst, ConvertOptions(__version__, workers=workers))


def _check_outside(source: Path, destination: Path) -> None:
    if destination.resolve().is_relative_to(source.resolve()):
        raise typer.BadParameter(
            f"{destination} lies inside the source {source}, where it would be taken for pictures: "
            "choose a folder outside"
        )


def _options(workers: int, max_side: int | None, quality: int, on_bad_image: OnBadImage) -> ConvertOptions:
    return ConvertOptions(__version__, Encoding(max_side, quality), on_bad_image.value, workers)


def _run(source: Source, notes: tuple[str, ...], destination: Path, options: ConvertOptions) -> None:
    console = Console(markup=False)  # paths and names may hold brackets
    for note in notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    with _Display(console) as progress:
        manifest = convert(source, destination, options, progress)
    _print_summary(console, destination, manifest)


class _Display:
    """A bar with rates, time left and bad pictures; calling it shows how far a conversion is."""

    # Ten times a second is all an eye sees; an update costs more than writing a picture.
    _PERIOD_S = 0.1

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]}"),
            console=console,
        )
        self._task = self._bar.add_task("opening", total=None, rate="", bad="")
        self._next_s = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        elapsed_s = self._bar.tasks[self._task].elapsed or 0.0
        unfinished = progress.stage == "pictures" and progress.num_done < progress.num_total
        if unfinished and elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + self._PERIOD_S
        self._bar.update(
            self._task,
            description=f"{progress.stage} of {progress.split}",
            completed=progress.num_done,
            total=progress.num_total,
            rate=_rate(progress, elapsed_s),
            bad=f"[red]{progress.num_bad:,} bad[/]" if progress.num_bad else "",
        )


def _rate(progress: Progress, elapsed_s: float) -> str:
    if not elapsed_s:
        return ""
    return f"{progress.num_done / elapsed_s:,.0f} pictures/s, {progress.num_bytes / elapsed_s / 1e6:,.1f} MB/s"


def _print_summary(console: Console, destination: Path, manifest: Manifest) -> None:
    for name, record in manifest.splits.items():
        console.print(f"{name}: {_counts(record)}", soft_wrap=True)
        for bad in record.quarantined:
            console.print(f"  left out {bad.key}: {bad.reason}", style="yellow", soft_wrap=True)
    console.print(f"{len(manifest.class_names):,} classes -> {destination}", soft_wrap=True)


def _counts(record: SplitRecord) -> str:
    parts = [f"{record.num_samples:,} pictures", f"{record.kept:,} kept as they were"]
    parts += [f"{count:,} encoded anew from {origin}" for origin, count in record.reencoded.items()]
    if record.resized:
        parts.append(f"{record.resized:,} of them resized")
    if record.quarantined:
        parts.append(f"{len(record.quarantined):,} left out")
    return ", ".join(parts)
