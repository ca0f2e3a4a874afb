"""A figure of the examination: what was measured, on what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Part(StrEnum):
    """A part of the way from the disk into the model."""

    DISK = "disk"
    DECODE = "decode"
    AUGMENT = "augment"
    TRANSFER = "host to device"
    MODEL = "model step"


class Resource(StrEnum):
    """What a part needs to itself: parts of one resource take turns, parts of two run beside each other."""

    DISK = "disk"
    CPU = "CPU"
    BUS = "bus"
    GPU = "GPU"


# The two variants of `Part.DISK`.
IN_ORDER, AT_RANDOM = "in order", "at random"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the result.

    Attributes:
        part: what was measured.
        variant: of the part, where there are several: `in order`, `1 thread`.
        resource: what it ran on.
        images_per_s: None where nothing was measured; `how` then says why.
        how: what it was measured with.
        decisive: whether training goes at this rate, where the others show what could be.
        details: further numbers, by a name with its unit.
    """

    part: Part
    variant: str
    resource: Resource
    images_per_s: float | None
    how: str
    decisive: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
