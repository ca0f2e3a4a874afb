"""The most memory that work needs: a GPU's by PyTorch's allocator, a CPU's by the kernel's count for this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.rungs.memory_use import device_peak_mb, reset_device_peak
from benchmarks.rungs.training import synchronize

# Writing this there sets VmHWM back to what is resident now (proc(5)).
_RESET, _RESET_PEAK = Path("/proc/self/clear_refs"), "5"


def allocated_mb(device: torch.device) -> float:
    """Return what tensors take on a GPU now, in MB; 0 on a CPU, where a peak is the whole process's."""
    return torch.cuda.memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0


def peak_mb(work: Callable[[], object], device: torch.device) -> float:
    """Run work and return the peak meanwhile, in MB.

    Args:
        work: what is run.
        device: a GPU: of the bytes that tensors took on it; a CPU: of this process's resident memory.
    """
    if device.type == "cuda":
        reset_device_peak(device)
        work()
        synchronize(device)
        return device_peak_mb(device)
    _RESET.write_text(_RESET_PEAK)
    work()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
