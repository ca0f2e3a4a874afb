"""Tables in Markdown, generated from JSON lines: no number there is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lines import Line, load
from benchmarks.measure import NOISY
from benchmarks.pages.measurements import merged, settings
from benchmarks.publishing import ratio_figure
from benchmarks.units import figure


def table(file: Path) -> str:
    """Return the results in a JSON-lines file as a Markdown table under a line of conditions.

    Runs with other settings (threads, batch size) become rows of the same table.
    """
    lines = merged(load(file))
    return f"{_conditions(lines[0])}\n\n{table_of(lines)}"


def table_of(lines: Sequence[Line]) -> str:
    """Return lines as a Markdown table, a row each.

    Args:
        lines: at least one.
    """
    unit = lines[0].result.unit
    has_notes = any(line.result.notes for line in lines)
    header = f"| case | threads | {unit} | spread | ratio | to |" + " notes |" * has_notes
    rows = [header, "|---" * header.count(" |") + "|"]
    rows += [_row(line, unit) + f" {_cell(line.result.notes)} |" * has_notes for line in lines]
    return "\n".join(rows) + "\n"


def _row(line: Line, unit: str) -> str:
    result = line.result
    noisy = " (noisy)" if result.spread > NOISY else ""
    own_unit = "" if result.unit == unit else f" {result.unit}"
    threads = result.details.get("threads") or line.conditions.get("threads", "")
    return (
        f"| {_cell(result.case)} | {threads} | {figure(result.value)}{own_unit} "
        f"| {result.spread:.0%}{noisy} | {ratio_figure(result.ratio)} | {_cell(result.peer)} |"
    )


def _cell(words: str) -> str:
    """Return words that stay within a cell."""
    return words.replace("|", "\\|").replace("\n", " ")


def _conditions(line: Line) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in line.versions.items())
    corpus = settings(line).get("corpus")
    measured_on = f"; corpus {corpus}" if corpus else ""
    return (
        f"{line.device}, {line.conditions['cores']} cores, Python {line.conditions['python']}, {versions}; "
        f"commit {line.commit}{measured_on}; `{line.conditions['command']}`"
    )
