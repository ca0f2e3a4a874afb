"""What a model expects of pictures: how large, and how normalized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from fastbot.errors import ModelError
from pipelines.spec import BOT_MEAN, BOT_STD, Rgb

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pictures are evaluated: short side to `resize_size`, centre `crop_size` square, (x - mean) / std.

    Attributes:
        mean, std: RGB, on the 0-255 scale.
        crop_size: of the model's input, in pixels.
        resize_size: of the short side, in pixels, rounded as the library rounds it.
        crop_ratio: crop_size / resize_size before any rounding, as the library states it.
        interpolation: of the resize.
    """

    mean: Rgb
    std: Rgb
    crop_size: int
    resize_size: int
    crop_ratio: float
    interpolation: Interpolation


# BoT section 2.1. It does not say to what pictures are resized before a crop of 299; GluonCV takes ceil(299 / 0.875).
BOT = Preprocessing(BOT_MEAN, BOT_STD, crop_size=224, resize_size=256, crop_ratio=0.875, interpolation="bilinear")
BOT_INCEPTION = Preprocessing(BOT_MEAN, BOT_STD, 299, 342, crop_ratio=0.875, interpolation="bilinear")


class Stated(Protocol):
    """What libraries call their numbers: torchvision's presets and timm's configurations alike."""

    @property
    def mean(self) -> Sequence[float]:
        """RGB, on the 0-1 scale."""
        ...

    @property
    def std(self) -> Sequence[float]:
        """RGB, on the 0-1 scale."""
        ...


def normalization_of(stated: Stated) -> tuple[Rgb, Rgb]:
    """Return the mean and the standard deviation that a library states, on the 0-255 scale."""
    return _of_255(stated.mean), _of_255(stated.std)


def _of_255(values: Sequence[float]) -> Rgb:
    red, green, blue = (255 * value for value in values)
    return red, green, blue


def interpolation_of(name: str, stated: str) -> Interpolation:
    """Return a library's name of a filter as ours.

    Raises:
        ModelError: pipelines has no such filter.
    """
    if stated == "bilinear":
        return "bilinear"
    if stated == "bicubic":
        return "bicubic"
    raise ModelError(f"{name} expects pictures resized by {stated}; fastbot resizes by bilinear or bicubic only")
