from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines import philox
from pipelines.errors import SpecError
from pipelines.order import check_rank, check_world_size, permutation, positions_of_rank

KEY = philox.key(7)


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 4097])
def test_permutation_holds_every_sample_once(size: int) -> None:
    np.testing.assert_array_equal(np.sort(permutation(KEY, 0, size)), np.arange(size))


def test_all_permutations_are_equally_likely() -> None:
    orders = [tuple(permutation(KEY, epoch, 4)) for epoch in range(12_000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_samples_do_not_stay_near_their_neighbours() -> None:
    order = permutation(KEY, 0, 20_000)
    assert abs(stats.spearmanr(np.arange(len(order)), order).statistic) < 0.03
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03


def test_permutation_depends_on_seed_and_epoch_alone() -> None:
    first = permutation(KEY, 0, 1000).copy()
    others = [permutation(philox.key(seed), epoch, 1000) for seed, epoch in [(7, 1), (8, 0), (7 + 2**32, 0)]]
    np.testing.assert_array_equal(permutation(KEY, 0, 1000), first)
    for other in others:
        # Two random orders agree in one place on average.
        assert np.sum(other == first) < 10


def test_permutation_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        permutation(KEY, 0, 10)[0] = 1


def test_ranks_take_every_rth_position() -> None:
    assert positions_of_rank(3, rank=1, world_size=4).tolist() == [1, 5, 9]


@pytest.mark.parametrize(("rank", "world_size"), [(-1, 2), (2, 2), (0, 0)])
def test_rank_outside_the_world_is_refused(rank: int, world_size: int) -> None:
    with pytest.raises(SpecError, match=f"rank is {rank} of world_size {world_size}"):
        check_rank(rank, world_size)


def test_world_size_that_does_not_divide_lists_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match=r"5 ranks cannot share out .* 12 evenly: it takes 1, 2, 3, 4, 6, 12 ranks"):
        check_world_size(5, 12, group=1)


def test_world_size_that_splits_a_mix_group_lists_the_allowed_ones() -> None:
    with pytest.raises(SpecError, match=r"256 in mix groups of 32 evenly: it takes 1, 2, 4, 8 ranks.*mix\.group"):
        check_world_size(16, 256, group=32)
    check_world_size(8, 256, group=32)
