"""`fastbot bench all`: every rung, one after another, each in a process of its own, and a report of all of them.

A rung that fails or runs over its limit is named, its log stays, and the ladder goes on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Annotated

import torch
import typer
from rich.console import Console

from benchmarks.corpora.corpus import STATISTICS_NAME
from benchmarks.pages.report import write_report
from benchmarks.processes import run_whole
from fastbot.errors import RunError

# Lines of a failed rung's log that are shown at once.
_SHOWN_LINES = 12
_STORE = "{data}"
# A rung that gets less is not begun.
_LEAST_S = 5


class Profile(StrEnum):
    """At which sizes the ladder runs."""

    quick = "quick"
    full = "full"
    gpu = "gpu"


@dataclass(frozen=True, slots=True)
class Rung:
    """One command of the ladder.

    Attributes:
        command: its name and its arguments; `{data}` stands for the store.
        limit_s: it is ended after so many seconds.
        name: of its files, where the command's does not tell it apart.
        needs: a module without which it is left out.
        cores: how many it may use; 0 for all.
    """

    command: str
    limit_s: int
    name: str = ""
    needs: str = ""
    cores: int = 0

    @property
    def title(self) -> str:
        """What it is called on the screen and on disk."""
        return self.name or self.command.split()[0]


# Small models at small sizes, so that two cores climb all of it in ten minutes: structure and ratios, not rates.
_SMALL_STEP = "--size 64 --batch-size 16"
_FEW_STEPS = "--size 64 --batch-size 8 --steps 2 --repeats 1 --turns 5"
_SMALL_MODEL = "model.name=resnet18v1 precision.kind=fp32"
_QUICK = (
    Rung(f"decode --data {_STORE} --threads 1", 60),
    Rung(f"loader --data {_STORE} --size 160 --batch-size 32", 120),
    Rung("augment --batch-size 32 --size 160", 75),
    Rung("plan --samples 65536", 30),
    Rung(f"step --model resnet50 --precision fp32 --precision bf16 {_SMALL_STEP}", 80),
    Rung("table5 --size 64 --batch-size 8", 60),
    Rung(f"train --data {_STORE} --recipe bot-efficient {_SMALL_STEP} --steps 4 {_SMALL_MODEL}", 80),
    Rung(f"table3 --data {_STORE} --size 32 --batch-sizes 4 16 --steps 2 --models mobilenet", 90),
    Rung(f"scaling --data {_STORE} --ranks 1 --ranks 2 {_FEW_STEPS} {_SMALL_MODEL}", 110),
    Rung(f"startup --data {_STORE} --size 64 --batch-size 8 --repeats 3 {_SMALL_MODEL}", 90),
    Rung(f"memory --data {_STORE} --size 64 --batch-size 128 --store-size 1000000 --batches 5 --until 50", 60),
)
_FULL = (
    Rung(f"decode --data {_STORE} --threads 1", 600),
    Rung(f"loader --data {_STORE} --bins --progressive --large", 2400),
    Rung("augment --threads 1", 900),
    Rung("plan", 300),
    Rung(f"delivery --data {_STORE}", 900),
    Rung(f"convert --data {_STORE} --count 4000", 1800),
    Rung("step --model resnet50 --precision fp32 --precision bf16 --batch-size 16 --size 128", 900),
    Rung("table5 --size 128 --batch-size 16", 900),
    Rung(f"train --data {_STORE} --recipe bot-efficient --size 128 --batch-size 32 --steps 4 precision.kind=fp32", 900),
    Rung(f"table3 --data {_STORE} --size 96 --batch-sizes 16 64", 1800),
    Rung(f"scaling --data {_STORE} --ranks 1 --ranks 2 --size 96 --batch-size 16", 600),
    Rung(f"startup --data {_STORE}", 600),
    Rung(f"memory --data {_STORE}", 600),
)
# In the order of what is wanted most, as the time may be over before the last: 5 minutes reach as far as `table5`.
_GPU = (
    Rung("step --model resnet50 --precision fp16 --batch-size 1024 --compile --seconds 0.5", 75),
    Rung(f"train --data {_STORE} --recipe bot-efficient --batch-size 1024 --steps 12", 60),
    Rung("augment-gpu", 45),
    Rung(f"loader --data {_STORE} --batch-size 256 --repeats 3", 75),
    Rung(f"table3 --data {_STORE} --models resnet50 --repeats 3", 75),
    Rung("table5 --batch-size 256", 45),
    Rung(
        "step --model resnet50 --precision tf32 --precision bf16 --no-compile --batch-size 256", 60, "step_precisions"
    ),
    Rung(
        f"train --data {_STORE} --recipe bot-efficient --batch-size 1024 --steps 12 --backend turbo", 60, "train_turbo"
    ),
    # DALI shall need no more than 4 cores beside a GPU: it gets no more.
    Rung(f"loader --data {_STORE} --batch-size 256 --repeats 3", 90, "loader_4cores", needs="nvidia.dali", cores=4),
    Rung(f"decode --data {_STORE} --repeats 3", 30),
    Rung(f"delivery --data {_STORE} --batch-size 256 --repeats 2 --backend turbo", 45, "delivery_turbo"),
    Rung(f"delivery --data {_STORE} --batch-size 256 --repeats 2 --backend dali", 45, "delivery_dali", "nvidia.dali"),
    Rung(f"startup --data {_STORE} --repeats 2", 30),
    Rung(f"memory --data {_STORE}", 30),
    Rung(f"scaling --data {_STORE}", 60),
)
RUNGS: Mapping[Profile, Sequence[Rung]] = {Profile.quick: _QUICK, Profile.full: _FULL, Profile.gpu: _GPU}
_PICTURES = {Profile.quick: 240, Profile.full: 1000, Profile.gpu: 3000}
_MINUTES = {Profile.quick: 10.0, Profile.full: 180.0, Profile.gpu: 7.0}


@dataclass(frozen=True, slots=True)
class Climb:
    """How the ladder is climbed.

    Attributes:
        out: gets a file of JSON lines for each rung, `logs/` and the report.
        deadline: of `time.monotonic`, after which nothing runs.
        console: tells how it goes.
    """

    out: Path
    deadline: float
    console: Console

    def run(self, rung: Rung, data: Path) -> bool:
        """Run a rung, and say how it ended.

        Returns:
            Whether it ended well.
        """
        seconds = min(rung.limit_s, self.deadline - time.monotonic())
        if seconds < _LEAST_S:
            self.console.print(f"{rung.title}: not run, the time is over")
            return False
        file, log = self.out / f"{rung.title}.jsonl", self.out / "logs" / f"{rung.title}.log"
        file.unlink(missing_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [str(data) if word == _STORE else word for word in rung.command.split()]
        on_cores = ["taskset", "--cpu-list", f"0-{rung.cores - 1}"] if rung.cores else []
        began = time.monotonic()
        with log.open("wb") as output:
            command = [*on_cores, sys.executable, "-m", "benchmarks", *words, "--json", str(file)]
            ended = _ended(command, output, seconds)
        self.console.print(f"{rung.title}: {ended}, {time.monotonic() - began:.0f} s")
        if ended != "done":
            self.console.print("\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]))
        return ended == "done"


def _ended(command: Sequence[str], output: IO[bytes], seconds: float) -> str:
    """Run a command, end all that it has started when its time is over, and return how it ended."""
    try:
        code = run_whole(command, seconds, output=output, environment={"PYTHONUNBUFFERED": "1"})
    except subprocess.TimeoutExpired:
        return f"ended after its limit of {seconds:.0f} s"
    return "done" if code == 0 else f"failed with exit code {code}"


@contextmanager
def _store(data: Path | None, profile: Profile, climb: Climb) -> Iterator[Path]:
    """Return the store to measure on; a corpus is made where none is given."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="fastbot-ladder-") as folder:
        store = Path(folder, "corpus")
        words = ["corpus", str(store), "--count", str(_PICTURES[profile])]
        log = climb.out / "logs" / "corpus.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            ended = _ended([sys.executable, "-m", "benchmarks", *words], output, 600)
        if ended != "done" or not (store / STATISTICS_NAME).is_file():
            raise RunError(f"the corpus could not be made ({ended}): see {log}, or give a store with --data")
        yield store


