"""The data half of a recipe, as a frozen type: what happens to a picture on its way to the model.

A recipe contains one `DataSpec`; that is all this package knows of recipes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _number(value: object) -> object:
    if isinstance(value, bool | str | bytes):  # which pydantic takes for numbers: True for 1, "16" for 16
        raise ValueError("it should be a number")
    return value


Integer = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[Integer, Field(gt=0, lt=2**31)]  # as int32 arrays hold
Pixels = Annotated[Integer, Field(gt=0, lt=2**16)]  # no side of a JPEG has more
Epoch = Annotated[Integer, Field(ge=0, lt=2**32)]  # as a plan's counter holds
Probability = Annotated[Number, Field(ge=0, le=1)]
Factor = Annotated[Number, Field(ge=0)]
Alpha = Annotated[Number, Field(gt=0)]
Draw = Literal["batch", "group", "sample"]
Level = Annotated[Integer, Field(ge=0, le=255)]
Fill = tuple[Level, Level, Level]
Rgb = tuple[Number, Number, Number]

# BoT section 2.1 (GluonCV's RecordIO path); not torchvision's 255 x (0.485, ...), see docs/architecture.md.
BOT_MEAN: Rgb = (123.68, 116.779, 103.939)
BOT_STD: Rgb = (58.393, 57.12, 57.375)


class Frozen(BaseModel):
    """Base of every spec: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    if bounds[0] > bounds[1]:
        raise ValueError(f"{name} is [{bounds[0]}, {bounds[1]}]: the first bound must not exceed the second")


def _check_rectangle(area: tuple[float, float], aspect: tuple[float, float]) -> None:
    _check_range("area", area)
    _check_range("aspect", aspect)
    if not area[0] > 0 or area[1] > 1:
        raise ValueError(f"area is {list(area)}: both bounds must lie in (0, 1]")
    if not aspect[0] > 0:
        raise ValueError(f"aspect is {list(aspect)}: both bounds must be positive")


class RandomResizedCrop(Frozen):
    """BoT section 2.1: a crop of random area and aspect ratio, resized to the crop size.

    Source: the sampling is torchvision's `RandomResizedCrop` (aspect log-uniform, `attempts` tries, then the
    largest centre crop within the aspect range).
    """

    area: tuple[Factor, Factor] = (0.08, 1.0)
    aspect: tuple[Factor, Factor] = (3 / 4, 4 / 3)
    attempts: Count = 10

    @model_validator(mode="after")
    def _ordered(self) -> RandomResizedCrop:
        _check_rectangle(self.area, self.aspect)
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


class NoAutoAugment(Frozen):
    """No operations on 8-bit pixels."""

    kind: Literal["none"] = "none"


class RandAugment(Frozen):
    """RSB: `layers` operations drawn with replacement, each applied with a probability, at about one magnitude.

    `rand-m7-mstd0.5-inc1` is the default. Source: timm `auto_augment.py`, `rand_augment_transform` with its
    increasing set of 15 operations.

    Attributes:
        magnitude: 0 to 10, the mean.
        magnitude_std: of the normal noise that each operation's magnitude has; the sum is clipped to 0 to 10.
        layers: operations a picture.
        probability: of each of them to be applied.
        interpolation: of the geometric operations.
        fill: what comes from outside the picture, RGB of 0 to 255; None for the spec's mean, rounded.
    """

    kind: Literal["rand"] = "rand"
    magnitude: Annotated[Number, Field(ge=0, le=10)] = 7.0
    magnitude_std: Factor = 0.5
    layers: Annotated[Integer, Field(ge=1, le=100)] = 2
    probability: Probability = 0.5
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    fill: Fill | None = None


class TrivialAugment(Frozen):
    """One operation a picture, drawn uniformly, at a uniformly drawn strength.

    Source: Mueller and Hutter 2021, TA (Wide), as torchvision's `TrivialAugmentWide` carries it out.

    Attributes:
        num_strengths: equally spaced strengths of each operation.
        interpolation, fill: as in `RandAugment`, but a colour is given; torchvision's defaults are nearest and black.
    """

    kind: Literal["trivial"] = "trivial"
    num_strengths: Annotated[Integer, Field(ge=2, le=10_000)] = 31
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "nearest"
    fill: Fill = (0, 0, 0)


AutoAugment = Annotated[NoAutoAugment | RandAugment | TrivialAugment, Field(discriminator="kind")]


class RandomErasing(Frozen):
    """Overwrite one rectangle of a normalized picture.

    Source: Zhong et al. 2017, as timm's `RandomErasing` with one rectangle: area and log-uniform aspect ratio are drawn
    up to ten times, until the rectangle is smaller than the picture; nothing is erased where none is.

    Attributes:
        probability: that a picture is touched; 0 switches it off.
        area: of the rectangle, as a share of the picture's.
        aspect: height / width.
        mode: what the pixels become: `const` 0 (the mean), `rand` one normal colour, `pixel` a normal colour each.
    """

    probability: Probability = 0.0
    area: tuple[Factor, Factor] = (0.02, 1 / 3)
    aspect: tuple[Factor, Factor] = (0.3, 1 / 0.3)
    mode: Literal["const", "rand", "pixel"] = "pixel"

    @model_validator(mode="after")
    def _ordered(self) -> RandomErasing:
        _check_rectangle(self.area, self.aspect)
        return self


class NoMix(Frozen):
    """Every picture keeps its own label."""

    kind: Literal["none"] = "none"


