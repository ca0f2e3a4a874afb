"""torchvision's image classifiers by name."""

from __future__ import annotations

from typing import Any, cast

import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from fastbot.errors import ModelError
from fastbot.models.options import Options, refusal
from fastbot.models.preprocessing import Preprocessing, interpolation_of, normalization_of

# These two have auxiliary heads unless told otherwise, with which their forward returns a tuple in training.
# init_weights=True is what torchvision does when asked nothing, without its warning.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def names() -> list[str]:
    """Return the names of torchvision's image classifiers."""
    # list_models() without a module also lists detectors, segmenters and video models.
    return cast(list[str], torchvision.models.list_models(module=torchvision.models))


def create(name: str, num_classes: int, options: Options) -> nn.Module:
    """Build a model with random weights.

    Raises:
        ModelError: its constructor does not take an option that is asked for.
    """
    full_name = f"torchvision:{name}"
    if options.aux_head:
        raise refusal("aux_weight", full_name, "is built without its auxiliary head; inception_v3 can have one")
    asked: dict[str, Any] = {}
    if options.dropout is not None:
        asked["dropout"] = options.dropout
    if options.drop_path > 0:
        asked["stochastic_depth_prob"] = options.drop_path
    try:
        model = torchvision.models.get_model(
            name, weights=None, num_classes=num_classes, **asked, **_OPTIONS.get(name, {})
        )
    except TypeError as error:
        for key, argument in (("dropout", "dropout"), ("drop_path", "stochastic_depth_prob")):
            if argument in asked and f"'{argument}'" in str(error):
                raise refusal(key, full_name, f"takes no {argument}") from error
        raise
    if options.drop_path == 0:
        _keep_every_branch(model)
    return cast(nn.Module, model)


def _keep_every_branch(model: nn.Module) -> None:
    """Switch off the stochastic depth that EfficientNet, ConvNeXt, Swin and MaxViT have by default."""
    for module in model.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0


def preprocessing(name: str) -> Preprocessing:
    """Return what the default weights of a model expect.

    Raises:
        ModelError: torchvision has no weights for it.
    """
    weights = torchvision.models.get_model_weights(name)
    if not list(weights):
        raise ModelError(f"torchvision:{name} has no weights in torchvision, which so states no preprocessing for it")
    stated = weights.DEFAULT.transforms()
    mean, std = normalization_of(stated)
    crop_size, resize_size = stated.crop_size[0], stated.resize_size[0]
    return Preprocessing(
        mean=mean,
        std=std,
        crop_size=crop_size,
        resize_size=resize_size,
        crop_ratio=crop_size / resize_size,
        interpolation=interpolation_of(f"torchvision:{name}", stated.interpolation.value),
    )
