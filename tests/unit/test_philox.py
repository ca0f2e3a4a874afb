"""The generator against Random123's vectors, its distributions against scipy's, and what a draw may depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from pipelines import philox
from pipelines.errors import SpecError

INDEX = np.arange(20_000)
KEY = philox.key(1234)
# Seeds are fixed, so these tests cannot flicker; a correct generator fails one such threshold in 10,000.
P_VALUE = 1e-4


# Source: Random123's `tests/kat_vectors`, lines "philox4x32 10": counter, key, expected.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    drawn = philox.philox4x32(*map(np.uint64, counter), philox.key(key[0] + (key[1] << 32)))
    assert [int(word) for word in drawn] == expected


def test_words_takes_its_counter_as_block_index_epoch_purpose() -> None:
    drawn = philox.words(philox.key(0x299F31D0A4093822), 0x13198A2E, 0x03707344, 0x85A308D3, 0x243F6A88)
    assert [int(word) for word in drawn] == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(SpecError, match=rf"seed is {seed}: .* 0 to 2\*\*64 - 1"):
        philox.key(seed)


def test_every_part_of_the_key_and_counter_matters() -> None:
    seed_epoch_purpose_index = [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (2**63, 0, 0, 0),
        (2**64 - 1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 8),
    ]
    streams = [
        philox.uniforms(philox.key(seed), epoch, purpose, INDEX[:8] + index)
        for seed, epoch, purpose, index in seed_epoch_purpose_index
    ]
    assert len(np.unique(np.concatenate(streams))) == len(seed_epoch_purpose_index) * 8 * 4


@pytest.mark.parametrize("draw", [philox.uniforms, philox.normals, lambda *place: philox.betas(*place, 0.2)])
def test_a_draw_depends_on_its_index_alone(draw: Callable[..., np.ndarray]) -> None:
    together = draw(KEY, 3, philox.JITTER, INDEX[:100])
    backwards = draw(KEY, 3, philox.JITTER, INDEX[:100][::-1].copy())
    one = draw(KEY, 3, philox.JITTER, INDEX[42:43])
    np.testing.assert_array_equal(backwards[::-1], together)
    np.testing.assert_array_equal(one[0], together[42])


def test_unit_stays_inside_the_open_interval() -> None:
    assert 0 < philox.unit(np.uint64(0)) < philox.unit(np.uint64(2**32 - 1)) < 1


def test_below_reaches_both_ends_and_nothing_else() -> None:
    last_word = np.uint64(2**32 - 1)
    assert philox.below(np.uint64(0), 500) == 0
    assert philox.below(last_word, 500) == 499
    assert philox.below(last_word, 1) == 0


def test_uniforms_are_uniform_and_independent() -> None:
    drawn = philox.uniforms(KEY, 0, philox.CROP, INDEX)
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > P_VALUE
    assert_uncorrelated(drawn)


def test_normals_are_standard_normal_and_independent() -> None:
    drawn = philox.normals(KEY, 0, philox.LIGHTING, INDEX)
    for column in drawn.T:
        assert stats.kstest(column, "norm").pvalue > P_VALUE
    assert_uncorrelated(drawn)
    # Box-Muller's two outputs share a radius: their squares would be correlated if its angle were wrong.
    assert_uncorrelated(drawn**2)


def assert_uncorrelated(drawn: np.ndarray) -> None:
    """Check columns with each other, and each with its own next row."""
    lagged = np.concatenate([drawn[:-1], drawn[1:]], axis=1)
    off_diagonal = np.corrcoef(lagged.T) - np.eye(lagged.shape[1])
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(len(drawn))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 4.0, 100.0])
def test_betas_follow_the_beta_distribution(alpha: float) -> None:
    drawn = philox.betas(KEY, 0, philox.LAMBDA, INDEX, alpha)
    # Close to 1 float64 is too coarse to hold a small alpha's mass; the distribution is symmetric, so half tells all.
    low = drawn[drawn < 0.5]
    assert stats.binomtest(len(low), len(drawn)).pvalue > P_VALUE
    assert stats.kstest(low, lambda x: 2 * stats.beta(alpha, alpha).cdf(x)).pvalue > P_VALUE


@pytest.mark.parametrize("alpha", [5e-324, 1e-300, 1e-3])
def test_tiny_alphas_give_coins_not_nan(alpha: float) -> None:
    drawn = philox.betas(KEY, 0, philox.LAMBDA, INDEX[:2000], alpha)
    assert np.mean((drawn < 1e-9) | (drawn > 1 - 1e-9)) > 0.9
    assert 0.4 < drawn.mean() < 0.6


def test_a_huge_alpha_gives_one_half() -> None:
    drawn = philox.betas(KEY, 0, philox.LAMBDA, INDEX[:2000], 1e12)
    np.testing.assert_allclose(drawn, 0.5, atol=1e-5)
