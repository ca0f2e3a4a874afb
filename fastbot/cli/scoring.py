"""What `eval` and `predict` share: the crop of pictures, the options that change it, and what is said of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from fastbot.evaluation.crop import Crop
    from fastbot.precision import Precision
    from fastbot.recipe import Recipe


class RoundingName(StrEnum):
    """How a resized side that is no whole number of pixels becomes one."""

    floor = "floor"
    ceil = "ceil"


class InterpolationName(StrEnum):
    """How pictures are resized."""

    bilinear = "bilinear"
    bicubic = "bicubic"


Checkpointed = Annotated[str, typer.Option("--checkpoint", help="`best`, `last`, or a folder of RUN/checkpoints.")]
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="Side of the centre crop, in pixels; as in the recipe if not given.")
]
CropRatio = Annotated[
    float | None,
    typer.Option(help="The crop's share of the short side that pictures are resized to, such as 0.875 or 0.95."),
]
Rounding = Annotated[
    RoundingName | None,
    typer.Option(help="Of size / ratio: floor (the default) as timm, 224 / 0.95 = 235; ceil as GluonCV, 236."),
]
Interpolated = Annotated[
    InterpolationName | None, typer.Option("--interpolation", help="Of the resize; as in the recipe if not given.")
]
Flipped = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Average the logits of each picture and its mirror image; as run.eval_flip of the recipe if not given.",
    ),
]


def asked_crop(
    recipe: Recipe,
    size: int | None,
    ratio: float | None,
    rounding: RoundingName | None,
    interpolation: InterpolationName | None,
) -> Crop:
    """Return the crop that the options ask for.

    Raises:
        RecipeError: a value is out of range.
    """
    from fastbot.evaluation.crop import crop_of

    return crop_of(
        recipe.data.eval,
        size,
        ratio,
        None if rounding is None else rounding.value,
        None if interpolation is None else interpolation.value,
    )


def with_crop(recipe: Recipe, crop: Crop, batch_size: int) -> Recipe:
    """Return the recipe with another evaluation: its crop, and so many pictures at a time over all ranks."""
    spec = crop.spec.model_copy(update={"global_batch_size": batch_size})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"eval": spec})})


def check_size(model: nn.Module, recipe: Recipe, crop: Crop, precision: Precision, device: torch.device) -> None:
    """Try one empty picture of a size that the recipe does not have: some networks take one size only.

    Raises:
        ModelError: the network does not take it.
        RunError: there is no memory for it.
    """
    import torch

    from fastbot.errors import ModelError, RunError
    from fastbot.models.trial import is_of_memory

    size = crop.spec.crop_size
    if size == recipe.data.eval.crop_size:
        return
    try:
        with torch.no_grad(), precision.autocast():
            model(torch.zeros(1, 3, size, size, device=device).contiguous(memory_format=torch.channels_last))
    except (RuntimeError, AssertionError, ValueError) as error:
        if is_of_memory(error):
            raise RunError(f"the device has no memory for one picture of {size} px: choose a smaller --size") from error
        raise ModelError(
            f"{recipe.model.name} does not take pictures of {size} px: {error}. Choose another --size"
        ) from error


@contextmanager
def memory_errors_named(batch_size: int, size: int) -> Iterator[None]:
    """Say what to do where the device has no memory for a batch.

    Raises:
        RunError: instead of torch's own.
    """
    from fastbot.errors import RunError
    from fastbot.models.trial import is_of_memory

    try:
        yield
    except RuntimeError as error:
        if not is_of_memory(error):
            raise
        raise RunError(
            f"the device has no memory for {batch_size} pictures of {size} px at a time: choose a smaller --batch-size"
        ) from error
