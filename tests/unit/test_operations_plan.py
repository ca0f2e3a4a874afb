from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from timm.data import auto_augment
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms.autoaugment import _apply_op

from pipelines import philox
from pipelines.batch import Operation
from pipelines.operations_plan import (
    OperationsPlan,
    build_operations_plan,
    rand_augment_argument,
    trivial_augment_arguments,
)
from pipelines.spec import NoAutoAugment, RandAugment, TrivialAugment

KEY = philox.key(11)
# Seeds are fixed, so these tests cannot flicker.
P_VALUE = 1e-4
SIZE = (160, 224)
MANY = np.arange(30_000)
RAND_OPERATIONS = [operation for operation in Operation if operation != Operation.IDENTITY]
NAMES = dict(zip(RAND_OPERATIONS, auto_augment._RAND_INCREASING_TRANSFORMS, strict=True))
SIGNED = [Operation.ROTATE, Operation.SHEAR_X, Operation.SHEAR_Y, Operation.TRANSLATE_X, Operation.TRANSLATE_Y]


def plan(augment: RandAugment | TrivialAugment) -> OperationsPlan:
    return build_operations_plan(augment, KEY, rows=len(MANY))


def test_operations_are_named_as_in_timm() -> None:
    for operation, name in NAMES.items():
        assert operation.name.replace("_", "").lower() == name.removesuffix("Increasing").removesuffix("Rel").lower()


def in_pixels(name: str, arguments: tuple[float, ...]) -> float:
    """Return the argument of timm's operation as `Operation` has it: translations in pixels, 0 for none."""
    sides = {"TranslateXRel": SIZE[1], "TranslateYRel": SIZE[0]}
    return arguments[0] * sides.get(name, 1) if arguments else 0.0


@pytest.mark.parametrize("operation", RAND_OPERATIONS)
@pytest.mark.parametrize("negated", [False, True])
def test_arguments_are_those_of_timm(monkeypatch: pytest.MonkeyPatch, operation: Operation, negated: bool) -> None:
    level_to_argument = auto_augment.LEVEL_TO_ARG[NAMES[operation]]
    monkeypatch.setattr(auto_augment.random, "random", lambda: float(negated))  # above a half it negates
    for magnitude in [0.0, 2.5, 5.0, 7.0, 10.0, *np.random.default_rng(0).uniform(0, 10, 50).tolist()]:
        theirs = level_to_argument(magnitude, {}) if level_to_argument is not None else ()
        ours = rand_augment_argument(operation, magnitude, negated, *SIZE)
        assert ours == in_pixels(NAMES[operation], theirs)


def drawn_by_timm(num: int) -> dict[str, list[float]]:
    """Return the arguments that `rand-m7-mstd0.5-inc1` passes to each operation, for so many pictures."""
    random.seed(0)
    np.random.seed(0)
    transform = auto_augment.rand_augment_transform("rand-m7-mstd0.5-inc1")
    passed: dict[str, list[float]] = {name: [] for name in NAMES.values()}

    def recorder(name: str) -> Callable[..., None]:
        return lambda _, *arguments, **__: passed[name].append(in_pixels(name, arguments))

    for op in transform.ops:
        op.aug_fn = recorder(op.name)
    for _ in range(num):
        transform(None)
    return passed


def test_rand_augment_draws_as_often_and_as_strongly_as_timm() -> None:
    theirs = drawn_by_timm(6000)
    operations, arguments = plan(RandAugment()).draw(0, MANY, SIZE)
    counts = np.bincount(operations.ravel(), minlength=16)
    expected = [12_000 - sum(map(len, theirs.values())), *map(len, theirs.values())]
    assert stats.chi2_contingency([counts, expected]).pvalue > P_VALUE
    for operation, name in NAMES.items():
        ours = arguments[operations == operation]
        assert stats.ks_2samp(ours, np.float32(theirs[name])).pvalue > P_VALUE, name


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_layers_are_applied_as_often_as_asked(probability: float) -> None:
    operations, arguments = plan(RandAugment(probability=probability, layers=3)).draw(0, MANY, SIZE)
    assert operations.shape == arguments.shape == (len(MANY), 3)
    for layer in operations.T:
        assert stats.binomtest(int(np.sum(layer != Operation.IDENTITY)), len(MANY), probability).pvalue > P_VALUE
    assert np.all(arguments[operations == Operation.IDENTITY] == 0)


def test_operations_are_drawn_with_replacement_and_layers_are_independent() -> None:
    operations, _ = plan(RandAugment(probability=1.0)).draw(0, MANY, SIZE)
    pairs = np.bincount((operations[:, 0] - 1).astype(np.int64) * 15 + operations[:, 1] - 1, minlength=225)
    assert stats.chisquare(pairs).pvalue > P_VALUE


