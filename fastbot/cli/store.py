"""`fastbot store`: look at a store, check it, cut it, take over FFCV files, hand pictures on."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from datasets_tools.wording import counted
from fastbot import __version__
from fastbot.cli.bars import bytes_bar, pictures_bar

app = typer.Typer(
    help="Look at a store, check it, cut it, adopt one, export it.", no_args_is_help=True, rich_markup_mode="rich"
)

_SHEET, _HISTOGRAMS = "contact-sheet.png", "histograms.png"

StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store: a folder that `fastbot convert` wrote.")]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        help="Threads that check samples.",
        default_factory=lambda: len(os.sched_getaffinity(0)),
        show_default="all cores",
    ),
]


class Layout(StrEnum):
    """What pictures are exported as."""

    FOLDER = "folder"
    WEBDATASET = "webdataset"


@app.command()
def show(
    path: StorePath,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to put the contact sheet; the histograms go beside it, as NAME-histograms.png.",
            show_default=f"STORE/{_SHEET} and STORE/{_HISTOGRAMS}",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="The split of the contact sheet.", show_default="the first")] = None,
) -> None:
    """Print counts, sizes and classes; write a contact sheet and histograms as PNG.

    Example: [bold]fastbot store show stores/demo --out demo.png[/]
    """
    from datasets_tools.inspection.contact_sheet import contact_sheet
    from datasets_tools.inspection.histograms import draw_histograms
    from datasets_tools.store import Store
    from fastbot.cli.store_summary import plain, print_manifest

    store = Store(path)
    shown = store.split(split or next(iter(store.splits))).name
    console = _console()
    print_manifest(console, store.manifest)
    sheet, notes = contact_sheet(store, shown)
    for note in notes:
        console.print(f"note: {plain(note)}", style="yellow", soft_wrap=True)
    sheet_file = out or path / _SHEET
    histograms_file = out.with_name(f"{out.stem}-{_HISTOGRAMS}") if out else path / _HISTOGRAMS
    try:
        sheet.save(sheet_file, "PNG")
        draw_histograms(store, histograms_file)
    except OSError as error:
        message = f"{error.filename or sheet_file}: cannot be written: {error.strerror}"
        if out is None:  # a store may be read-only, and nobody asked for pictures in it
            console.print(f"note: {message}. --out FILE puts the pictures elsewhere.", style="yellow", soft_wrap=True)
            return
        raise typer.BadParameter(message, param_hint="--out") from error
    console.print(f"contact sheet: {sheet_file}", soft_wrap=True)
    console.print(f"histograms: {histograms_file}", soft_wrap=True)


@app.command()
def verify(
    path: StorePath,
    workers: Workers,
    deep: Annotated[bool, typer.Option("--deep", help="Decode every picture as well.")] = False,
) -> None:
    """Check every file's size and SHA-256, the tables, and every sample's checksum. Exit code 1: something is wrong.

    Example: [bold]fastbot store verify stores/imagenet --deep[/]
    """
    from datasets_tools.inspection.verify import verify_store
    from fastbot.cli.store_summary import print_verification

    console = _console()
    with bytes_bar(console) as bar:
        found = verify_store(
            path, deep=deep, workers=workers, progress=lambda done, total: bar.update("checking", done, total)
        )
    print_verification(console, found)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def subset(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="The store to cut from.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The store to write: a folder that does not exist yet.")],
    classes: Annotated[
        str | None,
        typer.Option(help="Keep these classes: names, WordNet ids or numbers, with commas between.", metavar="A,B,..."),
    ] = None,
    classes_file: Annotated[
        Path | None, typer.Option(help="Keep the classes that this file names, one a line.", metavar="FILE")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(min=1, help="Keep so many classes, drawn by --seed.")] = None,
    fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Keep this share of each class's pictures, at least one.")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Keep so many pictures of each class, or all it has.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Decides what is drawn.")] = 0,
    split: Annotated[
        list[str] | None, typer.Option(help="Keep this split; may be given again.", show_default="all")
    ] = None,
    thin: Annotated[
        list[str] | None,
        typer.Option(
            help="A split that --fraction and --per-class apply to; may be given again. The others keep all pictures "
            "of the kept classes.",
            show_default="train, or all that are kept where it is not",
        ),
    ] = None,
) -> None:
    """Write a small store with some classes, some of their pictures, or both, byte for byte.

    What is drawn depends on the seed, the class and the pictures' names alone; 5 % lie inside 10 % of the same seed.

    Example: [bold]fastbot store subset stores/imagenet stores/imagenet-100 --num-classes 100 --fraction 0.1[/]
    """
    from datasets_tools.exchange.subset import Selection
    from datasets_tools.exchange.subset import subset as write_subset
    from fastbot.cli.store_summary import print_counts

    _check_at_most_one(classes=classes, classes_file=classes_file, num_classes=num_classes)
    _check_at_most_one(fraction=fraction, per_class=per_class)
    if classes is not None and not classes.strip(", "):
        raise typer.BadParameter("names no class", param_hint="--classes")
    if all(part is None for part in (classes, classes_file, num_classes, fraction, per_class, split)):
        raise typer.BadParameter("nothing says what to keep: give --classes, --num-classes, --fraction, ... (--help)")
    if thin and fraction is None and per_class is None:
        raise typer.BadParameter("--thin needs --fraction or --per-class: they say how many pictures to keep")
    if fraction == 0:
        raise typer.BadParameter("must be above 0", param_hint="--fraction")
    names = _lines(classes_file, "--classes-file") if classes_file else classes.split(",") if classes else None
    selection = Selection(
        classes=[name for name in names if name.strip()] if names is not None else None,
        num_classes=num_classes,
        fraction=fraction,
        per_class=per_class,
        seed=seed,
        splits=split or None,
        thinned=thin or None,
    )
    console = _console()
    with pictures_bar(console) as bar:
        manifest = write_subset(src, dst, selection, __version__, bar.update)
    print_counts(console, manifest)
    console.print(f"{counted(len(manifest.class_names), 'class', 'classes')} -> {dst}", soft_wrap=True)


@app.command()
def adopt(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="FFCV files, named train*, val* or test*; otherwise SPLIT=FILE. Several: shards."
        ),
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The store to write; may be the folder of the files.")],
    workers: Workers,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line, in the order of the labels.", metavar="FILE", show_default="none"),
    ] = None,
) -> None:
    """Make a store of FFCV files that are there already: only indices and a manifest are written.

    Example: [bold]fastbot store adopt /data/train_500.beton /data/val_500.beton stores/imagenet[/]
    """
    from datasets_tools.exchange.adopt import adopt as adopt_files
    from fastbot.cli.store_summary import print_counts

    console = _console()
    with bytes_bar(console) as bar:
        manifest = adopt_files(
            files,
            dst,
            class_names=_lines(classes, "--classes") if classes else None,
            fastbot_version=__version__,
            workers=workers,
            progress=lambda done, total: bar.update("reading", done, total),
        )
    print_counts(console, manifest)
    console.print(f"{counted(len(manifest.class_names), 'class', 'classes')} -> {dst}", soft_wrap=True)


@app.command()
def export(
    path: StorePath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; must not exist yet.")],
    to: Annotated[Layout, typer.Option(help="ImageFolder's class folders, or WebDataset's tar files.")],
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures in a tar file.")] = 10_000,
) -> None:
    """Write the pictures as files for other tools: JPEGs byte for byte, raw pixels as PNG.

    Example: [bold]fastbot store export stores/imagenet /data/imagenet-tars --to webdataset[/]
    """
    from datasets_tools.exchange.export import export as write_files

    console = _console()
    with pictures_bar(console) as bar:
        notes = write_files(path, out, to.value, bar.update, shard_size=shard_size)
    for note in notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    console.print(f"exported to {out}", soft_wrap=True)


@app.command()
def fetch(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The store: a URL that fsspec reads (s3://...), or a path.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; must not exist yet.")],
) -> None:
    """Bring a store here, checked file by file. Interrupted, the same command goes on with it.

    Example: [bold]fastbot store fetch s3://bucket/imagenet stores/imagenet[/]
    """
    from datasets_tools.exchange.fetch import fetch as fetch_store
    from fastbot.cli.store_summary import print_counts

    console = _console()
    with bytes_bar(console) as bar:
        manifest = fetch_store(url, folder, lambda done, total: bar.update("fetching", done, total))
    print_counts(console, manifest)
    console.print(f"{counted(len(manifest.class_names), 'class', 'classes')} -> {folder}", soft_wrap=True)


def _console() -> Console:
    return Console(markup=False, highlight=False)  # paths and names may hold brackets


def _check_at_most_one(**options: object) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} say two things: give one of them")


def _lines(file: Path, option: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: cannot be read: {error}", param_hint=option) from error
