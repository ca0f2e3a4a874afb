"""Tables in Markdown, generated from JSON lines: no number there is typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.lines import Line, load
from benchmarks.pages.measurements import merged, settings
from benchmarks.publishing import ratio_words, spread_words
from benchmarks.units import figure


def table(file: Path) -> str:
    """Return the results in a JSON-lines file as a Markdown table under a line of conditions.

    Runs with other settings (threads, batch size) become rows of the same table.
    """
    lines = merged(load(file))
    return f"{_conditions(lines)}\n\n{table_of(lines)}"


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
    own_unit = "" if result.unit == unit else f" {result.unit}"
    threads = result.details.get("threads") or line.conditions.get("threads", "")
    peer = "" if result.peer == result.case else _cell(result.peer)
    return (
        f"| {_cell(result.case)} | {threads} | {figure(result.value)}{own_unit} "
        f"| {spread_words(result)} | {ratio_words(result)} | {peer} |"
    )


def _cell(words: str) -> str:
    """Return words that stay within a cell."""
    return words.replace("|", "\\|").replace("\n", " ")


def _conditions(lines: Sequence[Line]) -> str:
    """Return what lines were measured under; where they differ, all of it."""
    versions = dict.fromkeys(f"{name} {version}" for line in lines for name, version in line.versions.items())
    corpora = _each([corpus for line in lines if (corpus := settings(line).get("corpus"))])
    commands = _each([f"`{line.conditions['command']}`" for line in lines])
    return (
        f"{_each([line.device for line in lines])}, {_each([str(line.conditions['cores']) for line in lines])} cores, "
        f"Python {_each([line.conditions['python'] for line in lines])}, {', '.join(versions)}; "
        f"commit {_each([line.commit for line in lines])}{f'; corpus {corpora}' if corpora else ''}; {commands}"
    )


def _each(words: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(words))
