"""Optimizers whose whole step stays on the device: loss scaling included, nothing is read back.

Each takes the `grad_scale` and `found_inf` tensors of torch's loss scaler, and a step with found_inf = 1 leaves
parameters, moments and step counts as they were. This package must not know schedules: the trainer sets the rate.
"""

from __future__ import annotations

from fastbot.optimizers.adamw import adamw
from fastbot.optimizers.build import build_optimizer
from fastbot.optimizers.groups import parameter_groups, set_learning_rate
from fastbot.optimizers.lamb import Lamb, lamb
from fastbot.optimizers.nag import nag

__all__ = ["Lamb", "adamw", "build_optimizer", "lamb", "nag", "parameter_groups", "set_learning_rate"]
