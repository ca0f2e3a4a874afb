"""The options that rungs share, so that they are called and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.lines import load
from fastbot.errors import RunError


def _writable(context: typer.Context, file: Path | None) -> Path | None:
    """Refuse a file that results cannot be appended to: after measuring it would be too late."""
    if file is None or context.resilient_parsing:
        return file
    if file.is_file() and file.stat().st_size:
        try:
            load(file)
        except RunError as error:
            raise typer.BadParameter(f"{error}; or give another file") from error
    existed = file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("ab").close()
        if not existed:
            file.unlink()
    except OSError as error:
        raise typer.BadParameter(f"{file}: cannot be written: {error}. Give a file in a folder of yours") from error
    return file


Data = Annotated[Path, typer.Option("--data", help="A store; `fastbot bench corpus` makes the one our figures are of.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Counted rounds; every case has its turn in each.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="What a turn takes at least.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", callback=_writable, help="Append one JSON line per result, as measured.")
]
