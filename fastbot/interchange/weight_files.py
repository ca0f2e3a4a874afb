"""Other people's files of weights: PyTorch's and safetensors', the usual wrappers unpacked. Runs no code of a file."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.serialization import safe_globals

from fastbot.errors import CheckpointError

# Where training scripts put the state dict; timm's and torchvision's are the first two.
_WRAPPERS = ("state_dict", "model", "model_state_dict")
# What DistributedDataParallel, torch.compile and AveragedModel put before every name.
_PREFIXES = ("module.", "_orig_mod.")
_NUM_TOLD = 5


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Weights read from a file.

    Attributes:
        weights: by the names that the library gives them.
        metadata: text by name, of a safetensors file; of another one none.
        entry: where in the file they were, empty where they were all of it.
        others: entries that hold weights as well, such as an average's.
    """

    weights: dict[str, Tensor]
    metadata: dict[str, str]
    entry: str = ""
    others: tuple[str, ...] = ()


def read_weights(path: Path, entry: str | None = None) -> WeightsFile:
    """Read a `.safetensors` file, or one that `torch.save` wrote; of that tensors and plain values only.

    Args:
        path: of the file.
        entry: which entry holds the weights, such as `state_dict_ema`; None looks where training scripts put them.

    Raises:
        CheckpointError: it is not there, damaged, holds objects that only running its code would make, or no weights
            where they were looked for.
    """
    if not path.is_file():
        state = "not a file" if path.exists() else "not there"
        raise CheckpointError(f"{path} is {state}. Give a .safetensors or .pth file")
    _check_no_graph(path)
    loaded, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    others = _entries_with_weights(loaded)
    if entry is None:
        entry = "" if _is_weights(loaded) else next((name for name in _WRAPPERS if name in others), "")
    weights = _unprefixed(_weights_in(loaded, entry, path))
    return WeightsFile(weights, metadata, entry, tuple(name for name in others if name != entry))


def _check_no_graph(path: Path) -> None:
    """Refuse a whole computation: torch would advise to read one unsafely, and take another for a damaged file."""
    kind = "an ONNX graph" if path.suffix == ".onnx" else "a TorchScript module" if _is_torchscript(path) else ""
    if kind:
        raise CheckpointError(
            f"{path} is {kind}, which holds a computation. Give the file of a state dict, .safetensors or .pth"
        )


def _is_torchscript(path: Path) -> bool:
    """Return whether a file is an archive as `torch.jit.save` writes it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False  # what is wrong with it is told where it is read


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}. Get it again") from error


def _read_pickle(path: Path) -> object:
    try:
        # timm and torchvision save the command line's arguments beside the weights: a Namespace of plain values.
        with safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_why_not_unpickled(path, str(error))) from error
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged, or no file of torch.save: {_reason(error)}. Get it again") from error


def _reason(error: Exception) -> str:
    """Return the first sentence of what torch says; a key or a byte that pickle stumbles over says nothing."""
    first = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
    return first if isinstance(error, (OSError, RuntimeError)) and first else type(error).__name__


def _why_not_unpickled(path: Path, error: str) -> str:
    unsafe = re.search(r"GLOBAL (\S+)", error)
    if unsafe is None:
        return f"{path} is damaged, or no file of torch.save. Get it again"
    return (
        f"{path} holds {unsafe[1]}, which is not weights; loading it could run any code, so nothing was loaded. If you "
        "trust the file, save its state dict alone: "
        'torch.save(torch.load(FILE, weights_only=False)["state_dict"], NEW)'
    )


def _is_weights(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(item, Tensor) for item in value.values())


def _entries_with_weights(loaded: object) -> list[str]:
    return [str(name) for name, value in loaded.items() if _is_weights(value)] if isinstance(loaded, Mapping) else []


def _weights_in(loaded: object, entry: str, path: Path) -> dict[str, Tensor]:
    value: Any = loaded.get(entry) if entry and isinstance(loaded, Mapping) else loaded
    if _is_weights(value):
        return {str(name): tensor for name, tensor in value.items()}
    found = _entries_with_weights(loaded)
    has = f"Weights are in: {', '.join(found)}. Name one with --entry" if found else "There are none in it"
    where = f"{entry!r} of {path}" if entry else str(path)
    raise CheckpointError(f"{where} holds no weights (tensors by name). {has}")


def _unprefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the network's own names, without what wrappers put before them."""
    names = [name for name in weights if name != "n_averaged"]  # torch's AveragedModel counts there
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return _unprefixed({name.removeprefix(prefix): weights[name] for name in names})
    return weights


def check_fit(weights: Mapping[str, Tensor], network: torch.nn.Module, origin: str, model: str) -> None:
    """Check that weights are those of a network: all of them, no others, finite and of the right shapes.

    Args:
        weights: by name.
        network: that shall get them.
        origin: where they are from, for the message.
        model: what the network is called.

    Raises:
        CheckpointError: they are not; it names the first few that differ.
    """
    own = network.state_dict()
    # Files from before torch 0.4.1 do not count batches, and load_state_dict does without.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in own]
    misshapen = [name for name, tensor in own.items() if name in weights and weights[name].shape != tensor.shape]
    shapes = [f"{name} is {_shape(weights[name])}, there {_shape(own[name])}" for name in misshapen]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    problems = [f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names]
    if problems:
        only_classes = not missing and not unexpected and set(misshapen) <= set(list(own)[-2:])  # weight and bias
        hint = "Give the --classes that it tells apart" if only_classes else "Give the model that they are of"
        raise CheckpointError(f"{origin} does not fit {model}: of its weights {'; '.join(problems)}. {hint}")
    broken = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{origin} holds nan or infinity in {_first(broken)}. Its training diverged")


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_NUM_TOLD]) + (", ..." if len(names) > _NUM_TOLD else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
