"""From a recipe's specs (data) to the objects the loop runs. Everything is decided here, once."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from fastbot import schedules
from fastbot.losses import CrossEntropy
from fastbot.models.registry import build_model
from fastbot.optimizers import nag
from fastbot.precision import Precision, build_precision
from fastbot.recipe import Cosine, Recipe
from fastbot.schedules import Schedule

_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def model_on(recipe: Recipe, num_classes: int, device: torch.device) -> nn.Module:
    """Return the recipe's model on its device and in its memory format; draws from torch's global generator."""
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = build_model(recipe.model.name, num_classes, recipe.model.init, recipe.model.zero_gamma)
    return model.to(device).to(memory_format=layout)


def loss_of(recipe: Recipe) -> CrossEntropy:
    """Return the loss: (logits, targets, weight) to a scalar."""
    return CrossEntropy(recipe.loss.label_smoothing)


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over a model that is on its device and in its memory format."""
    spec = recipe.optimizer
    return nag(model, recipe.learning_rate, spec.momentum, spec.weight_decay, spec.bias_decay)


def schedule_of(recipe: Recipe, steps_per_epoch: int) -> Schedule:
    """Return the learning rate as a function of the step, its durations in steps."""
    spec, peak = recipe.schedule, recipe.learning_rate
    warmup = spec.warmup.steps(steps_per_epoch)
    if isinstance(spec, Cosine):
        return schedules.Cosine(peak, recipe.epochs.steps(steps_per_epoch), warmup)
    milestones = tuple(milestone.steps(steps_per_epoch) for milestone in spec.milestones)
    return schedules.StepDecay(peak, milestones, warmup, spec.factor)


def precision_of(recipe: Recipe, device: torch.device) -> Precision:
    """Return the arithmetic of the step, and set TF32 for the whole process."""
    if device.type == "cpu" and recipe.precision.kind == "fp16":
        warnings.warn(
            "precision.kind is fp16 on a CPU, which computes it far slower than float32: a step may take minutes. "
            "Take precision.kind=fp32",
            stacklevel=2,
        )
    return build_precision(recipe.precision.kind, device, recipe.precision.tf32)


def image_dtype_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return the type of a batch's images: half where a GPU computes in it anyway, which halves what it reads."""
    return _HALF.get(recipe.precision.kind, torch.float32) if device.type == "cuda" else torch.float32
