"""Crops against torchvision: the same boxes from the same random numbers, the same distributions from its own."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop, transforms
from torchvision.transforms.v2 import functional

from pipelines import philox
from pipelines.crops import centre_boxes, random_resized_crops

SHAPES = [(375, 500), (500, 375), (224, 224), (333, 1000), (1000, 50), (7, 5)]
RANGES = [((0.08, 1.0), (3 / 4, 4 / 3)), ((0.35, 1.0), (1.2, 1.8)), ((0.9, 1.0), (0.5, 0.6))]


def our_crops(
    height: int, width: int, area: tuple[float, float], aspect: tuple[float, float], seed: int, count: int
) -> np.ndarray:
    heights, widths = np.full(count, height, np.int32), np.full(count, width, np.int32)
    drawn: np.ndarray = random_resized_crops(philox.key(seed), 0, np.arange(count), heights, widths, area, aspect, 10)
    return drawn


class DictatedRandomness:
    """Stands in for `torch` inside torchvision: its random numbers are ours, its arithmetic is float64."""

    Tensor, exp, log = torch.Tensor, staticmethod(torch.exp), staticmethod(torch.log)

    def __init__(self, seed: int, index: int) -> None:
        key = philox.key(seed)
        blocks = [[int(word) for word in philox.words(key, 0, philox.CROP, index, attempt)] for attempt in range(10)]
        # torchvision draws an area and an aspect for each attempt, and a place for the one that fits.
        self._sizes = [word for block in blocks for word in block[:2]]
        self._places = [block[2:] for block in blocks]
        self._num_sizes_drawn = 0

    def tensor(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def empty(self, _size: int) -> SimpleNamespace:
        return SimpleNamespace(uniform_=self._uniform)

    def _uniform(self, low: float, high: float) -> torch.Tensor:
        unit = (self._sizes[self._num_sizes_drawn] + 0.5) / 2**32
        self._num_sizes_drawn += 1
        return torch.tensor(float(low) + (float(high) - float(low)) * unit, dtype=torch.float64)

    def randint(self, _low: int, high: int, size: tuple[int]) -> torch.Tensor:
        word = self._places[self._num_sizes_drawn // 2 - 1].pop(0)
        return torch.full(size, math.floor(word / 2**32 * high))


@pytest.mark.parametrize(("area", "aspect"), RANGES)
@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_same_random_numbers_same_boxes(
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = torch.empty(3, height, width)
    ours = our_crops(height, width, area, aspect, seed=3, count=150)
    theirs = []
    for index in range(len(ours)):
        monkeypatch.setattr(transforms, "torch", DictatedRandomness(3, index))
        theirs.append(RandomResizedCrop.get_params(picture, list(area), list(aspect)))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(("height", "width"), [(375, 500), (224, 224), (333, 1000), (1000, 50)])
def test_same_distribution_as_torchvision(height: int, width: int) -> None:
    count = 4000
    picture = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    theirs = np.array(drawn)
    ours = our_crops(height, width, (0.08, 1.0), (3 / 4, 4 / 3), seed=0, count=count)
    for measure, a, b in zip(("area", "aspect", "top", "left"), measures(ours), measures(theirs), strict=True):
        # At these counts a threshold of 1e-3 rejects distributions 0.044 apart.
        assert stats.ks_2samp(a, b).pvalue > 1e-3, measure


def measures(crops: np.ndarray) -> tuple[np.ndarray, ...]:
    top, left, height, width = crops.T.astype(np.float64)
    return height * width, width / height, top, left


@pytest.mark.parametrize(
    ("resize_size", "crop_size"), [(256, 224), (235, 224), (236, 224), (171, 160), (33, 32), (97, 97)]
)
@pytest.mark.parametrize(
    ("height", "width"), [(375, 500), (500, 375), (256, 256), (333, 1000), (2049, 100), (37, 53), (1, 9), (255, 257)]
)
def test_centre_box_is_what_torchvision_resizes_and_crops(
    height: int, width: int, resize_size: int, crop_size: int
) -> None:
    resized = functional.resize(torch.empty(1, height, width), [resize_size]).shape[-2:]
    numbered = torch.arange(resized[0] * resized[1]).reshape(1, *resized)
    first_pixel = functional.center_crop(numbered, [crop_size])[0, 0, 0].item()
    box = centre_boxes(np.array([height], np.int32), np.array([width], np.int32), resize_size, crop_size)[0]
    scale = np.array([height, width]) / np.array(resized)
    np.testing.assert_allclose(box[:2] / scale, divmod(first_pixel, resized[1]), atol=1e-9)
    np.testing.assert_allclose(box[2:] / scale, crop_size, rtol=1e-12)
