"""From a recipe's specs (data) to the objects the loop runs. Everything is decided here, once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from fastbot.averaging import Average, build_average
from fastbot.clipping import Clip, build_clip
from fastbot.criteria import Criterion, Supervised, WithAuxiliaryHead
from fastbot.distillation import Distilled, Teacher
from fastbot.errors import CheckpointError, ModelError, RecipeError
from fastbot.losses import Loss, build_loss
from fastbot.models.batch_norm import with_bn_batch
from fastbot.models.registry import build_model
from fastbot.models.trial import least_size, refusal_of
from fastbot.optimizers import build_optimizer
from fastbot.precision import DTYPES, Precision, build_precision
from fastbot.recipe import Recipe
from fastbot.schedules import Schedule, build_schedule
from fastbot.specs import TeacherSpec

if TYPE_CHECKING:
    from fastbot.checkpoint import Checkpoint

FP16_ON_CPU = (
    "precision.kind is fp16 on a CPU, which computes it far slower than float32: a step may take minutes. "
    "Take precision.kind=fp32"
)


def model_on(recipe: Recipe, num_classes: int, device: torch.device) -> nn.Module:
    """Return the recipe's model on its device and in its memory format; draws from torch's global generator."""
    spec = recipe.model
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = build_model(
        spec.name,
        num_classes,
        spec.init,
        spec.zero_gamma,
        drop_path=spec.drop_path,
        dropout=spec.dropout,
        aux_head=spec.aux_weight > 0,
        blur_pool=spec.blur_pool,
    )
    return model.to(device).to(memory_format=layout)


def load_network(recipe: Recipe, checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """Return the network of a checkpoint, with the weights that evaluations score, in evaluation mode.

    Raises:
        CheckpointError: the weights are not of the recipe's model.
    """
    model = model_on(recipe, len(checkpoint.identity.class_names), device)
    try:
        model.load_state_dict(checkpoint.evaluated)  # with an auxiliary head, where the model has one
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {checkpoint.path} does not fit {recipe.model.name}: {error}. Was recipe.toml changed?"
        ) from error
    return model.eval()


def trained_model_on(recipe: Recipe, num_classes: int, device: torch.device, world_size: int) -> nn.Module:
    """Return `model_on`'s model with the batch norm that training needs; its state dict has the same keys.

    Raises:
        ModelError: it does not take pictures of the recipe's sizes.
        RecipeError: its batch norms would normalize over too few of them.
    """
    model, parts = model_on(recipe, num_classes, device), recipe.micro_batches
    rows = recipe.data.global_batch_size // world_size // parts
    check_pictures(model, recipe, rows, world_size)
    return with_bn_batch(model, recipe.model.bn_batch, rows, world_size, parts)


def check_pictures(model: nn.Module, recipe: Recipe, rows: int, world_size: int) -> None:
    """Check that a model takes pictures of the recipe's sizes, as many at a time as a batch norm normalizes over.

    Args:
        model: in training mode.
        recipe: whose.
        rows: of a micro-batch of one rank.
        world_size: ranks of the run.

    Raises:
        ModelError: it does not take a size.
        RecipeError: there is one value to a channel.
    """
    spec, asked = recipe.data, recipe.model.bn_batch
    seen = rows * world_size if asked == "sync" else rows if asked == "micro_batch" else asked
    sizes = {"data.crop_size": spec.crop_size}
    if spec.size_ramp is not None:
        sizes = {"data.size_ramp.start_size": spec.size_ramp.start_size} | sizes
    for key, size in sizes.items():
        if isinstance(error := refusal_of(model, seen, size), ValueError) and "more than 1 value" in str(error):
            raise _too_few(recipe, key, size)
        if error is not None:
            raise _wrong_size(model, recipe, seen, key, size, error)
    if spec.eval.crop_size not in sizes.values() and (error := refusal_of(model.eval(), 1, spec.eval.crop_size)):
        raise _wrong_size(model, recipe, 1, "data.eval.crop_size", spec.eval.crop_size, error)
    model.train()


def _too_few(recipe: Recipe, key: str, size: int) -> RecipeError:
    shares = {
        f"model.bn_batch is {recipe.model.bn_batch}": isinstance(recipe.model.bn_batch, int),
        f"micro_batches is {recipe.micro_batches}": recipe.micro_batches > 1,
        f"data.global_batch_size is {recipe.data.global_batch_size}": True,
    }
    what = next(text for text, holds in shares.items() if holds)
    return RecipeError(
        f"{what}, so that the batch norms of {recipe.model.name} normalize over 1 picture; with {key} "
        f"{size} that is one value to a channel. They need at least 2 pictures"
    )


def _wrong_size(model: nn.Module, recipe: Recipe, seen: int, key: str, size: int, error: Exception) -> ModelError:
    least = least_size(model, seen, size)
    remedy = f"Choose {key} of at least {least}" if least else f"Choose another {key}"
    return ModelError(f"{recipe.model.name} does not take pictures of {size} px ({key}): {error}. {remedy}")


def loss_of(recipe: Recipe) -> Loss:
    """Return the loss: (logits, targets, weight) to a scalar."""
    return build_loss(recipe.loss)


def compiled(recipe: Recipe, module: nn.Module) -> nn.Module:
    """Return what the loop calls for a module: where the recipe asks for it, a compiled wrapper of it.

    The module itself is left as it is: weights are saved and counted by its own names.
    """
    return torch.compile(module) if recipe.compile else module  # type: ignore[return-value]


def criterion_of(recipe: Recipe, teacher: Teacher | None) -> Criterion:
    """Return what the loop minimizes: the loss, and what a teacher or an auxiliary head adds to it.

    Args:
        recipe: whose.
        teacher: the one that the recipe names, if it does.
    """
    loss, spec = loss_of(recipe), recipe.distillation
    criterion: Criterion = Supervised(loss)
    if isinstance(spec, TeacherSpec):
        assert teacher is not None, "the recipe has a teacher"
        asked = compiled(recipe, teacher)
        criterion = Distilled(criterion, asked, spec.temperature, spec.hard_weight, spec.soft_weight)
    if recipe.model.aux_weight > 0:
        criterion = WithAuxiliaryHead(criterion, loss, recipe.model.aux_weight)
    return criterion


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over a model that is on its device and in its memory format."""
    return build_optimizer(recipe.optimizer, recipe.learning_rate, model)


