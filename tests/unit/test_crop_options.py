"""Test resolution and crop ratio; the oracles are timm's own transforms and GluonCV's formula."""

from __future__ import annotations

import math

import pytest

from fastbot.errors import RecipeError
from fastbot.evaluation.crop import crop_of
from pipelines.spec import EvalSpec

RECIPE = EvalSpec(resize_size=256, crop_size=224, interpolation="bilinear", global_batch_size=50)


def sides(**options: object) -> tuple[int, int]:
    spec = crop_of(RECIPE, **options).spec  # type: ignore[arg-type]
    return spec.resize_size, spec.crop_size


@pytest.mark.parametrize("ratio", [0.875, 0.9, 0.95, 1.0])
def test_the_floor_is_timms(ratio: float) -> None:
    timm = pytest.importorskip("timm.data")
    for size in (112, 160, 176, 224, 240, 288, 299, 320):
        resize, crop = timm.create_transform(size, is_training=False, crop_pct=ratio).transforms[:2]
        assert sides(size=size, ratio=ratio) == (resize.size, crop.size[0])


@pytest.mark.parametrize(("size", "resize_size"), [(224, 256), (299, 342), (160, 183)])
def test_the_ceiling_is_gluoncvs(size: int, resize_size: int) -> None:
    assert math.ceil(size / 0.875) == resize_size, "its formula; exact, since 0.875 is a float"
    assert sides(size=size, ratio=0.875, rounding="ceil") == (resize_size, size)


def test_0_95_tells_the_two_apart() -> None:
    assert str(crop_of(RECIPE, ratio=0.95)) == "235 -> 224 px (224 / 0.95 = 235.79, floor), bilinear"
    assert str(crop_of(RECIPE, ratio=0.95, rounding="ceil")) == "236 -> 224 px (224 / 0.95 = 235.79, ceil), bilinear"
    assert str(crop_of(RECIPE, ratio=0.875, rounding="ceil")) == "256 -> 224 px (224 / 0.875 = 256), bilinear"


def test_a_whole_quotient_is_not_rounded_away() -> None:
    assert math.ceil(205 / 0.82) == 251, "which is what floats make of 250"
    assert sides(size=205, ratio=0.82, rounding="ceil") == (250, 205)
    assert math.floor(405 / 0.81) == 499
    assert sides(size=405, ratio=0.81) == (500, 405)


def test_what_is_not_asked_for_is_as_in_the_recipe() -> None:
    assert crop_of(RECIPE).spec == RECIPE
    assert crop_of(RECIPE).origin == "as in the recipe"
    assert crop_of(RECIPE, interpolation="bicubic").spec == RECIPE.model_copy(update={"interpolation": "bicubic"})
    assert sides(size=288) == (329, 288)  # 288 / (224 / 256)
    assert "288 / (7/8 as in the recipe) = 329.14, floor" in str(crop_of(RECIPE, size=288))
    assert crop_of(RECIPE, size=64, ratio=1).spec == EvalSpec(resize_size=64, crop_size=64, global_batch_size=50)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 0}, "--size is 0"),
        ({"size": -3, "ratio": 0.5}, "--size is -3"),
        ({"size": 4097}, "--size is 4097; it must be from 1 to 4096 pixels"),
        ({"size": 100_000, "ratio": 1.0}, "--size is 100000; it must be from 1 to 4096 pixels"),
        ({"ratio": 0.0}, "--crop-ratio is 0;"),
        ({"ratio": 1.01}, "--crop-ratio is 1.01;"),
        ({"ratio": math.nan}, "--crop-ratio is nan;"),
        ({"rounding": "ceil"}, "no effect without --size or --crop-ratio"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        crop_of(RECIPE, **options)  # type: ignore[arg-type]
