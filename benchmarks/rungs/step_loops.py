"""Training loops on one batch that is on the device from the start: fastbot's, and PyTorch's example's.

All train the same network with the same images, precision and memory format, and with SGD with momentum. Where a
library has no network of the same layers, its loop trains fastbot's; `Loop.network` says which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from benchmarks.rungs.training import Course
from fastbot.build import compiled, image_dtype_of, model_on
from fastbot.distributed import Ranks
from fastbot.interchange.counterparts import find_counterpart
from fastbot.precision import DTYPES
from fastbot.recipe import Recipe
from fastbot.specs import Duration, StepDecay
from fastbot.trainer import Trainer
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline

NUM_CLASSES = 1000
# So small that no run of any length diverges: an fp16 step whose gradients are not finite skips its update.
LEARNING_RATE = 1e-4
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # those of PyTorch's ImageNet example
# An epoch of the synthetic pipeline, longer than any turn of a measurement.
_ENDLESS = 1 << 40


@dataclass(frozen=True, slots=True)
class Loop:
    """A training loop.

    Attributes:
        network: what it trains, and whose it is.
        train: makes so many steps.
        trainer: behind it; None where the loop is another library's.
        cudnn_benchmark: whether its script has cuDNN's ways of a convolution tried out: a switch of the process.
    """

    network: str
    train: Callable[[int], object]
    trainer: Trainer | None = None
    cudnn_benchmark: bool = False


class _OneBatch:
    """What a trainer takes for a training pipeline: the same batch, always there."""

    steps_per_epoch = _ENDLESS

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batches(self, epoch: int, start_step: int, arrived: Callable[[], None]) -> Generator[Batch]:
        """Yield it for each step of an epoch."""
        for _ in range(start_step, self.steps_per_epoch):
            arrived()
            yield self._batch


def synthetic_batch(recipe: Recipe, device: torch.device) -> Batch:
    """Return a batch of noise as a recipe's pipeline would leave it on the device.

    Args:
        recipe: its size, and the number and type of images.
        device: where.
    """
    rows, size = recipe.data.global_batch_size, recipe.data.crop_size
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    images = torch.randn(rows, 3, size, size, device=device).to(image_dtype_of(recipe, device), memory_format=layout)
    labels = torch.randint(NUM_CLASSES, (rows,), device=device)
    return Batch(images, labels, labels, np.arange(rows), torch.ones(rows, device=device))


def ours(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    """Return the trainer's own loop, with everything that it does in a step.

    Args:
        recipe: whose step, with the batch size of `batch`, and without a teacher.
        batch: what every step gets.
        device: of the batch.
    """
    constant = {
        "optimizer": recipe.optimizer.model_copy(update={"learning_rate": LEARNING_RATE}),
        "epochs": Duration(value=1),
        "schedule": StepDecay(milestones=()),
    }
    pipeline = cast(Pipeline, _OneBatch(batch))
    trainer = Trainer(recipe.model_copy(update=constant), pipeline, pipeline, NUM_CLASSES, Ranks(0, 0, 1, 1, device))
    trainer.model.train()
    return Loop(our_network(recipe), Course(trainer, pipeline).go, trainer, torch.backends.cudnn.benchmark)


def pytorch_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    """Return the loop of PyTorch's own ImageNet example, with autocast: its meters read the loss in every step.

    Source: pytorch/examples, imagenet/main.py, `train`. It does not set `cudnn.benchmark` since September 2022.
    """
    model, network = _torchvision_model(recipe, device)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision.kind == "fp16")
    forward, criterion = compiled(recipe, model.train()), nn.CrossEntropyLoss()

    def step() -> None:
        with autocast(recipe, device):
            output = forward(batch.images)
            loss = criterion(output, batch.labels)
        _accuracy(output, batch.labels)
        loss.item()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return Loop(network, repeated(step))


def composer_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    """Return composer's loop over torchvision's model, without algorithms; `make peers` installs it."""
    from benchmarks.peers.composer import train_on  # on demand: few have it

    model, network = _torchvision_model(recipe, device)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    forward = compiled(recipe, model.train())
    return Loop(network, train_on(forward, batch.images, batch.labels, recipe.precision.kind, optimizer))


def _torchvision_model(recipe: Recipe, device: torch.device) -> tuple[nn.Module, str]:
    found = find_counterpart("torchvision", recipe.model)
    if found is None:
        return model_on(recipe, NUM_CLASSES, device), our_network(recipe)
    model = torchvision.models.get_model(found.name, weights=None, num_classes=NUM_CLASSES, **found.arguments)
    return placed(model, recipe, device), f"torchvision's {found.name}"


def our_network(recipe: Recipe) -> str:
    """Return what a recipe's network is called where it is fastbot's."""
    return f"fastbot's {recipe.model.name}"


def placed(model: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """Return a model on its device and in the recipe's memory format."""
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return model.to(device).to(memory_format=layout)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return the context of a forward pass and its loss; it does nothing in fp32."""
    kind = recipe.precision.kind
    return torch.autocast(device.type, DTYPES[kind], enabled=kind != "fp32")


@torch.no_grad()
def _accuracy(output: Tensor, labels: Tensor) -> list[Tensor]:
    """Count hits as the example's `accuracy` does; nothing reads them before its meters are printed."""
    hits = output.topk(5, 1).indices.t().eq(labels)
    return [hits[:k].reshape(-1).float().sum(0, keepdim=True) for k in (1, 5)]


def repeated(step: Callable[[], object]) -> Callable[[int], object]:
    """Return what makes so many steps."""

    def train(steps: int) -> None:
        for _ in range(steps):
            step()

    return train
