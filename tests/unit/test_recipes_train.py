"""Every packaged recipe is built and trains two steps, at a reduced size: made-up pixels, 32 of them a side, on a CPU.

What stays is all that makes a recipe itself: network, initialization, loss, teacher, optimizer, schedule, augmentation,
mixing and order.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import TINY_RECIPE

from datasets_tools.store import Store
from fastbot.cli.start import checked_start
from fastbot.cli.train import run_training
from fastbot.distributed import Ranks
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe, recipe_names
from fastbot.teachers import load_teacher
from fastbot.trainer import Trainer
from pipelines.pipeline import Place, open_eval, open_train

ALONE = Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1, device=torch.device("cpu"))
PLACE = Place("synthetic", torch.device("cpu"))
ROWS = 8


class TwoStepsDone(Exception):
    """Ends a training."""


@pytest.fixture(scope="module")
def teacher(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of one step, on the store that the recipes train on."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    overrides = ['epochs="1 steps"', 'schedule.warmup="0 steps"']
    start = checked_start(str(folder / "tiny.toml"), overrides, store_path, folder / "run", resume=False)
    run_training(start, "synthetic", ALONE)
    return folder / "run"


def reduced(name: str, teacher: Path) -> Recipe:
    """Return a recipe as it is, but small: durations stay, so its schedule's first steps are the real ones."""
    whole = load_recipe(name)
    size = 75 if whole.model.name == "inception_v3" else 32  # the least that Inception-V3 takes
    overrides = [
        f"data.global_batch_size={ROWS}",
        f"data.crop_size={size}",
        f"data.eval={{resize_size={size + 4}, crop_size={size}, global_batch_size={ROWS}}}",
        "precision.kind=fp32",  # a CPU computes fp16 far slower
    ]
    if whole.data.mix.kind != "none":
        overrides.append(f"data.mix.group={ROWS // 2}")
    if whole.data.size_ramp is not None:
        overrides.append(f"data.size_ramp.start_size={size}")
    if whole.distillation.kind != "none":
        overrides.append(f"distillation.teacher={teacher}")
    return load_recipe(name, overrides).resolved()


def every_recipe() -> list[Any]:
    """Return the recipes; those built of the same parts as another are of the slow tier."""
    repeats = ("bot-table4-*", "bot-places365*", "bot-resnet152d-*", "bot-inceptionv3-[cs]*", "ffcv-rn50-[2-8]*")
    slow = {name for pattern in repeats for name in fnmatch.filter(recipe_names(), pattern)}
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in recipe_names()]


@pytest.mark.parametrize("name", every_recipe())
def test_a_recipe_is_built_and_trains_two_steps(name: str, store: Store, teacher: Path) -> None:
    recipe = reduced(name, teacher)
    data = (
        open_train(store.split("train"), recipe.data, store.num_classes, PLACE, seed=0),
        open_eval(store.split("val"), recipe.data, store.num_classes, PLACE),
    )
    network = None
    if recipe.distillation.kind == "teacher":
        network, _ = load_teacher(recipe.distillation, store.class_names, recipe.data, ALONE.device, "fp32")
    trainer = Trainer(recipe, *data, store.num_classes, ALONE, network)
    last = list(trainer.bare.parameters())[-2]
    start = last.detach().clone()
    rates = []

    def stop_after_two(step: int) -> None:
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        if step == 2:
            raise TwoStepsDone

    with pytest.raises(TwoStepsDone):
        trainer.fit([stop_after_two])
    assert rates == pytest.approx([trainer.schedule(0), trainer.schedule(1)])
    loss, _, _, rows = trainer.sums.values.tolist()
    assert rows == 2 * ROWS
    assert 0 < loss < float("inf")
    assert all(tensor.isfinite().all() for tensor in trainer.bare.state_dict().values())
    assert not torch.equal(last, start)
