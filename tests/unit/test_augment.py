"""The reference augmentation against colorsys, scikit-image and torchvision; and what a fast path must keep to."""

from __future__ import annotations

import colorsys
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from augment_cases import SPECS, colours, pictures, random_plan
from plans import train_plan
from skimage import color
from torchvision.transforms.v2 import functional

from pipelines.augment.build import build_augment, fill_colour
from pipelines.augment.reference import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    ReferenceAugment,
    hsv_to_rgb,
    jitter_contrast,
    jitter_hsv,
    lighting_offset,
    rgb_to_hsv,
)
from pipelines.batch import BatchPlan, Operation
from pipelines.errors import SpecError
from pipelines.spec import BOT_MEAN, BOT_STD, DataSpec, RandAugment, TrivialAugment

CPU = torch.device("cpu")


def _still(num: int) -> BatchPlan:
    """A plan that leaves pictures as they are."""
    return train_plan(list(range(num)), np.zeros((num, 4)), (1, 1))


def test_rgb_to_hsv_is_colorsys() -> None:
    unit = colours() / 255
    expected = np.array([colorsys.rgb_to_hsv(*colour) for colour in unit])
    np.testing.assert_allclose(rgb_to_hsv(torch.from_numpy(unit)), expected, rtol=0, atol=1e-12)


def test_rgb_to_hsv_is_skimage() -> None:
    unit = colours()[None] / 255
    # On a circle: scikit-image may say 1 where another says 0.
    difference = np.abs(rgb_to_hsv(torch.from_numpy(unit)).numpy() - color.rgb2hsv(unit))
    difference[..., 0] = np.minimum(difference[..., 0], 1 - difference[..., 0])
    assert difference.max() < 1e-12


def test_hsv_to_rgb_is_colorsys_and_skimage() -> None:
    hsv = np.random.default_rng(1).random((3000, 3))
    hsv[:7, 0] = np.arange(7) / 6  # the borders of the sextants, both ends of the circle
    ours = hsv_to_rgb(torch.from_numpy(hsv)).numpy()
    np.testing.assert_allclose(ours, [colorsys.hsv_to_rgb(*colour) for colour in hsv], rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, color.hsv2rgb(hsv[None])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "factors", [(0.6, 1.4, 0.6), (1.4, 0.6, 1.4), (1.0, 1.0, 1.0), (0.0, 3.0, 2.0), (2.7, 0.0, 1.1)]
)
def test_hsv_jitter_scales_in_colorsys_space(factors: tuple[float, float, float]) -> None:
    def expected(colour: np.ndarray) -> tuple[float, float, float]:
        h, s, v = colorsys.rgb_to_hsv(*(colour / 255))
        return colorsys.hsv_to_rgb(h * factors[0] % 1, min(s * factors[1], 1), min(v * factors[2], 1))

    ours = jitter_hsv(torch.from_numpy(colours()).double(), list(factors), [0, 1, 2])
    np.testing.assert_allclose(ours / 255, [expected(colour) for colour in colours()], rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("factors", [(0.6, 1.4, 0.6), (1.4, 0.6, 1.4), (1.3, 1.3, 0.7)])
def test_contrast_jitter_is_torchvisions(order: tuple[int, ...], factors: tuple[float, ...]) -> None:
    picture = pictures(1, 60, 70)[0].double()
    adjust = {
        BRIGHTNESS: functional.adjust_brightness,
        CONTRAST: functional.adjust_contrast,
        SATURATION: functional.adjust_saturation,
    }
    expected = picture.permute(2, 0, 1) / 255
    for step in order:
        expected = adjust[step](expected, factors[step])
    ours = jitter_contrast(picture, list(factors), list(order))
    # torchvision writes 0.2989 where OpenCV, and so MXNet, has 0.299: up to 0.4 x 1e-4 of the range a step.
    torch.testing.assert_close(ours / 255, expected.permute(1, 2, 0), rtol=0, atol=2e-4)


def test_lighting_is_mxnets() -> None:
    """`pca_r`, `pca_g`, `pca_b` as MXNet 1.3's image_aug_default.cc writes them out."""
    r, g, b = 0.11, -0.07, 0.23
    expected = [
        55.46 * -0.5675 * r + 4.794 * 0.7192 * g + 1.148 * 0.4009 * b,
        55.46 * -0.5808 * r + 4.794 * -0.0045 * g + 1.148 * -0.8140 * b,
        55.46 * -0.5836 * r + 4.794 * -0.6948 * g + 1.148 * 0.4203 * b,
    ]
    np.testing.assert_allclose(lighting_offset(np.array([r, g, b], np.float64)), expected, rtol=1e-12)


def test_lighting_is_added_without_clipping() -> None:
    white = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    plan = replace(_still(1), lighting=np.array([[-1, 0, 0]], np.float32))  # negative: the first component brightens
    spec = DataSpec(mean=(0, 0, 0), std=(1, 1, 1))
    brighter = ReferenceAugment(spec, train=True)(white, plan)
    assert brighter.amin() > 255 + 31


def test_normalization_is_torchvisions_with_the_papers_constants() -> None:
    assert BOT_MEAN == (123.68, 116.779, 103.939)
    assert BOT_STD == (58.393, 57.12, 57.375)
    pixels = pictures(2, 9, 11)
    expected = functional.normalize(pixels.permute(0, 3, 1, 2).double(), list(BOT_MEAN), list(BOT_STD))
    torch.testing.assert_close(ReferenceAugment(DataSpec(), train=False)(pixels, _still(2)), expected)


def test_the_picture_is_mirrored_left_to_right() -> None:
    pixels = pictures(2, 5, 7)
    plan = replace(_still(2), flip=np.array([False, True]))
    spec = DataSpec(mean=(0, 0, 0), std=(1, 1, 1))
    images = ReferenceAugment(spec, train=True)(pixels, plan).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images[0], pixels[0], atol=1e-9)
    np.testing.assert_allclose(images[1], np.fliplr(pixels[1].numpy()), atol=1e-9)