def magnitudes(**fields: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the magnitudes that rotations show, without their sign, and which were negated."""
    operations, arguments = plan(RandAugment(**fields)).draw(0, MANY, SIZE)
    degrees = arguments[operations == Operation.ROTATE]
    return np.abs(degrees) / 3, degrees < 0


def test_magnitudes_are_normal_and_half_of_the_directions_negated() -> None:
    drawn, negated = magnitudes(magnitude=5, magnitude_std=0.7)
    assert stats.kstest(drawn, stats.norm(5, 0.7).cdf).pvalue > P_VALUE
    assert stats.binomtest(int(negated.sum()), len(negated), 0.5).pvalue > P_VALUE


@pytest.mark.parametrize("limit", [0, 10])
def test_magnitudes_stay_between_0_and_10(limit: int) -> None:
    drawn, _ = magnitudes(magnitude=limit, magnitude_std=1)
    assert stats.binomtest(int(np.sum(drawn == limit)), len(drawn), 0.5).pvalue > P_VALUE
    assert drawn.min() >= 0
    assert drawn.max() <= 10


def test_magnitudes_do_not_vary_without_noise() -> None:
    drawn, _ = magnitudes(magnitude=6, magnitude_std=0)
    assert np.all(drawn == 6)


def test_translations_are_a_share_of_the_output() -> None:
    operations, arguments = plan(RandAugment(magnitude=10, magnitude_std=0)).draw(0, MANY, SIZE)
    for operation, side in ((Operation.TRANSLATE_X, 224), (Operation.TRANSLATE_Y, 160)):
        np.testing.assert_allclose(np.unique(arguments[operations == operation]), [-0.45 * side, 0.45 * side])


def applied(picture: Image.Image, operation: Operation, argument: float) -> Image.Image:
    """Return a picture after an operation of timm, which takes the arguments that `Operation` says."""
    functions: dict[Operation, Callable[..., Image.Image]] = {
        Operation.IDENTITY: lambda image, *_, **__: image,
        Operation.AUTO_CONTRAST: lambda image, *_, **__: auto_augment.auto_contrast(image),
        Operation.EQUALIZE: lambda image, *_, **__: auto_augment.equalize(image),
        Operation.ROTATE: auto_augment.rotate,
        Operation.POSTERIZE: lambda image, bits, **_: auto_augment.posterize(image, int(bits)),
        Operation.SOLARIZE: auto_augment.solarize,
        Operation.COLOR: auto_augment.color,
        Operation.CONTRAST: auto_augment.contrast,
        Operation.BRIGHTNESS: auto_augment.brightness,
        Operation.SHARPNESS: auto_augment.sharpness,
        Operation.SHEAR_X: auto_augment.shear_x,
        Operation.SHEAR_Y: auto_augment.shear_y,
        Operation.TRANSLATE_X: auto_augment.translate_x_abs,
        Operation.TRANSLATE_Y: auto_augment.translate_y_abs,
    }
    return functions[operation](picture, argument, resample=Image.Resampling.NEAREST, fillcolor=(9, 8, 7))


@pytest.mark.parametrize("num_strengths", [2, 31])
def test_trivial_augment_makes_the_pictures_of_torchvision(num_strengths: int) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (29, 37, 3), np.uint8))
    arguments = trivial_augment_arguments(num_strengths)
    space = TrivialAugmentWide()._augmentation_space(num_strengths)
    assert len(space) == len(arguments)
    for (name, (strengths, signed)), operation in zip(space.items(), arguments, strict=True):
        assert name.lower() == operation.name.replace("_", "").lower()
        for k, (plain, negated) in enumerate(arguments[operation].tolist()):
            strength = float(strengths[k]) if strengths.ndim else 0.0
            for argument, magnitude in ((plain, strength), (negated, -strength if signed else strength)):
                theirs = _apply_op(picture, name, magnitude, InterpolationMode.NEAREST, [9, 8, 7])
                ours = applied(picture, operation, argument)
                np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=f"{name} {magnitude}")


def test_trivial_augment_draws_operations_strengths_and_directions_uniformly() -> None:
    table = trivial_augment_arguments(5)
    operations, arguments = plan(TrivialAugment(num_strengths=5)).draw(0, MANY, SIZE)
    assert operations.shape == arguments.shape == (len(MANY), 1)
    drawn, counts = np.unique(operations, return_counts=True)
    assert set(drawn.tolist()) == {int(operation) for operation in table}
    assert stats.chisquare(counts).pvalue > P_VALUE
    for operation, of_operation in table.items():
        values, times = np.unique(of_operation, return_counts=True)
        found, counts = np.unique(arguments[operations == operation], return_counts=True)
        np.testing.assert_array_equal(found, values)
        expected = times * counts.sum() / times.sum()
        assert len(values) == 1 or stats.chisquare(counts, expected).pvalue > P_VALUE


def test_signed_operations_go_both_ways_equally_far() -> None:
    for operation in SIGNED:
        plain, negated = trivial_augment_arguments(31)[operation].T
        np.testing.assert_array_equal(plain, -negated)


@pytest.mark.parametrize("augment", [RandAugment(), TrivialAugment()])
def test_rows_draw_by_their_place_in_the_epoch(augment: RandAugment | TrivialAugment) -> None:
    operations, arguments = plan(augment).draw(3, MANY, SIZE)
    some, their_arguments = plan(augment).draw(3, MANY[5::8], SIZE)
    np.testing.assert_array_equal(some, operations[5::8])
    np.testing.assert_array_equal(their_arguments, arguments[5::8])
    other_epoch, _ = plan(augment).draw(4, MANY, SIZE)
    assert np.mean(np.all(other_epoch == operations, axis=1)) < 0.35  # a quarter of RandAugment's are untouched


def test_no_operations_are_no_layers() -> None:
    operations, arguments = build_operations_plan(NoAutoAugment(), KEY, rows=7).draw(0, np.arange(7), SIZE)
    assert operations.shape == arguments.shape == (7, 0)
    assert (operations.dtype, arguments.dtype) == (np.int8, np.float32)
