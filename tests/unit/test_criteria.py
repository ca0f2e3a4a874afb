from __future__ import annotations

import pytest
import torch
from batches import random_batch
from torch.nn import functional as F

from fastbot.criteria import Supervised, WithAuxiliaryHead
from fastbot.losses import CrossEntropy

N, K = 6, 5


@pytest.mark.parametrize("mixed", [False, True])
def test_supervised_compares_with_the_targets(mixed: bool) -> None:
    batch, logits = random_batch(N, K, mixed=mixed), torch.randn(N, K)
    loss, returned = Supervised(CrossEntropy())(logits, batch)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.targets))
    assert returned is logits


def test_an_auxiliary_head_adds_its_weighted_loss_and_is_not_measured() -> None:
    batch, logits, auxiliary = random_batch(N, K), torch.randn(N, K), torch.randn(N, K, requires_grad=True)
    loss, returned = WithAuxiliaryHead(Supervised(CrossEntropy()), CrossEntropy(0.1), 0.4)((logits, auxiliary), batch)
    assert returned is logits
    smoothed = -(0.9 * F.one_hot(batch.labels, K) + 0.1 / 4 * (1 - F.one_hot(batch.labels, K)))
    expected = (smoothed * auxiliary.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.labels) + 0.4 * expected)


def test_a_model_with_two_outputs_needs_a_criterion_for_both() -> None:
    logits = torch.zeros(N, K)
    with pytest.raises(AssertionError, match="needs WithAuxiliaryHead"):
        Supervised(CrossEntropy())((logits, logits), random_batch(N, K))
