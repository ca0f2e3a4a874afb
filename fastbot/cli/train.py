"""`fastbot train`: a recipe, a store, and a run folder."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, closing
from dataclasses import asdict
from enum import Enum, StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console

if TYPE_CHECKING:
    from fastbot.checkpoint import Checkpoint, Identity
    from fastbot.cli.start import Start
    from fastbot.distributed import Ranks
    from fastbot.hooks import Results
    from fastbot.runs import RunFolder
    from fastbot.trainer import Trainer
    from pipelines.bad_pictures import OnBadImage


_Handler = Any  # what signal.signal returns: a function, a number or None


class BackendName(StrEnum):
    """What decodes pictures."""

    auto = "auto"
    turbo = "turbo"
    dali = "dali"
    ffcv = "ffcv"
    torch = "torch"
    synthetic = "synthetic"


class BadImagePolicy(Enum):  # not a string: those have a method `replace`
    """What becomes of a picture that cannot be used."""

    fail = "fail"
    replace = "replace"
    skip = "skip"


class DeviceName(StrEnum):
    """What computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name (see `fastbot recipes`) or a .toml file.")],
    data: Annotated[Path, typer.Option(help="A store made by `fastbot convert`.")],
    out: Annotated[Path, typer.Option(help="The run folder to make, or to continue with --resume.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="Changes to the recipe.")
    ] = None,
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine; one per GPU.")] = 1,
    on_bad_image: Annotated[
        BadImagePolicy,
        typer.Option(help="What becomes of a picture that cannot be decoded: end the run, take another, leave it out."),
    ] = BadImagePolicy.fail,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of --out, if any.")] = False,
) -> None:
    """Train a model.

    Example: [bold]fastbot train demo --data demo/data --out demo/run data.crop_size=96[/]
    """
    from fastbot.cli.start import checked_start
    from fastbot.launcher import launch, under_launcher

    start = checked_start(recipe, overrides or [], data, out, resume=resume)
    if not under_launcher():  # once, not once a rank
        Console(markup=False, highlight=False).print(start.line(), soft_wrap=True)

    from fastbot.distributed import joined

    if under_launcher() or nproc == 1:
        with joined(device.value) as ranks:
            _check_nproc(nproc, ranks)
            run_training(start, backend.value, ranks, on_bad_image=on_bad_image.value)
        return
    _check_before_launch(start, backend.value, device.value, nproc)
    raise typer.Exit(launch(nproc, context.obj, saves=True))


def _check_nproc(nproc: int, ranks: Ranks) -> None:
    """Under a launcher, `--nproc` must say what the launcher did, or nothing."""
    from fastbot.errors import RunError

    if nproc not in (1, ranks.local_world_size):
        raise RunError(
            f"--nproc is {nproc}, but this process is one of {ranks.local_world_size} that a launcher started. "
            "Leave --nproc out under torchrun"
        )


def _check_before_launch(start: Start, backend: str, device: str, nproc: int) -> None:
    """Fail once, here, for what would fail on every rank alike, but for what a GPU alone refuses."""
    from dataclasses import replace

    from fastbot.cli.session import Session
    from fastbot.distributed import joined, pick_device

    pick_device(device, nproc - 1)
    # On a CPU: this process lives as long as the run, and what it once has of a GPU's memory the first rank lacks.
    with joined("cpu") as alone:
        ranks = replace(alone, world_size=nproc, local_world_size=nproc)
        session = Session(start.recipe, start.store, backend, ranks)
        for pipeline in session.open_train(), session.open_eval():
            pipeline.close()


