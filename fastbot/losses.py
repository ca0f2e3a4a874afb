"""The two papers' losses: cross entropy with label smoothing (BoT), and binary cross entropy (RSB).

A loss compares logits with targets; what a teacher or an auxiliary head adds is a criterion's matter (`criteria`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from fastbot import specs
from fastbot.errors import RecipeError

Smoothing = Literal["others", "all"]
Reduction = Literal["mean", "sum"]


class Loss(Protocol):
    """Compares logits with targets."""

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the rows' losses, `sum(weight * loss) / max(sum(weight), 1)`: a float32 scalar.

        Under DDP each rank averages its own rows and DDP averages the ranks' gradients. That is the gradient of the
        global mean because training batches have as many rows on every rank, all of weight 1; where a picture was
        skipped (weight 0), the rows beside it on its rank count for it. Losses to be *summed* over batches or ranks, as
        in evaluation with padded rows, are those of `per_sample`.

        Args:
            logits: (N, K), K at least 2, any floating type; the loss is computed in float32.
            targets: int64 (N,) labels, or float32 (N, K) soft targets whose rows sum to 1.
            weight: float32 (N,), 0 for a row that does not count.

        Returns:
            A float32 scalar on the device of `logits`, without a host synchronization.
        """
        ...

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss: float32 (N,). Arguments as in `__call__`."""
        ...


def weighted_mean(rows: Tensor, weight: Tensor) -> Tensor:
    """Return `sum(weight * rows) / max(sum(weight), 1)`.

    Args:
        rows: float32 (N,).
        weight: float32 (N,), 0 for a row that does not count.
    """
    return (weight * rows).sum() / weight.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Compute cross entropy of the softmax against smoothed labels.

    With `others`, Bag of Tricks' smoothing, the true class gets 1 - eps and each of the K - 1 others eps / (K - 1).
    With `all`, that of torch, timm and GluonCV, eps is spread over all K classes, which leaves 1 - eps + eps / K on the
    true one. Soft targets go through the same affine map: mixing smoothed targets and smoothing mixed ones agree.

    Args:
        label_smoothing: eps, in [0, 0.5), so that the true class outweighs any other for every number of classes.
        smoothing: which of the two.

    Raises:
        RecipeError: `label_smoothing` is outside [0, 0.5).

    Source: BoT section 5.2, equation 4; Szegedy et al., arXiv 1512.00567, section 7 (`all`).
    """

    label_smoothing: float = 0.0
    smoothing: Smoothing = "others"

    def __post_init__(self) -> None:
        _check_label_smoothing(self.label_smoothing)

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the rows' losses, as `Loss` says."""
        return weighted_mean(self.per_sample(logits, targets), weight)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss: float32 (N,). Arguments as in `__call__`."""
        # torch's kernel smooths labels itself, without an (N, K) tensor of ours.
        spread = _spread(self.label_smoothing, self.smoothing, logits.shape[1])
        return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=spread)


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """Compute RSB's loss: every class is a yes-or-no question, `-t log s(z) - (1 - t) log(1 - s(z))`, s the sigmoid.

    Targets are smoothed as `CrossEntropy`'s are, and then, with a threshold, become 1 where they exceed it, else 0: of
    two mixed pictures both classes may be right, rows need not sum to 1, and little is left of the smoothing.

    timm turns to plain cross entropy where nothing is mixed and no label smoothed, even if asked for this loss
    (`--bce-loss`). This one does not: unmixed labels are questions like any others.

    Args:
        label_smoothing: eps, in [0, 0.5).
        smoothing: as in `CrossEntropy`; timm's is `all`.
        target_threshold: in [0, 1), compared strictly; None leaves targets as they are.
        reduction: of a row's K losses: their `mean`, so that the loss is one over batch and classes (timm 0.5.4), or
            their `sum` (timm's later `--bce-sum`), whose gradient is K times as large.

    Raises:
        RecipeError: `label_smoothing` or `target_threshold` is out of range.

    Source: Wightman, Touvron and Jegou, arXiv 2110.00476, section 3; timm 0.5.4, `loss/binary_cross_entropy.py`.
    """

    label_smoothing: float = 0.0
    smoothing: Smoothing = "all"
    target_threshold: float | None = None
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        _check_label_smoothing(self.label_smoothing)
        if self.target_threshold is not None and not 0 <= self.target_threshold < 1:
            raise RecipeError(
                f"loss.target_threshold is {self.target_threshold}: allowed is 0 to below 1; RSB's A2 has 0.2"
            )

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the rows' losses, as `Loss` says; soft targets need not sum to 1."""
        return weighted_mean(self.per_sample(logits, targets), weight)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each row's mean or sum over classes: float32 (N,). Arguments as in `__call__`."""
        logits = logits.float()
        # -t log s(z) - (1 - t) log(1 - s(z)) = softplus(z) - t z. Its second part is linear in t, so that labels need
        # no (N, K) targets. The gradient is s(z) - t, to float32's precision.
        rows = F.softplus(logits).sum(dim=1) - self._agreement(logits, targets)
        return rows / logits.shape[1] if self.reduction == "mean" else rows

    def _agreement(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `sum_k t_k z_k` of each row, t the smoothed and thresholded targets."""
        num_classes = logits.shape[1]
        spread = _spread(self.label_smoothing, self.smoothing, num_classes)
        off, on = spread / num_classes, 1 - spread + spread / num_classes
        threshold = self.target_threshold
        if targets.is_floating_point() and threshold is not None:
            return torch.where(off + (on - off) * targets > threshold, logits, 0).sum(dim=1)
        if threshold is not None:
            off, on = float(off > threshold), float(on > threshold)
        own = (targets * logits).sum(dim=1) if targets.is_floating_point() else _chosen(logits, targets)
        # `off` for every class, and what is missing to `on` for the true one.
        return own if off == 0 and on == 1 else off * logits.sum(dim=1) + (on - off) * own


def build_loss(spec: specs.LossSpec) -> Loss:
    """Return the loss that a recipe asks for."""
    if isinstance(spec, specs.CrossEntropySpec):
        return CrossEntropy(spec.label_smoothing, spec.smoothing)
    return BinaryCrossEntropy(spec.label_smoothing, spec.smoothing, spec.target_threshold, spec.reduction)


def _spread(label_smoothing: float, smoothing: Smoothing, num_classes: int) -> float:
    """Return what is to be spread over all K classes, the true one included: s in t -> (1 - s) t + s / K.

    At s = eps * K / (K - 1) the true class keeps 1 - eps and each other one gets eps / (K - 1): the paper's targets.
    """
    return label_smoothing * num_classes / (num_classes - 1) if smoothing == "others" else label_smoothing


def _chosen(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]).squeeze(1)


def _check_label_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 0.5:
        raise RecipeError(f"label_smoothing is {label_smoothing}: allowed is 0 to below 0.5; the papers' is 0.1")
