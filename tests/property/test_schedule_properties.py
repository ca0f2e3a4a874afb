"""What holds for every schedule: bounded, rising in warmup, continuous where it ends, never rising after."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fastbot.schedules import Cosine, Linear, StepDecay, TimmCosine

learning_rates = st.floats(1e-6, 1e3)


@st.composite
def cosines(draw: st.DrawFn) -> Cosine:
    num_steps = draw(st.integers(1, 400))
    return Cosine(draw(learning_rates), num_steps, draw(st.integers(0, num_steps - 1)))


@st.composite
def step_decays(draw: st.DrawFn) -> StepDecay:
    milestones = tuple(sorted(draw(st.sets(st.integers(0, 300), min_size=1, max_size=4))))
    return StepDecay(draw(learning_rates), milestones, draw(st.integers(0, milestones[0])), draw(st.floats(0.05, 0.9)))


@st.composite
def linears(draw: st.DrawFn) -> Linear:
    num_steps = draw(st.integers(1, 400))
    return Linear(draw(learning_rates), num_steps, draw(st.integers(0, num_steps - 1)))


@st.composite
def timm_cosines(draw: st.DrawFn) -> TimmCosine:
    warmup, cooldown = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    num_epochs = warmup + cooldown + draw(st.one_of(st.integers(1, 20), st.floats(0.01, 20)))
    peak = draw(learning_rates)
    first, last = (peak * draw(st.floats(0, 1)) for _ in range(2))
    return TimmCosine(peak, num_epochs, draw(st.integers(1, 7)), warmup, first, last, cooldown)


@given(st.one_of(cosines(), step_decays(), linears()))
def test_every_schedule(schedule: Cosine | StepDecay | Linear) -> None:
    peak, m = schedule.learning_rate, schedule.warmup_steps
    num_steps = schedule.milestones[-1] + 5 if isinstance(schedule, StepDecay) else schedule.num_steps
    rates = [schedule(step) for step in range(num_steps)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    assert all(after > before for before, after in pairwise(rates[:m]))
    assert all(after <= before for before, after in pairwise(rates[m:]))
    if m:
        # The warmup's last step has reached the peak: a line through 0 hits it there, and nothing jumps at its end.
        assert math.isclose(rates[m - 1], peak, rel_tol=1e-12)
        assert math.isclose(rates[0], peak / m, rel_tol=1e-12)


@given(cosines())
def test_cosine_starts_at_the_peak_and_ends_at_zero(schedule: Cosine) -> None:
    assert math.isclose(schedule(schedule.warmup_steps), schedule.learning_rate, rel_tol=1e-12)
    assert abs(schedule(schedule.num_steps)) <= 1e-12 * schedule.learning_rate
    # A cosine is antisymmetric about its middle: rates at t and T - t add up to the peak.
    duration = schedule.num_steps - schedule.warmup_steps
    for t in range(duration + 1):
        pair = schedule(schedule.warmup_steps + t) + schedule(schedule.num_steps - t)
        assert math.isclose(pair, schedule.learning_rate, rel_tol=1e-9) or t == 0


@given(step_decays())
def test_step_decay_changes_at_milestones_only(schedule: StepDecay) -> None:
    last = schedule.milestones[-1] + 5
    drops = {
        step + 1 for step in range(schedule.warmup_steps, last) if not math.isclose(schedule(step), schedule(step + 1))
    }
    assert drops == {milestone for milestone in schedule.milestones if milestone > schedule.warmup_steps}
    lowest = schedule.learning_rate * schedule.factor ** len(schedule.milestones)
    assert math.isclose(schedule(last), lowest)


@given(linears())
def test_linear_falls_by_the_same_amount_every_step_and_ends_at_zero(schedule: Linear) -> None:
    assert math.isclose(schedule(schedule.warmup_steps), schedule.learning_rate, rel_tol=1e-12)
    assert schedule(schedule.num_steps) == 0
    step = schedule.learning_rate / (schedule.num_steps - schedule.warmup_steps)
    rates = [schedule(k) for k in range(schedule.warmup_steps, schedule.num_steps + 1)]
    assert all(math.isclose(before - after, step, rel_tol=1e-6) for before, after in pairwise(rates))


@given(timm_cosines())
def test_timms_cosine_is_bounded_constant_in_epochs_and_ends_at_its_least(schedule: TimmCosine) -> None:
    peak, least, per_epoch = schedule.learning_rate, schedule.min_learning_rate, schedule.steps_per_epoch
    num_steps = math.ceil(schedule.num_epochs * per_epoch)
    rates = [schedule(step) for step in range(num_steps)]
    warmup, tail = schedule.warmup_epochs * per_epoch, math.ceil(schedule.num_epochs - schedule.cooldown_epochs)
    assert all(math.isclose(rate, rates[step - step % per_epoch]) for step, rate in enumerate(rates))
    assert all(min(schedule.warmup_learning_rate, least) <= rate <= peak * (1 + 1e-12) for rate in rates[:warmup])
    assert all(least <= rate <= peak * (1 + 1e-12) for rate in rates[warmup:])
    assert all(after >= before for before, after in pairwise(rates[:warmup]))
    assert all(after <= before for before, after in pairwise(rates[warmup:]))
    assert all(rate == least for rate in rates[tail * per_epoch :])
    if schedule.warmup_epochs:
        assert rates[0] == schedule.warmup_learning_rate