def run_training(start: Start, backend: str, ranks: Ranks, *, on_bad_image: OnBadImage = "fail") -> None:
    """Train, or go on training, on this rank: build everything, run it, write the summary.

    Args:
        start: what to train, on what, into what.
        backend: a backend's name, or `auto`.
        ranks: this process among all.
        on_bad_image: what becomes of a picture that cannot be used.
    """
    from fastbot.cli.session import Session, describe, summary_lines
    from fastbot.display import Silent, build_display
    from fastbot.hooks import Evaluate, ReadMetrics, Results, Save, SaveOrStop, Stopped
    from fastbot.launcher import say_farewell
    from fastbot.resuming import check_agreed
    from fastbot.runs import build_journal
    from fastbot.trainer import Trainer

    recipe, run = start.recipe, start.run
    console = Console(markup=False, highlight=False)  # paths and names may hold brackets
    with StopSignal() as stop, ExitStack() as held:
        session = Session(recipe, start.store, backend, ranks, on_bad_image)
        train_data = held.enter_context(closing(session.open_train()))
        eval_data = held.enter_context(closing(session.open_eval()))
        teacher, teacher_digest = session.teacher()
        trainer = Trainer(recipe, train_data, eval_data, session.store.num_classes, ranks, teacher)
        identity = session.identity(teacher_digest)
        results = Results()
        if ranks.is_first:
            held.enter_context(run.locked())
        notes, unevaluated = _restore(run, trainer, identity, results) if start.resume else ([], False)
        # Hence every rank has read before the first writes.
        check_agreed(ranks, trainer.step, identity, unevaluated=unevaluated)
        if ranks.is_first:
            run.create(recipe, start.overrides, resume=start.resume)
        display = build_display(console, trainer.step, trainer.total_steps) if ranks.is_first else Silent()
        describe(session, display.say)
        for note in notes:
            display.say(note)
        with display, build_journal(run, trainer.step, writes=ranks.is_first, unevaluated=unevaluated) as journal:
            metrics = ReadMetrics(trainer, journal, display, recipe.run.log_every)
            save = Save(trainer, run, identity, results, metrics)
            save_or_stop = SaveOrStop(trainer, save, recipe.run, stop.received)
            every, before = recipe.run.eval_every, save_or_stop.before_evaluation
            evaluate = Evaluate(trainer, journal, display, metrics, save, results, every, before)
            try:
                if unevaluated:
                    before(trainer.step)
                    evaluate.now(trainer.step)
                trainer.fit((metrics, evaluate, save_or_stop))
            except Stopped as stopped:
                display.say(str(stopped))
                if ranks.is_first:
                    say_farewell()
                return
        summary = trainer.summary() | asdict(results) | {"backend": session.backend.name, "recipe": recipe.name}
        if ranks.is_first:
            run.finish(summary)
            say_farewell()
            summary_lines(summary, recipe, run.path, console)


def _restore(run: RunFolder, trainer: Trainer, identity: Identity, results: Results) -> tuple[list[str], bool]:
    """Go back to the last checkpoint that is whole, the same on every rank.

    Returns:
        what a person should know about it, and whether an evaluation is due first.
    """
    from fastbot.resuming import changed_conditions, load_newest, load_on_all, refuse_another_training

    ranks, notes = trainer.ranks, list[str]()
    with ranks.all_or_none():
        exists = run.checkpoints.exists()
    if not ranks.first_says(exists):
        return [f"warning: --resume: {run.path} has no checkpoint yet: starting from the beginning"], False

    def read() -> Checkpoint:
        checkpoint, warnings = load_newest(run.checkpoints)
        notes.extend(warnings)
        return checkpoint

    checkpoint = load_on_all(run.checkpoints, read, ranks)
    with ranks.all_or_none():
        refuse_another_training(checkpoint, identity)
        trainer.load_state(checkpoint.weights, checkpoint.average, checkpoint.state)
    for name, value in checkpoint.state["results"].items():
        setattr(results, name, value)
    notes.append(f"going on from step {trainer.step} of {trainer.total_steps}")
    if changed := changed_conditions(checkpoint, identity.conditions):
        notes.append(f"warning: not bit-identical to an uninterrupted run: {'; '.join(changed)}")
    return notes, checkpoint.state.get("unevaluated", False)  # older checkpoints do not say


class StopSignal:
    """Remembers that SIGTERM or Ctrl-C has arrived, while it is entered.

    A second Ctrl-C, later than any that a launcher passes on as well, leaves at once.
    """

    _PASSED_ON_S = 3.0

    def __init__(self) -> None:
        self._since: float | None = None
        self._before: list[tuple[signal.Signals, _Handler]] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._receive)) for number in (signal.SIGTERM, signal.SIGINT)]
        return self

    def __exit__(self, *raised: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._since is not None and now - self._since > self._PASSED_ON_S:
            raise KeyboardInterrupt
        self._since = now if self._since is None else self._since

    def received(self) -> bool:
        """Return whether it has."""
        return self._since is not None
