"""Errors of the trainer.

    FastbotError
    ├── RecipeError       a recipe key, value or combination is wrong (exit code 2)
    ├── ModelError        a model cannot be built as asked
    ├── CheckpointError   a checkpoint is missing, damaged, or of another recipe or store
    └── RunError          the run failed: a rank died, the loss is not finite

Every message says where, what was found, what is allowed, and what to do.
"""


class FastbotError(Exception):
    """Base of everything `fastbot` raises for bad input or a failed run."""


class RecipeError(FastbotError):
    """The recipe cannot be carried out as written."""


class ModelError(FastbotError):
    """The model cannot be built as asked."""


class CheckpointError(FastbotError):
    """A checkpoint cannot be used."""


class RunError(FastbotError):
    """The run failed."""
