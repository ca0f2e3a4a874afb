"""A shorter training of the same shape: every duration that a recipe has in epochs, times a factor."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from fastbot.recipe import Recipe
from fastbot.specs import Duration
from pipelines.spec import Frozen

# Of a timm_cosine, whose rate changes once an epoch.
_WHOLE = ("schedule.warmup", "schedule.cooldown")


def scaled_durations(recipe: Recipe, factor: float, given: Sequence[str] = ()) -> list[str]:
    """Return overrides that make a training `factor` times as long, in the same shape.

    Its epochs, warmup, milestones, cooldown and the epochs at which crops grow are scaled. Durations in steps stay,
    and so does how often a run is evaluated. What must be whole epochs is rounded to them: a timm_cosine's warmup and
    cooldown, and the epochs at which crops grow.

    Args:
        recipe: whose tables are of the kinds they will be.
        factor: above 0.
        given: dotted keys that the user has set, tables included; what they name stays as it is.

    Returns:
        `key.sub=value` strings for `load_recipe`; none if the factor is 1.
    """
    if factor == 1:
        return []
    whole = _WHOLE if recipe.schedule.kind == "timm_cosine" else ()
    overrides = [f"{key}={_scaled(value, factor, whole=key in whole)}" for key, value in _durations(recipe)]
    overrides += _size_ramp(recipe, factor)
    return [override for override in overrides if not _is_given(override.partition("=")[0], given)]


def _durations(table: Frozen, prefix: str = "") -> Iterator[tuple[str, Duration | tuple[Duration, ...]]]:
    """Yield every duration of a recipe with its dotted key, those of its records (`run`) left out."""
    for name in type(table).model_fields:
        value, key = getattr(table, name), prefix + name
        if isinstance(value, Duration) or (isinstance(value, tuple) and value and isinstance(value[0], Duration)):
            yield key, value
        elif isinstance(value, Frozen) and key != "run":
            yield from _durations(value, f"{key}.")


def _scaled(value: Duration | tuple[Duration, ...], factor: float, *, whole: bool) -> str:
    """Return the TOML value of a duration, or of several, times a factor; in `whole` epochs, where that is asked."""
    if isinstance(value, tuple):
        return f"[{', '.join(_scaled(duration, factor, whole=whole) for duration in value)}]"
    if value.unit == "steps":
        return json.dumps(str(value))
    scaled = value.value * factor
    return json.dumps(str(Duration(value=round(scaled) if whole else scaled)))


def _size_ramp(recipe: Recipe, factor: float) -> list[str]:
    """Return the same for progressive resizing, whose epochs are whole ones."""
    ramp = recipe.data.size_ramp
    if ramp is None:
        return []
    start = round(ramp.start_epoch * factor)
    end = max(start + 1, round(ramp.end_epoch * factor))
    return [f"data.size_ramp.start_epoch={start}", f"data.size_ramp.end_epoch={end}"]


def _is_given(key: str, given: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in given)
