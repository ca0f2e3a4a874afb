"""The tables of a recipe besides its data half: frozen, typed, and refusing what has no meaning.

A table whose keys depend on a choice is a union told apart by `kind`; each kind has only the keys that it uses.
"""

from __future__ import annotations

from fastbot.specs.model import ModelSpec
from fastbot.specs.objective import (
    BinaryCrossEntropySpec,
    CrossEntropySpec,
    DistillationSpec,
    LossSpec,
    NoDistillation,
    TeacherSpec,
)
from fastbot.specs.optimization import (
    AdamWSpec,
    AdaptiveClip,
    ClipSpec,
    EmaSpec,
    LambSpec,
    NagSpec,
    NoClip,
    NormClip,
    OptimizerSpec,
    ValueClip,
)
from fastbot.specs.run import Paper, PrecisionSpec, RunSpec
from fastbot.specs.schedule import Cosine, Linear, ScheduleSpec, StepDecay, TimmCosine
from fastbot.specs.values import Beta, Duration, Switchable

__all__ = [
    "AdamWSpec",
    "AdaptiveClip",
    "Beta",
    "BinaryCrossEntropySpec",
    "ClipSpec",
    "Cosine",
    "CrossEntropySpec",
    "DistillationSpec",
    "Duration",
    "EmaSpec",
    "LambSpec",
    "Linear",
    "LossSpec",
    "ModelSpec",
    "NagSpec",
    "NoClip",
    "NoDistillation",
    "NormClip",
    "OptimizerSpec",
    "Paper",
    "PrecisionSpec",
    "RunSpec",
    "ScheduleSpec",
    "StepDecay",
    "Switchable",
    "TeacherSpec",
    "TimmCosine",
    "ValueClip",
]
