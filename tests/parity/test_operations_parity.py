"""The 8-bit operations against timm's functions and torchvision's, on pictures of Pillow.

They are equal bit for bit, given equal arguments. Plans hold arguments in float32, timm has them in float64; what
that changes is bounded in a test of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from operation_cases import operation_pictures, operations_plan
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

from pipelines.augment.operations import CpuOperations
from pipelines.augment.reference_operations import reference_operations
from pipelines.batch import BatchPlan, Operation

FILL = (124, 117, 104)
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
PICTURES = operation_pictures()

# timm's name of each operation of its increasing set, and the function that takes pixels where the name's own takes
# shares of the picture.
TIMM = {
    Operation.AUTO_CONTRAST: ("AutoContrast", auto_augment.auto_contrast),
    Operation.EQUALIZE: ("Equalize", auto_augment.equalize),
    Operation.INVERT: ("Invert", auto_augment.invert),
    Operation.ROTATE: ("Rotate", auto_augment.rotate),
    Operation.POSTERIZE: ("PosterizeIncreasing", auto_augment.posterize),
    Operation.SOLARIZE: ("SolarizeIncreasing", auto_augment.solarize),
    Operation.SOLARIZE_ADD: ("SolarizeAdd", auto_augment.solarize_add),
    Operation.COLOR: ("ColorIncreasing", auto_augment.color),
    Operation.CONTRAST: ("ContrastIncreasing", auto_augment.contrast),
    Operation.BRIGHTNESS: ("BrightnessIncreasing", auto_augment.brightness),
    Operation.SHARPNESS: ("SharpnessIncreasing", auto_augment.sharpness),
    Operation.SHEAR_X: ("ShearX", auto_augment.shear_x),
    Operation.SHEAR_Y: ("ShearY", auto_augment.shear_y),
    Operation.TRANSLATE_X: ("TranslateXRel", auto_augment.translate_x_abs),
    Operation.TRANSLATE_Y: ("TranslateYRel", auto_augment.translate_y_abs),
}
GEOMETRIC = [Operation.ROTATE, *(operation for operation in TIMM if operation >= Operation.SHEAR_X)]
CASES = [
    (operation, name) for operation in TIMM for name in (INTERPOLATIONS if operation in GEOMETRIC else ("bicubic",))
]

Executor = Callable[[torch.Tensor, BatchPlan, str], torch.Tensor]


def _cpu(pixels: torch.Tensor, plan: BatchPlan, interpolation: str) -> torch.Tensor:
    return CpuOperations(interpolation, FILL)(pixels, plan)


def _reference(pixels: torch.Tensor, plan: BatchPlan, interpolation: str) -> torch.Tensor:
    return reference_operations(pixels, plan, interpolation, FILL)


def run(
    executor: Executor, picture: NDArray[np.uint8], operation: Operation, arguments: list[float], interpolation: str
) -> NDArray[np.uint8]:
    """Apply one operation with each of some arguments to a picture."""
    plan = operations_plan([[operation]] * len(arguments), [[argument] for argument in arguments])
    pixels = torch.from_numpy(np.stack([picture] * len(arguments)))
    return executor(pixels, plan, interpolation).numpy()


def timm_arguments(operation: Operation, picture: NDArray[np.uint8], patch: pytest.MonkeyPatch) -> list[float]:
    """Return timm's arguments of magnitudes 0 to 10, with both signs, in pixels instead of shares."""
    name, _ = TIMM[operation]
    scale = {Operation.TRANSLATE_X: picture.shape[1], Operation.TRANSLATE_Y: picture.shape[0]}.get(operation, 1)
    level_to_arg = auto_augment.LEVEL_TO_ARG[name]
    if level_to_arg is None:
        return [0.0]
    arguments = []
    for coin in (0.0, 1.0):
        patch.setattr(random, "random", lambda coin=coin: coin)
        arguments += [level_to_arg(magnitude, {})[0] * scale for magnitude in range(11)]
    return arguments


def timm_picture(
    operation: Operation, picture: NDArray[np.uint8], argument: float, interpolation: str
) -> NDArray[np.uint8]:
    if operation == Operation.POSTERIZE and argument < 1:
        return np.zeros_like(picture)  # Pillow 13 refuses to keep 0 bits; older ones return black
    drawn = () if auto_augment.LEVEL_TO_ARG[TIMM[operation][0]] is None else (argument,)
    resample = Image.Resampling[interpolation.upper()]
    return np.asarray(TIMM[operation][1](Image.fromarray(picture), *drawn, fillcolor=FILL, resample=resample))


