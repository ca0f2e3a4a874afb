"""Scoring a model: every sample counts exactly once, on any number of ranks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastbot.distributed import Ranks
from fastbot.evaluation.confusion import NO_CLASS, table_of
from fastbot.losses import Loss
from fastbot.metrics import Sums, means
from fastbot.precision import Precision
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline
from pipelines.upload import upload


class Observer(Protocol):
    """Looks at every batch that is scored, besides the scores."""

    def update(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take note of a batch, without a host synchronization.

        Args:
            logits: (n, K).
            batch: what they were made from; rows of weight 0 do not count.
        """
        ...


class FlipAveraged(nn.Module):
    """A model's logits for pictures and for their mirror images, averaged.

    Args:
        model: (n, 3, H, W) to logits (n, K); evaluated twice.

    Source: FFCV's ImageNet recipe, `lr_tta`; ResNet strikes back scores without.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of both logits, float32 (n, K): half formats would round the sum."""
        upright: torch.Tensor = self.model(images)
        mirrored: torch.Tensor = self.model(images.flip(3))
        return (upright.float() + mirrored.float()) / 2


class Predictions:
    """The best classes of every sample, by sample id, on the device: an observer.

    What any table of results needs follows from it on the host, exactly, whatever the number of classes. Ranks fill
    the rows of their own samples, so that adding them up puts them together; padding has weight 0 and adds nothing.

    Args:
        num_samples: of the split.
        num_classes: width of the logits.
        device: of the logits.
    """

    def __init__(self, num_samples: int, num_classes: int, device: torch.device) -> None:
        # Classes count from 1 here, so that 0 means that a sample did not count.
        self._best = torch.zeros((num_samples, min(_MOST_PREDICTIONS, num_classes)), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, logits: torch.Tensor, batch: Batch) -> None:
        """Take note of a batch."""
        counted = (batch.weight > 0)[:, None]
        self._best.index_add_(0, upload(batch.ids, self._best.device), (_best(logits) + 1) * counted)

    def total(self, ranks: Ranks) -> NDArray[np.int64]:
        """Return the best five classes of each sample, best first; every rank must call it, once.

        Returns:
            int64 (N, 5), or as many columns as there are classes; -1 throughout the rows of samples that did not count.
        """
        best: NDArray[np.int64] = (ranks.sum(self._best) - 1).cpu().numpy()
        return best


@torch.no_grad()
def evaluate(
    model: nn.Module,
    pipeline: Pipeline,
    loss: Loss,
    precision: Precision,
    ranks: Ranks,
    *,
    flip: bool = False,
    observers: Sequence[Observer] = (),
) -> dict[str, float]:
    """Return the weighted mean loss, top-1 and top-5 of a split.

    Args:
        model: the bare module (not its DDP wrapper); left in the mode it came in.
        pipeline: an evaluation pipeline; padding has weight 0.
        loss: as in training, so that the two are comparable.
        precision: whose autocast the forward runs under.
        ranks: every rank must call this.
        flip: average the logits of each picture and of its mirror image.
        observers: look at every batch as well.

    Returns:
        `loss`, `top1` and `top5`; accuracies as fractions.
    """
    sums = Sums(ranks.device)
    with closing(_predictions(model, pipeline, precision, flip)) as predictions:
        for batch, logits in predictions:
            sums.update(loss(logits, batch.targets, batch.weight), logits, batch.labels, batch.weight)
            for observer in observers:
                observer.update(logits, batch)
    return means(sums.total(ranks))


@torch.no_grad()
def evaluate_label_lists(
    model: nn.Module,
    pipeline: Pipeline,
    label_lists: Sequence[Sequence[int]],
    precision: Precision,
    ranks: Ranks,
    *,
    flip: bool = False,
    observers: Sequence[Observer] = (),
) -> dict[str, float]:
    """Return top-1 and top-5 of a split of which each sample has a list of right classes, some an empty one.

    A prediction is right if it is any class of the list. Samples whose list is empty do not count. There is no loss:
    such lists are no distribution over classes.

    Args:
        model, pipeline, precision, ranks, flip, observers: as for `evaluate`.
        label_lists: by sample id.

    Returns:
        `top1` and `top5` as fractions, and `num_samples`, how many counted. Without any, the fractions are nan.

    Source: ImageNet-ReaL, Beyer et al. 2020, "Are we done with ImageNet?", and `real_acc` of its reassessed-imagenet.
    """
    right_classes = torch.from_numpy(table_of(label_lists)).to(ranks.device)
    sums = torch.zeros(3, dtype=torch.float64, device=ranks.device)
    with closing(_predictions(model, pipeline, precision, flip)) as predictions:
        for batch, logits in predictions:
            right = right_classes[upload(batch.ids, ranks.device)]
            weight = batch.weight * (right[:, 0] != NO_CLASS)
            hits = (_best(logits)[:, :, None] == right[:, None, :]).any(dim=2)
            sums += torch.stack([(hits[:, 0] * weight).sum(), (hits.any(dim=1) * weight).sum(), weight.sum()])
            for observer in observers:
                observer.update(logits, batch)
    top1, top5, num_samples = ranks.sum(sums).tolist()
    count = num_samples or float("nan")
    return {"top1": top1 / count, "top5": top5 / count, "num_samples": num_samples}


# Top-5 looks at as many.
_MOST_PREDICTIONS = 5


def _best(logits: torch.Tensor) -> torch.Tensor:
    """Return the best classes of each row, best first: int64 (n, 5), or as many columns as there are classes."""
    return logits.topk(min(_MOST_PREDICTIONS, logits.shape[1]), dim=1).indices


def _predictions(
    model: nn.Module, pipeline: Pipeline, precision: Precision, flip: bool
) -> Generator[tuple[Batch, torch.Tensor]]:
    """Yield each batch and the model's logits for it; the model is in evaluation mode meanwhile."""
    logits_of = FlipAveraged(model) if flip else model
    was_training = model.training
    model.eval()
    try:
        with closing(pipeline.batches()) as batches:
            for batch in batches:
                with precision.autocast():
                    logits = logits_of(batch.images)
                yield batch, logits
    finally:
        model.train(was_training)
