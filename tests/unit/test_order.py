from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from scipy import stats
from timm.data import distributed_sampler

from pipelines import philox
from pipelines.errors import PipelineError, SpecError
from pipelines.order import EpochOrder, build_order, class_weights
from pipelines.permutations import permutation
from pipelines.spec import Order, Weighted

KEY = philox.key(7)
# Seeds are fixed, so these tests cannot flicker.
P_VALUE = 1e-4
LABELS = np.repeat([0, 1, 2, 4], [10, 40, 1, 49])  # shuffled below; class 3 has no samples
LABELS = LABELS[np.random.default_rng(0).permutation(100)]
MANY = np.arange(40_000)


def order(kind: str, size: int = 100, batch_size: int = 10, labels: Any = LABELS, **fields: Any) -> EpochOrder:
    spec: Order = TypeAdapter(Order).validate_python({"kind": kind} | fields)
    return build_order(spec, KEY, size, batch_size, labels)


@pytest.mark.parametrize("epoch", [0, 5])
def test_shuffle_is_the_permutation(epoch: int) -> None:
    ids = order("shuffle").ids(epoch, np.arange(100))
    np.testing.assert_array_equal(ids, permutation(KEY, epoch, 100))
    assert ids.dtype == np.int64


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize(("size", "batch_size"), [(1000, 256), (1050, 512), (1000, 64), (300, 8)])
@pytest.mark.parametrize("repeats", [3, 4])
def test_ranks_get_what_the_sampler_of_timm_gives_them(
    monkeypatch: pytest.MonkeyPatch, world_size: int, size: int, batch_size: int, repeats: int
) -> None:
    epoch = 3
    monkeypatch.setattr(torch, "randperm", lambda num, generator: torch.tensor(permutation(KEY, epoch, num).copy()))
    ours = order("repeat", size, batch_size, repeats=repeats)
    steps = size // batch_size
    for rank in range(world_size):
        sampler = distributed_sampler.RepeatAugSampler(
            range(size), num_replicas=world_size, rank=rank, num_repeats=repeats
        )
        steps_of_timm = len(sampler) // (batch_size // world_size)
        assert steps_of_timm == steps if batch_size % 256 == 0 else steps_of_timm <= steps
        theirs = np.array(list(sampler))[: steps_of_timm * batch_size // world_size]
        positions = rank + world_size * np.arange(len(theirs))
        np.testing.assert_array_equal(ours.ids(epoch, positions), theirs)


def test_repeated_copies_go_to_different_ranks() -> None:
    ids = order("repeat", repeats=3).ids(0, np.arange(99))
    assert np.all(ids.reshape(-1, 3) == ids[::3, None])
    assert len(np.unique(ids)) == 33


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"weights": [1, 2, 0.5, 0, 0]}, [1, 2, 0.5, 0, 0]),
        ({}, [1, 1, 1, 0, 1]),
        ({"power": 0}, [10, 40, 1, 0, 49]),
        ({"power": 0.5}, [10**0.5, 40**0.5, 1, 0, 7]),
    ],
)
def test_classes_are_drawn_by_their_weights_and_their_samples_evenly(
    fields: dict[str, Any], expected: list[float]
) -> None:
    ids = order("weighted", **fields).ids(2, MANY)
    class_shares = np.array(expected) / sum(expected)
    sample_shares = class_shares[LABELS] / np.bincount(LABELS)[LABELS]
    counts = np.bincount(ids, minlength=100)
    assert np.all(counts[sample_shares == 0] == 0)
    drawn = sample_shares > 0
    assert stats.chisquare(counts[drawn], sample_shares[drawn] * len(MANY)).pvalue > P_VALUE


def test_weighted_draws_are_independent_of_each_other() -> None:
    labels = LABELS[order("weighted").ids(0, MANY)]
    pairs = np.zeros((5, 5), np.int64)
    np.add.at(pairs, (labels[:-1], labels[1:]), 1)
    assert stats.chi2_contingency(np.delete(np.delete(pairs, 3, 0), 3, 1)).pvalue > P_VALUE


