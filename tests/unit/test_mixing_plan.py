from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines import philox
from pipelines.mixing_plan import MixingPlan
from pipelines.order import positions_of_rank
from pipelines.spec import Mixup, NoMix

KEY = philox.key(5)


def lambdas(mix: Mixup, batch_size: int, steps: int) -> np.ndarray:
    plan = MixingPlan(mix, batch_size, np.arange(batch_size), world_size=1)
    return np.stack([plan.lambdas(KEY, 0, step) for step in range(steps)])


def test_one_group_on_one_rank_is_the_reversed_batch() -> None:
    plan = MixingPlan(Mixup(group=6), 6, np.arange(6), world_size=1)
    assert plan.partner.tolist() == [5, 4, 3, 2, 1, 0]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_group_as_large_as_a_rank_reverses_the_rank(rank: int) -> None:
    plan = MixingPlan(Mixup(group=4), 8, positions_of_rank(4, rank, 2), world_size=2)
    assert plan.partner.tolist() == [3, 2, 1, 0]


def test_two_groups_on_one_rank_interleave() -> None:
    plan = MixingPlan(Mixup(group=4), 8, np.arange(8), world_size=1)
    assert plan.partner.tolist() == [6, 7, 4, 5, 2, 3, 0, 1]


def test_the_middle_of_an_odd_group_stays_as_it_is() -> None:
    plan = MixingPlan(Mixup(group=3, draw="sample"), 3, np.arange(3), world_size=1)
    assert plan.partner.tolist() == [2, 1, 0]
    assert plan.lambdas(KEY, 0, 0)[1] == 1


def test_nothing_mixes_without_mixing() -> None:
    plan = MixingPlan(NoMix(), 4, np.arange(4), world_size=1)
    assert plan.partner.tolist() == [0, 1, 2, 3]
    assert plan.lambdas(KEY, 0, 0).tolist() == [1, 1, 1, 1]


def test_lambda_is_shared_as_the_spec_says() -> None:
    per_batch = lambdas(Mixup(draw="batch", group=4, alpha=1.0), 12, steps=5)
    per_group = lambdas(Mixup(draw="group", group=4, alpha=1.0), 12, steps=5)
    per_sample = lambdas(Mixup(draw="sample", group=4, alpha=1.0), 12, steps=5)
    assert all(len(np.unique(row)) == 1 for row in per_batch)
    np.testing.assert_array_equal(per_group, np.tile(per_group[:, :3], 4))
    assert all(len(np.unique(row)) == 3 for row in per_group)
    assert len(np.unique(per_sample)) == 60
    assert len(np.unique(per_batch[:, 0])) == 5


@pytest.mark.parametrize(("draw", "draws_per_batch"), [("batch", 1), ("group", 4), ("sample", 16)])
def test_lambda_is_raw_beta(draw: str, draws_per_batch: int) -> None:
    drawn = lambdas(Mixup.model_validate({"draw": draw, "group": 4, "alpha": 0.5}), 16, steps=400)
    assert stats.kstest(drawn[:, :draws_per_batch].ravel(), stats.beta(0.5, 0.5).cdf).pvalue > 1e-4
