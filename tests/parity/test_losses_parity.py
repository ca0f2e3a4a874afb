"""Losses against timm's: those of 0.5.4, which trained RSB's models, and today's."""

from __future__ import annotations

import pytest
import timm.loss
import timm_054
import torch

from fastbot.losses import BinaryCrossEntropy, CrossEntropy

N, K = 16, 40
LABELS = torch.arange(N) * 7 % K
ONES = torch.ones(N)


@pytest.fixture
def logits() -> torch.Tensor:
    return (4 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))).requires_grad_()


def mixed(smoothing: float, lam: float) -> torch.Tensor:
    """Return timm's mixed targets: it smooths the one-hots, with eps / K, before it mixes them with the reversal."""
    targets: torch.Tensor = timm_054.module("data.mixup").mixup_target(LABELS, K, lam, smoothing, device="cpu")
    return targets


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, logits: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_binary_cross_entropy_of_labels(threshold: float | None, smoothing: float, logits: torch.Tensor) -> None:
    theirs = timm_054.module("loss.binary_cross_entropy").BinaryCrossEntropy(smoothing, threshold)
    ours = BinaryCrossEntropy(smoothing, "all", threshold)
    assert_same(ours(logits, LABELS, ONES), theirs(logits, LABELS), logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("lam", [0.05, 0.19, 0.4, 0.81, 1.0])
def test_binary_cross_entropy_of_mixed_targets(
    lam: float, threshold: float | None, smoothing: float, logits: torch.Tensor
) -> None:
    """Ours smooths what is mixed, timm mixes what is smoothed."""
    theirs = timm_054.module("loss.binary_cross_entropy").BinaryCrossEntropy(0.0, threshold)
    ours = BinaryCrossEntropy(smoothing, "all", threshold)
    assert_same(ours(logits, mixed(0.0, lam), ONES), theirs(logits, mixed(smoothing, lam)), logits)


def test_the_sum_over_classes_is_todays_timms(logits: torch.Tensor) -> None:
    theirs = timm.loss.BinaryCrossEntropy(smoothing=0.0, target_threshold=0.2, sum_classes=True)
    ours = BinaryCrossEntropy(target_threshold=0.2, reduction="sum")
    torch.testing.assert_close(ours(logits, mixed(0.0, 0.4), ONES), theirs(logits, mixed(0.0, 0.4)))


def test_cross_entropy_smoothed_over_all(logits: torch.Tensor) -> None:
    theirs = timm_054.module("loss.cross_entropy").LabelSmoothingCrossEntropy(0.1)
    assert_same(CrossEntropy(0.1, "all")(logits, LABELS, ONES), theirs(logits, LABELS), logits)


def test_cross_entropy_of_mixed_targets(logits: torch.Tensor) -> None:
    theirs = timm_054.module("loss.cross_entropy").SoftTargetCrossEntropy()
    ours = CrossEntropy(0.1, "all")
    assert_same(ours(logits, mixed(0.0, 0.3), ONES), theirs(logits, mixed(0.1, 0.3)), logits)
