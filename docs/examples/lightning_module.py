"""A Lightning module on fastbot's batches. Lightning is not part of fastbot: pip install lightning

Run: python docs/examples/lightning_module.py demo/data
"""

from __future__ import annotations

import sys
from typing import Any

import lightning
import torch
from torch.nn import functional
from torchvision.models import resnet18

import pipelines
from pipelines.batch import Batch

SPEC = {
    "global_batch_size": 32,
    "crop_size": 64,
    "eval": {"resize_size": 72, "crop_size": 64, "global_batch_size": 50},
}


class Classifier(lightning.LightningModule):
    """A ResNet-18 on a store."""

    def __init__(self, store: str, num_classes: int) -> None:
        super().__init__()
        self.store = store
        self.model = resnet18(num_classes=num_classes)
        self.loaders: list[pipelines.Loader] = []

    def train_dataloader(self) -> pipelines.Loader:
        """Return batches that are on this rank's device already. Lightning saves and restores their place."""
        return self._open("train")

    def val_dataloader(self) -> pipelines.Loader:
        """Return the validation batches."""
        return self._open("val")

    def _open(self, split: str) -> pipelines.Loader:
        # Called once Lightning has set up its ranks, so rank and world size are those of torch.distributed.
        self.loaders.append(pipelines.open(self.store, SPEC, split=split, device=self.device))
        return self.loaders[-1]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Leave the batch where it is."""
        return batch

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        losses = functional.cross_entropy(self.model(batch.images), batch.targets, reduction="none")
        return (losses * batch.weight).sum() / batch.weight.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the accuracy, weighted: padding does not count."""
        right = (self.model(batch.images).argmax(dim=1) == batch.labels) * batch.weight
        num_samples = int(batch.weight.sum())
        self.log("top1", right.sum() / max(num_samples, 1), batch_size=num_samples, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)

    def teardown(self, stage: str) -> None:
        """End the loaders' threads."""
        for loader in self.loaders:
            loader.close()


def main(store: str) -> None:
    """Train for two epochs."""
    with pipelines.open(store, SPEC) as batches:
        num_classes = batches.num_classes
    # The batches are shared out by fastbot already: Lightning must not put samplers of its own around them.
    trainer = lightning.Trainer(max_epochs=2, use_distributed_sampler=False, logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(store, num_classes))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} STORE")
    main(sys.argv[1])
