"""The options that rungs share, so that they are called and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", help="A store; `fastbot bench corpus` makes the one our figures are of.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda")]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Counted rounds; every case has its turn in each.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="What a turn takes at least.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Append one JSON line per result.")]
