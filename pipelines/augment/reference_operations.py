"""The meaning of the 8-bit operations: Pillow, one picture at a time, called as timm calls it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from pipelines.batch import BatchPlan, Operation
from pipelines.spec import Fill

Sampling = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class _Border:
    """How geometric operations read between pixels, and what is outside."""

    sampling: Image.Resampling
    fill: Fill

    def affine(self, picture: Image.Image, *matrix: float) -> Image.Image:
        return picture.transform(
            picture.size, Image.Transform.AFFINE, matrix, resample=self.sampling, fillcolor=self.fill
        )


def reference_operations(pixels: torch.Tensor, plan: BatchPlan, interpolation: Sampling, fill: Fill) -> torch.Tensor:
    """Mirror pictures and apply each layer of a plan's operations.

    Args:
        pixels: uint8 (n, H, W, 3) RGB.
        plan: n rows.
        interpolation: of the geometric operations.
        fill: the colour of what comes from outside.

    Returns:
        uint8 of the same shape and device.

    Source: timm `auto_augment.py`.
    """
    border = _Border(Image.Resampling[interpolation.upper()], fill)
    pictures = [
        _picture(Image.fromarray(picture), plan, row, border) for row, picture in enumerate(pixels.cpu().numpy())
    ]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).to(pixels.device)


def _picture(picture: Image.Image, plan: BatchPlan, row: int, border: _Border) -> Image.Image:
    if plan.flip[row]:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for operation, argument in zip(plan.operations[row], plan.arguments[row], strict=True):
        picture = _OPERATIONS[Operation(operation)](picture, float(argument), border)
    return picture


def _rotate(picture: Image.Image, degrees: float, border: _Border) -> Image.Image:
    return picture.rotate(degrees, resample=border.sampling, fillcolor=border.fill)


def _posterize(picture: Image.Image, bits: float, _: _Border) -> Image.Image:
    """Keep the highest bits; none leaves black, which Pillow from 13 on refuses to compute."""
    return ImageOps.posterize(picture, int(bits)) if bits >= 1 else Image.new("RGB", picture.size)


def _solarize_add(picture: Image.Image, addition: float, _: _Border) -> Image.Image:
    table = [min(level + int(addition), 255) if level < 128 else level for level in range(256)]
    return picture.point(table * 3)


_OPERATIONS: dict[Operation, Callable[[Image.Image, float, _Border], Image.Image]] = {
    Operation.IDENTITY: lambda picture, _, __: picture,
    Operation.AUTO_CONTRAST: lambda picture, _, __: ImageOps.autocontrast(picture),
    Operation.EQUALIZE: lambda picture, _, __: ImageOps.equalize(picture),
    Operation.INVERT: lambda picture, _, __: ImageOps.invert(picture),
    Operation.ROTATE: _rotate,
    Operation.POSTERIZE: _posterize,
    Operation.SOLARIZE: lambda picture, threshold, _: ImageOps.solarize(picture, math.ceil(threshold)),
    Operation.SOLARIZE_ADD: _solarize_add,
    Operation.COLOR: lambda picture, factor, _: ImageEnhance.Color(picture).enhance(factor),
    Operation.CONTRAST: lambda picture, factor, _: ImageEnhance.Contrast(picture).enhance(factor),
    Operation.BRIGHTNESS: lambda picture, factor, _: ImageEnhance.Brightness(picture).enhance(factor),
    Operation.SHARPNESS: lambda picture, factor, _: ImageEnhance.Sharpness(picture).enhance(factor),
    Operation.SHEAR_X: lambda picture, slope, border: border.affine(picture, 1, slope, 0, 0, 1, 0),
    Operation.SHEAR_Y: lambda picture, slope, border: border.affine(picture, 1, 0, 0, slope, 1, 0),
    Operation.TRANSLATE_X: lambda picture, shift, border: border.affine(picture, 1, 0, shift, 0, 1, 0),
    Operation.TRANSLATE_Y: lambda picture, shift, border: border.affine(picture, 1, 0, 0, 0, 1, shift),
}
