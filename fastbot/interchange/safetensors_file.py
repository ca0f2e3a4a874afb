"""One safetensors file: weights under fastbot's names, and all that is to be known of them as metadata."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save

from fastbot.build import model_on
from fastbot.interchange.formats import Logits
from fastbot.interchange.trained import Trained, for_evaluation

SUFFIXES = (".safetensors",)
TOLERANCE = 1e-5
HOLDS_COMPUTATION = False


def write(trained: Trained, path: Path) -> None:
    """Write the weights and their metadata."""
    # "format" is what the libraries of Hugging Face look for. `save_file` would let nobody else read the file.
    path.write_bytes(save(trained.weights(), metadata={"format": "pt"} | trained.metadata()))


def load(trained: Trained, path: Path) -> Logits:
    """Load the weights into fastbot's model."""
    network = for_evaluation(model_on(trained.recipe, trained.num_classes, torch.device("cpu")))
    network.load_state_dict(load_file(path))
    return network


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    return f'from safetensors import safe_open\nfile = safe_open({str(path)!r}, "pt")  # file.metadata() tells the rest'
