"""An ONNX file. The one module that needs `pip install onnx onnxscript onnxruntime`."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import onnxscript  # noqa: F401  torch.onnx needs it, and would say so only in the middle of an export
import torch
from torch import Tensor

from fastbot.errors import ModelError
from fastbot.interchange.formats import Logits
from fastbot.interchange.trained import Trained

SUFFIXES = (".onnx",)
TOLERANCE = 1e-4  # other convolution algorithms than torch's, through a hundred layers
HOLDS_COMPUTATION = True

# torch 2.14's own default; stated, so that another torch writes the same.
OPSET = 20


def write(trained: Trained, path: Path) -> None:
    """Write the graph, with any number of pictures at a time, and the metadata as `metadata_props`.

    Raises:
        ModelError: torch cannot export the model.
    """
    try:
        program = torch.onnx.export(
            trained.network,
            (trained.example(2),),  # of one picture it would take the number for a constant
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["pixels" if trained.takes_pixels else "images"],
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelError(
            f"{trained.recipe.model.name} cannot be written as ONNX: {reason}. Export it --to torchscript"
        ) from error
    assert program is not None, "dynamo=True returns a program"
    program.model.metadata_props.update(trained.metadata() | {"opset": str(OPSET)})
    program.save(path, external_data=False)


def load(trained: Trained, path: Path) -> Logits:
    """Load it with ONNX Runtime, on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (given.name for given in session.get_inputs())

    def logits(images: Tensor) -> Tensor:
        (found,) = session.run(None, {name: images.numpy()})
        return torch.from_numpy(found)

    return logits


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    name = "pixels" if trained.takes_pixels else "images"
    return (
        f"session = onnxruntime.InferenceSession({str(path)!r})\n"
        f'(logits,) = session.run(["logits"], {{{name!r}: {name}}})  # session.get_modelmeta().custom_metadata_map'
    )
