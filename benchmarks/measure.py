"""The method of every benchmark: warm-up, interleaved repeats, medians with their spread, ratios to a named peer.

One JSON line per result, with the conditions it was measured under. A figure without conditions does not exist.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pipelines.cores import cores

# A spread beyond this says the machine was too noisy for the figure to be quoted alone.
NOISY = 0.10
# Characters a line of a table that goes into a file: one result stays on one line.
_LOG_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to time.

    Args:
        name: of the case, unique in its benchmark.
        run: does the work once and returns how many pictures it handled.
        peer: the name of the case it is compared with; its own name when it is a peer itself.
        per: divides the rate, for example the cores it may use.
        other_peers: further cases that it is compared with, each in a row of its own.
        before: called before each run, outside the time.
    """

    name: str
    run: Callable[[], int]
    peer: str
    per: float = 1.0
    other_peers: tuple[str, ...] = ()
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class Result:
    """What a case came to.

    Attributes:
        images_per_s: median over repeats, divided by the case's `per`; another figure where `unit` says so.
        spread: (max - min) / median over repeats.
        ratio: median over repeats of this case's rate to its peer's in the same repeat.
        repeats: how many were counted.
    """

    benchmark: str
    case: str
    peer: str
    images_per_s: float
    spread: float
    ratio: float
    repeats: int
    unit: str = "images/s"
    notes: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def measure(
    benchmark: str,
    cases: Sequence[Case],
    *,
    repeats: int = 5,
    warmups: int = 1,
    unit: str = "images/s",
    synchronize: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Time cases in turn (A B C A B C ...), so that a drift of the machine meets all of them alike.

    Args:
        benchmark: its name.
        cases: with every case's peer among them.
        repeats: counted rounds.
        warmups: rounds before, not counted.
        unit: of the rates.
        synchronize: called before each reading of the clock; a GPU's synchronize.
    """
    rates: dict[str, list[float]] = {case.name: [] for case in cases}
    for turn in range(warmups + repeats):
        for case in cases:
            rate = _rate(case, synchronize)
            if turn >= warmups:
                rates[case.name].append(rate)
    return [
        compared(benchmark, case.name, peer, rates, unit) for case in cases for peer in (case.peer, *case.other_peers)
    ]


def _rate(case: Case, synchronize: Callable[[], object]) -> float:
    case.before()
    synchronize()
    started = time.perf_counter()
    count = case.run()
    synchronize()
    return count / (time.perf_counter() - started) / case.per


def compared(benchmark: str, case: str, peer: str, figures: Mapping[str, Sequence[float]], unit: str) -> Result:
    """Return a case's median and spread, and its ratio to a peer.

    Args:
        benchmark, case, peer: names.
        figures: by case, one a round.
        unit: of the figures.
    """
    own = figures[case]
    median = statistics.median(own)
    return Result(
        benchmark=benchmark,
        case=case,
        peer=peer,
        images_per_s=median,
        spread=(max(own) - min(own)) / median,
        ratio=statistics.median(a / b for a, b in zip(own, figures[peer], strict=True)),
        repeats=len(own),
        unit=unit,
    )


def conditions() -> dict[str, Any]:
    """Return what a figure depends on: device, cores, versions, commit and command."""
    packages = ("torch", "torchvision", "numpy", "numba", "nvidia-dali-cuda120", "ffcv", "pillow", "triton")
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "cores": cores(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
        "commit": _commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def report(results: Sequence[Result], conditions: Mapping[str, Any], json_file: Path | None, title: str) -> None:
    """Print a table, and append one JSON line per result to `json_file` when given."""
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    table = Table("case", results[0].unit if results else "", "spread", "ratio", "to", "notes", title=title)
    for result in results:
        noisy = " [yellow]noisy[/]" if result.spread > NOISY else ""
        spread = f"{result.spread:.0%}{noisy}"
        own_unit = "" if result.unit == results[0].unit else f" {result.unit}"
        rate = f"{figure(result.images_per_s)}{own_unit}"
        table.add_row(result.case, rate, spread, f"{result.ratio:.2f}", result.peer, result.notes)
    console.print(table)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        with json_file.open("a") as out:
            out.writelines(json.dumps(asdict(result) | {"conditions": dict(conditions)}) + "\n" for result in results)


def figure(value: float) -> str:
    """Write a number with three digits, or as many as stand before its point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
