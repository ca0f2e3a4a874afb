"""Recipes: a short TOML file parsed into frozen, typed models.

A recipe says everything about a run besides the data and the machine. Its data half is `pipelines.spec.DataSpec`.
Batch sizes are global; the learning rate derives from the global batch unless given.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from fastbot.schedules import scaled_learning_rate
from pipelines.spec import DataSpec, Factor, Frozen, Probability

# Tables and keys that decide nothing about the training itself.
_RECORDS = ("name", "about", "run", "paper")

_DURATION = re.compile(r"^(?P<value>\d+(\.\d+)?)( (?P<unit>epochs?|steps?))?$")


class Duration(Frozen):
    """A length of training, written as a number of epochs (`5`, `"0.5 epochs"`) or of steps (`"500 steps"`)."""

    value: Annotated[float, Field(ge=0)]
    unit: Literal["epochs", "steps"] = "epochs"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: object) -> object:
        if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
            return raw
        match = _DURATION.match(str(raw).strip())
        if match is None:
            raise ValueError(f'{raw!r} is not a duration: write epochs (5) or steps ("500 steps")')
        unit = match["unit"] or "epochs"
        return {"value": float(match["value"]), "unit": unit if unit.endswith("s") else unit + "s"}

    def steps(self, steps_per_epoch: int) -> int:
        """Return the duration in whole optimizer steps, rounded to the nearest."""
        return round(self.value * (steps_per_epoch if self.unit == "epochs" else 1))

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"


class ModelSpec(Frozen):
    """Which network, and how its weights start.

    Attributes:
        name: `resnet50d` and the like, `torchvision:NAME` or `timm:NAME`.
        init: `paper` (BoT: Xavier uniform by channel counts), `kaiming` (torchvision's fan-out normal), or `default`
            (what the model's own code does).
        zero_gamma: BoT section 3.1: gamma = 0 in the last batch norm of each residual branch.
    """

    name: str = "resnet50v1"
    init: Literal["paper", "kaiming", "default"] = "paper"
    zero_gamma: bool = False


class OptimizerSpec(Frozen):
    """NAG, as BoT trains with.

    Attributes:
        learning_rate: the peak; None derives it from the global batch by linear scaling (0.1 per 256).
        bias_decay: apply weight decay to biases and batch norms too; False is BoT's "no bias decay".
    """

    kind: Literal["nag"] = "nag"
    learning_rate: PositiveFloat | None = None
    momentum: Probability = 0.9
    # The paper names neither; GluonCV's scripts use these two (docs of BoT recipes say so).
    weight_decay: Factor = 1e-4
    bias_decay: bool = True


class StepDecay(Frozen):
    """The learning rate falls by `factor` at each of `milestones` (counted from the start of training)."""

    kind: Literal["step"] = "step"
    warmup: Duration = Duration(value=0)
    milestones: tuple[Duration, ...] = (Duration(value=30), Duration(value=60), Duration(value=90))
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Cosine(Frozen):
    """BoT equation 1, without the warmup: from the peak to 0 over what follows the warmup."""

    kind: Literal["cosine"] = "cosine"
    warmup: Duration = Duration(value=5)


class LossSpec(Frozen):
    """Cross entropy; `label_smoothing` is BoT's epsilon (1 - eps on the truth, eps / (K - 1) on the others)."""

    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0


class PrecisionSpec(Frozen):
    """Arithmetic of the step: `fp32` (with TF32 matrix units on or off), `fp16` with loss scaling, or `bf16`."""

    kind: Literal["fp32", "fp16", "bf16"] = "fp32"
    tf32: bool = False

    @model_validator(mode="after")
    def _meaningful(self) -> PrecisionSpec:
        if self.tf32 and self.kind != "fp32":
            raise ValueError(f"tf32 = true has no effect with kind = {self.kind}: it concerns fp32 only")
        return self


class RunSpec(Frozen):
    """How the run keeps its records; changes nothing about the training itself.

    Attributes:
        log_every: steps between two readings of the on-device metrics.
        checkpoint_minutes, checkpoint_steps: a checkpoint whenever either has passed (and after every evaluation).
        eval_every: how often the validation split is scored; the end always is.
    """

    log_every: PositiveInt = 20
    checkpoint_minutes: PositiveFloat = 15.0
    checkpoint_steps: PositiveInt | None = None
    eval_every: Duration = Duration(value=1)

    @field_validator("eval_every")
    @classmethod
    def _positive(cls, duration: Duration) -> Duration:
        if duration.value == 0:
            raise ValueError("eval_every must be more than 0")
        return duration


class Paper(Frozen):
    """What the source of a recipe reports, printed beside what the run reaches. Never a gate.

    Attributes:
        row: where it stands, for example `BoT table 4, baseline`.
        bn_batch: pictures a batch norm normalizes over there.
        top1, top5: fractions.
    """

    row: str
    bn_batch: PositiveInt | None = None
    top1: Probability | None = None
    top5: Probability | None = None


class Recipe(Frozen):
    """Everything about a run besides the data and the machine."""

    name: str
    about: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    epochs: Duration
    channels_last: bool = True
    compile: bool = False
    model: ModelSpec = ModelSpec()
    data: DataSpec = DataSpec()
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: Annotated[StepDecay | Cosine, Field(discriminator="kind")] = StepDecay()
    precision: PrecisionSpec = PrecisionSpec()
    run: RunSpec = RunSpec()
    paper: Paper | None = None

    @property
    def learning_rate(self) -> float:
        """The peak learning rate: as given, or 0.1 per 256 pictures of the global batch (BoT section 3.1)."""
        given = self.optimizer.learning_rate
        return given if given is not None else scaled_learning_rate(self.data.global_batch_size)

    def resolved(self) -> Recipe:
        """Return the recipe with every derived value written out."""
        optimizer = self.optimizer.model_copy(update={"learning_rate": self.learning_rate})
        return self.model_copy(update={"optimizer": optimizer})

    def as_dict(self) -> dict[str, Any]:
        """Return plain TOML values: durations as they are written, absent values left out."""
        values: dict[str, Any] = _plain(self)
        return values

    def training_digest(self) -> str:
        """Return a sha256 of all that decides the training: a resumed run must have the same."""
        content = {key: value for key, value in self.resolved().as_dict().items() if key not in _RECORDS}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def training_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which keys that decide the training differ between two recipes; nothing where none does.

    Args:
        before, now: what `as_dict` returns of the recipes, resolved.
    """
    there, here = flat(before), flat(now)
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return "; ".join(
        f"{key} is {here.get(key)}, was {there.get(key)}" for key in keys if key.partition(".")[0] not in _RECORDS
    )


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
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {name: _plain(field) for name, field in fields.items() if field is not None}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
