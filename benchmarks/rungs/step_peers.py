"""Other libraries' loops beside fastbot's step: what builds each, and what keeps it from taking part."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from benchmarks.peers.peer import is_installed
from benchmarks.peers.registry import composer_problem
from benchmarks.rungs.step_loops import Loop, composer_loop, pytorch_loop
from fastbot.recipe import Recipe
from pipelines.batch import Batch


def _timm_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    from benchmarks.rungs.step_timm_loop import timm_loop  # on demand: it imports timm

    return timm_loop(recipe, batch, device)


PEERS: Mapping[str, Callable[[Recipe, Batch, torch.device], Loop]] = {
    "PyTorch's loop": pytorch_loop,
    "timm's loop": _timm_loop,
    "composer's loop": composer_loop,
}


def problem_of(whose: str, recipe: Recipe, device: torch.device) -> str | None:
    """Return why a peer cannot take part here and what to do about it; None where it can."""
    if whose == "timm's loop" and not is_installed("timm"):
        return "timm is not installed (pip install timm)"
    if whose == "composer's loop":
        if device.type == "cpu" and recipe.precision.kind != "fp32":
            return f"on a CPU composer trains in fp32 alone, not in {recipe.precision.kind}"
        return composer_problem()
    return None
