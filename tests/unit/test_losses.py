from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fastbot import specs
from fastbot.errors import RecipeError
from fastbot.losses import BinaryCrossEntropy, CrossEntropy, Loss, build_loss

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


@pytest.mark.parametrize("soft", [False, True])
def test_smoothing_all_is_torchs_and_the_papers_is_not(logits: torch.Tensor, soft: bool) -> None:
    targets = F.one_hot(LABELS, K).float() if soft else LABELS
    torchs = F.cross_entropy(logits, LABELS, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropy(0.1, "all").per_sample(logits, targets), torchs)
    assert (CrossEntropy(0.1).per_sample(logits, targets) - torchs).abs().min() > 1e-3


def test_gradient_equals_softmax_minus_target(logits: torch.Tensor) -> None:
    logits.requires_grad_()
    CrossEntropy(0.1)(logits, LABELS, torch.ones(N)).backward()
    p = torch.softmax(logits.detach().double(), dim=1)
    expected = (p - torch.from_numpy(paper_targets(LABELS.numpy(), 0.1))) / N
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.double(), expected, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(("smoothing", "gap"), [("others", 9.104), ("all", 9.105)])
def test_the_optimum_has_the_papers_gap(smoothing: str, gap: float) -> None:
    """BoT equation 5, log((K - 1)(1 - eps) / eps) at K = 1000 and eps = 0.1, found by minimizing."""
    assert math.log(999 * 0.9 / 0.1) == pytest.approx(9.104, abs=5e-4)  # the paper prints 9.10
    assert math.log((0.9 + 0.1 / 1000) / (0.1 / 1000)) == pytest.approx(9.105, abs=5e-4)
    logits = torch.zeros(1, 1000, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], lr=1, max_iter=300, tolerance_grad=1e-11, line_search_fn="strong_wolfe")
    loss = CrossEntropy(0.1, smoothing)  # type: ignore[arg-type]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = 1e3 * loss(logits, torch.tensor([17]), torch.ones(1))  # gradients far above float32's resolution
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    others = torch.cat([logits[0, :17], logits[0, 18:]])
    assert (logits[0, 17] - others.mean()).item() == pytest.approx(gap, abs=1e-3)


