"""A timm model, optimizer, schedule and loss on fastbot's batches: RSB's augmentation, made on the device.

Run: python docs/examples/timm_model.py demo/data
"""

from __future__ import annotations

import sys

import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

import pipelines

SPEC = {
    "global_batch_size": 32,
    "crop_size": 64,
    "interpolation": "bicubic",
    "auto_augment": {"kind": "rand", "magnitude": 6},
    "jitter": {"kind": "none"},
    "lighting_std": 0,
    # timm's Mixup(mixup_alpha=0.1, cutmix_alpha=1.0) mixes the batch of a process: here a group of the global batch.
    "mix": {"kind": "mixup_cutmix", "mixup_alpha": 0.1, "cutmix_alpha": 1.0, "group": 32},
    # timm's mean and std, on the scale of 0 to 255.
    "mean": [255 * value for value in timm.data.IMAGENET_DEFAULT_MEAN],
    "std": [255 * value for value in timm.data.IMAGENET_DEFAULT_STD],
}


def main(store: str, num_epochs: int = 2) -> float:
    """Train and return the last loss."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with pipelines.open(store, SPEC, device=device) as batches:
        model = timm.create_model("resnet18d", num_classes=batches.num_classes).to(device)
        optimizer = create_optimizer_v2(model, opt="lamb", lr=5e-3, weight_decay=0.02)
        schedule = CosineLRScheduler(optimizer, t_initial=num_epochs * len(batches), t_in_epochs=False)
        loss_function = SoftTargetCrossEntropy()
        for epoch in range(num_epochs):
            for step, batch in enumerate(batches.epoch(epoch)):
                loss = loss_function(model(batch.images), batch.targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step_update(epoch * len(batches) + step + 1)
            print(f"epoch {epoch}: loss {loss.item():.3f}, learning rate {optimizer.param_groups[0]['lr']:.2g}")
    return loss.item()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} STORE")
    main(sys.argv[1])
