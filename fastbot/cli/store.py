"""`fastbot store`: look at a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from datasets_tools.contact_sheet import contact_sheet
from datasets_tools.manifest import Manifest, SplitRecord
from datasets_tools.store import Store

app = typer.Typer(help="Look at a store.", no_args_is_help=True, rich_markup_mode="rich")

_SHEET = "contact-sheet.png"


@app.callback()
def _store() -> None:
    """Keep `show` a command of its own while it is the only one."""


@app.command()
def show(
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The store: a folder that `fastbot convert` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to put the contact sheet.", show_default=f"DST/{_SHEET}")
    ] = None,
    split: Annotated[str | None, typer.Option(help="The split to draw.", show_default="the first")] = None,
) -> None:
    """Print counts, sizes and classes, and write a contact sheet: a PNG with a few pictures of each class.

    Example: [bold]fastbot store show stores/demo --out demo.png[/]
    """
    store = Store(dst)
    sheet = contact_sheet(store, split or next(iter(store.splits)))
    console = Console(markup=False)  # names may hold brackets
    _print_manifest(console, store.manifest)
    path = out or dst / _SHEET
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise typer.BadParameter(f"{path}: cannot be written: {error.strerror}", param_hint="--out") from error
    console.print(f"contact sheet: {path}", soft_wrap=True)


def _print_manifest(console: Console, manifest: Manifest) -> None:
    source = manifest.source
    options = "".join(f" {name}={value}" for name, value in source.options.items())
    console.print(f"source: {source.name}{options}, written by fastbot {manifest.fastbot_version}", soft_wrap=True)
    table = Table("", *manifest.splits)
    for title, cells in _rows(tuple(manifest.splits.values())).items():
        table.add_row(title, *cells)
    console.print(table)
    names = manifest.class_names
    console.print(f"{len(names):,} classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}")
    for name, record in manifest.splits.items():
        for bad in record.quarantined:
            console.print(f"left out of {name}: {bad.key}: {bad.reason}", style="yellow", soft_wrap=True)


def _rows(records: tuple[SplitRecord, ...]) -> dict[str, list[str]]:
    return {
        "pictures": [f"{record.num_samples:,}" for record in records],
        "per class": [f"{min(record.class_counts):,} to {max(record.class_counts):,}" for record in records],
        "kept as they were": [f"{record.kept:,}" for record in records],
        "encoded anew": [_origins(record) for record in records],
        "resized": [f"{record.resized:,}" for record in records],
        "left out": [f"{len(record.quarantined):,}" for record in records],
        "largest height x width": [f"{record.max_height:,} x {record.max_width:,}" for record in records],
        "mean / largest JPEG": [
            f"{record.mean_bytes / 1e3:,.1f} / {record.max_bytes / 1e3:,.1f} kB" for record in records
        ],
        "file": [f"{record.beton.size / 1e6:,.1f} MB" for record in records],
    }


def _origins(record: SplitRecord) -> str:
    return ", ".join(f"{count:,} {origin}" for origin, count in record.reencoded.items()) or "0"
