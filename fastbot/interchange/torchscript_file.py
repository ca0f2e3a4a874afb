"""A TorchScript module, which torch.jit.load runs without fastbot, also from C++.

torch 2.14 calls TorchScript deprecated, and still writes and reads it; ONNX is what will outlive it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fastbot.interchange.formats import Logits
from fastbot.interchange.trained import Trained

SUFFIXES = (".pt", ".ts")
TOLERANCE = 1e-4  # the interpreter fuses what is element by element
HOLDS_COMPUTATION = True

METADATA_FILE = "fastbot.json"


def write(trained: Trained, path: Path) -> None:
    """Write the traced network, and the metadata as the extra file `fastbot.json`."""
    with _deprecation_is_known():
        # What tracing cannot follow it warns of; that the result is right is checked on another number of pictures.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(trained.network, trained.example(2), check_trace=False)  # type: ignore[no-untyped-call]
        extra = {METADATA_FILE: json.dumps(trained.metadata(), ensure_ascii=False)}
        torch.jit.save(traced, path, _extra_files=extra)


def load(trained: Trained, path: Path) -> Logits:
    """Load it."""
    with _deprecation_is_known():
        network: torch.nn.Module = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return network


def usage(trained: Trained, path: Path) -> str:
    """Return lines of Python that load it."""
    return (
        f'extra = {{"{METADATA_FILE}": ""}}\n'
        f'model = torch.jit.load({str(path)!r}, _extra_files=extra)  # json.loads(extra["{METADATA_FILE}"])'
    )


@contextmanager
def _deprecation_is_known() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        yield
