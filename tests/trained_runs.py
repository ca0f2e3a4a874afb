"""Run folders with a checkpoint of random weights, as a training would leave them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from fastbot.build import model_on
from fastbot.checkpoint import Conditions, Identity
from fastbot.recipe import Recipe
from fastbot.runs import RunFolder
from fastbot.specs import Duration, ModelSpec
from pipelines.spec import DataSpec, EvalSpec

CPU = torch.device("cpu")
CLASSES = ("n01440764 tench, Tinca tinca", "bee", 'cat "tabby"', "Hänfling", "emu")
MEAN, STD = (100.0, 110.0, 120.5), (50.0, 55.0, 60.25)


def recipe_of(model: str, size: int = 64, *, epochs: float = 1, **options: object) -> Recipe:
    evaluation = EvalSpec(resize_size=size + 9, crop_size=size, interpolation="bicubic")
    return Recipe(
        name="tiny",
        about="a few steps",
        epochs=Duration(value=epochs),
        model=ModelSpec.model_validate({"name": model, "init": "default", **options}),
        data=DataSpec(mean=MEAN, std=STD, eval=evaluation),
    )


def trained_network(recipe: Recipe, seed: int = 0, num_classes: int = len(CLASSES)) -> nn.Module:
    """Return a network whose batch norms have statistics and scales of their own, in evaluation mode."""
    torch.manual_seed(seed)
    network = model_on(recipe, num_classes, CPU)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network.eval()


def save_run(
    path: Path,
    recipe: Recipe,
    network: nn.Module,
    *,
    average: nn.Module | None = None,
    class_names: tuple[str, ...] = CLASSES,
    **summary: float,
) -> RunFolder:
    run = RunFolder(path)
    run.create(recipe, (), resume=False)
    conditions = Conditions(versions={}, num_threads=1, world_size=1, device="cpu", backend="synthetic")
    identity = Identity("digest", "digest", recipe.as_dict(), class_names, conditions)
    weights = None if average is None else average.state_dict()
    run.checkpoints.save(7, network, {}, identity, best=True, average=weights)
    if summary:
        (path / "summary.json").write_text(json.dumps(summary))
    return run


def pictures(rows: int, size: int = 64) -> torch.Tensor:
    """Return pixels, uint8 (rows, 3, size, size)."""
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(256, (rows, 3, size, size), dtype=torch.uint8, generator=generator)


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels as a recipe of `recipe_of` normalizes them."""
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((pixels.double() - mean) / std).float()