def run(out: Path, profile: Profile, data: Path | None, minutes: float, names: Sequence[str]) -> list[str]:
    """Climb the ladder, and report.

    Args:
        out: a folder for JSON lines, logs and the report; what a former climb left of the same rungs is replaced.
        profile: at which sizes.
        data: a store; None makes a corpus.
        minutes: after which no rung goes on.
        names: of rungs; all where there are none.

    Returns:
        The names of rungs that did not end well.

    Raises:
        RunError: a name is of no rung, or the corpus could not be made.
    """
    rungs = _chosen(profile, names)
    climb = Climb(out, time.monotonic() + 60 * minutes, Console(highlight=False, markup=False, soft_wrap=True))
    with _store(data, profile, climb) as store:
        failed = [rung.title for rung in rungs if not climb.run(rung, store)]
    files = [file for rung in rungs if (file := out / f"{rung.title}.jsonl").is_file()]
    if files:
        write_report(files, out)
        climb.console.print(f"report: {out / 'report.html'}")
    return failed


def _chosen(profile: Profile, names: Sequence[str]) -> list[Rung]:
    known = {rung.title: rung for rung in RUNGS[profile] if not rung.needs or _importable(rung.needs)}
    if unknown := sorted(set(names) - known.keys()):
        raise RunError(f"--rung {', '.join(unknown)}: is not on the ladder. Take of {', '.join(known)}")
    return [rung for title, rung in known.items() if not names or title in names]


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it
        return False


def command(
    out: Annotated[Path, typer.Option(help="Gets JSON lines, logs, report.md and report.html.")] = Path("bench"),
    data: Annotated[Path | None, typer.Option(help="A store; by default a corpus is made.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: at most 10 minutes on two cores.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Sizes of a GPU: at most 7 minutes.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="After which no rung goes on.")] = None,
    rung: Annotated[list[str] | None, typer.Option(help="Only this one; repeat for more.")] = None,
) -> None:
    """Run every rung, and report all of them on one page.

    Example: [bold]fastbot bench all --quick --out bench[/]
    """
    if quick and gpu:
        raise RunError("--quick and --gpu are two sizes. Give one of them")
    if gpu and not torch.cuda.is_available():
        raise RunError("--gpu: there is no CUDA device that PyTorch can use. Leave it out, or give --quick")
    profile = Profile.quick if quick else Profile.gpu if gpu else Profile.full
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the running rung is ended, too
    failed = run(out, profile, data, minutes or _MINUTES[profile], rung or [])
    if failed:
        raise RunError(f"{', '.join(failed)} did not end well: see {out / 'logs'}")
