"""timm 0.5.4, the version that ResNet strikes back was trained with, as an oracle beside today's timm."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(sys.prefix) / "share" / "timm-0.5.4"


def module(name: str) -> ModuleType:
    """Return one of its modules, for example "optim.lamb"; skip the test where it is not installed.

    A module's packages are stood in for by empty ones: their own `__init__` would import all of timm, which no longer
    runs under today's torch.
    """
    if not (FOLDER / "timm").is_dir():
        install = f"{sys.executable} -m pip install --no-deps --target {FOLDER} timm==0.5.4"
        pytest.skip(f"timm 0.5.4 is not installed: {install}")
    folder, package = FOLDER / "timm", "timm_0_5_4"
    for part in (*name.split(".")[:-1], ""):
        if package not in sys.modules:
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(folder)]
        folder, package = folder / part, f"{package}.{part}"
    return importlib.import_module(f"timm_0_5_4.{name}")
