"""How much memory is in use: by this process and its children, and on a device."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import torch

from benchmarks.machine import with_descendants


def host_mb() -> float:
    """Return the MB that this process and its descendants have between them.

    Pages of mapped files are left out: they are the system's cache, and go when others need them. A page that several
    processes share counts once (Linux's proportional set size).
    """
    return sum(map(_process_mb, with_descendants(os.getpid())))


def release(device: torch.device) -> None:
    """Let go of the memory of what nobody holds any more, cycles of objects (compiled code) among it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reset_device_peak(device: torch.device) -> None:
    """Let the peak of the device's memory begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def device_peak_mb(device: torch.device) -> float:
    """Return the most that PyTorch has had on a device, in MB; 0 on a CPU. Libraries beside it are not in it."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0


def device_used_mb(device: torch.device) -> float:
    """Return what all processes and libraries have on a CUDA device now, in MB; 0 on a CPU."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 1e6


def _process_mb(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    found = dict(line.split(":", 1) for line in lines[1:])
    return sum(int(found[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) * 1024 / 1e6
