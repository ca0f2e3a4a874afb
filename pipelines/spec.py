"""The data half of a recipe, as a frozen type: what happens to a picture on its way to the model.

A recipe contains one `DataSpec`; that is all this package knows of recipes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0)]
Rgb = tuple[float, float, float]

# BoT section 2.1 (GluonCV's RecordIO path); not torchvision's 255 x (0.485, ...), see docs/architecture.md.
BOT_MEAN: Rgb = (123.68, 116.779, 103.939)
BOT_STD: Rgb = (58.393, 57.12, 57.375)


class Frozen(BaseModel):
    """Base of every spec: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} is [{bounds[0]}, {bounds[1]}]: the first bound must not exceed the second")


class RandomResizedCrop(Frozen):
    """BoT section 2.1: a crop of random area and aspect ratio, resized to the crop size.

    Source: the sampling is torchvision's `RandomResizedCrop` (aspect log-uniform, `attempts` tries, then the
    largest centre crop within the aspect range).
    """

    area: tuple[Factor, Factor] = (0.08, 1.0)
    aspect: tuple[Factor, Factor] = (3 / 4, 4 / 3)
    attempts: PositiveInt = 10

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        _check_range("area", self.area)
        _check_range("aspect", self.aspect)
        if not self.area[0] > 0 or self.area[1] > 1:
            raise ValueError(f"area is {list(self.area)}: both bounds must lie in (0, 1]")
        if not self.aspect[0] > 0:
            raise ValueError(f"aspect is {list(self.aspect)}: both bounds must be positive")
        return self


class NoJitter(Frozen):
    """Colours stay as they are."""

    kind: Literal["none"] = "none"


class HsvJitter(Frozen):
    """BoT section 2.1, step 4: hue, saturation and brightness each *scaled* by a uniform factor.

    Hue is scaled too, as the paper writes it (h in [0, 1) becomes h * factor mod 1); this is not torchvision's
    additive hue shift. Saturation and value are clipped to [0, 1].
    """

    kind: Literal["hsv"] = "hsv"
    hue: tuple[Factor, Factor] = (0.6, 1.4)
    saturation: tuple[Factor, Factor] = (0.6, 1.4)
    brightness: tuple[Factor, Factor] = (0.6, 1.4)

    @model_validator(mode="after")
    def _ordered(self) -> HsvJitter:
        for name in ("hue", "saturation", "brightness"):
            _check_range(name, getattr(self, name))
        return self


class ContrastJitter(Frozen):
    """What GluonCV's released code does instead: brightness, contrast and saturation, in random order.

    Each factor is uniform in [1 - x, 1 + x]; contrast is about the picture's mean grey; values are clipped to
    [0, 255] after each operation. Source: MXNet 1.3 `src/io/image_aug_default.cc`.
    """

    kind: Literal["contrast"] = "contrast"
    brightness: Probability = 0.4
    contrast: Probability = 0.4
    saturation: Probability = 0.4


Jitter = Annotated[NoJitter | HsvJitter | ContrastJitter, Field(discriminator="kind")]


class NoMix(Frozen):
    """Every picture keeps its own label."""

    kind: Literal["none"] = "none"


class Mixup(Frozen):
    """BoT section 5.4: x = lambda * x_i + (1 - lambda) * x_j, and the same for the targets.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha), raw (no max(lambda, 1 - lambda)).
        draw: one lambda per global `batch` (GluonCV), per mix `group` (timm, whose group is a process's batch),
            or per `sample`.
        group: positions of a global batch that mix with each other: position p belongs to virtual rank
            p mod (B / group), and its partner is the reversal inside that group. Must divide the global batch B.
    """

    kind: Literal["mixup"] = "mixup"
    alpha: Annotated[float, Field(gt=0)] = 0.2
    draw: Literal["batch", "group", "sample"] = "batch"
    group: PositiveInt = 32


Mix = Annotated[NoMix | Mixup, Field(discriminator="kind")]


class EvalSpec(Frozen):
    """Deterministic evaluation: short side resized to `resize_size`, then the centre `crop_size` square."""

    resize_size: PositiveInt = 256
    crop_size: PositiveInt = 224
    global_batch_size: PositiveInt = 256

    @model_validator(mode="after")
    def _fits(self) -> EvalSpec:
        if self.resize_size < self.crop_size:
            raise ValueError(
                f"resize_size is {self.resize_size}, smaller than crop_size {self.crop_size}: "
                "the crop would leave the picture; raise resize_size or lower crop_size"
            )
        return self


class DataSpec(Frozen):
    """Everything that decides a batch besides the store, the seed, the epoch and the step.

    Batch sizes are global: over all ranks. `mean` and `std` are on the 0-255 scale.
    """

    global_batch_size: PositiveInt = 256
    crop_size: PositiveInt = 224
    crop: RandomResizedCrop = RandomResizedCrop()
    flip: Probability = 0.5
    jitter: Jitter = HsvJitter()
    lighting_std: Factor = 0.1
    mix: Mix = NoMix()
    mean: Rgb = BOT_MEAN
    std: Rgb = BOT_STD
    eval: EvalSpec = EvalSpec()

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        if min(self.std) <= 0:
            raise ValueError(f"std is {list(self.std)}: every value must be positive")
        if self.mix.kind == "mixup" and self.global_batch_size % self.mix.group:
            raise ValueError(
                f"mix.group is {self.mix.group} and does not divide global_batch_size {self.global_batch_size}: "
                "choose a divisor"
            )
        return self
