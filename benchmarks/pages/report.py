"""`fastbot bench report`: results as a page to read, and the documents' figures made anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.pages import documents, html, markdown
from benchmarks.pages.measurements import gather
from fastbot.errors import RunError

_FOLDER = Path("report")


def write_report(paths: Sequence[Path], out: Path, remarks: Sequence[str] = ()) -> None:
    """Write `report.md` and `report.html`.

    Args:
        paths: files of results, or folders with them.
        out: the folder that gets both; it is made.
        remarks: what a reader must know of them besides, a line each: what was not measured.

    Raises:
        RunError: one cannot be read, or has no results; or the pages cannot be written.
    """
    lines = gather(paths)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.md").write_text(markdown.page(lines, remarks=remarks))
        (out / "report.html").write_text(html.page(lines, remarks=remarks))
    except OSError as error:
        raise RunError(f"--out {out}: the report cannot be written there: {error}. Give another folder") from error


def command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILES]...", help="Files that benchmarks wrote with --json, or folders of them."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Gets report.md and report.html; `report`, if not given.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Without FILES: change nothing, and fail if a document is out of date.")
    ] = False,
) -> None:
    """Render results as a page; without FILES, make the figures in docs/performance.md and README.md anew.

    Example: [bold]fastbot bench report bench --out bench[/]
    """
    if files and check:
        raise typer.BadParameter("is of the documents alone. Leave it out, or give no FILES", param_hint="--check")
    if out is not None and not files:
        raise typer.BadParameter("is for a report of FILES. Give some, or leave it out", param_hint="--out")
    if files:
        folder = out or _FOLDER
        write_report(files, folder)
        typer.echo(f"{folder / 'report.md'}\n{folder / 'report.html'}")
    elif check:
        if stale := documents.outdated():
            raise RunError(f"{', '.join(map(str, stale))}: out of date. Run `fastbot bench report`")
    else:
        for document in documents.refresh():
            typer.echo(f"{document} made anew")
