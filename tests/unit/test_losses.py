from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fastbot.errors import RecipeError
from fastbot.losses import CrossEntropy

N, K = 5, 7


def numpy_cross_entropy(logits: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -sum_k q_k log p_k per row, from the definition, in float64."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return -(q * np.log(p)).sum(axis=1)


def paper_targets(labels: NDArray[np.int64], eps: float) -> NDArray[np.float64]:
    """Return BoT equation 4, class by class: 1 - eps where i = y, else eps / (K - 1)."""
    return np.array([[1 - eps if i == y else eps / (K - 1) for i in range(K)] for y in labels])


@pytest.fixture
def logits() -> torch.Tensor:
    return 4 * torch.randn(N, K, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3])
def test_labels_equal_the_papers_definition(logits: torch.Tensor, eps: float) -> None:
    expected = numpy_cross_entropy(logits.double().numpy(), paper_targets(LABELS.numpy(), eps))
    np.testing.assert_allclose(CrossEntropy(eps).per_sample(logits, LABELS).numpy(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3])
def test_mixed_targets_equal_the_mixture_of_the_papers_targets(logits: torch.Tensor, eps: float) -> None:
    lam = np.array([0.2, 1.0, 0.55, 0.9, 0.01])[:, None]
    partner = LABELS.flip(0).numpy()
    q = lam * paper_targets(LABELS.numpy(), eps) + (1 - lam) * paper_targets(partner, eps)
    mixed = torch.from_numpy(lam * np.eye(K)[LABELS.numpy()] + (1 - lam) * np.eye(K)[partner]).float()
    expected = numpy_cross_entropy(logits.double().numpy(), q)
    np.testing.assert_allclose(CrossEntropy(eps).per_sample(logits, mixed).numpy(), expected, rtol=2e-6, atol=1e-6)


def test_smoothing_is_the_papers_and_not_torchs(logits: torch.Tensor) -> None:
    ours = CrossEntropy(0.1).per_sample(logits, LABELS)
    torchs = F.cross_entropy(logits, LABELS, reduction="none", label_smoothing=0.1)
    assert (ours - torchs).abs().min() > 1e-3


def test_gradient_equals_softmax_minus_target(logits: torch.Tensor) -> None:
    logits.requires_grad_()
    CrossEntropy(0.1)(logits, LABELS, torch.ones(N)).backward()
    p = torch.softmax(logits.detach().double(), dim=1)
    expected = (p - torch.from_numpy(paper_targets(LABELS.numpy(), 0.1))) / N
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.double(), expected, atol=1e-7, rtol=1e-5)


def test_optimum_has_the_papers_gap() -> None:
    # BoT section 5.2: log((K - 1)(1 - eps) / eps) = 9.10 at K = 1000, eps = 0.1; found here by minimizing.
    logits = torch.zeros(1, 1000, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=1, max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = CrossEntropy(0.1)(logits, torch.tensor([17]), torch.ones(1))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    others = torch.cat([logits[0, :17], logits[0, 18:]])
    gap = (logits[0, 17] - others.mean()).item()
    assert round(math.log(999 * 0.9 / 0.1), 2) == 9.10
    assert gap == pytest.approx(math.log(999 * 0.9 / 0.1), abs=0.01)


def test_rows_of_weight_zero_do_not_count(logits: torch.Tensor) -> None:
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    logits[3:] = 1e4
    loss = CrossEntropy(0.1)
    torch.testing.assert_close(loss(logits, LABELS, weight), loss.per_sample(logits[:3], LABELS[:3]).mean())
    assert loss(logits, LABELS, torch.zeros(N)).item() == 0


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_scored_in_float32(logits: torch.Tensor, dtype: torch.dtype, autocast: bool) -> None:
    half = logits.to(dtype)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        loss = CrossEntropy(0.1).per_sample(half, LABELS)
    assert loss.dtype == torch.float32
    expected = numpy_cross_entropy(half.double().numpy(), paper_targets(LABELS.numpy(), 0.1))
    np.testing.assert_allclose(loss.numpy(), expected, rtol=2e-6, atol=1e-6)


def test_compiles_into_one_graph(logits: torch.Tensor) -> None:
    loss = CrossEntropy(0.1)
    compiled = torch.compile(loss.__call__, fullgraph=True, backend="aot_eager")
    for targets in (LABELS, F.one_hot(LABELS, K).float()):
        torch.testing.assert_close(compiled(logits, targets, torch.ones(N)), loss(logits, targets, torch.ones(N)))


@pytest.mark.parametrize("eps", [-0.1, 0.5, 1.0, math.nan])
def test_refuses_smoothing_out_of_range(eps: float) -> None:
    with pytest.raises(RecipeError, match=rf"label_smoothing is {eps}: allowed is 0 to below 0\.5"):
        CrossEntropy(eps)
