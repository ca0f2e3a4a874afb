from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from pipelines import philox
from pipelines.permutations import block_permutation, permutation

KEY = philox.key(7)
# A split of 163 whole blocks and a part of one, in an order of 8 lanes of 8 blocks each.
SIZE, BLOCK, POOL, BATCH = 16_330, 100, 64, 64


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


def test_permutations_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        permutation(KEY, 0, 10)[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        block_permutation(KEY, 0, 10, 2, 2, 5)[0] = 1


def blocks_in_order(epoch: int = 0, size: int = SIZE) -> np.ndarray:
    return block_permutation(KEY, epoch, size, BLOCK, POOL, BATCH)


def first_and_last(blocks: np.ndarray) -> dict[int, tuple[int, int]]:
    places = {block: np.flatnonzero(blocks == block) for block in np.unique(blocks)}
    return {block: (found[0], found[-1]) for block, found in places.items()}


@pytest.mark.parametrize(
    ("size", "block", "pool", "batch"),
    [
        (SIZE, BLOCK, POOL, BATCH),
        (1000, 1024, 64, 32),
        (1000, 1, 1, 100),
        (1000, 7, 24, 48),
        (97, 10, 16, 97),
        (1, 5, 2, 1),
    ],
)
def test_blocks_hold_no_sample_twice_and_leave_out_the_tail_alone(size: int, block: int, pool: int, batch: int) -> None:
    order = block_permutation(KEY, 0, size, block, pool, batch)
    assert len(np.unique(order)) == len(order) == size - size % batch
    assert order.min() >= 0
    assert order.max() < size


@pytest.mark.parametrize(("blocks_per_lane", "most_open"), [(16, POOL), (18, 6 * 8), (20.4, POOL)])
def test_ranks_together_have_at_most_a_pool_of_blocks_open(blocks_per_lane: float, most_open: int) -> None:
    opened = np.zeros(SIZE + 1, np.int64)
    for rank in range(8):
        order = blocks_in_order(size=round(blocks_per_lane * 8 * BLOCK))[rank::8]
        for first, last in first_and_last(order // BLOCK).values():
            opened[first] += 1
            opened[last + 1] -= 1
    # Pools share out a lane's blocks evenly: 18 of them are three times 6, not twice 8 and once 2.
    assert most_open - 8 < np.cumsum(opened).max() <= most_open


def test_a_rank_reads_consecutive_samples_of_each_of_its_blocks_while_its_pool_is_open() -> None:
    for rank in range(8):
        order = blocks_in_order()[rank::8]
        for block, (first, last) in first_and_last(order // BLOCK).items():
            read = np.sort(order[order // BLOCK == block])
            np.testing.assert_array_equal(read, np.arange(read[0], read[-1] + 1))
            assert last - first < POOL // 8 * BLOCK


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_two_ranks_read_from_the_same_block_only_where_their_shares_meet(world_size: int) -> None:
    readers = np.zeros(-(-SIZE // BLOCK), np.int64)
    for rank in range(world_size):
        readers[np.unique(blocks_in_order()[rank::world_size] // BLOCK)] += 1
    assert readers.max() <= 2
    # The shares of eight lanes meet in seven places.
    assert np.sum(readers == 2) <= 7


def test_a_batch_is_spread_over_open_blocks_at_least_as_evenly_as_by_chance() -> None:
    # Pearson's statistic over its degrees of freedom: 1 for a multinomial draw, 29 if lanes went block by block.
    order = block_permutation(KEY, 0, 64_000, 1000, 32, 128) // 1000
    lanes = order.reshape(-1, 4)
    dispersions = []
    # 4 lanes have 16 blocks each, and go through 8 of them at a time: 8000 positions, 250 batches.
    for pool in np.split(lanes, 2):
        blocks, expected = np.unique(pool, return_counts=True)
        expected = expected / 250
        for batch in np.split(pool, 250):
            counts = np.bincount(batch.ravel(), minlength=64)[blocks]
            dispersions.append(np.sum((counts - expected) ** 2 / expected) / (len(blocks) - 1))
    assert 0.8 < np.mean(dispersions) < 1.05


def test_neighbours_in_the_store_stand_as_far_apart_as_a_shuffle_of_the_pool_puts_them() -> None:
    lane = block_permutation(KEY, 0, 64_000, 1000, 32, 128)[::4]
    places = np.full(64_000, -1)
    places[lane] = np.arange(len(lane))
    neighbours = [(places[k], places[k + 1]) for k in lane if k % 1000 < 999]
    distances = np.abs(np.diff(neighbours, axis=1)).ravel()
    # Two places drawn from 8000: their distance is triangular.
    assert stats.kstest(distances / 8000, stats.triang(0).cdf).pvalue > 1e-4


def test_a_split_that_the_pool_holds_is_shuffled_as_a_whole() -> None:
    orders = [tuple(block_permutation(KEY, epoch, 4, 2, 8, 4)) for epoch in range(6000)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4


def test_blocks_come_in_another_order_each_epoch() -> None:
    for one, other in pairwise(blocks_in_order(epoch)[::8] // BLOCK for epoch in range(3)):
        # By chance a lane has an eighth of the blocks in common with itself.
        assert len(np.intersect1d(one, other)) < 10
