"""`fastbot eval`: score a run's best checkpoint on a store."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fastbot.cli.scoring import Checkpointed, CropRatio, Flipped, Interpolated, Rounding, Size
from fastbot.cli.train import BackendName, DeviceName

if TYPE_CHECKING:
    from datasets_tools.store import Store
    from fastbot.cli.session import Session
    from fastbot.distributed import Ranks
    from fastbot.evaluation.confusion import Confusion
    from fastbot.evaluation.crop import Crop
    from fastbot.recipe import Recipe
    from fastbot.runs import RunFolder

_log = logging.getLogger("fastbot")

# Classes told of on the terminal; `per_class.csv` has all.
_NUM_WORST = 5


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to score, and how.

    Attributes:
        run: whose network.
        recipe: with the evaluation that is asked for.
        trained: as it was trained.
    """

    run: RunFolder
    recipe: Recipe
    trained: Recipe
    crop: Crop
    flip: bool
    store: Store
    split: str
    labels: str | None
    checkpoint: str
    backend: str
    out: Path | None


@dataclass(frozen=True, slots=True)
class _Scored:
    """What came of it."""

    checkpoint: Path
    session: Session
    precision: str
    scores: dict[str, float]
    confusion: Confusion


def evaluate(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder made by `fastbot train` or `fastbot import`.")],
    data: Annotated[Path, typer.Option(help="A store made by `fastbot convert`.")],
    split: Annotated[str, typer.Option(help="Which split of it to score.")] = "val",
    labels: Annotated[
        str | None,
        typer.Option(
            help="Score by this label set of the split, such as `real`, in which a picture has any number of right "
            "classes; those without one do not count."
        ),
    ] = None,
    checkpoint: Checkpointed = "best",
    size: Size = None,
    crop_ratio: CropRatio = None,
    rounding: Rounding = None,
    interpolation: Interpolated = None,
    flip: Flipped = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at a time, over all processes.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for scores.json, per_class.csv, confusion.csv and confusion.png; files of the same names "
            "are replaced."
        ),
    ] = None,
    backend: Annotated[BackendName, typer.Option(help="What decodes the pictures.")] = BackendName.auto,
    device: Annotated[DeviceName, typer.Option(help="What computes.")] = DeviceName.auto,
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine; one per GPU.")] = 1,
) -> None:
    """Score a trained model; every picture counts exactly once.

    Example: [bold]fastbot eval demo/run --data demo/data --out demo/scores[/]

    As timm scores ResNet strikes back: [bold]fastbot eval RUN --data imagenet --size 224 --crop-ratio 0.95[/]

    On ImageNet's reassessed labels: [bold]fastbot eval RUN --data imagenet --labels real[/]
    """
    from datasets_tools.store import Store
    from fastbot.cli.scoring import asked_crop, with_crop
    from fastbot.runs import RunFolder, refuse_kinds

    folder = RunFolder(run)
    recipe = folder.recipe()
    if out is not None:
        refuse_kinds(out, "a store", "an ablation", "a run")
    crop = asked_crop(recipe, size, crop_ratio, rounding, interpolation)
    store = Store(data)
    scored_split = store.split(split)
    if labels is not None:
        scored_split.label_lists(labels)
    asked = _Asked(
        run=folder,
        recipe=with_crop(recipe, crop, batch_size or recipe.data.eval.global_batch_size),
        trained=recipe,
        crop=crop,
        flip=recipe.run.eval_flip if flip is None else flip,
        store=store,
        split=split,
        labels=labels,
        checkpoint=checkpoint,
        backend=backend.value,
        out=out,
    )

    from fastbot.distributed import joined, pick_device  # PyTorch with it, which takes seconds
    from fastbot.evaluation.report import check_folder
    from fastbot.launcher import launch, under_launcher

    if out is not None:
        check_folder(out)
    if nproc > 1 and not under_launcher():
        pick_device(device.value, nproc - 1)  # fails once, here, for what would fail on every rank alike
        raise typer.Exit(launch(nproc, context.obj))
    with joined(device.value) as ranks:
        scored = _score(asked, ranks)
        if ranks.is_first:
            _report(asked, scored, ranks)


