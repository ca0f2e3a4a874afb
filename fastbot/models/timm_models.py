"""timm's models. The one module that needs timm (`pip install timm`); import it on demand."""

from __future__ import annotations

import difflib
import math
from typing import Any, cast

import timm
from timm.layers import DropPath
from torch import nn

from fastbot.errors import ModelError
from fastbot.models.options import Options, refusal
from fastbot.models.preprocessing import Preprocessing, interpolation_of, normalization_of


def names() -> list[str]:
    """Return the names of timm's architectures, without weights tags: nothing pretrained is loaded here."""
    return cast(list[str], timm.list_models())


def near_weights(name: str) -> list[str]:
    """Return published weights whose name with its tag is near another one: of the same network, if there are any."""
    known = timm.list_pretrained()
    own = [weights for weights in known if weights.startswith(f"{name.partition('.')[0]}.")]
    return difflib.get_close_matches(name, own or known, n=4, cutoff=0.0 if own else 0.6)


def create(name: str, num_classes: int, options: Options) -> nn.Module:
    """Build a model with random weights.

    Raises:
        ModelError: it does not take an option that is asked for, or takes it and has no use for it.
    """
    full_name = f"timm:{name}"
    if options.aux_head:
        raise refusal("aux_weight", full_name, "is built without an auxiliary head; inception_v3 can have one")
    asked: dict[str, Any] = {}
    if options.dropout is not None:
        asked["drop_rate"] = options.dropout
    if options.drop_path > 0:
        asked["drop_path_rate"] = options.drop_path
    try:
        model = cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=num_classes, **asked))
    except TypeError as error:
        for key, argument in (("dropout", "drop_rate"), ("drop_path", "drop_path_rate")):
            if argument in asked and f"'{argument}'" in str(error):
                raise refusal(key, full_name, f"takes no {argument}") from error
        raise
    _check_honoured(model, full_name, options)
    return model


def _check_honoured(model: nn.Module, name: str, options: Options) -> None:
    """Refuse what timm's constructors accept of any model and some have no use for."""
    if options.drop_path > 0 and not any(map(_drops_a_branch, model.modules())):
        raise refusal("drop_path", name, "has no residual branch that it could drop")
    dropouts = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    if options.dropout and options.dropout not in (getattr(model, "drop_rate", None), *dropouts):
        raise refusal("dropout", name, "has no dropout before its classifier")


def _drops_a_branch(block: nn.Module) -> bool:
    # EfficientNet's blocks, and MobileNet's, have a DropPath also where there is no shortcut, and leave it out.
    drops = any(isinstance(child, DropPath) and child.drop_prob > 0 for child in block.children())
    return drops and getattr(block, "has_skip", True)


def preprocessing(name: str) -> Preprocessing:
    """Return what a model's weights expect, by its configuration: of a tag (`resnet50.a1_in1k`) or of the default one.

    Sizes are those of training (`input_size`, `crop_pct`); for some weights timm states larger ones for testing.

    Raises:
        ModelError: timm has no weights for it, or they expect another kind of crop or input.
    """
    try:
        stated = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        near = ", ".join(f"timm:{weights}" for weights in near_weights(name))
        hint = f" Did you mean {near}?" if near else ""
        raise ModelError(f"timm:{name} has no preprocessing that timm states: {error}{hint}") from error
    if not stated.has_weights:
        raise ModelError(f"timm:{name} has no weights in timm, which so states no preprocessing for it")
    channels, height, width = stated.input_size
    if channels != 3 or height != width or stated.crop_mode != "center":
        raise ModelError(
            f"timm:{name} expects input {stated.input_size} by a {stated.crop_mode} crop; "
            "fastbot evaluates centre squares of RGB pictures only"
        )
    mean, std = normalization_of(stated)
    return Preprocessing(
        mean=mean,
        std=std,
        crop_size=height,
        resize_size=math.floor(height / stated.crop_pct),  # timm 1.0 `transforms_imagenet_eval`
        crop_ratio=stated.crop_pct,
        interpolation=interpolation_of(f"timm:{name}", stated.interpolation),
    )
