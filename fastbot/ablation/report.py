"""The table of an ablation, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fastbot.ablation.comparison import ComparedRow, Difference, compare, compare_teachers
from fastbot.ablation.records import Ablation

_HEADER = (
    ("row", ""),
    ("epochs", ""),
    ("top-1", "± std"),
    ("to row before", "± 95 %"),
    ("to baseline", "± 95 %"),
    ("paper:", "top-1"),
    ("to row", "before"),
    ("to", "baseline"),
)

GREY_NOTE = (
    "All pictures of the store are grey. Jitter of hue and saturation changes nothing there, and PCA lighting tints "
    "what has no colour: this ablation says nothing about colour jitter and lighting."
)


def table(ablation: Ablation) -> RenderableType:
    """Return the table as `rich` prints it: at 100 columns nothing is broken, at 80 labels are."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for number, (first, second) in enumerate(_HEADER):
        shown.add_column(f"{first}\n{second}", justify="right" if number else "left", no_wrap=number > 0)
    for cells in _cells(compare(ablation)):
        shown.add_row(*map(Text, cells))
    return shown


def notes(ablation: Ablation) -> list[str]:
    """Return what one must know to read the table, a paragraph each."""
    rows = compare(ablation)
    baseline = next((row.label for row in rows if row.label == ablation.baseline), rows[0].label)
    seeds = sorted({len(row.values) for row in rows})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    found = [
        f"Top-1 of the last evaluation in per cent, over {count} {'seed' if seeds == [1] else 'seeds'}: mean and "
        f"standard deviation (n - 1). Differences are paired by seed, in percentage points, with their 95 % interval "
        f"(Student's t); the baseline is {baseline!r}. The paper's figures are of its own data, network and length."
    ]
    if ablation.teachers:
        found.append(f"Teachers: {'; '.join(_teacher(row) for row in compare_teachers(ablation))}.")
    if ablation.store.grey:
        found.append(GREY_NOTE)
    found += _unequal(ablation)
    return found


def markdown(ablation: Ablation) -> str:
    """Return the table, what it is of, and the notes, as Markdown."""
    header = [f"{first} {second}".strip() for first, second in _HEADER]
    header[-2:] = [f"paper: {title}" for title in header[-2:]]
    lines = [
        f"# {ablation.suite}: {ablation.about}",
        "",
        _line(header),
        _line(["---", *["--:"] * (len(header) - 1)]),
        *(_line(cells) for cells in _cells(compare(ablation))),
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
        return "not finished"
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
    store, changes = ablation.store, ablation.changes
    yield (
        f"Store: {Path(store.path).name}, {store.num_train:,} + {store.num_val:,} pictures, {store.num_classes:,} "
        f"classes, manifest {store.digest[:12]}."
    )
    options = [*changes.overrides, *(f"--teacher {entry}" for entry in changes.teacher_overrides)]
    options += [f"--scale-epochs {changes.scale_epochs:g}"] if changes.scale_epochs != 1 else []
    options += ["--one-teacher"] if changes.one_teacher else []
    yield f"Trained: {', '.join(dict.fromkeys(row.model for row in ablation.rows))}."
    yield f"Changes to the recipes: {f'`{chr(32).join(options)}`' if options else 'none'}."
    machines = sorted({result.machine for row in ablation.every for result in row.seeds.values()})
    yield f"Trained on: {'; '.join(machines) or 'nothing yet'}. Versions, speeds and every score: `ablation.json`."


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