def numpy_binary_cross_entropy(logits: NDArray[np.float64], t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return -t log s(z) - (1 - t) log(1 - s(z)), from the definition, in float64: (N, K)."""
    s = 1 / (1 + np.exp(-logits))
    return -(t * np.log(s) + (1 - t) * np.log(1 - s))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.05, 0.2, 0.95])
@pytest.mark.parametrize("eps", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "mixed"])
def test_binary_cross_entropy_equals_its_definition(
    kind: str, eps: float, threshold: float | None, reduction: str, logits: torch.Tensor
) -> None:
    lam = np.array([0.21, 1.0, 0.55, 0.79, 0.01] if kind == "mixed" else [1.0] * N)[:, None]
    on_off = [paper_targets(labels.numpy(), eps) for labels in (LABELS, LABELS.flip(0))]
    expected = lam * on_off[0] + (1 - lam) * on_off[1]
    if threshold is not None:
        expected = np.where(expected > threshold, 1.0, 0.0)
    losses = numpy_binary_cross_entropy(logits.double().numpy(), expected)
    rows = losses.mean(axis=1) if reduction == "mean" else losses.sum(axis=1)

    targets = LABELS
    if kind == "mixed":
        one_hots = [np.eye(K)[labels.numpy()] for labels in (LABELS, LABELS.flip(0))]
        targets = torch.from_numpy(lam * one_hots[0] + (1 - lam) * one_hots[1]).float()
    loss = BinaryCrossEntropy(eps, "others", threshold, reduction)  # type: ignore[arg-type]
    np.testing.assert_allclose(loss.per_sample(logits, targets).numpy(), rows, rtol=5e-6, atol=1e-6)

    weight = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    whole = loss(logits, targets, torch.from_numpy(weight).float())
    assert whole.item() == pytest.approx((weight * rows).sum() / 3, rel=5e-6)


def test_the_threshold_is_strict_and_gives_two_classes_the_value_one() -> None:
    logits = torch.tensor([[1.0, 2.0, -3.0]])
    loss = BinaryCrossEntropy(target_threshold=0.25, reduction="sum")
    both = loss.per_sample(logits, torch.tensor([[0.7, 0.3, 0.0]]))
    torch.testing.assert_close(
        both, F.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 1, 0]]), reduction="sum")[None]
    )
    one = loss.per_sample(logits, torch.tensor([[0.75, 0.25, 0.0]]))  # 0.25 is not above 0.25
    torch.testing.assert_close(one, loss.per_sample(logits, torch.tensor([0])))


@pytest.mark.parametrize("kind", ["labels", "soft"])
def test_the_gradient_of_binary_cross_entropy_is_sigmoid_minus_target(kind: str, logits: torch.Tensor) -> None:
    logits = (10 * logits).requires_grad_()  # up to some +-70: no overflow, no NaN
    soft = torch.rand(N, K, generator=torch.Generator().manual_seed(1))
    targets, expected = (LABELS, F.one_hot(LABELS, K)) if kind == "labels" else (soft, soft)
    BinaryCrossEntropy()(logits, targets, torch.ones(N)).backward()
    assert logits.grad is not None
    exact = (torch.sigmoid(logits.detach().double()) - expected) / (N * K)
    torch.testing.assert_close(logits.grad.double(), exact, atol=1e-8, rtol=1e-6)


def test_the_sum_is_k_times_the_mean_also_in_its_gradient(logits: torch.Tensor) -> None:
    gradients = []
    for reduction in ("mean", "sum"):
        leaf = logits.clone().requires_grad_()
        BinaryCrossEntropy(reduction=reduction)(leaf, LABELS, torch.ones(N)).backward()  # type: ignore[arg-type]
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], K * gradients[0])


def test_unmixed_labels_are_still_yes_or_no_questions(logits: torch.Tensor) -> None:
    """Where timm takes plain cross entropy, even if asked for binary cross entropy."""
    binary = BinaryCrossEntropy(reduction="sum").per_sample(logits, LABELS)
    assert (binary - CrossEntropy().per_sample(logits, LABELS)).abs().min() > 1e-3


LOSSES: list[Loss] = [CrossEntropy(0.1), BinaryCrossEntropy(0.1), BinaryCrossEntropy(target_threshold=0.2)]


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_of_weight_zero_do_not_count(loss: Loss, logits: torch.Tensor) -> None:
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    logits[3:] = 1e4
    torch.testing.assert_close(loss(logits, LABELS, weight), loss.per_sample(logits[:3], LABELS[:3]).mean())
    assert loss(logits, LABELS, torch.zeros(N)).item() == 0


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_are_scored_in_float32(logits: torch.Tensor, dtype: torch.dtype, autocast: bool) -> None:
    half = logits.to(dtype)
    targets = paper_targets(LABELS.numpy(), 0.1)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        softmax = CrossEntropy(0.1).per_sample(half, LABELS)
        sigmoid = BinaryCrossEntropy(0.1, "others", reduction="sum").per_sample(half, LABELS)
        soft = BinaryCrossEntropy(reduction="sum").per_sample(half, torch.from_numpy(targets).float())
    assert {loss.dtype for loss in (softmax, sigmoid, soft)} == {torch.float32}
    exact = half.double().numpy()
    np.testing.assert_allclose(softmax.numpy(), numpy_cross_entropy(exact, targets), rtol=2e-6, atol=1e-6)
    for loss in (sigmoid, soft):
        np.testing.assert_allclose(loss.numpy(), numpy_binary_cross_entropy(exact, targets).sum(axis=1), rtol=5e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_compiles_into_one_graph(loss: Loss, logits: torch.Tensor) -> None:
    compiled = torch.compile(loss.__call__, fullgraph=True, dynamic=False, backend="aot_eager")
    for targets in (LABELS, F.one_hot(LABELS, K).float()):
        torch.testing.assert_close(compiled(logits, targets, torch.ones(N)), loss(logits, targets, torch.ones(N)))


@pytest.mark.parametrize("eps", [-0.1, 0.5, 1.0, math.nan])
def test_refuses_smoothing_out_of_range(eps: float) -> None:
    with pytest.raises(RecipeError, match=rf"label_smoothing is {eps}: allowed is 0 to below 0\.5"):
        CrossEntropy(eps)
    with pytest.raises(RecipeError, match=rf"label_smoothing is {eps}: allowed is 0 to below 0\.5"):
        BinaryCrossEntropy(eps)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, math.nan])
def test_refuses_a_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(RecipeError, match=rf"target_threshold is {threshold}: allowed is 0 to below 1"):
        BinaryCrossEntropy(target_threshold=threshold)


def test_a_recipe_gets_the_loss_it_asks_for() -> None:
    assert build_loss(specs.CrossEntropySpec()) == CrossEntropy(0.0, "others")
    smoothed = specs.CrossEntropySpec(label_smoothing=0.1, smoothing="all")
    assert build_loss(smoothed) == CrossEntropy(0.1, "all")
    assert build_loss(specs.BinaryCrossEntropySpec()) == BinaryCrossEntropy(0.0, "all", None, "mean")
    spec = specs.BinaryCrossEntropySpec(smoothing="others", target_threshold=0.2, reduction="sum")
    assert build_loss(spec) == BinaryCrossEntropy(0.0, "others", 0.2, "sum")
    spec = specs.BinaryCrossEntropySpec(label_smoothing=0.1)
    assert build_loss(spec) == BinaryCrossEntropy(0.1, "all", None, "mean")
