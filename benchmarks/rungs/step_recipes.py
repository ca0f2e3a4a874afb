"""Which recipes the rungs about steps measure: of a model by name, in every combination of what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import product

import torch

from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, override_recipe

DEFAULT_RECIPE = "bot-efficient"
# What the paper calls its models, and the recipes that train them; any other name is put into the default recipe.
_RECIPES = {
    "resnet50": "bot-efficient",
    "resnet50v1": "bot-efficient",
    **{f"resnet50{variant}": f"bot-resnet50{variant}" for variant in "bcd"},
    **dict.fromkeys(("inceptionv3", "inception_v3"), "bot-inceptionv3"),
    "mobilenet": "bot-mobilenet",
}
# Images a step, by the kind of device.
BATCH_SIZE = {"cuda": 256, "cpu": 16}


class PrecisionName(StrEnum):
    """The arithmetic of a step; fp32 is with TF32 off."""

    fp32 = "fp32"
    tf32 = "tf32"
    fp16 = "fp16"
    bf16 = "bf16"


class Layout(StrEnum):
    """How images lie in memory."""

    channels_last = "channels_last"
    contiguous = "contiguous"


def recipe_for(model: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe that trains a model.

    Args:
        model: the paper's, or any name of fastbot's registry, which is trained as the paper's ResNet-50 is.
        overrides: as for `fastbot train`.
    """
    if model in _RECIPES:
        return load_recipe(_RECIPES[model], overrides)
    return load_recipe(
        DEFAULT_RECIPE, [f"model.name={model}", "model.init=default", "model.zero_gamma=false", *overrides]
    )


def variants(
    recipe: Recipe,
    batch_sizes: Sequence[int],
    size: int | None = None,
    precisions: Sequence[PrecisionName] = (),
    layouts: Sequence[Layout] = (),
) -> list[Recipe]:
    """Return a recipe in every combination of what is given; what is not stays as it has it.

    Args:
        recipe: of one model.
        batch_sizes: images a step.
        size: of the images, in pixels.
        precisions, layouts: by name.
    """
    changes = [
        [f"data.global_batch_size={batch_size}"] + ([f"data.crop_size={size}"] if size else []) + precision + layout
        for precision, layout, batch_size in product(
            list(map(_precision_keys, precisions)) or [[]],
            [[f"channels_last={str(layout is Layout.channels_last).lower()}"] for layout in layouts] or [[]],
            batch_sizes,
        )
    ]
    return [override_recipe(recipe, keys, recipe.name) for keys in changes]


def _precision_keys(name: PrecisionName) -> list[str]:
    if name is PrecisionName.tf32:
        return ["precision.kind=fp32", "precision.tf32=true"]
    return ["precision.tf32=false", f"precision.kind={name}"]


def natural_precision(device: torch.device) -> PrecisionName:
    """Return what a device is measured in where nothing else is asked: fp16 is slower than fp32 on a CPU."""
    return PrecisionName.fp16 if device.type == "cuda" else PrecisionName.fp32
