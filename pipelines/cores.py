"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Return the CPU cores this process may use: its affinity, or its container's quota where that is less."""
    available = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return available if quota == "max" else max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):
        return available
