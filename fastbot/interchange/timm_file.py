"""A checkpoint file for timm. One of the modules that need timm (`pip install timm`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import timm
import torch

from fastbot.interchange import safetensors_file
from fastbot.interchange.counterparts import counterpart
from fastbot.interchange.formats import Logits
from fastbot.interchange.trained import Trained
from pipelines.spec import EvalSpec

SUFFIXES = (".safetensors", ".pth", ".pt")
TOLERANCE = 1e-5
HOLDS_COMPUTATION = False


def write(trained: Trained, path: Path) -> None:
    """Write the weights; a safetensors file has fastbot's metadata too.

    Raises:
        ModelError: timm has no such model.
    """
    counterpart("timm", trained.recipe.model)
    if path.suffix == ".safetensors":
        safetensors_file.write(trained, path)
    else:
        torch.save(trained.weights(), path)


def load(trained: Trained, path: Path) -> Logits:
    """Load it into timm's model."""
    return create(trained, checkpoint_path=str(path)).eval()


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    theirs = counterpart("timm", trained.recipe.model)
    call = theirs.call(trained.num_classes, checkpoint_path=str(path))
    overlay = f"pretrained_cfg_overlay={preprocessing(trained)}"
    return f"model = timm.create_model({theirs.name!r}, {call},\n    {overlay})"


def create(trained: Trained, **arguments: Any) -> torch.nn.Module:
    """Create timm's model of a trained network.

    Raises:
        ModelError: timm has no such model.
    """
    theirs = counterpart("timm", trained.recipe.model)
    network: torch.nn.Module = timm.create_model(
        theirs.name, num_classes=trained.num_classes, **theirs.arguments, **arguments
    )
    return network


def preprocessing(trained: Trained) -> dict[str, Any]:
    """Return how pictures are evaluated, in the keys and the 0-1 scale of timm's `pretrained_cfg`."""
    data = trained.recipe.data
    return {
        "input_size": (3, data.eval.crop_size, data.eval.crop_size),
        "interpolation": data.eval.interpolation,
        "crop_pct": crop_pct(data.eval),
        "crop_mode": "center",
        "mean": tuple(round(value / 255, 9) for value in data.mean),
        "std": tuple(round(value / 255, 9) for value in data.std),
    }


def crop_pct(spec: EvalSpec) -> float:
    """Return the crop ratio of fewest digits from which timm gets the recipe's `resize_size`.

    Source: timm 1.0's `transforms_imagenet_eval`, floor(crop_size / crop_pct).
    """
    ratio = spec.crop_size / spec.resize_size
    candidates = (round(ratio, digits) for digits in range(2, 17))
    fitting = (pct for pct in candidates if pct > 0 and math.floor(spec.crop_size / pct) == spec.resize_size)
    return next(fitting, math.nextafter(ratio, 0))
