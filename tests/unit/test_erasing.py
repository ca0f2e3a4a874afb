"""Random erasing on the CPU: its numbers against an implementation from the papers, its rectangles against timm's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm.data.random_erasing
import torch
from augment_cases import pictures, random_plan
from random123 import normal_colours, philox4x32
from scipy import stats
from timm.data.random_erasing import RandomErasing as TimmErasing

from pipelines.augment import cpu_erasing
from pipelines.augment.build import build_augment
from pipelines.augment.reference import ReferenceAugment, erasing_noise
from pipelines.spec import DataSpec, RandomErasing

CPU = torch.device("cpu")
MODES = ("const", "rand", "pixel")
SHAPE = (3, 20, 24)
KEYS = np.array([[0, 0], [0xFFFFFFFF, 0xFFFFFFFF], [0x7FC00001, 0xFF800001]], np.uint32)  # two are NaNs as float32
BOXES = np.array([[0, 0, 20, 24], [3, 5, 9, 1], [19, 23, 1, 1]], np.int32)


def test_the_papers_generator_gives_random123s_answers() -> None:
    """Source: Random123's `tests/kat_vectors`, lines "philox4x32 10"."""
    counter = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    assert philox4x32(counter, (0xA4093822, 0x299F31D0)).tolist() == [[0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]]
    assert philox4x32(np.zeros((1, 4), np.uint32), (0, 0)).tolist() == [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ]


@pytest.mark.parametrize("key", KEYS)
def test_the_references_noise_is_the_papers(key: np.ndarray) -> None:
    pixels = np.array([[0, 1, 2], [50_175, 2**24 + 1, 2**31]])
    expected = normal_colours(key, pixels.ravel()).reshape(2, 3, 3)
    np.testing.assert_allclose(erasing_noise(key, pixels), expected, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A million of the CPU's colours."""
    images, key = np.zeros((1, 1024, 1024, 3), np.float32), np.array([[1234, 5678]], np.uint32)
    cpu_erasing.erase(np.array([[0, 0, 1024, 1024]], np.float32), key, np.arange(1), cpu_erasing.PIXEL, images)
    return images.reshape(-1, 3)


def test_the_cpus_noise_is_the_papers_to_float32(drawn: np.ndarray) -> None:
    """A million, so that some uniform numbers are within millionths of 1, where rounding would ruin the radius."""
    expected = normal_colours(np.array([1234, 5678], np.uint32), np.arange(2**20))
    assert np.hypot(expected[:, 0], expected[:, 1]).min() < 3e-3
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=2e-6)


def test_noise_is_standard_normal_and_channels_are_independent(drawn: np.ndarray) -> None:
    for channel in drawn.T.astype(np.float64):
        assert stats.kstest(channel[:200_000], "norm").pvalue > 1e-4
    numbers = drawn.astype(np.float64)
    # Standard errors of mean, variance, skewness and kurtosis of n normal numbers; five of them is 6 in 10 million.
    bounds = 5 * np.sqrt(np.array([1, 2, 6, 24]) / len(numbers))
    moments = [numbers.mean(0), numbers.var(0) - 1, stats.skew(numbers), stats.kurtosis(numbers)]
    assert (np.abs(moments) < bounds[:, None]).all()
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < bounds[0]
    assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < bounds[0]


@pytest.mark.parametrize("mode", MODES)
def test_rectangles_are_timms(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told the rectangle that timm decided on, ours must make the same picture."""
    spec = DataSpec(erasing=RandomErasing(probability=1, mode=mode))
    pixels, plan = pictures(1, 40, 50), replace(random_plan(1), noise=np.array([[11, 12]], np.uint32))
    box: list[int] = []

    def chosen(_low: int, high: int) -> int:
        box.append(high // 2)
        return high // 2

    def colours(per_pixel: bool, rand_color: bool, size: tuple[int, int, int], **_: object) -> torch.Tensor:
        box.extend(size[1:])
        if not (per_pixel or rand_color):
            return torch.zeros(3, 1, 1, dtype=torch.float64)
        y, x = np.mgrid[box[0] : box[0] + size[1], box[1] : box[1] + size[2]]
        numbers = y * 50 + x if per_pixel else np.zeros((1, 1), np.int64)
        return _colours(plan.noise[0], numbers).permute(2, 0, 1)

    monkeypatch.setattr(timm.data.random_erasing.random, "randint", chosen)
    monkeypatch.setattr(timm.data.random_erasing, "_get_pixels", colours)
    whole = ReferenceAugment(spec, train=True)(pixels, plan)
    expected = TimmErasing(1, mode=mode, device="cpu")(whole.clone())
    assert not torch.equal(expected, whole)
    erased = ReferenceAugment(spec, train=True)(pixels, replace(plan, erase=np.array([box], np.int32)))
    torch.testing.assert_close(erased, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
def test_the_cpu_overwrites_the_rectangle_and_nothing_else(mode: str, dtype: torch.dtype) -> None:
    """Boxes that are the whole picture, one column, and the last pixel; keys whose bits are NaNs."""
    spec = DataSpec(erasing=RandomErasing(probability=1, mode=mode))
    augment, pixels = build_augment(spec, device=CPU, dtype=dtype, train=True), pictures(*SHAPE)
    whole = augment(pixels, random_plan(3)).permute(0, 2, 3, 1)
    expected = whole.clone()
    for row, (top, left, height, width) in enumerate(BOXES):
        y, x = np.mgrid[top : top + height, left : left + width]
        numbers = {"const": None, "rand": np.zeros_like(y), "pixel": y * SHAPE[2] + x}[mode]
        inside = expected[row, top : top + height, left : left + width]
        inside[:] = 0 if numbers is None else _colours(KEYS[row], numbers)
    erased = augment(pixels, replace(random_plan(3), erase=BOXES, noise=KEYS)).permute(0, 2, 3, 1)
    tolerance = {torch.float32: 0.0, torch.float16: 2**-10, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(erased, expected, rtol=tolerance, atol=2e-6)
    outside = torch.ones(SHAPE, dtype=torch.bool)
    for row, (top, left, height, width) in enumerate(BOXES):
        outside[row, top : top + height, left : left + width] = False
    assert torch.equal(erased[outside], whole[outside])


def _colours(key: np.ndarray, numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(normal_colours(key, numbers.ravel()).reshape(*numbers.shape, 3))


@pytest.mark.parametrize("spec", [DataSpec(), DataSpec(erasing=RandomErasing(probability=1))])
def test_nothing_is_erased_in_evaluation_or_without_erasing(spec: DataSpec) -> None:
    train = spec.erasing.probability == 0
    augment = build_augment(spec, device=CPU, dtype=torch.float32, train=train)
    plan = random_plan(3)
    assert torch.equal(
        augment(pictures(*SHAPE), replace(plan, erase=BOXES, noise=KEYS)), augment(pictures(*SHAPE), plan)
    )