def _score(asked: _Asked, ranks: Ranks) -> _Scored:
    from fastbot.build import load_network, loss_of, scoring_precision_of
    from fastbot.cli.scoring import check_size, memory_errors_named
    from fastbot.cli.session import Session, check_classes
    from fastbot.evaluate import Predictions, evaluate_label_lists
    from fastbot.evaluate import evaluate as score
    from fastbot.evaluation.confusion import confusion_of
    from fastbot.resuming import load_on_all

    recipe = asked.recipe
    folder = asked.run.checkpoints
    loaded = load_on_all(folder, lambda: folder.load(asked.checkpoint), ranks)
    session = Session(recipe, asked.store, asked.backend, ranks)
    check_classes(loaded.identity.class_names, session.store)
    split = session.store.split(asked.split)
    label_lists = split.label_lists(asked.labels) if asked.labels else None
    model = load_network(recipe, loaded, ranks.device)
    precision = scoring_precision_of(recipe, ranks.device)
    check_size(model, asked.trained, asked.crop, precision, ranks.device)
    predictions = Predictions(len(split), session.store.num_classes, ranks.device)
    rule: dict[str, Any] = {"flip": asked.flip, "observers": [predictions]}
    spec = recipe.data.eval
    with closing(session.open_eval(asked.split)) as data, memory_errors_named(spec.global_batch_size, spec.crop_size):
        if label_lists is None:
            scores = score(model, data, loss_of(recipe), precision, ranks, **rule)
        else:
            scores = evaluate_label_lists(model, data, label_lists, precision, ranks, **rule)
    right = split.labels if label_lists is None else label_lists
    confusion = confusion_of(predictions.total(ranks), right, session.store.class_names)
    return _Scored(loaded.path, session, precision.name, scores, confusion)


def _report(asked: _Asked, scored: _Scored, ranks: Ranks) -> None:
    from fastbot.cli.session import score_lines, summary_lines
    from fastbot.errors import RunError
    from fastbot.evaluation.report import write_report

    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        summary = asked.run.summary()
    except RunError as error:  # what has been scored is told all the same
        _log.warning("warning: %s", error)
        summary = {}
    if summary:
        summary_lines(summary, asked.trained, asked.run.path, console)
    what = f"{scored.checkpoint.name} ({asked.checkpoint}) on {asked.store.path}, split {asked.split}"
    heading = (
        f"scored      {what}, backend {scored.session.backend.name}\n"
        f"crop        {asked.crop}{'; logits of mirror images averaged in' if asked.flip else ''}"
    )
    score_lines(heading, scored.scores, asked.labels, len(scored.session.store.split(asked.split)), console)
    if asked.out is not None:
        write_report(asked.out, scored.confusion, _settings(asked, scored, ranks), scored.scores)
        _worst_lines(scored.confusion, console)
        console.print(f"report      {asked.out}")


def _settings(asked: _Asked, scored: _Scored, ranks: Ranks) -> dict[str, Any]:
    spec = asked.recipe.data.eval
    return {
        "run": str(asked.run.path),
        "recipe": asked.recipe.name,
        "checkpoint": scored.checkpoint.name,
        "data": str(asked.store.path),
        "split": asked.split,
        "labels": asked.labels,
        "crop_size": spec.crop_size,
        "resize_size": spec.resize_size,
        "crop": str(asked.crop),
        "interpolation": spec.interpolation,
        "flip": asked.flip,
        "batch_size": spec.global_batch_size,
        "precision": scored.precision,
        "backend": scored.session.backend.name,
        "device": ranks.device.type,
        "world_size": ranks.world_size,
        "num_samples": len(scored.session.store.split(asked.split)),
    }


def _worst_lines(confusion: Confusion, console: Console) -> None:
    others, times = confusion.most_confused()
    for number, label in enumerate(confusion.worst(_NUM_WORST)):
        share = confusion.top1[label] / confusion.samples[label]
        taken_for = f"; {times[label]:,} taken for {confusion.class_names[others[label]]}" if times[label] else ""
        console.print(
            f"{'worst' if number == 0 else '':12}{confusion.class_names[label]}: top-1 {share:.2%} of "
            f"{confusion.samples[label]:,}{taken_for}"
        )