@pytest.mark.parametrize("kind", SPECS)
def test_lighting_comes_after_jitter(kind: str) -> None:
    """Every jitter leaves a black picture black, so what is left is the lighting: unscaled, unclipped."""
    black = torch.zeros(4, 3, 3, 3, dtype=torch.uint8)
    plan = random_plan(4)
    images = ReferenceAugment(SPECS[kind], train=True)(black, plan)
    expected = (lighting_offset(plan.lighting) - BOT_MEAN) / BOT_STD
    np.testing.assert_allclose(images[:, :, 1, 1], expected, atol=1e-9)


@pytest.mark.parametrize("kind", SPECS)
def test_evaluation_only_normalizes(kind: str) -> None:
    pixels = pictures(6, 12, 13)
    augment = build_augment(SPECS[kind], device=CPU, dtype=torch.float32, train=False)
    expected = functional.normalize(pixels.permute(0, 3, 1, 2).double(), list(BOT_MEAN), list(BOT_STD))
    torch.testing.assert_close(augment(pixels, random_plan(6)).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_layout_and_type_are_what_was_asked_for(dtype: torch.dtype) -> None:
    pixels = pictures(3, 10, 14)
    before = pixels.clone()
    images = build_augment(DataSpec(), device=CPU, dtype=dtype, train=True)(pixels, random_plan(3))
    assert images.shape == (3, 3, 10, 14)
    assert images.dtype == dtype
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)


def test_a_batch_outlives_those_after_it() -> None:
    augment = build_augment(DataSpec(), device=CPU, dtype=torch.float32, train=True)
    first = augment(pictures(2, 8, 8), random_plan(2))
    kept = first.clone()
    for seed in range(1, 4):
        augment(pictures(2, 8, 8, seed), random_plan(2, seed))
    assert torch.equal(first, kept)


def test_other_devices_and_types_are_refused() -> None:
    with pytest.raises(SpecError, match="device meta; choose cpu or cuda"):
        build_augment(DataSpec(), device=torch.device("meta"), dtype=torch.float32, train=True)
    with pytest.raises(SpecError, match=r"torch\.float64; choose one of torch\.float32"):
        build_augment(DataSpec(), device=CPU, dtype=torch.float64, train=True)


@pytest.mark.parametrize("auto_augment", [RandAugment(), TrivialAugment()])
def test_operations_come_first_and_mirror(auto_augment: RandAugment | TrivialAugment) -> None:
    """Inversion is of 8-bit pixels and does not commute with jitter; what is mirrored twice is not mirrored."""
    pixels, plan = pictures(6, 9, 10), random_plan(6)
    operations = np.tile(np.array([[Operation.INVERT, Operation.IDENTITY]], np.int8), (6, 1))
    operated = replace(plan, operations=operations, arguments=np.zeros((6, 2), np.float32))
    spec = DataSpec(auto_augment=auto_augment)
    images = build_augment(spec, device=CPU, dtype=torch.float32, train=True)(pixels, operated)
    expected = build_augment(DataSpec(), device=CPU, dtype=torch.float32, train=True)(255 - pixels, plan)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    evaluation = [build_augment(s, device=CPU, dtype=torch.float32, train=False) for s in (spec, DataSpec())]
    assert torch.equal(evaluation[0](pixels, operated), evaluation[1](pixels, plan))


def test_the_fill_colour_is_the_mean_as_timm_rounds_it() -> None:
    """Source: timm's `transforms_factory.py`: min(255, round(255 * x)) for x in mean."""
    assert fill_colour(DataSpec(auto_augment=RandAugment())) == (124, 117, 104)
    assert fill_colour(DataSpec(auto_augment=RandAugment(), mean=(127.5, 300, -3))) == (128, 255, 0)
    assert fill_colour(DataSpec(auto_augment=RandAugment(fill=(1, 2, 3)))) == (1, 2, 3)
    assert fill_colour(DataSpec(auto_augment=TrivialAugment())) == (0, 0, 0)


def test_without_operations_nothing_of_them_is_imported() -> None:
    script = (
        "import sys, torch\n"
        "from pipelines.augment.build import build_augment\n"
        "from pipelines.spec import DataSpec\n"
        "build_augment(DataSpec(), device=torch.device('cpu'), dtype=torch.float32, train=True)\n"
        "print(*sys.modules)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pipelines.augment.cpu" in found.stdout.split()
    assert "pipelines.augment.operations" not in found.stdout.split()
