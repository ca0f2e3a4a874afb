"""What the loop minimizes: from a model's output and its batch to one number."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from fastbot.losses import Loss
from pipelines.batch import Batch

Output = Tensor | tuple[Tensor, Tensor]


class Criterion(Protocol):
    """Compares what a model makes of a batch with what it should."""

    def __call__(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits that metrics look at.

        Args:
            output: what the model returned in training, under the step's autocast.
            batch: what it was given.

        Returns:
            A float32 scalar, the weighted mean over rows, and logits (N, K); without a host synchronization.
        """
        ...


class Supervised:
    """The loss of the logits against the batch's targets.

    Args:
        loss: of logits, targets and weights.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    def __call__(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss and the logits."""
        assert isinstance(output, Tensor), "a model with an auxiliary head needs WithAuxiliaryHead"
        return self._loss(output, batch.targets, batch.weight), output


class WithAuxiliaryHead:
    """A criterion of the main logits, plus a loss of an auxiliary head's logits against the same targets.

    Args:
        main: of the main logits.
        loss: of the auxiliary ones.
        weight: of that loss; Szegedy et al. 2015 and torchvision's reference training take 0.4 (torchvision) or 0.3.
    """

    def __init__(self, main: Criterion, loss: Loss, weight: float) -> None:
        self._main, self._loss, self._weight = main, loss, weight

    def __call__(self, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sum, and the main logits."""
        logits, auxiliary = output
        loss, logits = self._main(logits, batch)
        return loss + self._weight * self._loss(auxiliary, batch.targets, batch.weight), logits
