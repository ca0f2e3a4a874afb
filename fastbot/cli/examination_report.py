"""What an examination comes to: on the terminal, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from datasets_tools.store import Split
from datasets_tools.wording import counted
from fastbot.cli.versions import versions
from fastbot.diagnosis.examination import Subject
from fastbot.diagnosis.figures import Figure, Part
from fastbot.diagnosis.limits import Diagnosis, Situation
from fastbot.distributed import cores

# Figures of a machine that is busy with something else are not its own.
_BUSY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the figures were measured under.

    Attributes:
        cpu, cores, gpu: the machine; `gpu` is empty where none is used.
        load_average: processes that ran in the last minute, before anything was measured.
        python, versions: of the interpreter, and of the packages that matter.
        store, split, num_pictures, mean_bytes, mean_height, mean_width: what was read.
        recipe, crop_size: what was done.
    """

    cpu: str
    cores: int
    gpu: str
    load_average: float
    python: str
    versions: dict[str, str]
    store: str
    split: str
    num_pictures: int
    mean_bytes: float
    mean_height: float
    mean_width: float
    recipe: str
    crop_size: int

    @classmethod
    def here(cls, subject: Subject, split: Split, store: Path) -> Conditions:
        """Return the conditions at this moment."""
        return cls(
            cpu=_cpu_name(),
            cores=cores(),
            gpu=torch.cuda.get_device_name(subject.device) if subject.device.type == "cuda" else "",
            load_average=os.getloadavg()[0],
            python=platform.python_version(),
            versions=versions(),
            store=str(store),
            split=split.name,
            num_pictures=len(split),
            mean_bytes=split.record.mean_bytes,
            mean_height=float(split.heights.mean()),
            mean_width=float(split.widths.mean()),
            recipe=subject.recipe.name,
            crop_size=subject.recipe.data.crop_size,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All that an examination came to."""

    conditions: Conditions
    situation: Situation
    figures: Sequence[Figure]
    diagnosis: Diagnosis


def print_report(console: Console, report: Report) -> None:
    """Print a table of the figures, the limit, and the one setting to change."""
    _print_conditions(console, report.conditions)
    table = Table("part")
    table.add_column("pictures/s", justify="right")
    table.add_column("measured with")
    for figure in report.figures:
        rate = "-" if figure.images_per_s is None else _shown(figure.images_per_s)
        title = f"{figure.part}, {figure.variant}" if figure.variant else figure.part
        table.add_row(title, rate, figure.how, style=None if figure.decisive else "dim")
    console.print(table)
    console.print(f"limit     {limit_line(report)}", style="bold", soft_wrap=True)
    if report.situation.fits_in_memory and _disk_rate(report) < report.diagnosis.images_per_s:
        line = "disk      slower still, but a first epoch alone reads it: the split fits the free memory"
        console.print(line, soft_wrap=True)
    console.print(f"change    {report.diagnosis.advice}", style="bold", soft_wrap=True)


def limit_line(report: Report) -> str:
    """Return what sets the pace, in a sentence."""
    figures, diagnosis = report.figures, report.diagnosis
    limit = next(figure for figure in figures if figure.part == diagnosis.limit and figure.decisive)
    line = f"{limit.part}: {_shown(limit.images_per_s or 0.0)} pictures/s"
    if diagnosis.times_over is None:
        line += ", of the pipeline without a model"
    if len(diagnosis.sharing) == 1:
        return line
    parts = f"{', '.join(diagnosis.sharing[:-1])} and {diagnosis.sharing[-1]}"
    return f"{line}; {parts} take turns on the {limit.resource}: about {_shown(diagnosis.images_per_s)} together"


def write_report(file: Path, report: Report) -> None:
    """Write all of it as JSON."""
    content = asdict(report)
    content["situation"]["usable_backends"] = sorted(report.situation.usable_backends)
    file.write_text(json.dumps(content, indent=2) + "\n")


def _print_conditions(console: Console, c: Conditions) -> None:
    console.print(
        f"store     {c.store}, {c.split}: {counted(c.num_pictures, 'picture')} of {c.mean_bytes / 1e3:,.1f} kB and "
        f"{c.mean_width:.0f} x {c.mean_height:.0f} pixels on average",
        soft_wrap=True,
    )
    of_cores = counted(c.cores, "core")
    console.print(f"machine   {c.gpu or c.cpu}, {of_cores}; as recipe {c.recipe} has it", soft_wrap=True)
    if c.load_average > _BUSY_SHARE * c.cores:
        line = f"busy      a load of {c.load_average:.1f} on {of_cores} before this began: the figures are low"
        console.print(line, style="yellow", soft_wrap=True)


def _shown(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if images_per_s >= 10 else f"{images_per_s:.2g}"


def _disk_rate(report: Report) -> float:
    return next(f.images_per_s or 0.0 for f in report.figures if f.part == Part.DISK and f.decisive)


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
