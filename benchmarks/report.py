"""The tables of `docs/performance.md`, generated from committed JSON: no number there is typed by hand.

A table stands between `<!-- table: FILE -->` and `<!-- end -->`, FILE being relative to `benchmarks/results/`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measure import NOISY, figure

ROOT = Path(__file__).parents[1]
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
    results = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [_conditions(results[0]["conditions"]), ""]
    unit = results[0]["unit"]
    has_notes = any(result["notes"] for result in results)
    header = f"| case | threads | {unit} | spread | ratio | to |" + " notes |" * has_notes
    rows += [header, "|---" * header.count(" |") + "|"]
    rows += [_row(result, unit) + f" {result['notes']} |" * has_notes for result in results]
    return "\n".join(rows) + "\n"


def _row(result: dict[str, Any], unit: str) -> str:
    noisy = " (noisy)" if result["spread"] > NOISY else ""
    own_unit = "" if result["unit"] == unit else f" {result['unit']}"
    threads = result["details"].get("threads") or result["conditions"].get("threads", "")
    return (
        f"| {result['case']} | {threads} | {figure(result['images_per_s'])}{own_unit} "
        f"| {result['spread']:.0%}{noisy} | {result['ratio']:.2f} | {result['peer']} |"
    )


def _conditions(conditions: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    corpus = conditions.get("corpus", {}).get("recipe_hash", "")
    measured_on = f"; corpus {corpus[:12]}" if corpus else ""
    return (
        f"{conditions['device']}, {conditions['cores']} cores, Python {conditions['python']}, {versions}; "
        f"commit {conditions['commit']}{measured_on}; `{conditions['command']}`"
    )


def command(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail if the page is out of date.")] = False,
) -> None:
    """Render the tables of docs/performance.md from the committed results.

    Example: [bold]python -m benchmarks report[/]
    """
    page = PAGE.read_text()
    new = rendered(page)
    if check and new != page:
        typer.echo(f"{PAGE} is out of date: run `python -m benchmarks report`", err=True)
        raise typer.Exit(1)
    PAGE.write_text(new)
