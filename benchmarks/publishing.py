"""What every rung publishes: its results as JSON lines in a file, and as a table on the screen."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import lines
from benchmarks.measure import Result
from benchmarks.units import figure

# Characters a line of a table that goes into a file: one result stays on one line.
_LOG_WIDTH = 200

# Gets the results of a group of cases as soon as they are measured.
Publish = Callable[[Sequence[Result]], object]


@contextmanager
def publishing(
    settings: Mapping[str, Any], json_file: Path | None, title: str, *, device: torch.device | str
) -> Iterator[Publish]:
    """Publish results group by group: what is measured stays, whatever ends the rung before its last group.

    Lines are appended at once; the table of all of them comes at the end, also where that is an error or a signal.

    Args:
        settings: what the rung is set to, by name; read anew with every group.
        json_file: where lines go; None for nowhere.
        title: of the table.
        device: that the rung runs on; a result's own `details["device"]` stands before it.

    Returns:
        What to call with the results of each group.
    """
    published: list[Result] = []

    def publish_group(results: Sequence[Result]) -> None:
        published.extend(results)
        if json_file is not None:
            lines.append(results, settings, json_file, device=device)

    try:
        yield publish_group
    finally:
        if published:
            table_console().print(_table(published, title))


def table_console() -> Console:
    """Return where tables are printed: as wide as the terminal, or wide enough for a file."""
    return Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)


def publish(
    results: Sequence[Result],
    settings: Mapping[str, Any],
    json_file: Path | None,
    title: str,
    *,
    device: torch.device | str,
) -> None:
    """Publish all results of a rung at once: `publishing` with a single group.

    Args:
        results: of one rung.
        settings, json_file, title, device: as for `publishing`.
    """
    with publishing(settings, json_file, title, device=device) as publish_group:
        publish_group(results)


def ratio_figure(ratio: float) -> str:
    """Write a ratio with two decimals; a dash where there is none."""
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def _table(results: Sequence[Result], title: str) -> Table:
    unit = results[0].unit
    table = Table("case", unit, "spread", "ratio", "to", "notes", title=title)
    for result in results:
        noisy = " [yellow]noisy[/]" if result.is_noisy else ""
        own_unit = "" if result.unit == unit else f" {result.unit}"
        value = f"{figure(result.value)}{own_unit}"
        spread = f"{result.spread:.0%}{noisy}"
        table.add_row(result.case, value, spread, ratio_figure(result.ratio), result.peer, result.notes)
    return table
