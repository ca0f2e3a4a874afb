"""The tables of `docs/performance.md`, generated from committed JSON: no number there is typed by hand.

A table stands between `<!-- table: FILE -->` and `<!-- end -->`, FILE being relative to `benchmarks/results/`.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.lines import Line, load
from benchmarks.measure import NOISY
from benchmarks.publishing import ratio_figure
from benchmarks.units import figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
_TABLE = re.compile(r"(<!-- table: (?P<file>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(page: str) -> str:
    """Return a page with every table in it made anew from its JSON lines."""
    return _TABLE.sub(lambda found: found[1] + table(RESULTS / found["file"]) + found[3], page)


def table(file: Path) -> str:
    """Return the results in a JSON-lines file as a Markdown table under a line of conditions.

    Runs with other settings (threads, batch size) become rows of the same table.
    """
    lines = load(file)
    unit = lines[0].result.unit
    has_notes = any(line.result.notes for line in lines)
    header = f"| case | threads | {unit} | spread | ratio | to |" + " notes |" * has_notes
    rows = [_conditions(lines[0]), "", header, "|---" * header.count(" |") + "|"]
    rows += [_row(line, unit) + f" {line.result.notes} |" * has_notes for line in lines]
    return "\n".join(rows) + "\n"


def _row(line: Line, unit: str) -> str:
    result = line.result
    noisy = " (noisy)" if result.spread > NOISY else ""
    own_unit = "" if result.unit == unit else f" {result.unit}"
    threads = result.details.get("threads") or line.conditions.get("threads", "")
    return (
        f"| {result.case} | {threads} | {figure(result.value)}{own_unit} "
        f"| {result.spread:.0%}{noisy} | {ratio_figure(result.ratio)} | {result.peer} |"
    )


def _conditions(line: Line) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in line.versions.items())
    corpus = line.conditions.get("corpus", {}).get("recipe_hash", "")
    measured_on = f"; corpus {corpus[:12]}" if corpus else ""
    return (
        f"{line.device}, {line.conditions['cores']} cores, Python {line.conditions['python']}, {versions}; "
        f"commit {line.commit}{measured_on}; `{line.conditions['command']}`"
    )
