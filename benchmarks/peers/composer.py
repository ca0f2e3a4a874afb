"""composer's `Trainer` as a plain training loop, on one batch that is on the device from the start.

composer pins an old PyTorch, so `make peers` installs it without its dependencies' pins into an environment that sees
ours: it trains on the same PyTorch as all others. Here it has no algorithms, no loggers and no evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from composer import Trainer
from composer.core import DataSpec
from composer.models import ComposerClassifier
from torch import nn

_PRECISIONS = {"fp32": "fp32", "fp16": "amp_fp16", "bf16": "amp_bf16"}
_NUM_CLASSES = 1000
# Longer than any turn of a measurement.
_ENDLESS = 1 << 40

Pair = tuple[torch.Tensor, torch.Tensor]


class _OneBatch:
    """A data loader that has the same batch again and again."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self._pair = images, labels
        self.batch_size = len(labels)

    def __len__(self) -> int:
        return _ENDLESS

    def __iter__(self) -> Iterator[Pair]:
        while True:
            yield self._pair


def train_on(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str, optimizer: torch.optim.Optimizer
) -> Callable[[int], object]:
    """Return what trains a network for so many steps with the same batch.

    Args:
        network: on the device of the images, in their memory format.
        images: (N, 3, H, W).
        labels: int64 (N,).
        precision: fp32, fp16 or bf16; on a CPU fp32 alone.
        optimizer: over the network's parameters.
    """
    trainer = Trainer(
        model=ComposerClassifier(network, num_classes=_NUM_CLASSES),
        train_dataloader=DataSpec(_OneBatch(images, labels), get_num_samples_in_batch=lambda batch: len(batch[1])),
        max_duration="0ba",
        optimizers=optimizer,
        device="gpu" if images.device.type == "cuda" else "cpu",
        precision=_PRECISIONS[precision],
        progress_bar=False,
        spin_dataloaders=False,  # or every call would first draw, and drop, all batches of the calls before it
    )
    return lambda steps: trainer.fit(duration=f"{steps}ba")
