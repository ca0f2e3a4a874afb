"""What holds for every batch, partner and lambda."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import mixing_plan

from pipelines import spec
from pipelines.mixing import build_mix

NUM_CLASSES = 4
MIX = build_mix(spec.Mixup(), NUM_CLASSES, torch.device("cpu"))
LAMBDA = st.floats(0, 1, width=32)


def _batch(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num, 3, 2, 3, generator=generator).to(memory_format=torch.channels_last)
    return images, torch.randint(NUM_CLASSES, (num,), generator=generator)


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 9), st.integers(0, 2**31))
def test_targets_are_distributions_between_the_two_labels(data: st.DataObject, num: int, seed: int) -> None:
    partner = data.draw(st.lists(st.integers(0, num - 1), min_size=num, max_size=num))
    lam = data.draw(st.lists(LAMBDA, min_size=num, max_size=num))
    images, labels = _batch(num, seed)
    _, targets = MIX(images, labels, mixing_plan(partner, lam))
    torch.testing.assert_close(targets.sum(1), torch.ones(num), rtol=0, atol=1e-6)
    assert targets.amin() >= 0
    others = torch.ones_like(targets).scatter_(1, labels[:, None], 0).scatter_(1, labels[partner][:, None], 0)
    assert (targets * others).count_nonzero() == 0


@settings(deadline=None, max_examples=50)
@given(st.data(), st.integers(1, 9), st.integers(0, 2**31), LAMBDA)
def test_a_permutation_and_one_lambda_keep_the_batch_mean(data: st.DataObject, num: int, seed: int, lam: float) -> None:
    partner = data.draw(st.permutations(range(num)))
    images, labels = _batch(num, seed)
    mixed, targets = MIX(images, labels, mixing_plan(list(partner), [lam] * num))
    torch.testing.assert_close(mixed.mean(0), images.mean(0), rtol=0, atol=1e-5)
    counts = torch.bincount(labels, minlength=NUM_CLASSES).float()
    torch.testing.assert_close(targets.sum(0), counts, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(0, 2**31), LAMBDA)
def test_partners_that_point_at_each_other_exchange_shares(num: int, seed: int, lam: float) -> None:
    """With reversal, mixing by lambda is mixing by 1 - lambda seen from the partner."""
    partner = list(range(num))[::-1]
    images, labels = _batch(num, seed)
    other = float(1 - np.float32(lam))
    one, one_targets = MIX(images, labels, mixing_plan(partner, [lam] * num))
    two, two_targets = MIX(images, labels, mixing_plan(partner, [other] * num))
    torch.testing.assert_close(one, two[partner], rtol=0, atol=1e-5)
    torch.testing.assert_close(one_targets, two_targets[partner], rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(0, 2**31))
def test_a_share_of_one_changes_nothing(num: int, seed: int) -> None:
    images, labels = _batch(num, seed)
    mixed, targets = MIX(images, labels, mixing_plan(list(range(num))[::-1], [1.0] * num))
    assert torch.equal(mixed, images)
    assert torch.equal(targets, torch.nn.functional.one_hot(labels, NUM_CLASSES).float())
