"""Other people's trained networks by name: torchvision's and timm's, with the weights that those libraries publish.

The library itself fetches them, from the network or from its own cache. Nothing here trains or changes a network.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, cast

import torchvision
from torch import nn

from fastbot.downloads import Download, of_hub, of_torch
from fastbot.errors import ModelError
from fastbot.models.preprocessing import normalization_of
from pipelines.spec import Rgb


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Weights that a library publishes; describing them needs no network.

    Attributes:
        name: `torchvision:NAME` or `timm:NAME`.
        weights: what the library calls them, such as `ResNet50_Weights.IMAGENET1K_V2`.
        num_classes: width of the logits.
        mean, std: of the normalization the network was trained with, on the 0-255 scale.
    """

    name: str
    weights: str
    num_classes: int
    mean: Rgb
    std: Rgb
    _download: Download = field(repr=False)
    _create: Callable[[], nn.Module] = field(repr=False)

    def load(self) -> nn.Module:
        """Return the trained network: on the CPU, in float32, in evaluation mode, to logits (N, num_classes).

        The library takes the weights from its cache, or fetches them over the network, which is said.

        Raises:
            ModelError: they are in neither, or damaged, or the network does not answer.
        """
        try:
            self._download.prepare(f"the weights of {self.name} ({self.weights})")
            return self._create().eval()
        except (OSError, RuntimeError) as error:
            if not (self._download.is_cached or self._download.is_allowed):
                raise ModelError(
                    f"the weights of {self.name} ({self.weights}) are not in the library's cache, and HF_HUB_OFFLINE "
                    "keeps it from the network. Unset it, or bring that cache here"
                ) from error
            raise ModelError(
                f"the weights of {self.name} ({self.weights}) cannot be loaded: {str(error).rstrip('.')}. The library "
                "fetches them over the network, once, into its cache: run where there is one, or bring that cache here"
            ) from error


def find_pretrained(name: str) -> Pretrained:
    """Return what a library publishes for a network.

    Args:
        name: `torchvision:NAME`, with the weights that torchvision calls DEFAULT, or `timm:NAME`, with NAME's default
            weights or, as in `timm:resnet50.a1_in1k`, those of a tag.

    Raises:
        ModelError: the library has no such network, or no weights for it; timm is missing.
    """
    library, _, inner = name.partition(":")
    finder = {"torchvision": _in_torchvision, "timm": _in_timm}.get(library)
    if finder is None:
        raise ModelError(f"model {name}: {library} is not a model library. Allowed: torchvision:NAME, timm:NAME")
    return finder(inner)


def _in_torchvision(name: str) -> Pretrained:
    models = torchvision.models
    known = models.list_models(module=models)  # classifiers only, and all have weights
    if name not in known:
        raise _no_weights("torchvision", name, difflib.get_close_matches(name, known, n=4))
    weights = models.get_model_weights(name).DEFAULT
    return Pretrained(
        f"torchvision:{name}",
        str(weights),
        len(weights.meta["categories"]),
        *normalization_of(weights.transforms()),
        of_torch(weights.url),
        lambda: cast(nn.Module, models.get_model(name, weights=weights, progress=False)),
    )


def _in_timm(name: str) -> Pretrained:
    try:
        import timm

        from fastbot.models.timm_models import near_weights
    except ImportError as error:
        raise ModelError(
            f"model timm:{name} needs timm, which cannot be imported ({error}). Install it with: pip install timm"
        ) from error
    if not timm.is_model_pretrained(name):  # with a tag or without
        raise _no_weights("timm", name, near_weights(name))
    config = timm.get_pretrained_cfg(name)
    return Pretrained(
        f"timm:{name}",
        ".".join(filter(None, (config.architecture, config.tag))),
        config.num_classes,
        *normalization_of(config),
        _timm_download(config),
        lambda: cast(nn.Module, timm.create_model(name, pretrained=True)),
    )


def _timm_download(config: Any) -> Download:
    """Return what timm fetches for a configuration: the hub comes first."""
    if config.hf_hub_id:
        return of_hub(config.hf_hub_id, [config.hf_hub_filename] if config.hf_hub_filename else ())
    return of_torch(config.url)


def _no_weights(library: str, name: str, near: Collection[str]) -> ModelError:
    hint = f" Did you mean {', '.join(f'{library}:{match}' for match in near)}?" if near else ""
    return ModelError(f"{library} has no trained image classifier named {name}.{hint}")
