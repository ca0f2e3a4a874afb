"""A key that is written and changes nothing is told of; one that a child or an override has switched off is not."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastbot.idle_keys import idle_keys
from fastbot.recipe_files import load_recipe, recipe_names, write_recipe

HEAD = 'name = "mine"\nabout = "mine"\nepochs = 3\n'


def told(name: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_recipe(str(name), overrides)
    return [str(warning.message) for warning in caught]


def keys_told(name: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    return [line.partition(" has no effect in recipe ")[0] for line in told(name, overrides)]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["loss.smoothing=all"], ["loss.smoothing"]),
        (["loss={kind='bce', smoothing='others', target_threshold=0.2}"], ["loss.smoothing"]),
        (["optimizer.learning_rate=0.3", "optimizer.scaling=sqrt"], ["optimizer.scaling"]),
        (
            ["optimizer.learning_rate=0.3", "optimizer.base_learning_rate=1", "optimizer.base_batch_size=8"],
            ["optimizer.base_batch_size", "optimizer.base_learning_rate"],
        ),
        (["optimizer.scaling=none", "optimizer.base_batch_size=8"], ["optimizer.base_batch_size"]),
        (["optimizer.weight_decay=0", "optimizer.bias_decay=false"], ["optimizer.bias_decay"]),
        (["optimizer={kind='lamb', weight_decay=0.0, trust_clip=true}"], ["optimizer.trust_clip"]),
        (
            ["schedule.kind=timm_cosine", 'schedule.warmup="0 steps"', "schedule.warmup_learning_rate=1e-5"],
            ["schedule.warmup_learning_rate"],
        ),
        (["schedule={kind='step', milestones=[], factor=0.5}"], ["schedule.factor"]),
        (
            ["data.auto_augment={kind='rand', probability=0, layers=3, fill=[1, 2, 3]}"],
            ["data.auto_augment.fill", "data.auto_augment.layers"],
        ),
        (["data.erasing.mode=rand", "data.erasing.area=[0.1, 0.2]"], ["data.erasing.area", "data.erasing.mode"]),
        (["data.mix={kind='mixup', probability=0, alpha=0.3, group=64}"], ["data.mix.alpha"]),
        (["data.mix={kind='mixup_cutmix', switch=1, mixup_alpha=0.3, cutmix_alpha=0.3}"], ["data.mix.mixup_alpha"]),
        (["data.mix={kind='mixup_cutmix', switch=0, mixup_alpha=0.3, cutmix_alpha=0.3}"], ["data.mix.cutmix_alpha"]),
        (["data.order={kind='weighted', weights=[1, 2], power=0.5}"], ["data.order.power"]),
    ],
)
def test_an_override_without_effect_is_told_of(overrides: list[str], keys: list[str]) -> None:
    assert keys_told("bot-baseline", overrides) == keys


def test_the_line_says_where_why_and_what_to_do() -> None:
    assert told("bot-baseline", ["optimizer.learning_rate=0.3", "optimizer.scaling=sqrt", "loss.smoothing=all"]) == [
        "loss.smoothing has no effect in recipe bot-baseline: loss.label_smoothing is 0.0. "
        "Leave loss.smoothing out, or change loss.label_smoothing",
        "optimizer.scaling has no effect in recipe bot-baseline: optimizer.learning_rate is 0.3. "
        "Leave optimizer.scaling out, or leave optimizer.learning_rate out",
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss.smoothing=all", "loss.label_smoothing=0.1"],
        ["optimizer.learning_rate=0.3"],  # the recipe's base_learning_rate was written before
        ["optimizer.base_learning_rate=0.3", "optimizer.scaling=sqrt"],
        ["optimizer.weight_decay=0"],
        ["data.erasing={probability=0.5, mode='rand'}"],
        ["data.mix={kind='mixup_cutmix', mixup_alpha=0.3, cutmix_alpha=0.3}"],
        ["data.order={kind='weighted', power=0.5}"],
        ["schedule.kind=timm_cosine", "schedule.warmup_learning_rate=1e-5"],
    ],
)
def test_what_has_an_effect_or_is_switched_off_is_not(overrides: list[str]) -> None:
    assert not told("bot-baseline", overrides)


@pytest.mark.parametrize("name", recipe_names())
def test_packaged_recipes_write_nothing_in_vain(name: str) -> None:
    assert not told(name)


@pytest.mark.parametrize("parent", ["ffcv-rn50-16ep", "rsb-a1"])
def test_a_child_that_switches_something_off_inherits_in_silence(parent: str, tmp_path: Path) -> None:
    off = "[loss]\nlabel_smoothing = 0.0\n[optimizer]\nweight_decay = 0.0\nlearning_rate = 0.001\n"
    child = write(tmp_path / "child.toml", f'parent = "{parent}"\nname = "child"\n{off}')
    assert idle_keys(load_recipe(str(child))).keys() > {"loss.smoothing", "optimizer.bias_decay", "optimizer.scaling"}
    assert not told(child)


def test_a_files_own_keys_count_and_its_parents_do_not(tmp_path: Path) -> None:
    parent = write(tmp_path / "parent.toml", HEAD + "[loss]\nsmoothing = 'all'\n")
    assert keys_told(parent) == ["loss.smoothing"]
    child = write(tmp_path / "child.toml", 'parent = "parent.toml"\n[data.erasing]\nmode = "rand"\n')
    assert keys_told(child) == ["data.erasing.mode"]
    assert not told(parent, ["loss.label_smoothing=0.1"])
    assert not told(child, ["data.erasing.probability=0.1"])


def test_what_an_override_switches_off_in_a_file_is_not_told_of(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.toml", HEAD + "[loss]\nlabel_smoothing = 0.1\nsmoothing = 'all'\n")
    assert not told(file, ["loss.label_smoothing=0"])
    assert keys_told(file, ["loss.label_smoothing=0", "loss.smoothing=all"]) == ["loss.smoothing"]


@pytest.mark.parametrize("overrides", [[], ["optimizer.learning_rate=0.3", "ema.decay=0.9"]])
def test_what_a_run_keeps_is_read_in_silence(overrides: list[str], tmp_path: Path) -> None:
    recipe = load_recipe("bot-baseline", overrides)
    file = write(tmp_path / "recipe.toml", write_recipe(recipe))
    assert idle_keys(recipe.resolved())
    assert not told(file)
    assert keys_told(file, ["optimizer.scaling=sqrt"]) == ["optimizer.scaling"]


def test_one_rank_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert not told("bot-baseline", ["loss.smoothing=all"])


def test_milestones_that_training_does_not_reach_are_told_of(tmp_path: Path) -> None:
    (line,) = told(write(tmp_path / "mine.toml", HEAD + 'schedule = { kind = "step", milestones = [1, 9] }\n'))
    assert line.startswith("schedule.milestones has 9 epochs in recipe ")
    (line,) = told("bot-baseline", ["epochs=60"])
    assert line == (
        "schedule.milestones has 60 epochs, 90 epochs in recipe bot-baseline, not before its end at 60 epochs: "
        "that has no effect. Change schedule.milestones, or epochs"
    )
    assert told("bot-baseline", ['schedule.milestones=["9 steps", 30]']) == []  # another unit: nobody can say yet
    assert told("bot-baseline") == told("bot-baseline", ["epochs=91"]) == told("demo", ["epochs=1"]) == []


def test_who_switches_an_average_on_by_half_is_told_the_other_half() -> None:
    (line,) = told("demo", ["ema.every=2"])
    assert "ema.every switches the moving average of the weights on" in line
    assert "with ema.decay 0.9999" in line
    assert told("demo", ["ema.every=2", "ema.decay=0.99"]) == told("demo", ["ema.decay=0.99"]) == []
    assert told("rsb-a2", ["ema={decay=0.99, every=2}"]) == []
