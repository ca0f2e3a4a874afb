"""What holds for every batch, pairing and lambda."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import mixing_plan

from pipelines import spec
from pipelines.augment.build import build_augment
from pipelines.mixing import build_targets

NUM_CLASSES = 4
CPU = torch.device("cpu")
DATA = spec.DataSpec(mix=spec.Mixup(), jitter=spec.NoJitter())
AUGMENT = build_augment(DATA, device=CPU, dtype=torch.float32, train=True)
TARGETS = build_targets(DATA.mix, NUM_CLASSES, CPU)
LAMBDA = st.floats(0, 1, width=32)


@st.composite
def pairings(draw: st.DrawFn) -> list[int]:
    """Draw partners of up to nine rows: pairs, and rows that are alone."""
    shuffled = draw(st.permutations(range(draw(st.integers(1, 9)))))
    partner = list(range(len(shuffled)))
    for k in range(0, draw(st.integers(0, len(shuffled) // 2)) * 2, 2):
        one, two = shuffled[k : k + 2]
        partner[one], partner[two] = two, one
    return partner


def _batch(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (num, 2, 3, 3), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(NUM_CLASSES, (num,), generator=generator)


@settings(deadline=None, max_examples=50)
@given(st.data(), pairings(), st.integers(0, 2**31))
def test_targets_are_distributions_between_the_two_labels(data: st.DataObject, partner: list[int], seed: int) -> None:
    num = len(partner)
    lam = data.draw(st.lists(LAMBDA, min_size=num, max_size=num))
    _, labels = _batch(num, seed)
    targets = TARGETS(labels, mixing_plan(partner, lam))
    torch.testing.assert_close(targets.sum(1), torch.ones(num), rtol=0, atol=1e-6)
    assert targets.amin() >= 0
    others = torch.ones_like(targets).scatter_(1, labels[:, None], 0).scatter_(1, labels[partner][:, None], 0)
    assert (targets * others).count_nonzero() == 0


@settings(deadline=None, max_examples=50)
@given(pairings(), st.integers(0, 2**31), LAMBDA)
def test_one_lambda_keeps_the_batch_mean(partner: list[int], seed: int, lam: float) -> None:
    pixels, labels = _batch(len(partner), seed)
    plan, still = mixing_plan(partner, [lam] * len(partner)), mixing_plan(range(len(partner)), [1.0] * len(partner))
    torch.testing.assert_close(AUGMENT(pixels, plan).mean(0), AUGMENT(pixels, still).mean(0), rtol=0, atol=1e-5)
    counts = torch.bincount(labels, minlength=NUM_CLASSES).float()
    torch.testing.assert_close(TARGETS(labels, plan).sum(0), counts, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(pairings(), st.integers(0, 2**31), LAMBDA)
def test_partners_exchange_shares(partner: list[int], seed: int, lam: float) -> None:
    """Mixing by lambda is mixing by 1 - lambda seen from the partner."""
    pixels, labels = _batch(len(partner), seed)
    one, two = (mixing_plan(partner, [share] * len(partner)) for share in (lam, float(1 - np.float32(lam))))
    torch.testing.assert_close(AUGMENT(pixels, one), AUGMENT(pixels, two)[partner], rtol=0, atol=1e-5)
    torch.testing.assert_close(TARGETS(labels, one), TARGETS(labels, two)[partner], rtol=0, atol=1e-6)
