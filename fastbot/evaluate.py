"""Scoring a model: every sample counts exactly once, on any number of ranks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing

import torch
from torch import nn

from fastbot.distributed import Ranks
from fastbot.losses import CrossEntropy
from fastbot.metrics import Sums, means
from fastbot.precision import Precision
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline
from pipelines.upload import upload


@torch.no_grad()
def evaluate(
    model: nn.Module, pipeline: Pipeline, loss: CrossEntropy, precision: Precision, ranks: Ranks
) -> dict[str, float]:
    """Return the weighted mean loss, top-1 and top-5 of a split.

    Args:
        model: the bare module (not its DDP wrapper); left in the mode it came in.
        pipeline: an evaluation pipeline; padding has weight 0.
        loss: as in training, so that the two are comparable.
        precision: whose autocast the forward runs under.
        ranks: every rank must call this.

    Returns:
        `loss`, `top1` and `top5`; accuracies as fractions.
    """
    sums = Sums(ranks.device)
    with closing(_predictions(model, pipeline, precision)) as predictions:
        for batch, logits in predictions:
            sums.update(loss(logits, batch.targets, batch.weight), logits, batch.labels, batch.weight)
    return means(sums.total(ranks))


@torch.no_grad()
def evaluate_label_lists(
    model: nn.Module, pipeline: Pipeline, label_lists: Sequence[Sequence[int]], precision: Precision, ranks: Ranks
) -> dict[str, float]:
    """Return top-1 and top-5 of a split of which each sample has a list of right classes, some an empty one.

    A prediction is right if it is any class of the list. Samples whose list is empty do not count. There is no loss:
    such lists are no distribution over classes.

    Args:
        model, pipeline, precision, ranks: as for `evaluate`.
        label_lists: by sample id.

    Returns:
        `top1` and `top5` as fractions, and `num_samples`, how many counted. Without any, the fractions are nan.

    Source: ImageNet-ReaL, Beyer et al. 2020, "Are we done with ImageNet?", and `real_acc` of its reassessed-imagenet.
    """
    right_classes = _table(label_lists).to(ranks.device)
    sums = torch.zeros(3, dtype=torch.float64, device=ranks.device)
    with closing(_predictions(model, pipeline, precision)) as predictions:
        for batch, logits in predictions:
            right = right_classes[upload(batch.ids, ranks.device)]
            weight = batch.weight * (right[:, 0] != _NO_CLASS)
            top = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hits = (top[:, :, None] == right[:, None, :]).any(dim=2)
            sums += torch.stack([(hits[:, 0] * weight).sum(), (hits.any(dim=1) * weight).sum(), weight.sum()])
    top1, top5, num_samples = ranks.sum(sums).tolist()
    count = num_samples or float("nan")
    return {"top1": top1 / count, "top5": top5 / count, "num_samples": num_samples}


# Fills the table of right classes where a sample has fewer than others; equals no class.
_NO_CLASS = -1


def _table(label_lists: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the lists as rows, int64 (N, longest), filled up with `_NO_CLASS`; at least one column."""
    longest = max(1, *map(len, label_lists))
    return torch.tensor([[*classes, *[_NO_CLASS] * (longest - len(classes))] for classes in label_lists])


def _predictions(model: nn.Module, pipeline: Pipeline, precision: Precision) -> Generator[tuple[Batch, torch.Tensor]]:
    """Yield each batch and the model's logits for it; the model is in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        with closing(pipeline.batches()) as batches:
            for batch in batches:
                with precision.autocast():
                    logits = model(batch.images)
                yield batch, logits
    finally:
        model.train(was_training)