@pytest.mark.parametrize(
    ("labels", "fields", "message"),
    [
        (None, {}, r"order.kind is weighted, but the split's labels were not given: pass labels="),
        (LABELS[:99], {}, r"labels \(99,\) must be one number for each of the 100 samples"),
        (np.where(np.arange(100) == 7, -1, LABELS), {}, "sample 7 has the label -1: labels count from 0"),
        (LABELS, {"weights": [1, 1]}, "order.weights has 2 numbers, but labels go up to 4: give one for each class"),
        (LABELS, {"weights": [1] * 5}, r"gives class 3 the weight 1.0, but the split has no samples of it: give it 0"),
        (LABELS, {"weights": [0] * 5}, "order.weights are all 0"),
    ],
)
def test_weights_that_make_no_sense(labels: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        order("weighted", labels=labels, **fields)


def test_weights_may_be_in_any_unit() -> None:
    position = np.arange(40)
    weights = [0.5, 1, *[0] * (LABELS.max() - 1)]
    expected = order("weighted", weights=weights).ids(0, position)
    for unit in (1.7e308, 1e-307):
        drawn = order("weighted", weights=[weight * unit for weight in weights]).ids(0, position)
        np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("fields", [{"block": 2**31 - 1}, {"pool": 2**31 - 1}, {"block": 100, "pool": 1}])
def test_a_block_or_pool_as_large_as_the_split_is_all_of_it(fields: dict[str, int]) -> None:
    ids = order("blocks", **fields).ids(0, np.arange(100))
    np.testing.assert_array_equal(np.sort(ids), np.arange(100))


def test_weights_may_name_classes_that_the_split_lacks_where_they_are_zero() -> None:
    assert class_weights(Weighted(weights=(1, 1, 1, 0, 1, 0, 0)), LABELS).tolist() == [1, 1, 1, 0, 1, 0, 0]


@pytest.mark.parametrize("kind", ["shuffle", "blocks", "repeat"])
def test_substitutes_are_any_other_sample(kind: str) -> None:
    ids = MANY % 100
    others = order(kind).others(1, MANY, ids, attempt=0)
    assert not np.any(others == ids)
    assert stats.chisquare(np.bincount((others - ids) % 100, minlength=100)[1:]).pvalue > P_VALUE


@pytest.mark.parametrize("avoided", [0, 1, 2])
def test_substitutes_keep_the_weights_of_the_others(avoided: int) -> None:
    weights = np.array([3, 1, 1, 0, 0])
    sample = int(np.argmax(avoided == LABELS))
    others = order("weighted", weights=weights.tolist()).others(1, MANY, np.full(len(MANY), sample), attempt=0)
    shares = (weights / np.maximum(np.bincount(LABELS), 1))[LABELS]
    shares[sample] = 0
    counts = np.bincount(others, minlength=100)
    assert np.all(counts[shares == 0] == 0)
    drawn = shares > 0
    assert stats.chisquare(counts[drawn], shares[drawn] / shares.sum() * len(MANY)).pvalue > P_VALUE


@pytest.mark.parametrize("kind", ["shuffle", "weighted"])
def test_each_attempt_position_and_epoch_has_substitutes_of_its_own(kind: str) -> None:
    ids = np.zeros(1000, np.int64)
    places = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1000, 0)]
    drawn = [order(kind).others(epoch, first + np.arange(1000), ids, attempt) for epoch, first, attempt in places]
    for k, one in enumerate(drawn):
        for other in drawn[:k]:
            assert np.mean(one == other) < 0.4  # a third by chance: the weighted draw has three large classes
    np.testing.assert_array_equal(drawn[0], order(kind).others(0, np.arange(1000), ids, 0))


def test_a_single_sample_has_no_substitute() -> None:
    one = np.zeros(1, np.int64)
    with pytest.raises(PipelineError, match="the split holds one sample"):
        order("shuffle", size=1, batch_size=1).others(0, one, one, 0)
    with pytest.raises(PipelineError, match=r"order.weights leave one sample"):
        order("weighted", weights=[0, 0, 1, 0, 0]).others(0, one, one, 0)