@pytest.mark.parametrize("executor", [_cpu, _reference])
@pytest.mark.parametrize(("operation", "interpolation"), CASES, ids=[f"{o.name}-{i}" for o, i in CASES])
def test_every_magnitude_equals_timm(
    executor: Executor, operation: Operation, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, picture in PICTURES.items():
        arguments = [float(np.float32(a)) for a in timm_arguments(operation, picture, monkeypatch)]
        if operation in (Operation.POSTERIZE, Operation.SOLARIZE, Operation.SOLARIZE_ADD):
            arguments = [int(argument) for argument in arguments]
        ours = run(executor, picture, operation, arguments, interpolation)
        theirs = [timm_picture(operation, picture, argument, interpolation) for argument in arguments]
        np.testing.assert_array_equal(ours, np.stack(theirs), err_msg=name)


@pytest.mark.parametrize("operation", [*GEOMETRIC, Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS])
def test_arguments_in_float64_change_one_level_of_few_pixels(
    operation: Operation, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = PICTURES["astronaut"]
    arguments = timm_arguments(operation, picture, monkeypatch)
    ours = run(_cpu, picture, operation, arguments, "bicubic")
    theirs = np.stack([timm_picture(operation, picture, argument, "bicubic") for argument in arguments])
    difference = np.abs(ours.astype(int) - theirs)
    # A source on the very border may count as inside for one and as outside for the other.
    filled = (ours == FILL).all(-1) != (theirs == FILL).all(-1)
    assert difference[~filled].max() <= 1
    assert filled.mean() < 1e-4
    # Round slopes put many values on a whole level, where the last bit decides.
    assert (difference > 0).mean() < 5e-3


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(24, 24), (24, 17), (15, 32)])
def test_quarter_turns_equal_pillow(size: tuple[int, int], interpolation: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    degrees = [0.0, -0.0, 45, 90, -90, 180, -180, 270, 360, 450, 90.0001, 1e-6]
    ours = run(_cpu, picture, Operation.ROTATE, degrees, interpolation)
    theirs = [timm_picture(Operation.ROTATE, picture, float(np.float32(d)), interpolation) for d in degrees]
    np.testing.assert_array_equal(ours, np.stack(theirs))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("operation", [operation for operation in GEOMETRIC if operation != Operation.ROTATE])
def test_shifts_that_float64_rounds_equal_pillow(operation: Operation, interpolation: str) -> None:
    arguments = [float(np.float32(s * 10.0**-e)) for s in (1, -1) for e in (5, 8, 12, 13, 14, 15, 17, 30)]
    for name in ("noise", "two levels", "1x9", "8x1"):
        ours = run(_cpu, PICTURES[name], operation, arguments, interpolation)
        theirs = [timm_picture(operation, PICTURES[name], argument, interpolation) for argument in arguments]
        np.testing.assert_array_equal(ours, np.stack(theirs), err_msg=name)


# How `TrivialAugmentWide` passes a magnitude on, in the units of `Operation`.
TORCHVISION: dict[str, tuple[Operation, Callable[[float], float]]] = {
    "Identity": (Operation.IDENTITY, float),
    "ShearX": (Operation.SHEAR_X, float),
    "ShearY": (Operation.SHEAR_Y, float),
    "TranslateX": (Operation.TRANSLATE_X, lambda magnitude: -int(magnitude)),
    "TranslateY": (Operation.TRANSLATE_Y, lambda magnitude: -int(magnitude)),
    "Rotate": (Operation.ROTATE, float),
    "Brightness": (Operation.BRIGHTNESS, lambda magnitude: 1 + magnitude),
    "Color": (Operation.COLOR, lambda magnitude: 1 + magnitude),
    "Contrast": (Operation.CONTRAST, lambda magnitude: 1 + magnitude),
    "Sharpness": (Operation.SHARPNESS, lambda magnitude: 1 + magnitude),
    "Posterize": (Operation.POSTERIZE, int),
    "Solarize": (Operation.SOLARIZE, float),
    "AutoContrast": (Operation.AUTO_CONTRAST, float),
    "Equalize": (Operation.EQUALIZE, float),
}


def test_no_operation_of_torchvision_is_missed() -> None:
    assert set(TrivialAugmentWide()._augmentation_space(31)) == set(TORCHVISION)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_strength_equals_torchvision(name: str, interpolation: str) -> None:
    """Shears differ by float64's rounding of tan(atan(x)), so they may cut off a fraction of 1 - 1e-15 instead of 0."""
    operation, argument = TORCHVISION[name]
    strengths, signed = TrivialAugmentWide()._augmentation_space(31)[name]
    magnitudes = [
        sign * float(strength) for strength in strengths.reshape(-1) for sign in ((1, -1) if signed else (1,))
    ]
    for picture in (PICTURES["astronaut"], PICTURES["5x7"]):
        ours = run(_cpu, picture, operation, [argument(magnitude) for magnitude in magnitudes], interpolation)
        theirs = [
            _apply_op(Image.fromarray(picture), name, magnitude, InterpolationMode(interpolation), list(FILL))
            for magnitude in magnitudes
        ]
        difference = np.abs(ours.astype(int) - np.stack([np.asarray(picture) for picture in theirs]))
        is_shear = operation in (Operation.SHEAR_X, Operation.SHEAR_Y)
        assert difference.max() <= (1 if is_shear else 0)
        assert (difference > 0).mean() < 1e-4
