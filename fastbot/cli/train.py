"""`fastbot train`: a recipe, a store, and a run folder."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from fastbot.checkpoint import Identity
    from fastbot.distributed import Ranks
    from fastbot.hooks import Results
    from fastbot.recipe import Recipe
    from fastbot.runs import RunFolder
    from fastbot.trainer import Trainer


class BackendName(StrEnum):
    """What decodes pictures."""

    auto = "auto"
    dali = "dali"
    ffcv = "ffcv"
    torch = "torch"
    synthetic = "synthetic"


class DeviceName(StrEnum):
    """What computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def train(
    recipe: Annotated[str, typer.Argument(help="A packaged recipe's name (see `fastbot recipes`) or a .toml file.")],
    data: Annotated[Path, typer.Option(help="A store made by `fastbot convert`.")],
    out: Annotated[Path, typer.Option(help="The run folder to make, or to continue with --resume.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="Changes to the recipe.")
    ] = None,
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine; one per GPU.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of --out.")] = False,
) -> None:
    """Train a model.

    Example: [bold]fastbot train demo --data demo/data --out demo/run data.crop_size=96[/]
    """
    from fastbot.distributed import joined, launch, under_launcher
    from fastbot.recipe_files import load_recipe

    resolved = load_recipe(recipe, overrides or []).resolved()
    if nproc > 1 and not under_launcher():
        launch(nproc, sys.argv[1:])
        return
    with joined(device.value) as ranks:
        run_training(resolved, data, out, backend.value, ranks, resume=resume)


def run_training(recipe: Recipe, data: Path, out: Path, backend: str, ranks: Ranks, *, resume: bool) -> None:
    """Train, or go on training, on this rank: build everything, run it, write the summary.

    Args:
        recipe: resolved.
        data: the store's folder.
        out: the run folder.
        backend: a backend's name, or `auto`.
        ranks: this process among all.
        resume: go on from the last checkpoint; without one, start from the beginning.
    """
    from fastbot.cli.session import Session, describe, summary_table
    from fastbot.display import Silent, build_display
    from fastbot.hooks import Evaluate, ReadMetrics, Results, Save, Stopped, StopWhenAsked
    from fastbot.runs import RunFolder, build_journal
    from fastbot.trainer import Trainer

    stop = StopSignal()
    console = Console()
    session = Session(recipe, data, backend, ranks)
    run = RunFolder(out)
    with closing(session.open_train()) as train_data, closing(session.open_eval()) as eval_data:
        trainer = Trainer(recipe, train_data, eval_data, session.store.num_classes, ranks)
        identity = session.identity()
        results = Results()
        notes = _restore(run, trainer, identity, results) if resume else []
        if ranks.is_first:
            run.create(recipe, resume=resume)
        display = build_display(console, trainer.step, trainer.total_steps) if ranks.is_first else Silent()
        describe(session, display.say)
        for note in notes:
            display.say(note)
        with display, build_journal(run, trainer.step, writes=ranks.is_first) as journal:
            look_every = 1 if ranks.world_size == 1 else recipe.run.log_every
            save = Save(trainer, run, identity, results, recipe.run, look_every)
            hooks = (
                ReadMetrics(trainer, journal, display, recipe.run.log_every),
                Evaluate(trainer, journal, display, save, results, recipe.run.eval_every),
                save,
                StopWhenAsked(trainer, save, stop.received, look_every),
            )
            try:
                trainer.fit(hooks)
            except Stopped as stopped:
                display.say(str(stopped))
                return
        summary = trainer.summary() | asdict(results) | {"backend": session.backend.name, "recipe": recipe.name}
        if ranks.is_first:
            run.finish(summary)
            summary_table(summary, run.path, console)


def _restore(run: RunFolder, trainer: Trainer, identity: Identity, results: Results) -> list[str]:
    """Go back to the last checkpoint and return what a person should know about it."""
    from fastbot.checkpoint import changed_conditions, refuse_another_training

    if not run.checkpoints.exists():
        return [f"{run.path} has no checkpoint yet: starting from the beginning"]
    checkpoint = run.checkpoints.load()
    refuse_another_training(checkpoint, identity)
    trainer.load_state(checkpoint.weights, checkpoint.state)
    for name, value in checkpoint.state["results"].items():
        setattr(results, name, value)
    changed = changed_conditions(checkpoint, identity.conditions)
    warning = [f"warning: not bit-identical to an uninterrupted run: {'; '.join(changed)}"] if changed else []
    return [f"going on from step {trainer.step} of {trainer.total_steps}", *warning]


class StopSignal:
    """Remembers that SIGTERM has arrived, from its making on."""

    def __init__(self) -> None:
        self._received = False
        signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = True

    def received(self) -> bool:
        """Return whether it has."""
        return self._received
