"""What computes, in words: speeds mean nothing without it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from pipelines.cores import cores


def machine_name() -> str:
    """Return the GPU, if PyTorch sees one, and the processor with the cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    processor = f"{cores()} cores of {next(names, platform.machine())}"
    return f"{torch.cuda.get_device_name()}, {processor}" if torch.cuda.is_available() else processor
