"""Results as JSON lines, one a result, with the conditions it was measured under.

A line has `benchmark`, `case`, `peer`, the figure under its unit's name (`images_per_s`, `seconds`, ...), `unit`,
`spread`, `noisy`, `ratio`, `ratio_spread`, `repeats`, the `samples` and `ratios` of all rounds, `notes`, `details`,
`device`, `versions`, `commit`, and `conditions`: all else that it depends on, among it `cpu` and `gpu`, whichever of
them `device` is the name of.
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks import hardware, machine, watching
from benchmarks.measure import Result
from benchmarks.units import UNITS
from fastbot.errors import RunError
from pipelines.cores import cores

_PACKAGES = (
    *("torch", "torchvision", "numpy", "numba", "ffcv", "pillow", "triton"),
    *("nvidia-dali-cuda120", "nvidia-dali-cuda130", "nvidia-dali-cuda110"),
    *("timm", "kornia", "webdataset", "spdl-io", "litdata", "mosaicml"),
)
# A rung is one process: what the machine shows before its work is what it shows now.
_STARTED = machine.read()


@dataclass(frozen=True, slots=True)
class Line:
    """A result and what it was measured on.

    Attributes:
        result: what was measured.
        device: the name of what it was measured on: a GPU, or the processor.
        versions: of the packages that matter, by name.
        commit: of this repository.
        conditions: all else, by name; among it what the rung was set to.
    """

    result: Result
    device: str
    versions: Mapping[str, str]
    commit: str
    conditions: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        """What the same measurement is called in another file."""
        return self.result.benchmark, self.result.case, self.result.peer

    def json(self) -> str:
        """Return the line as it stands in a file."""
        result = self.result
        return json.dumps(
            {
                "benchmark": result.benchmark,
                "case": result.case,
                "peer": result.peer,
                UNITS[result.unit].key: result.value,
                "unit": result.unit,
                "spread": result.spread,
                "noisy": result.is_noisy,
                "ratio": _finite(result.ratio),
                "ratio_spread": _finite(result.ratio_spread),
                "repeats": len(result.samples),
                "samples": result.samples,
                "ratios": [_finite(ratio) for ratio in result.ratios],
                "notes": result.notes,
                "details": result.details,
                "device": self.device,
                "versions": self.versions,
                "commit": self.commit,
                "conditions": self.conditions,
            }
        )

    @classmethod
    def of(cls, text: str) -> Line:
        """Read a line of a file; KeyError, TypeError or ValueError where it is none."""
        found = json.loads(text)
        ratios = tuple(math.nan if ratio is None else float(ratio) for ratio in found["ratios"])
        result = Result(
            found["benchmark"],
            found["case"],
            found["peer"],
            found["unit"],
            tuple(map(float, found["samples"])),
            ratios,
            found["notes"],
            found["details"],
        )
        if result.unit not in UNITS or not result.samples or len(ratios) != len(result.samples):
            raise ValueError("no known unit, or no sample for each ratio")
        if not all(map(math.isfinite, result.samples)):
            raise ValueError("a sample that is no number")
        if not all(isinstance(found[name], dict) for name in ("details", "versions", "conditions")):
            raise ValueError("details, versions or conditions that are no object")
        return cls(result, found["device"], found["versions"], found["commit"], found["conditions"])


def load(file: Path) -> list[Line]:
    """Read a file of results.

    Raises:
        RunError: it cannot be read, is empty, or has a line that is no result.
    """
    try:
        texts = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{file}: cannot be read: {error}. Give a file that a benchmark wrote with --json") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(Line.of(text))
        except (KeyError, TypeError, ValueError) as error:
            found = f"{type(error).__name__}: {error}"
            raise RunError(
                f"{file}, line {number}: is no result of a benchmark ({found}). Remove that line, or measure again"
            ) from error
    if not lines:
        raise RunError(f"{file}: has no results. Measure again with --json")
    return lines


def append(
    results: Sequence[Result], settings: Mapping[str, Any], json_file: Path, *, device: torch.device | str = "cpu"
) -> None:
    """Append one line per result to a file, with the conditions of now.

    Args:
        results: of one rung.
        settings: what it was set to, by name.
        json_file: where lines go; its folder is made.
        device: that the rung runs on; a result's own `details["device"]` stands before it.
    """
    versions, commit = _versions(), _commit()
    conditions = {**_conditions(), **settings}
    found = []
    for result in results:
        own = torch.device(result.details.get("device", device))
        found.append(Line(result, hardware.name_of(own), versions, commit, {**conditions, "device": own.type}))
    json_file.parent.mkdir(parents=True, exist_ok=True)
    with json_file.open("a") as out:
        out.write("".join(f"{line.json()}\n" for line in found))  # at once: a rung that is killed leaves whole lines


def _conditions() -> dict[str, Any]:
    return {
        "cores": cores(),
        "python": platform.python_version(),
        "cpu": hardware.cpu_model(),
        "gpu": hardware.gpu(),
        "machine": {**machine.between(_STARTED, machine.read()), "during": watching.summary()},
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
    }


def _program(path: Path) -> list[str]:
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


@cache
def _versions() -> dict[str, str]:
    return {name: version for name in _PACKAGES if (version := _version(name))}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache  # what runs is what was imported, whatever is checked out meanwhile
def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
