"""`fastbot bench compare`: two files of results side by side, and a check of ratios against a committed baseline."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.pages.comparison import Change, Comparison, Shift, Verdict, compare, differences
from benchmarks.pages.measurements import gather
from benchmarks.publishing import table_console
from benchmarks.units import figure
from fastbot.errors import RunError

_STYLES = {Verdict.better: "green", Verdict.worse: "red", Verdict.noise: "dim", Verdict.too_few: "yellow"}


def table(comparison: Comparison) -> Table:
    """Return the measurements of both sets, a row each."""
    titles = ("case", "to", "unit", "before", "after", "x", "", "ratio before", "after", "x", "")
    shown = Table(*titles, title="after / before; beyond noise: the ranges of all samples do not overlap")
    benchmark = ""
    for change in comparison.changes:
        result = change.after.result
        if result.benchmark != benchmark:
            benchmark = result.benchmark
            shown.add_section()
            shown.add_row(f"[bold]{escape(benchmark)}[/]")
        peer = "" if result.peer == result.case else result.peer
        mark = " *" if change.differing else ""
        words = (escape(result.case) + mark, escape(peer), result.unit)
        shown.add_row(*words, *_cells(change.figure), *_cells(change.ratio))
    return shown


def _cells(shift: Shift | None) -> list[str]:
    if shift is None:
        return [""] * 4
    before, after = statistics.median(shift.before), statistics.median(shift.after)
    verdict = shift.verdict
    return [figure(before), figure(after), f"{shift.factor:.2f}", f"[{_STYLES[verdict]}]{verdict}[/]"]


def remarks(comparison: Comparison) -> list[str]:
    """Return, a line each, what a reader must know of two sets besides the figures."""
    said = [] if comparison.changes else ["the two share no measurement"]
    said += [f"{name}: {old} before, {new} after" for name, (old, new) in comparison.conditions.items()]
    said += [
        f"* {change.title}: not the same work: {differences(change.differing)}"
        for change in comparison.changes
        if change.differing
    ]
    for where, lines in (("before", comparison.only_before), ("after", comparison.only_after)):
        said += [f"only {where}: {line.result.benchmark}: {line.result.case} ({line.result.peer})" for line in lines]
    return said


def check(comparison: Comparison, tolerance: float, *, allow_missing: bool = False) -> str:
    """Hold the ratios after against those before.

    Args:
        comparison: of both sets.
        tolerance: how much worse a ratio may be.
        allow_missing: let pass that a ratio of the set before is not there after, or of fewer samples.

    Returns:
        What was found, in words.

    Raises:
        RunError: a ratio is worse beyond noise and by more than `tolerance`, one is missing, or there is none to judge.
    """
    judged, regressions, missing = comparison.judged(), comparison.regressions(tolerance), comparison.missing()
    too_few = sum(bool(change.unjudged) and not change.is_lost for change in comparison.changes)
    if not judged:
        raise RunError(
            "no ratio can be judged: the files share no measurement with a peer, equal settings and samples enough "
            "(4 on either side, or 5 and 3). Measure both with the same options and --repeats 5"
        )
    if regressions:
        raise RunError("\n".join([f"{len(regressions)} of {len(judged)} ratios are worse:", *map(_worse, regressions)]))
    if missing and not allow_missing:
        raise RunError(
            f"{len(missing)} of {len(missing) + len(judged)} ratios before have none after to be held against them:\n"
            + "".join(f"  {words}\n" for words in missing)
            + "Measure them with the same options, or let it pass with --allow-missing"
        )
    rest = f"; {len(missing)} were not measured again" if missing else ""
    rest += f"; {too_few} have too few samples to be judged" if too_few else ""
    return f"no ratio of {len(judged)} is worse beyond noise and by more than {tolerance:.0%}{rest}"


def _worse(change: Change) -> str:
    assert change.ratio is not None  # that is why it is here
    before, after = statistics.median(change.ratio.before), statistics.median(change.ratio.after)
    own = f"the figure itself is {change.figure.factor:.2f} of what it was"
    return f"  {change.title}: {before:.2f} before, {after:.2f} after ({own})"


def _print(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def command(
    before: Annotated[Path, typer.Argument(help="A file that a benchmark wrote with --json, or a folder of them.")],
    after: Annotated[Path, typer.Argument(help="What is held against it.")],
    check_ratios: Annotated[
        bool, typer.Option("--check", help="Fail if a ratio to a peer is worse, beyond noise and the tolerance.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, max=1, help="With --check: how much worse is let pass.")] = 0.1,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="With --check: let pass that AFTER lacks some of BEFORE's ratios.")
    ] = False,
) -> None:
    """Compare two sets of results, and say where their ranges are apart.

    Example: [bold]fastbot bench compare --check benchmarks/results/cpu-2core/loader.jsonl loader.jsonl[/]
    """
    comparison = compare(gather([before]), gather([after]))
    console = table_console()
    console.print(table(comparison))
    _print(console, remarks(comparison))
    if check_ratios:
        _print(console, [check(comparison, tolerance, allow_missing=allow_missing)])
