"""Cross entropy with the paper's label smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from fastbot.errors import RecipeError


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Compute cross entropy against labels smoothed as Bag of Tricks does.

    The true class gets 1 - eps, each of the K - 1 others eps / (K - 1). Soft targets go through the same affine map,
    t -> t * (1 - eps) + (1 - t) * eps / (K - 1), so that mixing smoothed targets and smoothing mixed ones agree.
    torch, timm and GluonCV spread eps over all K classes instead, which leaves 1 - eps + eps / K on the true one.

    Args:
        label_smoothing: eps, in [0, 0.5), so that the true class outweighs any other for every number of classes.

    Raises:
        RecipeError: `label_smoothing` is outside [0, 0.5).

    Source: BoT section 5.2, equation 4.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise RecipeError(
                f"label_smoothing is {self.label_smoothing}: allowed is 0 to below 0.5; the paper's is 0.1"
            )

    def __call__(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted mean of the rows' losses, `sum(weight * loss) / max(sum(weight), 1)`.

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
        return (weight * self.per_sample(logits, targets)).sum() / weight.sum().clamp(min=1)

    def per_sample(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each row's loss: float32 (N,). Arguments as in `__call__`."""
        num_classes = logits.shape[1]
        # torch smooths with q = (1 - s) * t + s / K. At s = eps * K / (K - 1) that is the paper's target exactly,
        # for labels and for soft targets, so torch's kernel computes it without an (N, K) tensor of our own.
        smoothing = self.label_smoothing * num_classes / (num_classes - 1)
        return F.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)