def clip_of(recipe: Recipe, model: nn.Module) -> Clip:
    """Return what bounds the gradients."""
    return build_clip(recipe.clip, model)


def average_of(recipe: Recipe, model: nn.Module) -> Average:
    """Return what is evaluated: the model, or a moving average of its weights."""
    ema = recipe.ema
    return build_average(model, None) if ema is None else build_average(model, ema.decay, ema.every)


def schedule_of(recipe: Recipe, steps_per_epoch: int) -> Schedule:
    """Return the learning rate as a function of the step, its durations in steps."""
    return build_schedule(recipe.schedule, recipe.learning_rate, recipe.epochs, steps_per_epoch)


def precision_of(recipe: Recipe, device: torch.device) -> Precision:
    """Return the arithmetic of the step, and set TF32 for the whole process."""
    if device.type == "cpu" and recipe.precision.kind == "fp16":
        warnings.warn(FP16_ON_CPU, stacklevel=2)
    return build_precision(recipe.precision.kind, device, recipe.precision.tf32)


def scoring_precision_of(recipe: Recipe, device: torch.device) -> Precision:
    """Return the arithmetic that a trained network is scored in, and set TF32 for the whole process.

    It is that of the training, but of fp16 on a CPU: there float32 is many times faster and no less exact.
    """
    is_slow = device.type == "cpu" and recipe.precision.kind == "fp16"
    return build_precision("fp32" if is_slow else recipe.precision.kind, device, recipe.precision.tf32)


def image_dtype_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the type of a batch's images: half where a GPU computes in it anyway, which halves what it reads."""
    return DTYPES[recipe.precision.kind] if device.type == "cuda" else torch.float32
