"""What every rung ends with: its results as a table on the screen, and as JSON lines in a file."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import lines
from benchmarks.measure import NOISY, Result
from benchmarks.units import figure

# Characters a line of a table that goes into a file: one result stays on one line.
_LOG_WIDTH = 200


def publish(results: Sequence[Result], settings: Mapping[str, Any], json_file: Path | None, title: str) -> None:
    """Print a table, and append one JSON line per result to `json_file` when given.

    Args:
        results: of one rung.
        settings: what it was set to, by name.
        json_file: where lines go.
        title: of the table.
    """
    Console(width=None if sys.stdout.isatty() else _LOG_WIDTH).print(_table(results, title))
    if json_file is not None:
        lines.append(results, settings, json_file)


def ratio_figure(ratio: float) -> str:
    """Write a ratio with two decimals; a dash where there is none."""
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def _table(results: Sequence[Result], title: str) -> Table:
    unit = results[0].unit if results else ""
    table = Table("case", unit, "spread", "ratio", "to", "notes", title=title)
    for result in results:
        noisy = " [yellow]noisy[/]" if result.spread > NOISY else ""
        own_unit = "" if result.unit == unit else f" {result.unit}"
        value = f"{figure(result.value)}{own_unit}"
        spread = f"{result.spread:.0%}{noisy}"
        table.add_row(result.case, value, spread, ratio_figure(result.ratio), result.peer, result.notes)
    return table
