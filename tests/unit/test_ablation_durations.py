from __future__ import annotations

import pytest

from fastbot.ablation.durations import scaled_durations
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, recipe_names
from fastbot.schedules import build_schedule


def scaled(name: str, factor: float, *overrides: str) -> Recipe:
    """A recipe with overrides, the durations that they do not give scaled."""
    keys = [override.partition("=")[0] for override in overrides]
    before = load_recipe(name, [f"{key}=linear" for key in keys if key == "schedule.kind"])
    return load_recipe(name, [*scaled_durations(before, factor, keys), *overrides])


def test_a_tenth_of_the_papers_baseline() -> None:
    recipe = scaled("bot-efficient", 0.1)
    assert str(recipe.epochs) == "12 epochs"
    assert str(recipe.schedule.warmup) == "0.5 epochs"
    assert recipe.schedule.kind == "step"
    assert [str(milestone) for milestone in recipe.schedule.milestones] == ["3 epochs", "6 epochs", "9 epochs"]
    assert recipe.run == load_recipe("bot-efficient").run


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).schedule.kind != "timm_cosine"])
def test_the_learning_rate_has_the_same_shape(name: str) -> None:
    """A tenth of the epochs of ten times the steps is, step for step, the recipe itself."""
    whole, tenth = load_recipe(name), scaled(name, 0.1)
    curves = [
        build_schedule(recipe.schedule, 1.0, recipe.epochs, steps_per_epoch)
        for recipe, steps_per_epoch in ((whole, 40), (tenth, 400))
    ]
    steps = whole.epochs.steps(40)
    assert tenth.epochs.steps(400) == steps
    assert [curves[1](step) for step in range(steps)] == pytest.approx([curves[0](step) for step in range(steps)])


def test_timms_cooldown_is_scaled_too() -> None:
    schedule = scaled("rsb-a2", 0.5).schedule
    before = load_recipe("rsb-a2").schedule
    assert schedule.kind == before.kind == "timm_cosine"
    assert (before.cooldown.value, before.warmup.value) == (0, 5)
    assert (schedule.cooldown.value, schedule.warmup.value) == (0, 2)


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).schedule.kind == "timm_cosine"])
@pytest.mark.parametrize("factor", [0.1, 0.33, 0.02])
def test_timms_warmup_and_cooldown_are_whole_epochs(name: str, factor: float) -> None:
    """Its rate changes once an epoch, and it takes nothing else."""
    before = scaled(name, 1.0, 'schedule.cooldown="10 epochs"')
    recipe = load_recipe(name, ["schedule.cooldown=10", *scaled_durations(before, factor)])
    assert recipe.schedule.kind == "timm_cosine"
    assert (recipe.schedule.warmup.value, recipe.schedule.cooldown.value) == (round(5 * factor), round(10 * factor))
    assert recipe.epochs.value == pytest.approx(before.epochs.value * factor)
    rate = build_schedule(recipe.schedule, 1.0, recipe.epochs, 40)
    assert 0 < rate(0) <= 1


def test_timms_warmup_in_steps_stays() -> None:
    recipe = load_recipe("rsb-a3", ['schedule.warmup="40 steps"'])
    assert 'schedule.warmup="40 steps"' in scaled_durations(recipe, 0.1)


def test_the_ratio_of_120_to_200_epochs_is_kept() -> None:
    epochs = [scaled(name, 0.03).epochs.value for name in ("bot-resnet50d-cosine", "bot-resnet50d-mixup")]
    assert epochs == pytest.approx([3.6, 6.0])


def test_what_the_user_gives_stays_as_given() -> None:
    recipe = scaled("bot-efficient", 0.1, "epochs=7", 'schedule.warmup="20 steps"')
    assert (str(recipe.epochs), str(recipe.schedule.warmup)) == ("7 epochs", "20 steps")
    assert recipe.schedule.kind == "step"
    assert recipe.schedule.milestones[0].value == 3


def test_steps_are_not_scaled() -> None:
    recipe = load_recipe("bot-efficient", ['epochs="900 steps"', 'schedule.milestones=["100 steps", 30]'])
    found = dict(override.split("=", 1) for override in scaled_durations(recipe, 0.1))
    assert found["epochs"] == '"900 steps"'
    assert found["schedule.milestones"] == '["100 steps", "3 epochs"]'


def test_a_schedule_of_another_kind_is_scaled_by_its_own_durations() -> None:
    schedule = scaled("bot-efficient", 0.1, "schedule.kind=linear").schedule
    assert (schedule.kind, schedule.warmup.value) == ("linear", pytest.approx(0.2))


def test_progressive_resizing_keeps_whole_epochs() -> None:
    before = load_recipe("ffcv-rn50-16ep").data.size_ramp
    assert before is not None
    for factor in (0.5, 0.01):
        after = scaled("ffcv-rn50-16ep", factor).data.size_ramp
        assert after is not None
        assert after.start_epoch == round(before.start_epoch * factor)
        assert after.end_epoch == max(after.start_epoch + 1, round(before.end_epoch * factor))
    given = scaled("ffcv-rn50-16ep", 0.5, "data.size_ramp.end_epoch=9").data.size_ramp
    assert given is not None
    assert given.end_epoch == 9


def test_a_factor_of_one_changes_nothing() -> None:
    assert scaled_durations(load_recipe("bot-efficient"), 1.0) == []
