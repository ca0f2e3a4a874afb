"""How messages put things: numbers with their nouns, and what pydantic found wrong with a value."""

from __future__ import annotations


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun.

    Args:
        number: how many.
        singular: the noun of one.
        plural: that of any other number; empty for the singular with an s.
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def rule(message: str) -> str:
    """Return which rule a value breaks, by a message of pydantic: `it should be greater than 0`."""
    return message.replace("Value error, ", "").replace("Input should", "it should")
