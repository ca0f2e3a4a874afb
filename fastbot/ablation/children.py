"""Trainings as processes of their own: `python -m fastbot train ...`, in a log file each.

A process each isolates memory, seeds and threads, lets several share a device, and makes going on after a kill the same
as for any run: `--resume`.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from fastbot import locks
from fastbot.ablation.trainings import Training
from fastbot.errors import FastbotError, RecipeError, RunError
from pipelines.cores import cores

LOG_NAME = "log.txt"
_TAIL_LINES = 15
_WRONG_RECIPE = 2  # the exit code, see fastbot/cli
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Trainings that a killed ablation leaves behind are told to end, and save first: a large checkpoint takes a while.
_LOCK_PATIENCE_S = 60.0

_libc = ctypes.CDLL(None)


class Child:
    """A training in a process of its own.

    Args:
        training: which one.
        options: of `fastbot train` besides the recipe: --data and the like.
        cpus: the CPUs it may use.
        lock: a file descriptor that it keeps open, see `locked`.
    """

    def __init__(self, training: Training, options: Sequence[str], cpus: Sequence[int], lock: int) -> None:
        self.training = training
        training.folder.mkdir(parents=True, exist_ok=True)
        self.log = training.folder / LOG_NAME
        self._options = list(options)
        with self.log.open("a") as log:
            log.write(f"$ {self.command}\n")
            log.flush()
            # A session of its own: Ctrl-C in the terminal reaches it once, through `ask_to_stop`.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastbot", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_stop_with_parent,
                pass_fds=(lock,),
            )
        os.sched_setaffinity(self._process.pid, cpus)  # it starts no thread for a long while yet

    @property
    def command(self) -> str:
        """What a person types to do the same, or to go on with it."""
        return shlex.join(["fastbot", *self._arguments()])

    def _arguments(self) -> list[str]:
        folder = self.training.folder
        begun = ["--resume"] if (folder / "recipe.toml").exists() else []
        return ["train", *self.training.arguments, *self._options, "--out", str(folder), *begun]

    def exit_code(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Ask it to save and leave."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once with all that it has started, and wait until it has ended."""
        if self._process.poll() is None:
            _kill_with_descendants(self._process.pid)
            self._process.wait()

    def failure(self) -> FastbotError:
        """Return what to tell of a training that has failed; of a wrong recipe, a `RecipeError`."""
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        shown = "\n".join(f"    {line}" for line in lines)
        end = f"The end of {self.log}:\n{shown}"
        said = f"training {self.training} {how}. {end}\nTo see it again:\n    {self.command}\n"
        if code == _WRONG_RECIPE:
            return RecipeError(f"{said}Put that right. If it takes other overrides, choose another --out with them")
        return RunError(f"{said}The same ablation, run again, goes on from here")


def _kill_with_descendants(pid: int) -> None:
    """Kill a process and all that it has started, in whatever sessions: torch's launcher gives each rank its own.

    Each is halted before its children are read: it starts no more of them meanwhile, nor leaves any behind.
    """
    found = [pid]
    for each in found:  # it grows
        _signal(each, signal.SIGSTOP)
        found += _children(each)
    for each in found:
        _signal(each, signal.SIGKILL)
    with suppress(ProcessLookupError):  # also where the kernel does not tell children, or a parent had ended before
        os.killpg(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has just ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # or a thread of it
                found += map(int, (thread / "children").read_text().split())
    return found


def _signal(pid: int, what: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, what)


def _stop_with_parent() -> None:
    """Have the kernel ask a child to stop when the ablation is killed; runs before exec, where only libc is safe."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def shared_cpus(jobs: int) -> list[list[int]]:
    """Return the CPUs for each of several trainings at once: as good as equal shares of those that are allowed."""
    allowed, share = sorted(os.sched_getaffinity(0)), max(1, cores() // jobs)
    parts = [allowed[k * len(allowed) // jobs : (k + 1) * len(allowed) // jobs] for k in range(jobs)]
    if jobs == 1:
        return parts
    return [part[:share] or [allowed[k % len(allowed)]] for k, part in enumerate(parts)]


@contextmanager
def locked(folder: Path, tell: Callable[[str], None]) -> Iterator[int]:
    """Keep other ablations out of a folder, as long as this one or a training that it started lives.

    Of a training in several ranks it is their launcher that counts, which ends after them, unless it is killed itself.

    Args:
        folder: made where it is not there.
        tell: is told at once where others are at work in it, and have to be waited for.

    Yields:
        a file descriptor for children to keep open: the lock is theirs too.

    Raises:
        RunError: the folder cannot be made, or others are at work in it.
    """
    others = "another `fastbot ablate`"
    busy = f"{others} is at work in {folder}, or a training that one left behind. Wait for it, or end it"
    try:
        locks.check_unlocked(folder, busy, 0.0)
    except RunError:
        tell(f"waiting   up to {_LOCK_PATIENCE_S:.0f} s for {others} in {folder}, or a training that one left behind")
    with locks.locked(folder, busy, _LOCK_PATIENCE_S) as descriptor:
        yield descriptor
