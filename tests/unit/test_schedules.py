from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from fastbot.errors import RecipeError
from fastbot.optimizers import set_learning_rate
from fastbot.schedules import Cosine, Schedule, StepDecay


def rates(schedule: Schedule, num_steps: int) -> list[float]:
    return [schedule(step) for step in range(num_steps)]


def torchs_rates(scheduler_type: type, num_steps: int, **options: object) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.4)
    scheduler = scheduler_type(optimizer, **options)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warmup_is_the_papers() -> None:
    # i * eta / m for i = 1 ... m
    np.testing.assert_allclose(rates(Cosine(0.4, 100, warmup_steps=4), 4), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(rates(StepDecay(0.4, (30,), warmup_steps=4), 4), [0.1, 0.2, 0.3, 0.4])


def test_cosine_equals_torchs_and_excludes_the_warmup() -> None:
    expected = torchs_rates(CosineAnnealingLR, 50, T_max=50)
    np.testing.assert_allclose(rates(Cosine(0.4, 50), 50), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rates(Cosine(0.4, 60, warmup_steps=10), 60)[10:], expected, rtol=1e-9, atol=1e-12)


def test_cosine_has_known_values() -> None:
    schedule = Cosine(0.4, 106, warmup_steps=6)
    found = [schedule(step) for step in (6, 6 + 25, 6 + 50, 6 + 75, 106)]
    np.testing.assert_allclose(found, [0.4, 0.2 * (1 + 0.5**0.5), 0.2, 0.2 * (1 - 0.5**0.5), 0], atol=1e-15)


def test_step_decay_equals_torchs_and_counts_the_warmup() -> None:
    expected = torchs_rates(MultiStepLR, 40, milestones=[10, 20, 30], gamma=0.1)
    np.testing.assert_allclose(rates(StepDecay(0.4, (10, 20, 30)), 40), expected)
    np.testing.assert_allclose(rates(StepDecay(0.4, (10, 20, 30), warmup_steps=5), 40)[5:], expected[5:])


def test_paper_baseline_divides_by_ten_at_epochs_30_60_90() -> None:
    steps_per_epoch = 1281167 // 256
    schedule = StepDecay(0.1, tuple(epoch * steps_per_epoch for epoch in (30, 60, 90)))
    last, first = 30 * steps_per_epoch - 1, 30 * steps_per_epoch
    found = [schedule(step) for step in (0, last, first, 60 * steps_per_epoch, 90 * steps_per_epoch)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.001, 0.0001])


def test_learning_rate_reaches_every_group() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1.0)
    set_learning_rate(optimizer, Cosine(0.4, 10)(5))
    np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], [0.2, 0.2])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cosine(0.4, 10, warmup_steps=10), "warmup is 10 steps of a run of 10: it must leave at least one"),
        (lambda: Cosine(0.4, 10, warmup_steps=-1), "warmup is -1 steps"),
        (lambda: Cosine(0.0, 10), "the learning rate is 0.0: it must be positive"),
        (lambda: Cosine(float("nan"), 10), "the learning rate is nan"),
        (lambda: StepDecay(float("inf"), (1,)), "the learning rate is inf"),
        (lambda: StepDecay(0.1, (30, 20)), "milestones are [30, 20]: each must exceed the one before"),
        (lambda: StepDecay(0.1, (30, 30)), "milestones are [30, 30]"),
        (lambda: StepDecay(0.1, (30, 60), warmup_steps=31), "the first milestone is step 30, warmup ends at step 31"),
        (lambda: StepDecay(0.1, (30,), factor=1.0), "factor is 1.0: it must lie between 0 and 1"),
    ],
)
def test_impossible_schedules_are_refused(build: type, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        build()


def test_cosine_does_not_rise_again() -> None:
    with pytest.raises(AssertionError, match="step 11 is past the run's 10"):
        Cosine(0.4, 10)(11)
