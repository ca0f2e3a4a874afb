"""What this machine is made of, as far as figures depend on it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch


def name_of(device: torch.device) -> str:
    """Return what a device is called: the processor's model, or the GPU's name."""
    return cpu_model() if device.type == "cpu" else torch.cuda.get_device_name(device)


@cache
def cpu_model() -> str:
    """Return the processor's model."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def gpu() -> Mapping[str, Any] | None:
    """Return the first GPU's `name`, and the versions of its `driver`, of `cuda` and of `cudnn`; None without a GPU.

    A version that cannot be read is left out.
    """
    if not torch.cuda.is_available():
        return None
    drivers = query("driver_version").splitlines()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    versions = {"driver": drivers and drivers[0], "cuda": torch.version.cuda, "cudnn": cudnn}
    known = {name: str(version) for name, version in versions.items() if version}
    return {"name": torch.cuda.get_device_name(0), **known}


def query(*fields: str) -> str:
    """Return what `nvidia-smi` shows of each GPU, a line each, with commas; empty where it cannot tell."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
