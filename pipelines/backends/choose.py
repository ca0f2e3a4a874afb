"""Which backends can run here, which one `auto` takes and why, and how to get one.

Backends' modules are imported here and nowhere else, on demand: a package that is not installed is met only by who
asks for its backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata

import torch

from datasets_tools.store import Split
from pipelines.batch import Backend
from pipelines.errors import BackendUnavailable, SpecError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What is known of a backend on this machine.

    Attributes:
        name: as `--backend` takes it.
        usable: its package is here and can be imported.
        version: of the distribution it needs, for example `nvidia-dali-cuda120 2.4.0`; None where that is missing.
        reason: one line: what it is for, or why it cannot be used.
        remedy: the line that installs what is missing; empty where nothing is.
    """

    name: str
    usable: bool
    version: str | None
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend's name, and in one line why it was taken."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Entry:
    class_name: str
    distributions: tuple[str, ...]  # any of them
    purpose: str
    remedy: str


_INSTALL_AGAIN = "Install fastbot again, from its checkout: pip install -e ."
_ENTRIES: Mapping[str, _Entry] = {
    "turbo": _Entry(
        "TurboBackend",
        ("fastbot",),
        "fastbot's own C codec, on the CPU: decodes what a crop needs",
        "Install a fastbot wheel, or: apt-get install libjpeg-dev gcc python3-dev && pip install -e .",
    ),
    "dali": _Entry(
        "DaliBackend",
        ("nvidia-dali-cuda120", "nvidia-dali-cuda130"),
        "decodes on the GPU; without one, with its CPU operators",
        "Run: pip install nvidia-dali-cuda120",
    ),
    "ffcv": _Entry(
        "FfcvBackend",
        ("ffcv",),
        "FFCV's compiled loader, on the CPU",
        "Run: apt-get install libturbojpeg0-dev libjpeg-dev libopencv-dev pkg-config g++ && pip install ffcv",
    ),
    "torch": _Entry(
        "TorchBackend", ("torchvision",), "the reference: torchvision in threads, on the CPU", _INSTALL_AGAIN
    ),
    "synthetic": _Entry(
        "SyntheticBackend", ("torch",), "made-up pixels on the device: the ceiling in benchmarks", _INSTALL_AGAIN
    ),
}
NAMES = tuple(_ENTRIES)


def available() -> Mapping[str, BackendStatus]:
    """Return the status of every backend by name; imports them all, which takes seconds."""
    return {name: _status(name) for name in NAMES}


def choose(name: str, device: torch.device) -> Choice:
    """Return the backend that `name` stands for on `device`.

    Args:
        name: a backend's name, or `auto`.
        device: where batches go.

    Raises:
        SpecError: there is no backend of that name.
        BackendUnavailable: the backend was named, and cannot run here.
    """
    if name != AUTO:
        _backend_class(name)
        return Choice(name, "as asked for")
    where = f"the device is {device.type}"
    if device.type == "cuda":
        dali = _status("dali")
        if dali.usable:
            return Choice("dali", f"{where}, and DALI decodes on it")
        where += f", but {dali.reason}. {dali.remedy}"
    turbo = _status("turbo")
    if turbo.usable:
        return Choice("turbo", f"{where}; of the decoders on CPUs turbo is the fastest (docs/performance.md)")
    return Choice("torch", f"{where}; {turbo.reason}")


def build(name: str, split: Split, *, device: torch.device, num_threads: int, ahead: int = 2) -> Backend:
    """Build a backend for a split.

    Args:
        name: a backend's name, or `auto`.
        split: the stored samples that plans will refer to by id.
        device: where batches go; a backend that works on the CPU leaves its pixels there.
        num_threads: decoding threads, at least 1.
        ahead: batches to prepare while the consumer has one, at least 1.

    Raises:
        SpecError: there is no backend of that name.
        BackendUnavailable: the backend cannot run here.
    """
    backend_class = _backend_class(choose(name, device).name)
    return backend_class(split, device=device, num_threads=num_threads, ahead=ahead)


def _backend_class(name: str) -> Callable[..., Backend]:
    if name not in NAMES:
        raise SpecError(f"backend is {name!r}; it must be one of {', '.join((AUTO, *NAMES))}")
    entry = _ENTRIES[name]
    try:
        module = import_module(f"pipelines.backends.{name}")
    except (ImportError, OSError) as error:  # OSError: a shared library that the package needs does not load
        raise BackendUnavailable(name, str(error), entry.remedy) from error
    backend_class: Callable[..., Backend] = getattr(module, entry.class_name)
    return backend_class


def _status(name: str) -> BackendStatus:
    entry, version = _ENTRIES[name], _version(_ENTRIES[name].distributions)
    try:
        _backend_class(name)
    except BackendUnavailable as error:
        return BackendStatus(name, False, version, error.reason, error.remedy)
    return BackendStatus(name, True, version, entry.purpose, "")


def _version(distributions: tuple[str, ...]) -> str | None:
    for distribution in distributions:
        try:
            return f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    return None
