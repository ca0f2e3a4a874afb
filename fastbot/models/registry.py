"""Models by name: ours (`resnet50d`), torchvision's (`torchvision:NAME`) and timm's (`timm:NAME`).

Nothing here downloads weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any, Literal, cast

import torchvision
from torch import nn

from fastbot.errors import ModelError
from fastbot.models.initialization import initialize_kaiming, initialize_paper, zero_gamma
from fastbot.models.resnet import STAGES, VARIANTS, ResNet

Initialization = Literal["default", "paper", "kaiming"]

RESNETS = {f"resnet{depth}{variant}": (depth, VARIANTS[variant]) for depth in STAGES for variant in VARIANTS}

INITIALIZATIONS = {"default": lambda model: model, "paper": initialize_paper, "kaiming": initialize_kaiming}

# BoT's Inception-V3 is GluonCV's, which builds no auxiliary head; with one, torchvision's forward returns a tuple
# in training. init_weights=True is what torchvision does when asked nothing, without its warning.
_TORCHVISION_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def build_model(
    name: str, num_classes: int, initialization: Initialization = "default", zero_gammas: bool = False
) -> nn.Module:
    """Build a model with random weights, on the CPU, in float32.

    Args:
        name: one of `RESNETS` (`resnet18v1` ... `resnet152d`), `torchvision:NAME` or `timm:NAME`.
        num_classes: width of the logits, at least 2.
        initialization: "default" leaves the weights as the model's author draws them; "paper" is BoT's Xavier
            uniform; "kaiming" is torchvision's fan-out normal (the default of our ResNets).
        zero_gammas: apply `zero_gamma` after the initialization.

    Returns:
        A module from images (N, 3, H, W) to logits (N, num_classes), in training mode.

    Raises:
        ModelError: no model has this name (the nearest are named), timm is not installed, or `num_classes` is
            below 2.
    """
    if num_classes < 2:
        raise ModelError(f"model {name}: num_classes is {num_classes}, a classifier needs at least 2")
    library, colon, inner = name.partition(":")
    builders = {"torchvision": _torchvision_model, "timm": _timm_model}
    if colon and library not in builders:
        raise ModelError(f"model {name}: {library} is not a model library. Allowed: torchvision:NAME, timm:NAME")
    model = builders[library](inner, num_classes) if colon else _resnet(name, num_classes)
    model = INITIALIZATIONS[initialization](model)
    return zero_gamma(model) if zero_gammas else model


def _resnet(name: str, num_classes: int) -> nn.Module:
    if name not in RESNETS:
        raise ModelError(
            _unknown("", name, RESNETS)
            + " Allowed: resnet{18,34,50,101,152}{v1,b,c,d}, torchvision:NAME and timm:NAME"
            + " (the resnet50 of torchvision and timm is resnet50b; the paper's baseline is resnet50v1)"
        )
    depth, variant = RESNETS[name]
    return ResNet(depth, variant, num_classes)


def _torchvision_model(name: str, num_classes: int) -> nn.Module:
    # Classifiers only: list_models() without a module also lists detectors, segmenters and video models.
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ModelError(_unknown("torchvision:", name, names) + " Allowed: torchvision's image classifiers")
    options = _TORCHVISION_OPTIONS.get(name, {})
    return cast(nn.Module, torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options))


def _timm_model(name: str, num_classes: int) -> nn.Module:
    try:
        from fastbot.models import timm_models
    except ImportError as error:
        raise ModelError(
            f"model timm:{name} needs timm, which cannot be imported ({error}). Install it with: pip install timm"
        ) from error
    names = timm_models.names()
    if name not in names:
        raise ModelError(_unknown("timm:", name, names) + " timm.list_models() lists all (without weights tags)")
    return timm_models.create(name, num_classes)


def _unknown(prefix: str, name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=4)
    hint = f" Did you mean {', '.join(prefix + match for match in nearest)}?" if nearest else ""
    return f"no model is named {prefix}{name}.{hint}"
