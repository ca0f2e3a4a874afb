"""A state dict for torchvision: weights alone, it has no place for anything else."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision

from fastbot.interchange.counterparts import counterpart
from fastbot.interchange.formats import Logits
from fastbot.interchange.trained import Trained

SUFFIXES = (".pth", ".pt")
TOLERANCE = 1e-5
HOLDS_COMPUTATION = False


def write(trained: Trained, path: Path) -> None:
    """Write the state dict.

    Raises:
        ModelError: torchvision has no such model.
    """
    counterpart("torchvision", trained.recipe.model)
    torch.save(trained.weights(), path)


def load(trained: Trained, path: Path) -> Logits:
    """Load it into torchvision's model."""
    theirs = counterpart("torchvision", trained.recipe.model)
    network: torch.nn.Module = torchvision.models.get_model(
        theirs.name, weights=None, num_classes=trained.num_classes, **theirs.arguments
    )
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    theirs = counterpart("torchvision", trained.recipe.model)
    return (
        f"model = torchvision.models.{theirs.name}({theirs.call(trained.num_classes)})\n"
        f"model.load_state_dict(torch.load({str(path)!r}, weights_only=True))"
    )
