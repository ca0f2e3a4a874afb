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
from rich.markup import escape
from rich.table import Table

from benchmarks import lines
from benchmarks.measure import NOISY, Result
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
    except KeyboardInterrupt:
        kept = "nothing was measured by then" if not published else "the group of cases under way is not kept"
        print(f"interrupted: {kept}", file=sys.stderr)
        raise
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


def ratio_words(result: Result) -> str:
    """Write a result's ratio with two decimals, and its range where that is noisy; nothing for a peer itself."""
    if result.peer == result.case:
        return ""
    if math.isnan(result.ratio):
        return "–"
    lowest, highest = min(result.ratios), max(result.ratios)
    return f"{result.ratio:.2f}{f' ({lowest:.2f} to {highest:.2f})' if result.ratio_spread > NOISY else ''}"


def spread_words(result: Result) -> str:
    """Write a result's spread in percent, and whether that is noisy; a dash where there was one round."""
    if len(result.samples) == 1:
        return "–"
    return f"{result.spread:.0%}{' (noisy)' if result.is_noisy else ''}"


def _table(results: Sequence[Result], title: str) -> Table:
    unit = results[0].unit
    table = Table("case", unit, "spread", "ratio", "to", "notes", title=title)
    case = ""
    for result in results:
        own_unit = "" if result.unit == unit else f" {result.unit}"
        own = result.case, f"{figure(result.value)}{own_unit}", spread_words(result)
        peer = "" if result.peer == result.case else result.peer
        words = *(("", "", "") if result.case == case else own), ratio_words(result), peer, result.notes
        table.add_row(*map(escape, words))
        case = result.case
    return table
