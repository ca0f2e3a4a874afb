"""Which model of torchvision or timm has the same weights under the same names, and puts out the same logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastbot.errors import ModelError
from fastbot.specs import ModelSpec

Library = Literal["torchvision", "timm"]


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A model of another library, exact in evaluation.

    Attributes:
        name: in that library.
        arguments: of its constructor, besides the number of classes.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def call(self, num_classes: int, **more: object) -> str:
        """Return the arguments of a call that creates it, as Python source without the model's name."""
        arguments = {"num_classes": num_classes, **self.arguments, **more}
        return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


_NO_AUX = {"aux_logits": False, "init_weights": False}  # without the latter torchvision warns, and draws for seconds
_CONSTRUCTORS = {"torchvision:inception_v3": _NO_AUX, "torchvision:googlenet": _NO_AUX}

# torchvision and timm agree on their names, weights and logits.
_ALIKE = {
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
    *("densenet121", "densenet161", "densenet169", "densenet201", "inception_v3"),
}

# Basic blocks begin with a 3x3 convolution: there v1 and B are the same network.
_SHARED = {
    **{f"resnet{depth}b": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    "resnet18v1": "resnet18",
    "resnet34v1": "resnet34",
    "inception_v3": "inception_v3",
}

_DEEP_STEM = {"stem_width": 32, "stem_type": "deep"}  # what makes timm's resnet50c of its resnet50
_IN_TIMM_ALONE = {
    **{f"resnet{depth}c": Counterpart(f"resnet{depth}", _DEEP_STEM) for depth in (18, 34)},
    **{f"resnet{depth}c": Counterpart(f"resnet{depth}c") for depth in (50, 101, 152)},
    **{f"resnet{depth}d": Counterpart(f"resnet{depth}d") for depth in (18, 34, 50, 101, 152)},
    "mobilenet": Counterpart("mobilenetv1_100", {"act_layer": "relu"}),  # timm's own is ReLU6
}


def find_counterpart(library: Library, model: ModelSpec) -> Counterpart | None:
    """Return a model's counterpart in a library, None where there is none."""
    if model.blur_pool:
        return None
    home, colon, inner = model.name.partition(":")
    if not colon:
        if library == "timm" and model.name in _IN_TIMM_ALONE:
            return _IN_TIMM_ALONE[model.name]
        home, inner = "", _SHARED.get(model.name, "")
    if home != library and inner not in _ALIKE:
        return None
    return Counterpart(inner, _CONSTRUCTORS.get(f"{library}:{inner}", {}))


def counterpart(library: Library, model: ModelSpec) -> Counterpart:
    """Return a model's counterpart in a library.

    Raises:
        ModelError: there is none; it names the formats that can hold the model.
    """
    if found := find_counterpart(library, model):
        return found
    of_timm = "timm, hf, " if library == "torchvision" and find_counterpart("timm", model) else ""
    name = f"{model.name} with blur_pool" if model.blur_pool else model.name
    raise ModelError(
        f"{library} has no model with the weights and the logits of {name}. "
        f"Export it --to {of_timm}safetensors, onnx or torchscript"
    )


def is_same_network(one: str, other: str) -> bool:
    """Return whether two names of models mean the same network, in which weights have the same names."""
    return one == other or any(
        find_counterpart(library, ModelSpec(name=one)) == found
        for library in ("torchvision", "timm")
        if (found := find_counterpart(library, ModelSpec(name=other))) is not None
    )
