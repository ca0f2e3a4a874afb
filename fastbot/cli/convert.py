"""`fastbot convert`: photographs in, a store out. One command per layout of the source, all with the same options."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from datasets_tools.convert import ConvertOptions, convert
from datasets_tools.files import is_remote
from datasets_tools.manifest import Manifest, SplitRecord
from datasets_tools.pictures import Policy
from datasets_tools.progress import Progress
from datasets_tools.sources.base import Source
from fastbot import __version__


class _Layouts(typer.core.TyperGroup):
    """Lets `torchvision:NAME` stand for `torchvision NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # Any: typer brings its own copy of click
        layout, colon, name = args[0].partition(":")
        return super().resolve_command(ctx, [layout, name, *args[1:]] if colon else args)


app = typer.Typer(
    cls=_Layouts,
    help="Write a store from photographs, in whatever form they are there. Each LAYOUT below has its own --help.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    subcommand_metavar="LAYOUT ...",
)


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


def _shared(
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


def _check_outside(source: str, destination: str) -> None:
    if is_remote(source) or is_remote(destination):
        return
    if Path(destination).resolve().is_relative_to(Path(source).resolve()):
        raise typer.BadParameter(
            f"{destination} lies inside the source {source}, where it would be taken for pictures: "
            "choose a folder outside"
        )


def _layout(make_source: Callable[..., Source]) -> Callable[..., Source]:
    """Register a command: the parameters of `make_source`, DST and the shared options; it runs the conversion."""
    own = inspect.signature(make_source, eval_str=True).parameters
    shared = inspect.signature(_shared, eval_str=True).parameters
    # Typer takes arguments in the order of the signature: those of the source, DST, then all options.
    merged = {**own, **shared}
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in sorted(merged.values(), key=lambda parameter: parameter.default is not parameter.empty)
    ]

    def command(**given: Any) -> None:
        if "src" in given:
            _check_outside(given["src"], given["dst"])
        source = make_source(**{name: given[name] for name in own})
        _run(source, **{name: given[name] for name in shared})

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(name=make_source.__name__.rstrip("_"), help=inspect.getdoc(make_source))(command)
    return make_source


Src = Annotated[
    str, typer.Argument(metavar="SRC", help="What to read: a path, or any URL that fsspec reads (s3://...).")
]


@_layout
def imagenet(
    src: Src,
    partial: Annotated[bool, typer.Option("--partial", help="Take fewer pictures or classes than ILSVRC2012 has.")] = (
        False
    ),
    v2: Annotated[
        str | None, typer.Option(help="An ImageNet-V2 folder (0 to 999): becomes the split v2.", show_default="none")
    ] = None,
    real: Annotated[
        str | None, typer.Option(help="ImageNet-ReaL's real.json: further labels of val.", show_default="none")
    ] = None,
) -> Source:
    """ILSVRC2012: the original archives, extracted folders, or Kaggle's CLS-LOC.

    Example: [bold]fastbot convert imagenet /data/imagenet stores/imagenet[/]
    """
    from datasets_tools.sources.imagenet import ImageNetSource

    return ImageNetSource(src, partial=partial, v2=v2, real=real)


@_layout
def folder(src: Src) -> Source:
    """Class folders: SRC/train/CLASS/*.jpg and SRC/val/CLASS/*.jpg.

    Example: [bold]fastbot convert folder ~/pictures stores/pictures --max-side 500[/]
    """
    from datasets_tools.sources.folder import FolderSource

    return FolderSource(src)


@_layout
def parquet(
    src: Src,
    image_column: Annotated[str | None, typer.Option(help="The column of images.", show_default="found")] = None,
    label_column: Annotated[str | None, typer.Option(help="The column of labels.", show_default="found")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take a numbered series with files missing.")] = False,
) -> Source:
    """Parquet files as Hugging Face writes them: train-00000-of-00294.parquet, ...

    Example: [bold]fastbot convert parquet /data/imagenet-1k/data stores/imagenet[/]
    """
    from datasets_tools.sources.parquet import ParquetSource

    return ParquetSource(src, image_column=image_column, label_column=label_column, partial=partial)


@_layout
def webdataset(src: Src) -> Source:
    """WebDataset shards: tar files of KEY.jpg with KEY.cls or KEY.json.

    Example: [bold]fastbot convert webdataset s3://bucket/imagenet-wds stores/imagenet[/]
    """
    from datasets_tools.sources.webdataset import WebDatasetSource

    return WebDatasetSource(src)


@_layout
def torchvision(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The data set's name in torchvision, in any case.")],
    src: Annotated[str, typer.Argument(metavar="ROOT", help="The folder that torchvision calls root.")],
) -> Source:
    """Any classification data set of torchvision, from local files: torchvision:CIFAR10, torchvision:Food101, ...

    Example: [bold]fastbot convert torchvision:FashionMNIST /data/fashion stores/fashion[/]
    """
    from datasets_tools.sources.torchvision_datasets import TorchvisionSource

    return TorchvisionSource(name, src)


@_layout
def list_(
    src: Annotated[str, typer.Argument(metavar="FILE", help="A .csv or .tsv of path,label, or path,label,split.")],
    root: Annotated[
        str | None, typer.Option(help="What the paths are relative to.", show_default="the folder of FILE")
    ] = None,
    val: Annotated[str | None, typer.Option(help="A second list: the split val.", show_default="none")] = None,
) -> Source:
    """A table of paths and labels.

    Example: [bold]fastbot convert list train.csv stores/mine --val val.csv[/]
    """
    from datasets_tools.sources.path_list import ListSource

    return ListSource(src, root=root, val=val)


@_layout
def demo(
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Where the pictures are cut.")] = 0,
    train_per_class: Annotated[int, typer.Option(min=1, help="Training pictures of each class.")] = 168,
    val_per_class: Annotated[int, typer.Option(min=1, help="Validation pictures of each class.")] = 34,
) -> Source:
    """A small data set of 12 classes, cut from photographs that are installed already.

    Example: [bold]fastbot convert demo stores/demo[/]
    """
    from datasets_tools.sources.demo import DemoSource

    return DemoSource(seed=seed, train_per_class=train_per_class, val_per_class=val_per_class)


def _run(
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
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    with _Display(console) as display:
        manifest = convert(source, dst, options, display, lambda line: console.print(line, soft_wrap=True))
    _print_summary(console, dst, manifest)


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


def _rate(progress: Progress, elapsed_s: float) -> str:
    if not elapsed_s:
        return ""
    num_done = progress.num_done - progress.num_resumed
    return f"{num_done / elapsed_s:,.0f} pictures/s, {progress.num_bytes / elapsed_s / 1e6:,.1f} MB/s"


# More bad pictures than this are counted, not listed; the manifest has them all.
_MOST_LISTED = 20


def _print_summary(console: Console, destination: str, manifest: Manifest) -> None:
    for name, record in manifest.splits.items():
        console.print(f"{name}: {', '.join(_counted(record))}", soft_wrap=True)
        for bad in record.quarantined[:_MOST_LISTED]:
            console.print(f"  left out {bad.key}: {bad.reason}", style="yellow", soft_wrap=True)
        if (others := len(record.quarantined) - _MOST_LISTED) > 0:
            console.print(f"  and {others:,} others: `fastbot store show` lists them", style="yellow")
    num_classes = len(manifest.class_names)
    console.print(f"{num_classes:,} {'class' if num_classes == 1 else 'classes'} -> {destination}", soft_wrap=True)


def _counted(record: SplitRecord) -> Iterable[str]:
    counts = record.counts
    yield f"{record.num_samples:,} pictures"
    yield f"{counts.kept:,} kept as they were"
    if counts.transcoded:
        yield f"{counts.transcoded:,} progressive ones rewritten without loss"
    yield from (f"{count:,} encoded anew from {origin}" for origin, count in counts.reencoded.items())
    for count, what in ((counts.resized, "resized"), (counts.rotated, "turned"), (counts.repaired, "repaired")):
        if count:
            yield f"{count:,} of them {what}"
    if counts.raw:
        yield f"{counts.raw:,} as raw pixels"
    if record.quarantined:
        yield f"{len(record.quarantined):,} left out"
    if len(record.shards) > 1:
        yield f"{len(record.shards)} shards"
