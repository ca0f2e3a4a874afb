"""Test resolution and crop ratio: from "288 at 0.95" to the short side that pictures are resized to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from fastbot.errors import RecipeError
from pipelines.spec import EvalSpec

if TYPE_CHECKING:
    from pipelines.batch import Interpolation

Rounding = Literal["floor", "ceil"]

_LARGEST_PX = 4096  # four times the largest test size that timm 1.0 states for any weights


@dataclass(frozen=True, slots=True)
class Crop:
    """How pictures are cut for an evaluation, and in words where that comes from.

    Attributes:
        spec: what the plan takes.
        origin: for example `224 / 0.95 = 235.79, floor`, or `as in the recipe`.
    """

    spec: EvalSpec
    origin: str

    def __str__(self) -> str:
        return f"{self.spec.resize_size} -> {self.spec.crop_size} px ({self.origin}), {self.spec.interpolation}"


def resized_for(crop_size: int, ratio: Fraction, rounding: Rounding) -> int:
    """Return the short side of which a centre crop is the share `ratio`, in whole pixels.

    Args:
        crop_size: of the crop, in pixels, at least 1.
        ratio: in (0, 1]; an exact fraction, since as floats 205 / 0.82 is a little more than 250, and its ceiling 251.
        rounding: `floor` as timm (224 / 0.95 gives 235), or `ceil` as GluonCV, MMPretrain and PaddleClas (236).

    Source: timm's `transforms_imagenet_eval`; GluonCV's `train_imagenet.py`, `resize = int(math.ceil(size / ratio))`.
    """
    quotient = crop_size / ratio
    return math.floor(quotient) if rounding == "floor" else math.ceil(quotient)


def crop_of(
    recipe_eval: EvalSpec,
    size: int | None = None,
    ratio: float | None = None,
    rounding: Rounding | None = None,
    interpolation: Interpolation | None = None,
) -> Crop:
    """Return the crop that is asked for; what is not asked for is as in the recipe.

    Args:
        recipe_eval: the recipe's.
        size: of the crop, in pixels, from 1 to 4096.
        ratio: of the crop's side to the resized short side, in (0, 1].
        rounding: see `resized_for`; by default `floor`.
        interpolation: of the resize.

    Raises:
        RecipeError: a value is out of range, or there is nothing to round.
    """
    kept = recipe_eval.model_copy(update={"interpolation": interpolation or recipe_eval.interpolation})
    if size is None and ratio is None:
        if rounding is not None:
            raise RecipeError(f"--rounding {rounding} has no effect without --size or --crop-ratio: give one of them")
        return Crop(kept, "as in the recipe")
    size, exact = _checked(recipe_eval, size, ratio)
    resize_size = resized_for(size, exact, rounding or "floor")
    spec = kept.model_copy(update={"crop_size": size, "resize_size": resize_size})
    return Crop(spec, _origin(size, exact, rounding or "floor", of_recipe=ratio is None))


def _checked(recipe_eval: EvalSpec, asked: int | None, ratio: float | None) -> tuple[int, Fraction]:
    if asked is not None and not 1 <= asked <= _LARGEST_PX:
        raise RecipeError(f"--size is {asked}; it must be from 1 to {_LARGEST_PX} pixels")
    size = recipe_eval.crop_size if asked is None else asked
    if ratio is None:
        return size, Fraction(recipe_eval.crop_size, recipe_eval.resize_size)
    if not 0 < ratio <= 1:
        raise RecipeError(f"--crop-ratio is {ratio:g}; the crop's share of the resized short side is in (0, 1]")
    return size, Fraction(repr(ratio))  # 0.95 as it was typed: 19/20


def _origin(size: int, ratio: Fraction, rounding: Rounding, *, of_recipe: bool) -> str:
    """Return how a resized side came about; nothing was rounded where the quotient is whole."""
    quotient = size / ratio
    shown = f"({ratio.numerator}/{ratio.denominator} as in the recipe)" if of_recipe else f"{float(ratio):g}"
    result = f"{quotient}" if quotient.denominator == 1 else f"{float(quotient):.2f}, {rounding}"
    return f"{size} / {shown} = {result}"
