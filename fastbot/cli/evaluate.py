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
    labels: Annotated[
        str | None,
        typer.Option(
            help="Score by this label set of the split, such as `real`, in which a picture has any number of right "
            "classes; those without one do not count."
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="`best`, `last`, or a folder of RUN/checkpoints.")] = "best",
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
) -> None:
    """Score a trained model; every picture counts exactly once.

    Example: [bold]fastbot eval demo/run --data demo/data[/]

    On ImageNet's reassessed labels: [bold]fastbot eval RUN --data imagenet --labels real[/]
    """
    from datasets_tools.store import Store
    from fastbot.runs import RunFolder

    folder = RunFolder(run)
    recipe = folder.recipe()
    store = Store(data)
    store.split(split)

    from fastbot.build import loss_of, model_on, precision_of  # PyTorch with it, which takes seconds
    from fastbot.cli.session import Session, check_classes, score_lines, summary_lines
    from fastbot.distributed import joined
    from fastbot.evaluate import evaluate as score
    from fastbot.evaluate import evaluate_label_lists

    loaded = folder.checkpoints.load(checkpoint)
    with joined(device.value) as ranks:
        session = Session(recipe, store, backend.value, ranks)
        check_classes(loaded.identity.class_names, store)
        label_lists = store.split(split).label_lists(labels) if labels else None
        model = model_on(recipe, store.num_classes, ranks.device)
        model.load_state_dict(loaded.weights)
        with closing(session.open_eval(split)) as pipeline:
            precision = precision_of(recipe, ranks.device)
            if label_lists is None:
                scores = score(model, pipeline, loss_of(recipe), precision, ranks)
            else:
                scores = evaluate_label_lists(model, pipeline, label_lists, precision, ranks)
    if not ranks.is_first:
        return
    console = Console(markup=False, highlight=False, soft_wrap=True)
    if summary := folder.summary():
        summary_lines(summary, recipe, folder.path, console)
    scored = f"scored      {loaded.path.name} ({checkpoint}) on {data}, split {split}, backend {session.backend.name}"
    score_lines(scored, scores, labels, len(store.split(split)), console)
