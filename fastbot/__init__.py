"""The trainer: recipes, models, the loop, evaluation, checkpoints and the command line."""

__version__ = "0.1.0"
