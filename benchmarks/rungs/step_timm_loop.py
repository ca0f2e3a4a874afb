"""timm's training loop. The one module of the rung that needs timm (`pip install timm`); import it on demand."""

from __future__ import annotations

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import NativeScaler
from torch import nn

from benchmarks.rungs.step_loops import (
    LEARNING_RATE,
    MOMENTUM,
    NUM_CLASSES,
    WEIGHT_DECAY,
    Loop,
    autocast,
    our_network,
    placed,
    repeated,
)
from benchmarks.rungs.step_turns import in_a_thread_of_its_own
from fastbot.build import compiled, model_on
from fastbot.interchange.counterparts import find_counterpart
from fastbot.recipe import Recipe
from pipelines.batch import Batch


def timm_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    """Return timm's own loop, with its model, optimizer and scaler: it reads the loss in every step.

    Source: timm 1.0, train.py, `train_one_epoch`; its default optimizer is SGD with Nesterov's momentum, and its `main`
    turns `cudnn.benchmark` on.
    """
    model, network = _timm_model(recipe, device)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, momentum=MOMENTUM)
    scaler = NativeScaler(device=device.type) if recipe.precision.kind == "fp16" else None
    forward, criterion = compiled(recipe, model.train()), nn.CrossEntropyLoss()

    def step() -> None:
        with autocast(recipe, device):
            loss = criterion(forward(batch.images), batch.labels)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler(loss, optimizer)
        loss.item()
        optimizer.zero_grad()

    train = repeated(step)
    return Loop(network, in_a_thread_of_its_own(train) if device.type == "cuda" else train, cudnn_benchmark=True)


def _timm_model(recipe: Recipe, device: torch.device) -> tuple[nn.Module, str]:
    found = find_counterpart("timm", recipe.model)
    if found is None:
        return model_on(recipe, NUM_CLASSES, device), our_network(recipe)
    model = timm.create_model(found.name, pretrained=False, num_classes=NUM_CLASSES, **found.arguments)
    return placed(model, recipe, device), f"timm's {found.name}"
