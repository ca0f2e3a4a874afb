"""What `fastbot convert` does for every layout: its options, the run, and what a person sees of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.conversion.progress import Progress
from datasets_tools.files import is_remote
from datasets_tools.pictures import Policy
from datasets_tools.sources.base import Source
from datasets_tools.store.manifest import Manifest, SplitRecord
from datasets_tools.wording import counted
from fastbot import __version__
from fastbot.cli.bars import TerminalProgress
from fastbot.cli.store_summary import plain


class OnBadImage(StrEnum):
    """What to do about pictures that cannot be used."""

    FAIL = "fail"
    SKIP = "skip"
    REPAIR = "repair"


class Engine(StrEnum):
    """Who writes the shards."""

    LOCAL = "local"
    RAY = "ray"


class Exif(StrEnum):
    """What to do about EXIF orientation."""

    IGNORE = "ignore"
    APPLY = "apply"


class Subsampling(StrEnum):
    """How colour is stored in JPEGs that are encoded anew."""

    S420 = "4:2:0"
    S444 = "4:4:4"


_PICTURES = "Pictures"
_RUN = "Run"


def _picture(*names: str, help: str, **options: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PICTURES, **options)


def _run_option(*names: str, help: str, **options: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_RUN, **options)


def shared_options(
    dst: Annotated[
        str, typer.Argument(metavar="DST", help="The store to write: a folder that does not exist yet, or a URL.")
    ],
    max_side: Annotated[
        int | None,
        _picture(min=1, help="Shrink pictures whose longer side exceeds this many pixels.", show_default="keep sizes"),
    ] = None,
    short_side: Annotated[
        int | None,
        _picture(min=1, help="Shrink pictures so that the shorter side has this many pixels.", show_default="keep"),
    ] = None,
    min_side: Annotated[
        int | None,
        _picture(min=1, help="With --max-side: never shrink the shorter side below this.", show_default="no limit"),
    ] = None,
    quality: Annotated[int, _picture(min=1, max=100, help="JPEG quality of pictures that must be encoded anew.")] = 90,
    subsampling: Annotated[Subsampling, _picture(help="Colour resolution of those.")] = Subsampling.S420,
    exif: Annotated[
        Exif, _picture(help="EXIF orientation: ignore it, as ImageNet's benchmark does, or apply it.")
    ] = Exif.IGNORE,
    raw_share: Annotated[
        float, _picture(min=0, max=1, help="Share of the pictures to store as raw pixels (1: all): large, no decoding.")
    ] = 0.0,
    transcode: Annotated[
        bool, _picture(help="Rewrite progressive JPEGs, without loss, as baseline: they decode 3 times faster.")
    ] = True,
    check: Annotated[bool, _picture(help="Decode every picture fully before it is taken.")] = True,
    max_pixels: Annotated[
        int, _picture(min=1, help="Refuse pictures of more pixels: decompression bombs.")
    ] = Policy().max_pixels,
    on_bad_image: Annotated[
        OnBadImage,
        _picture(
            help="fail: list every bad picture and write no store. skip: leave them out. repair: store what can be "
            "decoded of them, and leave out the rest."
        ),
    ] = OnBadImage.FAIL,
    workers: Annotated[
        int,
        _run_option(
            min=1,
            help="Processes that check pictures.",
            default_factory=lambda: len(os.sched_getaffinity(0)),
            show_default="all cores",
        ),
    ] = ...,
    shards: Annotated[int, _run_option(min=1, help="Files per split.")] = 1,
    resume: Annotated[bool, _run_option("--resume", help="Go on with an interrupted conversion to DST.")] = False,
    engine: Annotated[
        Engine, _run_option(help="local: this machine. ray: one task a shard on your Ray cluster.")
    ] = Engine.LOCAL,
    ray_address: Annotated[
        str | None,
        _run_option(help="The cluster of --engine ray.", show_default="RAY_ADDRESS, or a Ray started on this machine"),
    ] = None,
    work_dir: Annotated[
        Path | None,
        _run_option(help="Where shards are built that go to a URL.", show_default="~/.cache/fastbot/convert"),
    ] = None,
) -> None:
    """The options of every layout; only its signature is used."""


def run_conversion(
    source: Source,
    *,
    dst: str,
    workers: int,
    shards: int,
    resume: bool,
    engine: Engine,
    ray_address: str | None,
    work_dir: Path | None,
    **pictures: Any,
) -> None:
    """Convert `source` as the options say, with a bar, and print what became of it.

    Raises:
        ConversionError: as `datasets_tools.conversion.convert.convert`.
    """
    if ray_address is not None and engine != Engine.RAY:
        raise typer.BadParameter("--ray-address is the address of --engine ray: give both")
    if work_dir is not None and not is_remote(dst):
        raise typer.BadParameter("--work-dir is for a DST that is a URL; a folder is built beside its place")
    on_bad_image = pictures.pop("on_bad_image").value
    policy = Policy(**{name: getattr(value, "value", value) for name, value in pictures.items()})
    options = ConvertOptions(
        __version__, policy, on_bad_image, workers, shards, resume, engine.value, ray_address, work_dir
    )
    console = Console(markup=False, highlight=False)  # paths and names may hold brackets
    for note in source.notes:
        console.print(f"note: {plain(note)}", style="yellow", soft_wrap=True)
    started = time.monotonic()
    display = _Display(console)
    try:
        with display, _terminable():
            manifest = convert(source, dst, options, display, lambda line: console.print(line, soft_wrap=True))
    except KeyboardInterrupt:
        console.print(f"stopped: {display.kept()}", soft_wrap=True)
        raise typer.Exit(130) from None  # what a shell expects of Ctrl-C
    _print_summary(console, dst, manifest, time.monotonic() - started)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a conversion as Ctrl-C does: workers stopped, what was done kept."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Display:
    """A bar with rates, time left and bad pictures; calling it shows how far a conversion is."""

    # Ten times a second is all an eye sees; an update costs more than writing a picture.
    _PERIOD_S = 0.1

    def __init__(self, console: Console) -> None:
        self._bar = TerminalProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, rate="", bad="")
        self._next_s = 0.0
        self._last: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if self._last is None:  # not before: what fails at once needs no bar
            self._bar.start()
        self._last = progress
        elapsed_s = self._bar.tasks[self._task].elapsed or 0.0
        under_way = progress.stage == "pictures" and progress.num_done < progress.num_total
        if under_way and elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + self._PERIOD_S
        self._bar.update(
            self._task,
            description=progress.split if under_way else "checksums",
            completed=progress.num_done,
            total=progress.num_total,
            rate=_rate(progress, elapsed_s),
            bad=f"[red]{progress.num_bad:,} bad[/]" if progress.num_bad else "",
        )

    def kept(self) -> str:
        """Return what an interrupted conversion leaves."""
        if self._last is None or not self._last.num_done:
            return "nothing was done yet"
        return f"{self._last.num_done:,} of {self._last.num_total:,} pictures are done; go on with --resume"


def _rate(progress: Progress, elapsed_s: float) -> str:
    if not elapsed_s:
        return ""
    num_done = progress.num_done - progress.num_resumed
    return f"{num_done / elapsed_s:,.0f} pictures/s, {progress.num_bytes / elapsed_s / 1e6:,.1f} MB/s"


# More bad pictures than this are counted, not listed; the manifest has them all.
_MOST_LISTED = 20


def _print_summary(console: Console, destination: str, manifest: Manifest, elapsed_s: float) -> None:
    for name, record in manifest.splits.items():
        console.print(f"{name}: {', '.join(_counted(record))}", soft_wrap=True)
        for bad in record.quarantined[:_MOST_LISTED]:
            console.print(f"  left out {plain(bad.key)}: {plain(bad.reason)}", style="yellow", soft_wrap=True)
        if (others := len(record.quarantined) - _MOST_LISTED) > 0:
            console.print(f"  and {counted(others, 'other')}: `fastbot store show` lists them", style="yellow")
    classes = counted(len(manifest.class_names), "class", "classes")
    console.print(
        f"{classes} -> {destination} in {elapsed_s:,.0f} s. Next: fastbot store show {destination}", soft_wrap=True
    )


def _counted(record: SplitRecord) -> Iterator[str]:
    counts = record.counts
    yield counted(record.num_samples, "picture")
    fates = {
        "kept as they were": counts.kept,
        "progressive or with stray bytes, rewritten without loss": counts.transcoded,
        **{f"encoded anew from {origin}": count for origin, count in counts.reencoded.items()},
    }
    yield from (f"{count:,} {fate}" for fate, count in fates.items() if count)
    marks = {"resized": counts.resized, "turned": counts.rotated, "repaired": counts.repaired, "raw": counts.raw}
    if marked := ", ".join(f"{count:,} {mark}" for mark, count in marks.items() if count):
        yield f"of these {marked}"
    if record.quarantined:
        yield f"{len(record.quarantined):,} left out"
    if len(record.shards) > 1:
        yield f"{len(record.shards)} shards"
