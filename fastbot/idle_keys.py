"""Keys of a recipe that change nothing because of what others say: whoever writes one expects something of it.

What contradicts itself is refused by the tables themselves, in `fastbot.specs` and `pipelines.spec`. It is not wrong to
write a key of this list: a child recipe, or an ablation's row, switches off what its keys are about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastbot.recipe import Recipe, flat
from fastbot.specs import Duration, StepDecay


def _is_zero(value: Any) -> bool:
    return value == 0 or value in ("0 epochs", "0 steps")


def _is_given(value: Any) -> bool:
    return value is not None


class IdleKeyWarning(UserWarning):
    """A key is written in a recipe, or by an override of it, and changes nothing.

    Args:
        recipe: its name.
        key: dotted.
        reason: why, and what to do, as sentences.
    """

    def __init__(self, recipe: str, key: str, reason: str) -> None:
        super().__init__(f"{key} has no effect in recipe {recipe}: {reason}")
        self.key, self.reason = key, reason


@dataclass(frozen=True, slots=True)
class _Rule:
    """In `table`, `keys` have no effect where what `other` is fulfils `holds`."""

    table: str
    keys: tuple[str, ...]
    other: str
    holds: Callable[[Any], bool]


_RULES = (
    _Rule("loss", ("smoothing",), "label_smoothing", _is_zero),
    _Rule("optimizer", ("base_learning_rate", "base_batch_size", "scaling"), "learning_rate", _is_given),
    _Rule("optimizer", ("base_batch_size",), "scaling", lambda value: value == "none"),
    _Rule("optimizer", ("bias_decay", "trust_clip"), "weight_decay", _is_zero),
    _Rule("schedule", ("warmup_learning_rate",), "warmup", _is_zero),
    _Rule("schedule", ("factor",), "milestones", lambda value: value == []),
    _Rule("data.auto_augment", ("magnitude", "magnitude_std", "layers"), "probability", _is_zero),
    _Rule("data.auto_augment", ("interpolation", "fill"), "probability", _is_zero),
    _Rule("data.erasing", ("area", "aspect", "mode"), "probability", _is_zero),
    # Not `group`: it also decides on how many ranks the recipe may run.
    _Rule("data.mix", ("alpha", "mixup_alpha", "cutmix_alpha", "switch", "draw"), "probability", _is_zero),
    _Rule("data.mix", ("cutmix_alpha",), "switch", _is_zero),
    _Rule("data.mix", ("mixup_alpha",), "switch", lambda value: value == 1),
    _Rule("data.order", ("power",), "weights", _is_given),
)


def idle_keys(recipe: Recipe) -> dict[str, str]:
    """Return the keys that have no effect in a recipe, dotted, each with the reason and the remedy as sentences.

    Args:
        recipe: not resolved: that writes the learning rate out, as if it were given.
    """
    values = flat(recipe.as_dict())
    found: dict[str, str] = {}
    for rule in _RULES:
        other = f"{rule.table}.{rule.other}"
        if other not in values or not rule.holds(values[other]):
            continue
        remedy = f"leave {other} out" if rule.holds is _is_given else f"change {other}"
        for key in (f"{rule.table}.{name}" for name in rule.keys):
            if key in values:
                found.setdefault(key, f"{other} is {values[other]}. Leave {key} out, or {remedy}")
    return found


def lost_milestones(recipe: Recipe) -> list[Duration]:
    """Return the milestones that training does not reach, as far as they are written in the unit of its length."""
    schedule, end = recipe.schedule, recipe.epochs
    if not isinstance(schedule, StepDecay):
        return []
    return [each for each in schedule.milestones if each.unit == end.unit and each.value >= end.value]
