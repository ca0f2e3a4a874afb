"""The table of an ablation, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fastbot.ablation.comparison import ComparedRow, Difference, compare, compare_teachers
from fastbot.ablation.records import Ablation
from fastbot.ablation.trainings import Changes

_HEADER = (
    ("row", ""),
    ("epochs", ""),
    ("top-1", "± std"),
    ("to row before", "± 95 %"),
    ("to baseline", "± 95 %"),
    ("paper:", "top-1"),
    ("paper: to", "row before"),
    ("paper: to", "baseline"),
)
# Where a terminal is narrow: what stands below a figure is named below its title.
_NARROW_HEADER = (
    "row",
    "epochs",
    "top-1\n± std",
    "to row\nbefore\n± 95 %",
    "to base\n± 95 %",
    "paper:\ntop-1",
    "paper:\nto row\nbefore",
    "paper:\nto\nbase",
)
_SPREAD, _INTERVAL = "± std", "± 95 %"

_NOT_FINISHED = "not finished"

GREY_NOTE = (
    "All pictures of the store are grey. Jitter of hue and saturation changes nothing there, and PCA lighting tints "
    "what has no colour: this ablation says nothing about colour jitter and lighting."
)


def table(ablation: Ablation, width: int) -> RenderableType:
    """Return the table as `rich` prints it.

    Args:
        ablation: with any number of finished trainings.
        width: of the terminal, in columns. Where rows do not fit, deviations and intervals stand below their figures:
            then 80 columns are enough. In a narrower one lines break anywhere; nothing is cut off.
    """
    compared = compare(ablation)
    rows, absent = list(_cells(compared)), _absent(compared)
    header = [f"{first}\n{second if second not in absent else ''}" for first, second in _HEADER]
    if _width([header, *rows]) > width:
        header = ["\n".join(line for line in title.split("\n") if line not in absent) for title in _NARROW_HEADER]
        rows = [[*cells[:2], *map(_stacked, cells[2:])] for cells in rows]
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for number, title in enumerate(header):
        shown.add_column(title, justify="right" if number else "left", overflow="fold")
    for cells in rows:
        shown.add_row(*map(Text, cells))
    return shown


def _absent(rows: Sequence[ComparedRow]) -> set[str]:
    """Return what no row has, as headers call it: with one seed there are no deviations and no intervals."""
    differences = [difference for row in rows for difference in (row.previous, row.baseline) if difference is not None]
    absent = {_SPREAD} if all(math.isnan(row.std) for row in rows) else set()
    return absent | ({_INTERVAL} if all(math.isnan(difference.half_width) for difference in differences) else set())


def _stacked(figure: str) -> str:
    """Return a figure with what belongs to it on a line below."""
    return figure if figure == _NOT_FINISHED else figure.replace(" ", "\n", 1)


def _width(rows: Sequence[Sequence[str]]) -> int:
    """Return how many columns of a terminal a table takes, with one between two of its own."""
    widest = [max(cell_len(line) for cell in column for line in cell.split("\n")) for column in zip(*rows, strict=True)]
    return sum(widest) + len(widest) - 1


def notes(ablation: Ablation) -> list[str]:
    """Return what one must know to read the table, a paragraph each."""
    rows = compare(ablation)
    found = [_method(rows, ablation.baseline), _reported_conditions(ablation)]
    if ablation.teachers:
        found.append(f"Teachers: {'; '.join(_teacher(row) for row in compare_teachers(ablation))}.")
    if ablation.store.grey:
        found.append(GREY_NOTE)
    found += _unequal(ablation)
    return found


def _method(rows: Sequence[ComparedRow], suites_baseline: str) -> str:
    """Return what the figures are."""
    seeds = sorted({len(row.values) for row in rows if row.values})
    if not seeds:
        return "Nothing of it is finished yet: there are no figures to compare. Run it without --report-only to go on."
    baseline = next((row.label for row in rows if row.label == suites_baseline), rows[0].label)
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    mean = f"Top-1 of the last evaluation in per cent, over {count} {'seed' if seeds == [1] else 'seeds'}"
    paired, absent = "Differences are paired by seed, in percentage points", _absent(rows)
    if _SPREAD in absent:
        spread = "without a second there is neither a deviation nor an interval"
        return f"{mean}: {spread}. {paired}; the baseline is {baseline!r}."
    interval = "" if _INTERVAL in absent else ", with their 95 % interval (Student's t)"
    return f"{mean}: mean and standard deviation (n - 1). {paired}{interval}; the baseline is {baseline!r}."


def _reported_conditions(ablation: Ablation) -> str:
    options = _options(ablation.changes)
    made = "1 change is" if len(options) == 1 else f"{len(options)} changes are"
    changed = f"; here {made} made to them" if options else ""
    return f"The paper's figures are of the recipes as published, on its own data{changed}."


def markdown(ablation: Ablation) -> str:
    """Return the table, what it is of, and the notes, as Markdown."""
    compared = compare(ablation)
    absent = _absent(compared)
    header = [f"{first} {second if second not in absent else ''}".strip() for first, second in _HEADER]
    lines = [
        f"# {ablation.suite}: {ablation.about}",
        "",
        _line(header),
        _line(["---", *["--:"] * (len(header) - 1)]),
        *(_line(cells) for cells in _cells(compared)),
        "",
        *(f"{note}\n" for note in (*notes(ablation), *_conditions(ablation))),
        "![](ablation.png)",
    ]
    return "\n".join(lines) + "\n"


def write_markdown(ablation: Ablation, file: Path) -> None:
    """Write `markdown`."""
    file.write_text(markdown(ablation))


def _cells(rows: Sequence[ComparedRow]) -> Iterator[list[str]]:
    for row in rows:
        yield [
            row.label,
            row.epochs.removesuffix(" epochs"),
            _mean(row),
            _difference(row.previous),
            _difference(row.baseline),
            _reported(row),
            _points(row.paper_previous),
            _points(row.paper_baseline),
        ]


def _mean(row: ComparedRow) -> str:
    if not row.values:
        return _NOT_FINISHED
    return f"{row.mean:.2%}".rstrip("%") + ("" if math.isnan(row.std) else f" ± {100 * row.std:.2f}")


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    interval = "" if math.isnan(difference.half_width) else f" ± {100 * difference.half_width:.2f}"
    return _points(difference.mean) + interval


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{100 * difference:+.2f}"


def _reported(row: ComparedRow) -> str:
    if row.paper is None or row.paper.top1 is None:
        return ""
    standing = "" if row.paper.standing == "verified" else f" {row.paper.standing.replace('_', '-')}"
    return f"{100 * row.paper.top1:.2f}{standing}"


def _teacher(row: ComparedRow) -> str:
    return f"{row.label} ({row.model}, {row.epochs}) {_mean(row)}"


def _unequal(ablation: Ablation) -> Iterator[str]:
    """Yield what differs between trainings that are compared."""
    found = [result for row in ablation.every for result in row.seeds.values()]
    names = sorted({name for result in found for name in result.conditions} - {"versions"})
    for name in names:
        values = sorted({str(result.conditions.get(name)) for result in found})
        if len(values) > 1:
            yield f"Not all was trained alike: {name} was {' and '.join(values)}."
    if bad := sum(result.bad_pictures for result in found):
        yield f"{bad:,} pictures could not be used, counted in every training."


def _conditions(ablation: Ablation) -> Iterator[str]:
    """Yield what was trained on what."""
    store, options = ablation.store, _options(ablation.changes)
    yield (
        f"Store: {Path(store.path).name}, {store.num_train:,} + {store.num_val:,} pictures, {store.num_classes:,} "
        f"classes, manifest {store.digest[:12]}."
    )
    yield f"Trained: {', '.join(dict.fromkeys(row.model for row in ablation.rows))}."
    yield f"Changes to the recipes: {f'`{chr(32).join(options)}`' if options else 'none'}."
    machines = sorted({result.machine for row in ablation.every for result in row.seeds.values()})
    yield f"Trained on: {'; '.join(machines) or 'nothing yet'}. Versions, speeds and every score: `ablation.json`."


def _options(changes: Changes) -> list[str]:
    """Return what an ablation's changes are on its command line."""
    options = [*changes.overrides, *(f"--teacher {entry}" for entry in changes.teacher_overrides)]
    options += [f"--scale-epochs {changes.scale_epochs:g}"] if changes.scale_epochs != 1 else []
    return [*options, "--one-teacher"] if changes.one_teacher else options


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
