"""Recipes: a short TOML file parsed into frozen, typed models.

A recipe says everything about a run besides the data and the machine. Its data half is `pipelines.spec.DataSpec`, its
other tables are those of `fastbot.specs`. Batch sizes are global; the learning rate derives from the global batch
unless given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from fastbot.specs import (
    ClipSpec,
    CrossEntropySpec,
    DistillationSpec,
    Duration,
    EmaSpec,
    LossSpec,
    ModelSpec,
    NagSpec,
    NoClip,
    NoDistillation,
    OptimizerSpec,
    Paper,
    PrecisionSpec,
    RunSpec,
    ScheduleSpec,
    StepDecay,
    Switchable,
)
from pipelines.spec import DataSpec, Frozen

# Tables and keys that decide nothing about the training itself.
_RECORDS = ("name", "about", "run", "paper")
# Where the teacher lies. Which one it is, its weights say, and a checkpoint has a digest of them.
_TEACHER = "distillation.teacher"


class Recipe(Frozen):
    """Everything about a run besides the data and the machine.

    Attributes:
        micro_batches: how many parts each rank's share of a batch is computed in, one after the other, to need less
            memory; the optimizer steps once for all of them.
    """

    name: str
    about: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    epochs: Duration
    channels_last: bool = True
    compile: bool = False
    micro_batches: PositiveInt = 1
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    loss: Annotated[LossSpec, Field(discriminator="kind")] = CrossEntropySpec()
    distillation: Annotated[DistillationSpec, Field(discriminator="kind")] = NoDistillation()
    optimizer: Annotated[OptimizerSpec, Field(discriminator="kind")] = NagSpec()
    clip: Annotated[ClipSpec, Field(discriminator="kind")] = NoClip()
    ema: Switchable[EmaSpec] = None
    schedule: Annotated[ScheduleSpec, Field(discriminator="kind")] = StepDecay()
    precision: PrecisionSpec = PrecisionSpec()
    run: RunSpec = RunSpec()
    paper: Paper | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, raw: object) -> object:
        """Let a table that names no kind be of the default one."""
        if not isinstance(raw, dict):
            return raw
        kinds = {name: getattr(field.default, "kind", None) for name, field in cls.model_fields.items()}
        return {
            name: {"kind": kinds[name]} | value if isinstance(value, dict) and kinds.get(name) else value
            for name, value in raw.items()
        }

    @property
    def learning_rate(self) -> float:
        """The peak learning rate: as given, or scaled to the global batch."""
        return self.optimizer.peak(self.data.global_batch_size)

    def resolved(self) -> Recipe:
        """Return the recipe with every derived value written out."""
        optimizer = self.optimizer.model_copy(update={"learning_rate": self.learning_rate})
        return self.model_copy(update={"optimizer": optimizer})

    def as_dict(self) -> dict[str, Any]:
        """Return plain TOML values: durations as they are written, absent values left out."""
        values: dict[str, Any] = _plain(self)
        return values

    def training_digest(self) -> str:
        """Return a sha256 of all that decides the training: a resumed run must have the same.

        Where a teacher lies is left out: its folder may move, and its weights have a digest of their own.
        """
        content = {key: value for key, value in self.resolved().as_dict().items() if key not in _RECORDS}
        table, _, key = _TEACHER.partition(".")
        content[table].pop(key, None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def training_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which keys that decide the training differ between two recipes; nothing where none does.

    Where a teacher lies is none of them, see `Recipe.training_digest`.

    Args:
        before, now: what `as_dict` returns of the recipes, resolved.
    """
    there, here = flat(before), flat(now)
    keys = [key for key in changed_keys(before, now) if key != _TEACHER]
    return "; ".join(f"{key} is {here.get(key)}, was {there.get(key)}" for key in keys)


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the keys that decide the training and differ between two recipes, sorted; arguments as above."""
    there, here = flat(before), flat(now)
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return [key for key in keys if key.partition(".")[0] not in _RECORDS]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested tables by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Frozen):
        fields = {name: (getattr(value, name), field.default) for name, field in type(value).model_fields.items()}
        return {name: _plain(now) for name, (now, default) in fields.items() if now is not None or default is not None}
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
