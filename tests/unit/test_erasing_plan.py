from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from timm.data import random_erasing

from pipelines import philox
from pipelines.erasing_plan import ErasingPlan
from pipelines.spec import RandomErasing

KEY = philox.key(3)
EPOCH = 4


class Replay:
    """Stands in for Python's `random` in timm: hands out the words that the plan draws at an index."""

    def __init__(self, index: int) -> None:
        self._words = [word for block in range(11) for word in philox.words(KEY, EPOCH, philox.ERASE, index, block)]
        self._attempt = 0

    def random(self) -> float:
        return float(philox.unit(self._words[0]))

    def uniform(self, low: float, high: float) -> float:
        self._attempt += low > 0  # areas are positive, logarithms of aspects begin below
        return low + (high - low) * float(philox.unit(self._words[4 * self._attempt + (low < 0)]))

    def randint(self, low: int, high: int) -> int:
        self._is_left = not getattr(self, "_is_left", True)
        return low + int(philox.below(self._words[4 * self._attempt + 2 + self._is_left], high - low + 1))


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"probability": 0.25}, (224, 224)),
        ({"probability": 1.0, "area": (0.5, 1.0), "aspect": (0.05, 20.0)}, (40, 33)),
        ({"probability": 0.9, "area": (0.01, 0.1)}, (3, 5)),
        ({"probability": 1.0, "aspect": (1e-99, 1e99)}, (30, 20)),
    ],
)
def test_rectangles_are_those_of_timm(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], size: tuple[int, int]
) -> None:
    erasing = RandomErasing.model_validate(fields)
    index = np.arange(1000, 1300)
    erased, _ = ErasingPlan(erasing, KEY, len(index)).rectangles(EPOCH, index, size)
    theirs = random_erasing.RandomErasing(
        erasing.probability, *erasing.area, *erasing.aspect, mode="const", device="cpu"
    )
    for k, rectangle in zip(index.tolist(), erased, strict=True):
        monkeypatch.setattr(random_erasing, "random", Replay(k))
        expected = theirs(torch.ones(1, *size))[0].numpy()
        top, left, height, width = rectangle
        ours = np.ones(size)
        ours[top : top + height, left : left + width] = 0
        np.testing.assert_array_equal(ours, expected)
    nothing = erased[:, 2] == 0
    assert np.all(erased[nothing] == 0)
    assert 0 < nothing.sum() < len(index)  # both happen


def test_pictures_are_touched_as_often_as_asked() -> None:
    erased, _ = ErasingPlan(RandomErasing(probability=0.25), KEY, 10_000).rectangles(0, np.arange(10_000), (64, 64))
    assert stats.binomtest(int(np.sum(erased[:, 2] > 0)), 10_000, 0.25).pvalue > 1e-4


def test_noise_has_a_key_of_its_own_for_each_row_and_epoch() -> None:
    plan = ErasingPlan(RandomErasing(probability=0.5), KEY, 1000)
    noise = np.concatenate([plan.rectangles(epoch, np.arange(1000), (64, 64))[1] for epoch in range(3)])
    assert noise.dtype == np.uint32
    assert len(np.unique(noise, axis=0)) == 3000
    assert stats.kstest(noise.ravel() / 2**32, stats.uniform.cdf).pvalue > 1e-4


def test_noise_does_not_depend_on_what_is_erased() -> None:
    erased, noise = ErasingPlan(RandomErasing(probability=0.5), KEY, 4000).rectangles(0, np.arange(4000), (64, 64))
    for word in noise.T:
        for drawn in (erased[:, 2] > 0, erased[:, 0], erased[:, 2], erased[:, 3]):
            assert stats.spearmanr(word, drawn).pvalue > 1e-4


def test_nothing_is_erased_without_erasing() -> None:
    erased, noise = ErasingPlan(RandomErasing(), KEY, 5).rectangles(0, np.arange(5), (64, 64))
    assert not erased.any()
    assert not noise.any()
