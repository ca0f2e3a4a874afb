"""What every format of an export offers. Each is one module, imported on demand: some need optional packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, cast

from torch import Tensor

from fastbot.errors import ModelError
from fastbot.interchange.trained import Trained

FormatName = Literal["safetensors", "torchvision", "timm", "hf", "onnx", "torchscript"]
Logits = Callable[[Tensor], Tensor]


class Format(Protocol):
    """A module that writes a trained network in one format.

    Attributes:
        SUFFIXES: one of them ends the file's name; a folder has none.
        TOLERANCE: by how much logits may differ, as a share of the largest one, where other kernels compute them.
        HOLDS_COMPUTATION: it holds a graph, which may as well begin with the normalization; else weights alone.
    """

    SUFFIXES: tuple[str, ...]
    TOLERANCE: float
    HOLDS_COMPUTATION: bool

    def write(self, trained: Trained, path: Path) -> None:
        """Write the network to a file or folder that is not there yet.

        Raises:
            ModelError: the format cannot hold this model.
        """
        ...

    def load(self, trained: Trained, path: Path) -> Logits:
        """Load what was written as a user of the library would, with the library; `trained` tells only the model."""
        ...

    def usage(self, trained: Trained, path: Path) -> str:
        """Return lines of Python that load it."""
        ...


_MODULES: dict[FormatName, tuple[str, str]] = {
    "safetensors": ("safetensors_file", "safetensors"),
    "torchvision": ("torchvision_file", "torchvision"),
    "timm": ("timm_file", "timm"),
    "hf": ("hugging_face", "timm"),
    "onnx": ("onnx_file", "onnx onnxscript onnxruntime"),
    "torchscript": ("torchscript_file", "torch"),
}


def format_of(name: FormatName) -> Format:
    """Return a format by name.

    Raises:
        ModelError: a package that it needs is missing.
    """
    module, packages = _MODULES[name]
    try:
        return cast(Format, importlib.import_module(f"fastbot.interchange.{module}"))
    except ImportError as error:
        raise ModelError(
            f"--to {name} needs {packages.replace(' ', ', ')}; {error}. Install with: pip install {packages}"
        ) from error
