"""What a recipe may ask of a model besides its name, and how a model says that it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from fastbot.errors import ModelError


@dataclass(frozen=True, slots=True)
class Options:
    """What is built into a model.

    Attributes:
        drop_path: stochastic depth of the last residual branch, in [0, 1).
        dropout: before the classifier, in [0, 1); None leaves the model its own.
        aux_head: build an auxiliary classifier.
    """

    drop_path: float = 0.0
    dropout: float | None = None
    aux_head: bool = False


def refusal(key: str, name: str, reason: str) -> ModelError:
    """Return the error of a model that cannot honour a key of the recipe's `model` table.

    Args:
        key: as in the recipe.
        name: of the model.
        reason: what the model lacks, a clause after its name.
    """
    return ModelError(f"model.{key}: {name} {reason}. Leave model.{key} out, or take another model")