class Mixup(Frozen):
    """BoT section 5.4: x = lambda * x_i + (1 - lambda) * x_j, and the same for the targets.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha), raw (no max(lambda, 1 - lambda)).
        probability: that anything is mixed.
        draw: everything is drawn once per global `batch` (GluonCV), per mix `group` (timm, whose group is a process's
            batch), or per `sample`.
        group: positions of a global batch that mix with each other: position p belongs to virtual rank
            p mod (B / group), and its partner is the reversal inside that group. Must divide the global batch B.
    """

    kind: Literal["mixup"] = "mixup"
    alpha: Alpha = 0.2
    probability: Probability = 1.0
    draw: Draw = "batch"
    group: Count = 32


class CutMix(Frozen):
    """A rectangle of each picture comes from another: it covers 1 - lambda of the picture, where it does not stick out.

    lambda is then the share of pixels that are the picture's own. Source: Yun et al. 2019, as timm's `Mixup`.

    Attributes:
        alpha, probability, draw, group: as in `Mixup`.
    """

    kind: Literal["cutmix"] = "cutmix"
    alpha: Alpha = 1.0
    probability: Probability = 1.0
    draw: Draw = "group"
    group: Count = 32


class MixupCutMix(Frozen):
    """RSB: mixup or CutMix, drawn anew each time.

    Source: timm's `Mixup` with `switch_prob`.

    Attributes:
        mixup_alpha, cutmix_alpha: of the two.
        switch: probability of CutMix, where anything is mixed.
        probability, draw, group: as in `Mixup`.
    """

    kind: Literal["mixup_cutmix"] = "mixup_cutmix"
    mixup_alpha: Alpha = 0.1
    cutmix_alpha: Alpha = 1.0
    switch: Probability = 0.5
    probability: Probability = 1.0
    draw: Draw = "group"
    group: Count = 32


Mix = Annotated[NoMix | Mixup | CutMix | MixupCutMix, Field(discriminator="kind")]


class Shuffle(Frozen):
    """Every epoch, every sample once, in a uniformly random order; its tail is left out."""

    kind: Literal["shuffle"] = "shuffle"


class BlockShuffle(Frozen):
    """An order for stores larger than memory: it reads blocks of consecutive samples, whole, in a random order.

    Blocks are shuffled, and samples are shuffled among `pool` consecutive blocks of that order; so at most
    that many blocks are being read from at a time, and each byte of a block is read within that time.

    Attributes:
        block: samples that lie together in the store.
        pool: blocks whose samples mix.
    """

    kind: Literal["blocks"] = "blocks"
    block: Count = 1024
    pool: Count = 64


class RepeatAugment(Frozen):
    """RSB: an epoch is as long as ever, but has only 1 / `repeats` of the samples, each that many times.

    Source: timm's `RepeatAugSampler`: copies follow one another in the order that ranks take turns in.
    """

    kind: Literal["repeat"] = "repeat"
    repeats: Annotated[Count, Field(ge=2)] = 3


class Weighted(Frozen):
    """Samples are drawn with replacement, each class by its weight; an epoch is as long as ever.

    Attributes:
        weights: one for each class, or None to balance: a class of c samples then has the weight c ** (1 - power),
            shared out among its samples.
        power: 0 leaves classes as frequent as they are, 1 makes all equally frequent.
    """

    kind: Literal["weighted"] = "weighted"
    weights: tuple[Factor, ...] | None = None
    power: Probability = 1.0


Order = Annotated[Shuffle | BlockShuffle | RepeatAugment | Weighted, Field(discriminator="kind")]


class SizeRamp(Frozen):
    """Progressive resizing: crops grow linearly from `start_size`, and have `DataSpec.crop_size` from `end_epoch` on.

    Source: FFCV's ImageNet recipe: sizes are rounded to a multiple of `multiple`.

    Attributes:
        start_size: up to and in `start_epoch`, in pixels.
        start_epoch, end_epoch: from 0.
        multiple: of pixels.
    """

    start_size: Pixels = 160
    start_epoch: Epoch = 35
    end_epoch: Epoch = 65
    multiple: Pixels = 32

    @model_validator(mode="after")
    def _ordered(self) -> SizeRamp:
        if self.start_epoch >= self.end_epoch:
            raise ValueError(f"start_epoch is {self.start_epoch}, not before end_epoch {self.end_epoch}")
        return self


class EvalSpec(Frozen):
    """Deterministic evaluation: short side resized to `resize_size`, then the centre `crop_size` square."""

    resize_size: Pixels = 256
    crop_size: Pixels = 224
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    global_batch_size: Count = 256

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

    global_batch_size: Count = 256
    order: Order = Shuffle()
    crop_size: Pixels = 224
    size_ramp: SizeRamp | None = None
    crop: RandomResizedCrop = RandomResizedCrop()
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: Probability = 0.5
    auto_augment: AutoAugment = NoAutoAugment()
    jitter: Jitter = HsvJitter()
    lighting_std: Factor = 0.1
    erasing: RandomErasing = RandomErasing()
    mix: Mix = NoMix()
    mean: Rgb = BOT_MEAN
    std: Rgb = BOT_STD
    eval: EvalSpec = EvalSpec()

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        if min(self.std) <= 0:
            raise ValueError(f"std is {list(self.std)}: every value must be positive")
        if not isinstance(self.mix, NoMix) and self.global_batch_size % self.mix.group:
            raise ValueError(
                f"mix.group is {self.mix.group} and does not divide global_batch_size {self.global_batch_size}: "
                "choose a divisor"
            )
        if self.size_ramp is not None and self.size_ramp.start_size > self.crop_size:
            raise ValueError(
                f"size_ramp.start_size is {self.size_ramp.start_size}, larger than crop_size {self.crop_size}: "
                "crops grow"
            )
        return self
