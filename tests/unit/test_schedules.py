from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, MultiStepLR

from fastbot import specs
from fastbot.errors import RecipeError
from fastbot.optimizers import set_learning_rate
from fastbot.schedules import Cosine, Linear, Schedule, StepDecay, TimmCosine, build_schedule
from fastbot.specs import Duration


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
        (lambda: Cosine(0.4, 10, warmup_steps=10), "schedule.warmup is 10 of 10 steps: it must leave some"),
        (lambda: Cosine(0.4, 10, warmup_steps=-1), "schedule.warmup is -1 of 10 steps"),
        (lambda: Linear(0.4, 10, warmup_steps=10), "schedule.warmup is 10 of 10 steps: it must leave some"),
        (lambda: Linear(-1.0, 10), "the learning rate is -1.0"),
        (
            lambda: TimmCosine(0.4, 20, 5, warmup_epochs=10, cooldown_epochs=10),
            "schedule.warmup is 10 of 10 epochs before the cooldown: it must leave some",
        ),
        (
            lambda: TimmCosine(5e-5, 20, 5, warmup_epochs=5),
            "schedule.warmup_learning_rate is 0.0001, above the peak of 5e-05: the rate would move the wrong way",
        ),
        (lambda: TimmCosine(0.1, 20, 5, min_learning_rate=0.2), "schedule.min_learning_rate is 0.2, above the peak"),
        (lambda: TimmCosine(0.0, 20, 5), "the learning rate is 0.0"),
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


def test_a_linear_schedule_does_not_go_below_zero() -> None:
    with pytest.raises(AssertionError, match="step 11 is past the run's 10"):
        Linear(0.4, 10)(11)


def test_linear_has_known_values() -> None:
    schedule = Linear(0.4, 12, warmup_steps=4)
    np.testing.assert_allclose(
        rates(schedule, 13), [0.1, 0.2, 0.3, *np.linspace(0.4, 0.4, 1), *np.arange(8, -1, -1) / 20]
    )


def test_timms_cosine_has_known_values() -> None:
    """RSB's A2 as mmpretrain and timm's command lines have it: the warmup does not shift the cosine."""
    schedule = TimmCosine(5e-3, 300, 625, 5, warmup_learning_rate=1e-4, min_learning_rate=1e-6)
    assert schedule(0) == schedule(624) == 1e-4
    assert schedule(625) == pytest.approx(1e-4 + 4.9e-3 / 5)
    assert schedule(5 * 625) == pytest.approx(1e-6 + 4.999e-3 * 0.5 * (1 + np.cos(np.pi * 5 / 300)))
    assert schedule(150 * 625) == pytest.approx((5e-3 + 1e-6) / 2)
    assert 1e-6 < schedule(300 * 625 - 1) < 1.2e-6
    assert TimmCosine(5e-3, 310, 625, 5, cooldown_epochs=10)(300 * 625) == 1e-6


STEPS_PER_EPOCH = 25


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            specs.StepDecay(
                warmup=Duration(value=2), milestones=(Duration(value=5), Duration(value=200, unit="steps"))
            ),
            StepDecay(0.4, (125, 200), 50, 0.1),
        ),
        (specs.Cosine(warmup=Duration(value=30, unit="steps")), Cosine(0.4, 250, 30)),
        (specs.Linear(), Linear(0.4, 250, 50)),
        (specs.TimmCosine(), TimmCosine(0.4, 10, 25, 5, 1e-4, 1e-6, 0)),
        (
            specs.TimmCosine(
                warmup=Duration(value=75, unit="steps"),
                warmup_learning_rate=0.01,
                min_learning_rate=0,
                cooldown=Duration(value=2),
            ),
            TimmCosine(0.4, 10, 25, 3, 0.01, 0, 2),
        ),
    ],
)
def test_a_recipe_gets_the_schedule_it_asks_for(spec: specs.ScheduleSpec, expected: Schedule) -> None:
    assert build_schedule(spec, 0.4, Duration(value=10), STEPS_PER_EPOCH) == expected


@pytest.mark.parametrize(
    ("key", "duration"), [("warmup", "30 steps"), ("cooldown", "0.5 epochs"), ("warmup", "1.2 epochs")]
)
def test_timms_cosine_needs_whole_epochs(key: str, duration: str) -> None:
    spec = specs.TimmCosine.model_validate({key: duration})
    message = (
        f"schedule.{key} is {duration}: a timm_cosine changes the rate once an epoch (25 steps here), so it must be"
    )
    with pytest.raises(RecipeError, match=re.escape(message)):
        build_schedule(spec, 0.4, Duration(value=10), STEPS_PER_EPOCH)


def test_timms_cosine_may_end_within_an_epoch() -> None:
    spec = specs.TimmCosine(warmup=Duration(value=0), min_learning_rate=0)
    schedule = build_schedule(spec, 0.4, Duration(value=60, unit="steps"), STEPS_PER_EPOCH)
    height = [0.4, 0.2 * (1 + np.cos(np.pi / 2.4)), 0.2 * (1 + np.cos(np.pi * 2 / 2.4))]
    np.testing.assert_allclose(rates(schedule, 60), np.repeat(height, 25)[:60])
