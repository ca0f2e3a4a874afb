"""`fastbot bench all`: every rung, one after another, each in a process of its own, and a report of all of them.

A rung that fails or runs over its limit is named; its log and what it had measured by then stay; the ladder goes on.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.climbing import DONE, Climb
from benchmarks.corpora.corpus import STATISTICS_NAME
from benchmarks.lines import load
from benchmarks.pages.report import write_report
from benchmarks.peers.peer import is_installed
from benchmarks.profiles import CORPUS_S, MINUTES, PICTURES, RUNGS, Profile, Rung
from datasets_tools.store import Store
from fastbot.errors import RunError

_INTERRUPTED = 128 + signal.SIGINT
# The corpus may take so many times what it is expected to: without it most rungs cannot run.
_SLACK = 3


def run(
    out: Path, profile: Profile, data: Path | None, minutes: float, names: Sequence[str] = (), begin_with: str = ""
) -> list[str]:
    """Climb the ladder, and report; where it is interrupted, report of what was measured until then.

    Args:
        out: a folder for JSON lines, logs and the report; what a former climb left of the same rungs is removed first.
        profile: at which sizes.
        data: a store; None makes a corpus.
        minutes: after which no rung goes on.
        names: of rungs; all where there are none.
        begin_with: the first rung, of a climb that goes on with a former one: what `out` has of those before it is
            reported, too. The first of all where it is empty.

    Returns:
        The names of rungs that did not end well.

    Raises:
        RunError: a name is of no rung.
        StoreError: `data` is needed, and is no store.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--out {out}: no folder can be made there: {error}. Give another one") from error
    known = [rung for rung in RUNGS[profile] if _can_run(rung)]
    start = _start(known, begin_with)
    rungs = _chosen(known[start:], names)
    needs_store = any(rung.needs_store for rung in rungs)
    if data is not None:
        Store(data)
    climb = Climb(out, time.monotonic() + 60 * minutes, Console(highlight=False, markup=False, soft_wrap=True))
    climb.clear(rungs)
    endings = {rung.title: "not run, interrupted" for rung in rungs}
    try:
        with _store(data, profile, climb, is_needed=needs_store) as store:
            for place, rung in enumerate(rungs, start=1):
                endings[rung.title] = "interrupted"
                endings[rung.title] = climb.run(rung, store, sum(other.limit_s for other in rungs[place:]))
        return [title for title, ending in endings.items() if ending != DONE]
    except (KeyboardInterrupt, SystemExit):
        climb.console.print("interrupted: the running rung was ended, and no other is begun")
        raise
    finally:
        _report([*known[:start], *rungs], climb, [f"{title}: {end}" for title, end in endings.items() if end != DONE])


def _can_run(rung: Rung) -> bool:
    return (not rung.needs or is_installed(rung.needs)) and torch.cuda.device_count() >= rung.gpus


def _start(known: Sequence[Rung], begin_with: str) -> int:
    titles = [rung.title for rung in known]
    if begin_with and begin_with not in titles:
        raise RunError(f"--from {begin_with}: is not on the ladder. Take one of {', '.join(titles)}")
    return titles.index(begin_with) if begin_with else 0


def _chosen(rungs: Sequence[Rung], names: Sequence[str]) -> list[Rung]:
    titles = [rung.title for rung in rungs]
    if unknown := sorted(set(names) - set(titles)):
        raise RunError(f"--rung {', '.join(unknown)}: is not on the ladder. Take of {', '.join(titles)}")
    return [rung for rung in rungs if not names or rung.title in names]


@contextmanager
def _store(data: Path | None, profile: Profile, climb: Climb, *, is_needed: bool) -> Iterator[Path | None]:
    """Return the store to measure on, where one is needed; a corpus is made where none is given.

    Where it cannot be made, that is said, and there is none.
    """
    if data is not None or not is_needed:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="fastbot-ladder-", ignore_cleanup_errors=True) as folder:
        store = Path(folder, "corpus")
        seconds = min(CORPUS_S[profile] * _SLACK, climb.deadline - time.monotonic())
        ended = climb.ended(["corpus", str(store), "--count", str(PICTURES[profile])], "corpus", seconds)
        is_made = ended == "done" and (store / STATISTICS_NAME).is_file()
        if not is_made:
            climb.console.print(
                f"corpus: {ended}: see {climb.log('corpus')}, or give a store with --data. "
                "Rungs that need no store go on"
            )
        yield store if is_made else None


def _report(rungs: Sequence[Rung], climb: Climb, endings: Sequence[str]) -> None:
    """Report on all that was measured, of rungs that were ended, too, and on how those ended."""
    files = []
    for file in map(climb.file, rungs):
        if not file.is_file():
            continue
        try:
            load(file)
        except RunError as error:  # a rung was ended while it wrote
            climb.console.print(f"left out of the report: {error}")
        else:
            files.append(file)
    if files:
        write_report(files, climb.out, endings)
        climb.console.print(f"report: {climb.out / 'report.html'}")


def command(
    out: Annotated[Path, typer.Option(help="Gets JSON lines, logs, report.md and report.html.")] = Path("bench"),
    data: Annotated[Path | None, typer.Option(help="A store; by default a corpus is made.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: at most 10 minutes on two cores.")] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Sizes of a GPU: in 5.5 minutes as far as table3, in 9 as far as decode.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="After which no rung goes on; more than usual is shared out.")
    ] = None,
    rung: Annotated[list[str] | None, typer.Option(help="Only this one; repeat for more, in any order.")] = None,
    begin_with: Annotated[
        str, typer.Option("--from", metavar="RUNG", help="Go on with a former call's OUT: begin with this rung.")
    ] = "",
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
    try:
        failed = run(out, profile, data, minutes or MINUTES[profile], rung or [], begin_with)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if failed:
        again = " ".join(f"--rung {title}" for title in failed)
        raise RunError(
            f"{', '.join(failed)} did not end well: see {out / 'logs'}. Run them again with {again}, and with more "
            "--minutes where the time was over"
        )
