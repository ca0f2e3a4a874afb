"""Scoring a model: every sample counts exactly once, on any number of ranks."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import nn

from fastbot.distributed import Ranks
from fastbot.losses import CrossEntropy
from fastbot.metrics import Sums, means
from fastbot.precision import Precision
from pipelines.pipeline import Pipeline


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
    was_training = model.training
    model.eval()
    sums = Sums(ranks.device)
    with closing(pipeline.batches()) as batches:
        for batch in batches:
            with precision.autocast():
                logits = model(batch.images)
            sums.update(loss(logits, batch.targets, batch.weight), logits, batch.labels, batch.weight)
    model.train(was_training)
    return means(sums.total(ranks))
