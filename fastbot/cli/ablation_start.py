"""What an ablation is asked for, refused here where a training of it could not be: before the first of them begins."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datasets_tools.store import Store
from fastbot.ablation.trainings import Training
from fastbot.build import clip_of, loss_of, optimizer_of, schedule_of, trained_model_on
from fastbot.errors import FastbotError, RecipeError
from fastbot.micro_batches import build_split
from fastbot.recipe import Recipe
from fastbot.specs import TeacherSpec
from fastbot.teachers import load_teacher
from pipelines.errors import PipelineError
from pipelines.plan import EvalPlan, TrainPlan

_CPU = torch.device("cpu")


def check_trainings(trainings: Sequence[Training], store: Store, world_size: int) -> None:
    """Check, for every row once, that its trainings can be built: plans, schedule, model, a teacher of somebody else's.

    Args:
        trainings: all of the ablation.
        store: open.
        world_size: ranks of each training.

    Raises:
        FastbotError, PipelineError: as the training itself would; its note says which training that is.
    """
    rows = {training.row.recipe: training for training in reversed(trainings)}  # the first seed's
    networks: set[str] = set()
    for training in reversed(rows.values()):
        try:
            _check_plans(training.recipe, store, world_size)
            _check_network(training.recipe, store, world_size, networks)
            _check_teacher(training, store)
        except (FastbotError, PipelineError) as error:
            error.add_note(f"Found for training {training}, before any was begun")
            raise


def _check_plans(recipe: Recipe, store: Store, world_size: int) -> None:
    train, val = store.split("train"), store.split("val")
    plan = TrainPlan(
        recipe.data, train.heights, train.widths, seed=recipe.seed, labels=train.labels, world_size=world_size
    )
    EvalPlan(recipe.data, val.heights, val.widths, world_size=world_size)
    if recipe.epochs.steps(plan.steps_per_epoch) == 0:
        raise RecipeError(f"epochs is {recipe.epochs}: no step at all with {plan.steps_per_epoch} an epoch")
    schedule_of(recipe, plan.steps_per_epoch)
    build_split(recipe.micro_batches, plan.rows, _CPU)


def _check_network(recipe: Recipe, store: Store, world_size: int, checked: set[str]) -> None:
    """Build what is trained, unless it is among those `checked` already: large ones take a second."""
    batch = (recipe.data.global_batch_size, recipe.micro_batches)
    network = f"{recipe.model!r} {recipe.optimizer!r} {recipe.clip!r} {recipe.loss!r} {batch}"
    if network in checked:
        return
    checked.add(network)
    loss_of(recipe)
    model = trained_model_on(recipe, store.num_classes, _CPU, world_size)
    optimizer_of(recipe, model)
    clip_of(recipe, model)


def _check_teacher(training: Training, store: Store) -> None:
    spec = training.recipe.distillation
    if isinstance(spec, TeacherSpec) and training.teacher is None:  # else the ablation trains it, on this very store
        load_teacher(spec, store.class_names, training.recipe.data, _CPU, training.recipe.precision.kind)
