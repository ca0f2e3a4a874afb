"""A run's network as other libraries get it, and what they must know besides its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fastbot import __version__
from fastbot.build import load_network
from fastbot.errors import CheckpointError
from fastbot.models.inception import InceptionV3
from fastbot.recipe import Recipe
from fastbot.runs import RunFolder

_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with the weights that evaluations score, and what is to be known of it.

    Attributes:
        network: on the CPU, float32, contiguous, in evaluation mode, without what only training needs; from images
            (N, 3, S, S) to logits (N, K).
        recipe: it was trained with.
        class_names: by label.
        checkpoint: name of the checkpoint's folder.
        val_top1: of that checkpoint, a fraction; None where the run does not say.
        takes_pixels: images are uint8 pixels, and the network normalizes them; else they are normalized, float32.
    """

    network: nn.Module
    recipe: Recipe
    class_names: tuple[str, ...]
    checkpoint: str
    val_top1: float | None
    takes_pixels: bool = False

    @property
    def num_classes(self) -> int:
        """Width of the logits."""
        return len(self.class_names)

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict: each tensor contiguous, in memory of its own."""
        return {
            name: tensor.detach().clone(memory_format=torch.contiguous_format)
            for name, tensor in self.network.state_dict().items()
        }

    def example(self, rows: int) -> Tensor:
        """Return random pictures as the network takes them, (rows, 3, S, S), S of the recipe's evaluation."""
        size, generator = self.recipe.data.eval.crop_size, torch.Generator().manual_seed(rows)
        pixels = torch.randint(256, (rows, 3, size, size), dtype=torch.uint8, generator=generator)
        return pixels if self.takes_pixels else normalized(pixels, *_constants(self.recipe))

    def metadata(self) -> dict[str, str]:
        """Return what a user of the weights must know, for formats that store text by name.

        `class_names`, `mean` and `std` (on the 0-255 scale) are JSON lists, sizes are in pixels.
        """
        data, size = self.recipe.data, self.recipe.data.eval.crop_size
        pixels = f"RGB pixels 0 to 255, (N, 3, {size}, {size})"
        return {
            "fastbot_version": __version__,
            "recipe": self.recipe.name,
            "model": self.recipe.model.name,
            "blur_pool": json.dumps(self.recipe.model.blur_pool),
            "checkpoint": self.checkpoint,
            "class_names": json.dumps(self.class_names, ensure_ascii=False),
            "mean": json.dumps(data.mean),
            "std": json.dumps(data.std),
            "resize_size": str(data.eval.resize_size),
            "crop_size": str(size),
            "interpolation": data.eval.interpolation,
            "input": f"{pixels}, uint8" if self.takes_pixels else f"{pixels}, float32, (pixels - mean) / std",
            "probabilities": self.probabilities,
            "output": f"logits (N, {self.num_classes}); probabilities by {self.probabilities}",
        }

    @property
    def probabilities(self) -> str:
        """What makes probabilities of the logits: `softmax`, or `sigmoid` where training asked yes or no of each."""
        return "sigmoid" if self.recipe.loss.kind == "bce" else "softmax"

    def with_preprocessing(self) -> Trained:
        """Return the same with a network that takes uint8 pixels and normalizes them itself."""
        network = Normalizing(self.network, *_constants(self.recipe)).eval()
        return replace(self, network=network, takes_pixels=True)


class Normalizing(nn.Module):
    """A network behind the normalization of its input.

    Args:
        network: takes normalized images (N, 3, H, W).
        mean, std: (3, 1, 1), on the 0-255 scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of RGB pixels (N, 3, H, W), uint8 or of another type, 0 to 255."""
        logits: Tensor = self.network(normalized(pixels, self.mean, self.std))
        return logits


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (pixels - mean) / std in float32, for pixels (N, 3, H, W) of 0 to 255 and constants (3, 1, 1)."""
    return (pixels.to(torch.float32) - mean) / std


def load_trained(run: RunFolder, checkpoint: str = "best") -> Trained:
    """Read a run's network.

    Args:
        run: made by `fastbot train` or `fastbot import`.
        checkpoint: `best`, `last`, or a folder of the run's checkpoints.

    Raises:
        RunError: there is no run.
        CheckpointError: it has no such checkpoint, or a damaged one, or one of another model.
    """
    recipe = run.recipe()
    loaded = run.checkpoints.load(checkpoint)
    class_names = loaded.identity.class_names
    network = for_evaluation(load_network(recipe, loaded, _CPU))
    _check_finite(network, f"checkpoint {loaded.path}")
    return Trained(network, recipe, class_names, loaded.path.name, _val_top1(run.summary(), checkpoint))


def for_evaluation(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode, float32 and contiguous, without a head that only training uses."""
    if isinstance(network, InceptionV3):
        network.AuxLogits, network.aux_logits = None, False
    return network.float().to(memory_format=torch.contiguous_format).eval()


def _check_finite(network: nn.Module, where: str) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CheckpointError(f"{where}: {name} holds nan or infinity. Its training diverged; take another one")


def _val_top1(summary: dict[str, Any], checkpoint: str) -> float | None:
    """Return what a finished run says of a checkpoint; of those in between it says nothing."""
    return summary.get({"best": "best_top1", "last": "top1"}.get(checkpoint, ""))


def _constants(recipe: Recipe) -> tuple[Tensor, Tensor]:
    return torch.tensor(recipe.data.mean).view(3, 1, 1), torch.tensor(recipe.data.std).view(3, 1, 1)
