"""Schedules against those of the projects whose rates they claim to have."""

from __future__ import annotations

import numpy as np
import pytest
import timm_054
import torch
from numpy.typing import NDArray
from torch import nn

from fastbot.schedules import Linear, TimmCosine


@pytest.mark.parametrize("warmup", [0, 1, 5])
@pytest.mark.parametrize("cooldown", [0, 10])
@pytest.mark.parametrize(("peak", "least"), [(5e-3, 1e-6), (0.1, 0.0), (8e-3, 1e-4)])
def test_timms_cosine_equals_timms_in_every_epoch(peak: float, least: float, cooldown: int, warmup: int) -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=peak)
    theirs = timm_054.module("scheduler.cosine_lr").CosineLRScheduler(
        optimizer, t_initial=100, lr_min=least, warmup_lr_init=1e-4, warmup_t=warmup, cycle_decay=0.1
    )
    steps_per_epoch, num_epochs = 3, theirs.get_cycle_length() + cooldown
    ours = TimmCosine(peak, num_epochs, steps_per_epoch, warmup, 1e-4, least, cooldown)
    for epoch in range(num_epochs):  # as timm's train.py: the next epoch's rate is set at the end of this one
        rates = [ours(epoch * steps_per_epoch + step) for step in range(steps_per_epoch)]
        assert rates == pytest.approx([optimizer.param_groups[0]["lr"]] * steps_per_epoch, rel=1e-12)
        theirs.step(epoch + 1)


def ffcv_rates(peak: float, peak_epoch: int, num_epochs: int, num_steps: int) -> NDArray[np.float64]:
    """Return the rates of ffcv-imagenet: `get_cyclic_lr` at both ends of each epoch, interpolated between them."""
    at_epochs = np.interp(np.arange(num_epochs + 1), [0, peak_epoch, num_epochs], [1e-4 * peak, peak, 0])
    inside = [np.interp(np.arange(num_steps), [0, num_steps], at_epochs[k : k + 2]) for k in range(num_epochs)]
    return np.concatenate(inside)


def test_linear_equals_ffcvs_after_the_warmup_and_nearly_in_it() -> None:
    peak, num_epochs, steps_per_epoch = 1.7, 16, 40
    theirs = ffcv_rates(peak, 2, num_epochs, steps_per_epoch)
    schedule = Linear(peak, num_epochs * steps_per_epoch, 2 * steps_per_epoch)
    ours = np.array([schedule(step) for step in range(num_epochs * steps_per_epoch)])
    np.testing.assert_allclose(ours[80:], theirs[80:], rtol=1e-12)
    assert (ours[:80] > theirs[:80]).all()
    assert (ours[:80] - theirs[:80]).max() <= peak / 80  # one step of the warmup
