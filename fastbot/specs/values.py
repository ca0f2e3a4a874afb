"""Values that several tables of a recipe have."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from pipelines.spec import Frozen

_DURATION = re.compile(r"^(?P<value>\d+(\.\d+)?)( (?P<unit>epochs?|steps?))?$")

_Value = TypeVar("_Value")

# TOML has no null: "none" switches off what a default or a parent switches on.
Switchable = Annotated[_Value | None, BeforeValidator(lambda raw: None if raw == "none" else raw)]

Beta = Annotated[float, Field(ge=0, lt=1)]


class Duration(Frozen):
    """A length of training, written as a number of epochs (`5`, `"0.5 epochs"`) or of steps (`"500 steps"`)."""

    written_as_value: ClassVar[bool] = True  # so that no message names keys of it

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
        # All digits and no exponent: run folders keep durations as text, which is parsed again.
        return f"{Decimal(repr(self.value)).normalize():f} {self.unit}"
