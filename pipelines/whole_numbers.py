"""Whole numbers that callers give: 1.5 would go far before anything fails, and True is no 1."""

from __future__ import annotations

from numbers import Integral

from pipelines.errors import PipelineError, SpecError


def whole_number(name: str, value: object, at_least: int, error: type[PipelineError] = SpecError) -> int:
    """Return a value as the whole number that it is, numpy's included.

    Args:
        name: of what it is, for the message.
        value: anything.
        at_least: the smallest that is allowed.
        error: raised where it is something else.

    Raises:
        PipelineError: it is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        raise error(f"{name} is {value!r}: choose a whole number, {at_least} or more")
    return int(value)
