"""What else was going on: the load of other processes, and the clocks, power and temperature that can be read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hardware import query

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# What is asked of `nvidia-smi`, and what it is called here.
_GPU_READINGS = {
    "clocks.sm": "sm_mhz",
    "clocks.mem": "memory_mhz",
    "power.draw": "power_w",
    "temperature.gpu": "celsius",
    "clocks_throttle_reasons.active": "throttled",
    "utilization.gpu": "busy_percent",
    "memory.used": "memory_used_mb",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine shows at one moment.

    Attributes:
        at: seconds of a steady clock.
        busy_s: processor time that all processes together have had since the machine started, in seconds.
        stolen_s: processor time that a hypervisor gave to others meanwhile, in seconds.
        own_s: processor time of this process and its descendants, in seconds.
        shown: clocks, temperatures and the like, as far as they can be read.
    """

    at: float
    busy_s: float
    stolen_s: float
    own_s: float
    shown: dict[str, Any]


def read() -> Reading:
    """Read the machine."""
    busy_s, stolen_s = _processor_times()
    own_s = sum(_process_s(pid) for pid in with_descendants(os.getpid()))
    return Reading(time.monotonic(), busy_s, stolen_s, own_s, _shown())


def between(before: Reading, after: Reading) -> dict[str, Any]:
    """Return what happened between two readings.

    Returns:
        `seconds`; `cores_busy_elsewhere` and `cores_stolen`, how many cores other processes and the hypervisor's other
        guests had on average; `before` and `after`, what could be read of clocks, power and temperature.
    """
    seconds = max(after.at - before.at, 1e-9)
    elsewhere = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return {
        "seconds": round(seconds, 1),
        "cores_busy_elsewhere": round(max(elsewhere, 0.0) / seconds, 2),
        "cores_stolen": round((after.stolen_s - before.stolen_s) / seconds, 2),
        "before": before.shown,
        "after": after.shown,
    }


def _processor_times() -> tuple[float, float]:
    """Return busy and stolen seconds; /proc/stat has user, nice, system, idle, iowait, irq, softirq, steal."""
    user, nice, system, _, _, irq, softirq, stolen = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S, stolen / _TICKS_PER_S


def with_descendants(pid: int) -> Iterator[int]:
    """Yield a process's number and those of all that it has started, in whatever session they are."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task").glob("*/children")
        for child in [int(word) for file in children for word in file.read_text().split()]:
            yield from with_descendants(child)
    except OSError:  # it has just ended: its time is its parent's now
        return


def _process_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS_PER_S  # utime, stime, and those of children that have ended


def shown_by_cpu() -> dict[str, Any]:
    """Return `cpu_mhz`, the lowest and the highest of all cores, and `cpu_celsius`, as far as they can be read."""
    shown: dict[str, Any] = {}
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    if clocks := [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]:
        shown["cpu_mhz"] = {"lowest": round(min(clocks)), "highest": round(max(clocks))}
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    if celsius := [int(text) / 1000 for zone in zones if (text := _text(zone)).lstrip("-").isdigit()]:
        shown["cpu_celsius"] = max(celsius)
    return shown


def _shown() -> dict[str, Any]:
    found = gpus()
    return {"load_1min": round(os.getloadavg()[0], 2), **shown_by_cpu(), **({"gpus": found} if found else {})}


def gpus() -> list[dict[str, str]]:
    """Return what each GPU shows of `_GPU_READINGS`; empty where nothing can be read."""
    rows = [[word.strip() for word in line.split(",")] for line in query(*_GPU_READINGS).splitlines()]
    return [dict(zip(_GPU_READINGS.values(), row, strict=True)) for row in rows]


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
