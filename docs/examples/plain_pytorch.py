"""A training loop of one's own: plain PyTorch, any model, fastbot's batches.

Run: python docs/examples/plain_pytorch.py demo/data
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet18

import pipelines

SPEC = {
    "global_batch_size": 32,
    "crop_size": 64,
    "mix": {"kind": "mixup", "alpha": 0.2, "group": 32},
    "eval": {"resize_size": 72, "crop_size": 64, "global_batch_size": 50},
}


def main(store: str, num_epochs: int = 2) -> float:
    """Train and return the validation accuracy."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with (
        pipelines.open(store, SPEC, device=device) as train,
        pipelines.open(store, SPEC, split="val", device=device) as val,
    ):
        model = resnet18(num_classes=train.num_classes).to(device, memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for epoch in range(num_epochs):
            model.train()
            for batch in train.epoch(epoch):
                # `targets` are labels, or soft where pictures were mixed; `weight` is 0 for pictures that were skipped.
                losses = functional.cross_entropy(model(batch.images), batch.targets, reduction="none")
                loss = (losses * batch.weight).sum() / batch.weight.sum().clamp(min=1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            print(f"epoch {epoch}: loss {loss.item():.3f}, waited {train.waited_s:.1f} s for data so far")
        return accuracy(model, val)


@torch.no_grad()
def accuracy(model: nn.Module, batches: pipelines.Loader) -> float:
    """Score a split: every picture counts once, for padding has weight 0."""
    model.eval()
    hits = total = 0.0
    for batch in batches:
        right = model(batch.images).argmax(dim=1) == batch.labels
        hits += (right * batch.weight).sum().item()
        total += batch.weight.sum().item()
    return hits / total


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} STORE")
    print(f"val top-1 {main(sys.argv[1]):.2%}")
