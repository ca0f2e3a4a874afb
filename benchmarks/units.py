"""The units of results: what a figure is called in a JSON line, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """How a figure is counted.

    Attributes:
        key: its name in a JSON line.
        more_is_better: False for times and memory.
    """

    key: str
    more_is_better: bool = True


UNITS: Mapping[str, Unit] = {
    "images/s": Unit("images_per_s"),
    "images/s per core": Unit("images_per_s_per_core"),
    "samples/s": Unit("samples_per_s"),
    "GB/s": Unit("gigabytes_per_s"),
    "TFLOP/s": Unit("teraflops_per_s"),
    "min": Unit("minutes", more_is_better=False),
    "s": Unit("seconds", more_is_better=False),
    "ms": Unit("milliseconds", more_is_better=False),
    "MB": Unit("megabytes", more_is_better=False),
}


def figure(value: float) -> str:
    """Write a number with three digits, or as many as stand before its point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
