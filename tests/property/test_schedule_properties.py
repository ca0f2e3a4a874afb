"""What holds for every schedule: bounded, rising in warmup, continuous where it ends, never rising after."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fastbot.schedules import Cosine, StepDecay

learning_rates = st.floats(1e-6, 1e3)


@st.composite
def cosines(draw: st.DrawFn) -> Cosine:
    num_steps = draw(st.integers(1, 400))
    return Cosine(draw(learning_rates), num_steps, draw(st.integers(0, num_steps - 1)))


@st.composite
def step_decays(draw: st.DrawFn) -> StepDecay:
    milestones = tuple(sorted(draw(st.sets(st.integers(0, 300), min_size=1, max_size=4))))
    return StepDecay(draw(learning_rates), milestones, draw(st.integers(0, milestones[0])), draw(st.floats(0.05, 0.9)))


@given(st.one_of(cosines(), step_decays()))
def test_every_schedule(schedule: Cosine | StepDecay) -> None:
    peak, m = schedule.learning_rate, schedule.warmup_steps
    num_steps = schedule.num_steps if isinstance(schedule, Cosine) else schedule.milestones[-1] + 5
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
