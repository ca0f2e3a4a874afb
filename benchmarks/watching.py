"""The machine while it is measured: clocks, power and temperature between rounds, not only before and after a rung."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from benchmarks import machine

# nvidia-smi takes a core for a tenth of a second.
_EVERY_S = 2.0
# Longer than nvidia-smi is given.
_PATIENCE_S = 15.0


@dataclass
class Watch:
    """Looks at the machine now and then.

    Args:
        read_cpu, read_gpus: what they show now.
        has_gpu: whether a GPU is at work here.
        clock: a steady one, in seconds.

    Attributes:
        cpu: what was seen of the processor, in order.
        gpus: what was seen of the GPUs, in order.
    """

    read_cpu: Callable[[], Mapping[str, Any]] = machine.shown_by_cpu
    read_gpus: Callable[[], Sequence[Mapping[str, str]]] = machine.gpus
    has_gpu: Callable[[], bool] = torch.cuda.is_initialized
    clock: Callable[[], float] = time.monotonic
    cpu: list[Mapping[str, Any]] = field(default_factory=list)
    gpus: list[Sequence[Mapping[str, str]]] = field(default_factory=list)
    _last: float = float("-inf")
    _thread: threading.Thread | None = None

    def look(self) -> None:
        """Read the processor, and let a thread read the GPUs: they are at work by the time that nvidia-smi looks.

        Does nothing within two seconds of the last look, and leaves out the GPUs while one is still being read.
        """
        if self.clock() - self._last < _EVERY_S:
            return
        self._last = self.clock()
        self.cpu.append(self.read_cpu())
        if self.has_gpu() and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=lambda: self.gpus.append(self.read_gpus()), daemon=True)
            self._thread.start()

    def summary(self) -> Mapping[str, Any]:
        """Return `looks`, how often there was one, and what it showed.

        Returns:
            Of the processor the lowest and the highest clock and the highest temperature; of each GPU `lowest`,
            `median` and `highest` of every number, and all reasons for which it was throttled. What could not be
            read is left out.
        """
        if self._thread:
            self._thread.join(_PATIENCE_S)
        found: dict[str, Any] = {"looks": len(self.cpu)}
        if clocks := [shown["cpu_mhz"] for shown in self.cpu if "cpu_mhz" in shown]:
            ends = min(clock["lowest"] for clock in clocks), max(clock["highest"] for clock in clocks)
            found["cpu_mhz"] = dict(zip(("lowest", "highest"), ends, strict=True))
        if celsius := [shown["cpu_celsius"] for shown in self.cpu if "cpu_celsius" in shown]:
            found["cpu_celsius"] = max(celsius)
        if seen := [gpus for gpus in self.gpus if gpus]:
            found["gpus"] = [_over_time(of_one) for of_one in zip(*seen, strict=False)]
        return found


def _over_time(seen: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return one GPU's readings together: the ends and the median of what are numbers, the others each once."""
    found: dict[str, Any] = {}
    for name in seen[0]:
        words = [shown[name] for shown in seen]
        try:
            numbers = [float(word) for word in words]
        except ValueError:  # throttling is a mask of bits, as 0x0000000000000004; "[N/A]" where there is no sensor
            found[name] = list(dict.fromkeys(words))
        else:
            found[name] = {"lowest": min(numbers), "median": median(numbers), "highest": max(numbers)}
    return found


_OF_THIS_PROCESS = Watch()


def look() -> None:
    """Look at the machine, if the last look is two seconds ago: what `measure` does after each round."""
    _OF_THIS_PROCESS.look()


def summary() -> Mapping[str, Any]:
    """Return what the looks of this process have shown."""
    return _OF_THIS_PROCESS.summary()
