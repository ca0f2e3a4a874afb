"""One rung of the ladder after another, each in a process of its own that leaves nothing behind but its results."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.processes import orphans_ended, run_whole
from benchmarks.profiles import STORE, Rung

# How a command ended that ended well.
DONE = "done"
# Lines of a failed rung's log that are shown at once.
_SHOWN_LINES = 12
# The hardware threads of one core, as "3,11" or "6-7".
_SIBLINGS = "/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
# A rung that gets less is not begun.
_LEAST_S = 5


@dataclass(frozen=True, slots=True)
class Climb:
    """How the ladder is climbed.

    Attributes:
        out: gets a file of JSON lines for each rung, and `logs/`.
        deadline: of `time.monotonic`, after which nothing runs.
        console: tells how it goes.
    """

    out: Path
    deadline: float
    console: Console

    def file(self, rung: Rung) -> Path:
        """Return where a rung's results go."""
        return self.out / f"{rung.title}.jsonl"

    def log(self, name: str) -> Path:
        """Return where a command's output goes; the folder is made."""
        folder = self.out / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def clear(self, rungs: Sequence[Rung]) -> None:
        """Remove what a former climb left of these rungs, so that nothing of it is reported as new."""
        for rung in rungs:
            self.file(rung).unlink(missing_ok=True)
            self.log(rung.title).unlink(missing_ok=True)

    def run(self, rung: Rung, data: Path | None, later_s: float = 0.0) -> str:
        """Run a rung, and say how it ended.

        Args:
            rung: of the ladder.
            data: the store; None where there is none.
            later_s: what the limits of the rungs after it come to.

        Returns:
            `DONE`, or what became of it.
        """
        seconds = _limit(rung, later_s, self.deadline - time.monotonic())
        if (no_store := rung.needs_store and data is None) or seconds < _LEAST_S:
            ended = f"not run, {'there is no store' if no_store else 'the time is over'}"
            self.console.print(f"{rung.title}: {ended}")
            return ended
        words = [str(data) if word == STORE else word for word in rung.command.split()]
        words += ["--json", str(self.file(rung))]
        began = time.monotonic()
        ended = self.ended(words, rung.title, seconds, _on_cores(rung.cores))
        self.console.print(f"{rung.title}: {ended}, {time.monotonic() - began:.0f} s")
        if ended != DONE:
            self.console.print("\n".join(self.log(rung.title).read_text(errors="replace").splitlines()[-_SHOWN_LINES:]))
        return ended

    def ended(self, words: Sequence[str], name: str, seconds: float, before: Sequence[str] = ()) -> str:
        """Run a command of the suite, and return how it ended.

        It gets a folder of its own for temporary files, which is removed afterwards; whatever it has started is ended.

        Args:
            words: the command and its arguments.
            name: of its log.
            seconds: that it may take.
            before: a program that runs it, and that program's arguments.
        """
        command = [*before, sys.executable, "-m", "benchmarks", *words]
        with (
            self.log(name).open("wb") as output,
            tempfile.TemporaryDirectory(prefix="fastbot-rung-", ignore_cleanup_errors=True) as folder,
            orphans_ended(),
        ):
            try:
                code = run_whole(command, seconds, output=output, environment=_environment(folder))
            except subprocess.TimeoutExpired:
                return f"ended after its limit of {seconds:.0f} s"
        return DONE if code == 0 else f"failed with exit code {code}"


def _limit(rung: Rung, later_s: float, left_s: float) -> float:
    """Return how many seconds a rung may take: what rungs before it left over, or a user gave, is shared out."""
    return min(left_s, max(rung.limit_s, left_s * rung.limit_s / (rung.limit_s + later_s)))


def _environment(folder: str) -> dict[str, str]:
    """Return the variables of a rung; what PyTorch compiled for a former one is found again."""
    compiled = Path(tempfile.gettempdir(), f"fastbot-inductor-{os.getuid()}")  # in a container a user may have no name
    inductor = os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(compiled))
    return {"PYTHONUNBUFFERED": "1", "TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": inductor}


def _on_cores(count: int) -> list[str]:
    """Return what keeps a command to so many of the cores that this process may use; to all of them for 0."""
    if not count:
        return []
    ours = sorted(os.sched_getaffinity(0), key=lambda cpu: (_place_in_core(cpu), cpu))[:count]
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(ours)))]


def _place_in_core(cpu: int) -> int:
    """Return 0 for the first hardware thread of a core, 1 for the second; 0 where the system does not say."""
    try:
        siblings = Path(_SIBLINGS.format(cpu=cpu)).read_text()
    except OSError:
        return 0
    return sum(int(part.partition("-")[0]) < cpu for part in siblings.strip().split(","))
