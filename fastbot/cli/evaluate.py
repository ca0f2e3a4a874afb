"""`fastbot eval`: score a run's best checkpoint on a store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fastbot.cli.train import BackendName, DeviceName


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder made by `fastbot train`.")],
    data: Annotated[Path, typer.Option(help="A store made by `fastbot convert`.")],
    split: Annotated[str, typer.Option(help="Which split of it to score.")] = "val",
    checkpoint: Annotated[str, typer.Option(help="`best`, `last`, or a folder of RUN/checkpoints.")] = "best",
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
) -> None:
    """Score a trained model; every picture counts exactly once.

    Example: [bold]fastbot eval demo/run --data demo/data[/]
    """
    from fastbot.build import loss_of, model_on, precision_of
    from fastbot.cli.session import Session, check_classes, summary_lines
    from fastbot.distributed import joined
    from fastbot.evaluate import evaluate as score
    from fastbot.runs import RunFolder

    folder = RunFolder(run)
    recipe = folder.recipe()
    loaded = folder.checkpoints.load(checkpoint)
    with joined(device.value) as ranks:
        session = Session(recipe, data, backend.value, ranks)
        check_classes(loaded.identity.class_names, session.store)
        model = model_on(recipe, session.store.num_classes, ranks.device)
        model.load_state_dict(loaded.weights)
        with closing(session.open_eval(split)) as pipeline:
            precision = precision_of(recipe, ranks.device)
            scores = score(model, pipeline, loss_of(recipe), precision, ranks)
    if not ranks.is_first:
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if summary := folder.summary():
        summary_lines(summary, recipe, folder.path, console)
    console.print(
        f"scored      {loaded.path.name} ({checkpoint}) on {data}, split {split}, backend {session.backend.name}"
    )
    console.print(
        f"            top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}, loss {scores['loss']:.3f}", style="bold"
    )
