"""Models by name: ours (`resnet50d`), torchvision's (`torchvision:NAME`) and timm's (`timm:NAME`).

Nothing here downloads weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from functools import partial
from types import ModuleType
from typing import Literal, cast

from torch import nn

from fastbot.errors import ModelError
from fastbot.models import torchvision_models
from fastbot.models.blur_pool import with_blur_pool
from fastbot.models.inception import InceptionV3
from fastbot.models.initialization import initialize_gluoncv, initialize_kaiming, initialize_paper, zero_gamma
from fastbot.models.mobilenet import MobileNet
from fastbot.models.options import Options, refusal
from fastbot.models.preprocessing import BOT, BOT_INCEPTION, Preprocessing
from fastbot.models.resnet import STAGES, VARIANTS, Depth, ResNet, Variant

Initialization = Literal["default", "paper", "gluoncv", "kaiming"]

RESNETS = {f"resnet{depth}{variant}": (depth, VARIANTS[variant]) for depth in STAGES for variant in VARIANTS}

INITIALIZATIONS = {
    "default": lambda model: model,
    "paper": initialize_paper,
    "gluoncv": initialize_gluoncv,
    "kaiming": initialize_kaiming,
}


def build_model(
    name: str,
    num_classes: int,
    initialization: Initialization = "default",
    zero_gammas: bool = False,
    *,
    drop_path: float = 0.0,
    dropout: float | None = None,
    aux_head: bool = False,
    blur_pool: bool = False,
) -> nn.Module:
    """Build a model with random weights, on the CPU, in float32.

    Args:
        name: one of `names()` (`resnet18v1` ... `resnet152d`, `inception_v3`, `mobilenet`), `torchvision:NAME` or
            `timm:NAME`.
        num_classes: width of the logits, at least 2.
        initialization: "default" leaves the weights as the model's author draws them; "paper" is BoT's Xavier
            uniform; "gluoncv" its code's MSRAPrelu; "kaiming" torchvision's fan-out normal (our default).
        zero_gammas: apply `zero_gamma` after the initialization.
        drop_path: stochastic depth of the last residual branch, in [0, 1); those before it drop linearly less.
            0 switches off what a model of torchvision has by default.
        dropout: before the classifier, in [0, 1); None leaves the model its own.
        aux_head: build the auxiliary head of `inception_v3`, which then returns two logits in training.
        blur_pool: apply `with_blur_pool`.

    Returns:
        A module from images (N, 3, H, W) to logits (N, num_classes), in training mode.

    Raises:
        ModelError: no model has this name (the nearest are named), timm is not installed, `num_classes` is below 2,
            or the model cannot honour what is asked of it.
    """
    if num_classes < 2:
        raise ModelError(f"model {name}: num_classes is {num_classes}, a classifier needs at least 2")
    options = Options(drop_path, dropout, aux_head)
    library, inner = _library_of(name)
    if library is None:
        model = _builder_of(name)(num_classes, options)
    else:
        _check_name(name, library)
        model = cast(nn.Module, library.create(inner, num_classes, options))
    model = INITIALIZATIONS[initialization](model)
    model = zero_gamma(model) if zero_gammas else model
    return with_blur_pool(model, name) if blur_pool else model


def names() -> list[str]:
    """Return the names of our own models."""
    return list(_BUILDERS)


def preprocessing(name: str) -> Preprocessing:
    """Return what a model expects of pictures; nothing is downloaded.

    Args:
        name: as in `build_model`. A name of timm may have a weights tag, `timm:resnet50.a1_in1k`; without one it is
            about the default weights, as it is for torchvision's.

    Returns:
        For our models BoT's numbers; for others those that the library states beside the weights.

    Raises:
        ModelError: no model has this name, its library has no weights for it, or it expects what no pipeline does.
    """
    library, inner = _library_of(name)
    if library is None:
        _builder_of(name)
        return BOT_INCEPTION if name == "inception_v3" else BOT
    _check_name(name.partition(".")[0], library)
    return cast(Preprocessing, library.preprocessing(inner))


_Builder = Callable[[int, Options], nn.Module]


def _resnet(name: str, depth: Depth, variant: Variant, num_classes: int, options: Options) -> nn.Module:
    if options.aux_head:
        raise refusal("aux_weight", name, "has no auxiliary head; inception_v3 has")
    return ResNet(depth, variant, num_classes, options.drop_path, options.dropout or 0.0)


def _mobilenet(num_classes: int, options: Options) -> nn.Module:
    if options.aux_head:
        raise refusal("aux_weight", "mobilenet", "has no auxiliary head; inception_v3 has")
    if options.drop_path > 0:
        raise refusal("drop_path", "mobilenet", "has no residual branch that it could drop")
    return MobileNet(num_classes, options.dropout or 0.0)


def _inception(num_classes: int, options: Options) -> nn.Module:
    if options.drop_path > 0:
        raise refusal("drop_path", "inception_v3", "has no residual branch that it could drop")
    dropout = 0.5 if options.dropout is None else options.dropout  # Szegedy et al. 2015; GluonCV
    return InceptionV3(num_classes, dropout, options.aux_head)


_BUILDERS: dict[str, _Builder] = {
    **{name: partial(_resnet, name, depth, variant) for name, (depth, variant) in RESNETS.items()},
    "inception_v3": _inception,
    "mobilenet": _mobilenet,
}


def _builder_of(name: str) -> _Builder:
    if name not in _BUILDERS:
        raise ModelError(
            _unknown(name, _BUILDERS)
            + " Allowed: resnet{18,34,50,101,152}{v1,b,c,d}, inception_v3, mobilenet, torchvision:NAME and timm:NAME"
            + " (the resnet50 of torchvision and timm is resnet50b; the paper's baseline is resnet50v1)"
        )
    return _BUILDERS[name]


def _library_of(name: str) -> tuple[ModuleType | None, str]:
    """Return the module that builds a library's models, None for our own, and the name there."""
    library, colon, inner = name.partition(":")
    if not colon:
        return None, name
    if library == "torchvision":
        return torchvision_models, inner
    if library != "timm":
        raise ModelError(f"model {name}: {library} is not a model library. Allowed: torchvision:NAME, timm:NAME")
    try:
        from fastbot.models import timm_models
    except ImportError as error:
        raise ModelError(
            f"model {name} needs timm, which cannot be imported ({error}). Install it with: pip install timm"
        ) from error
    return timm_models, inner


def _check_name(name: str, library: ModuleType) -> None:
    prefix = name.partition(":")[0]
    known = [f"{prefix}:{inner}" for inner in library.names()]
    if name not in known:
        if prefix == "timm" and "." in name:
            raise ModelError(_with_tag(name, library))
        allowed = {
            "torchvision": "Allowed: torchvision's image classifiers",
            "timm": "timm.list_models() lists all (without weights tags)",
        }
        raise ModelError(f"{_unknown(name, known)} {allowed[prefix]}")


def _with_tag(name: str, library: ModuleType) -> str:
    """Return why a name of timm with a weights tag is no model to be built."""
    nearest = [f"timm:{weights}" for weights in library.near_weights(name.removeprefix("timm:"))]
    if name in nearest:
        return (
            f"{name} names trained weights, and a model is built with random ones: take {name.partition('.')[0]}. "
            f"To score the weights: fastbot import {name}; to learn from them: distillation.teacher={name}"
        )
    hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
    return f"timm publishes no weights named {name}.{hint} A model that is to be trained is named without a tag"


def _unknown(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=4)
    hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
    return f"no model is named {name}.{hint}"
