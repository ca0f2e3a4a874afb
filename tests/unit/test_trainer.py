"""The trainer on synthetic pixels: the loop's promises, without decoding."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dispatched import Operations
from torch import nn

from datasets_tools.store import Store
from fastbot.distributed import Ranks
from fastbot.errors import CheckpointError, RecipeError
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.trainer import Trainer, _step_seed
from pipelines.pipeline import Pipeline, Place, open_eval, open_train

ALONE = Ranks(rank=0, local_rank=0, world_size=1, local_world_size=1, device=torch.device("cpu"))
PLACE = Place("synthetic", torch.device("cpu"))


def pipelines(store: Store, recipe: Recipe) -> tuple[Pipeline, Pipeline]:
    train = open_train(store.split("train"), recipe.data, store.num_classes, PLACE, seed=recipe.seed)
    return train, open_eval(store.split("val"), recipe.data, store.num_classes, PLACE)


def build(store: Store, file: Path, *overrides: str) -> Trainer:
    recipe = load_recipe(str(file), overrides).resolved()
    return Trainer(recipe, *pipelines(store, recipe), store.num_classes, ALONE)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize("mix", ["none", "mixup"])
def test_a_step_never_reads_a_tensor(kind: str, mix: str, store: Store, tiny_recipe: Path) -> None:
    group = ["data.mix.group=8"] if mix == "mixup" else []
    trainer = build(store, tiny_recipe, f"precision.kind={kind}", f"data.mix.kind={mix}", *group, 'epochs="3 steps"')
    with Operations() as calls:
        trainer.fit([])
    assert calls.counts["aten.convolution.default"] > 0, "the mode saw nothing"
    assert calls.counts["aten._local_scalar_dense.default"] == 0


EVERYTHING = (
    "optimizer.kind=lamb",
    "loss.kind=bce",
    "ema.decay=0.9",
    "model.drop_path=0.1",
    "model.bn_batch=4",
    "micro_batches=2",
    'schedule={kind="timm_cosine", warmup=0}',
)


@pytest.mark.parametrize("clip", ["norm", "value", "agc"])
def test_a_step_of_every_trick_never_reads_a_tensor(clip: str, store: Store, tiny_recipe: Path) -> None:
    trainer = build(store, tiny_recipe, *EVERYTHING, f"clip.kind={clip}", 'epochs="3 steps"')
    counts = []

    def count(step: int) -> None:
        counts.append(calls.counts["aten._local_scalar_dense.default"])

    with Operations() as calls:
        trainer.fit([count])
    assert calls.counts["aten._fused_adam_.default"] > 0, "the mode saw nothing"
    assert counts[0] == counts[-1]  # the first step makes LAMB's buffers


@pytest.mark.parametrize("kind", ["fp32", "fp16"])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(kind: str, store: Store, tiny_recipe: Path) -> None:
    # Without batch statistics: a part's are not the batch's.
    overrides = (f"precision.kind={kind}", "model.name=torchvision:squeezenet1_1", "model.init=default")
    overrides = (*overrides, "data.mix.kind=mixup", "data.mix.group=8", 'epochs="1 steps"', 'schedule.warmup="0 steps"')
    weights = []
    for micro_batches in (1, 4):
        trainer = build(store, tiny_recipe, *overrides, f"micro_batches={micro_batches}")
        dropouts = [module for module in trainer.bare.modules() if isinstance(module, nn.Dropout)]
        assert dropouts  # parts would draw other masks than the whole
        for dropout in dropouts:
            dropout.p = 0
        start = {name: tensor.clone() for name, tensor in trainer.bare.state_dict().items()}
        trainer.fit([])
        weights.append({name: tensor - start[name] for name, tensor in trainer.bare.state_dict().items()})
        assert trainer.sums.values[3] == 16
    for name, change in weights[0].items():
        torch.testing.assert_close(weights[1][name], change, rtol=2e-2 if kind == "fp16" else 1e-3, atol=1e-6)
        assert change.abs().max() > 0


def test_an_average_is_evaluated_saved_and_gone_on_from(store: Store, tiny_recipe: Path) -> None:
    overrides = ("ema.decay=0.5", 'epochs="4 steps"')
    whole = build(store, tiny_recipe, *overrides)
    kept: dict[str, Any] = {}

    def keep(step: int) -> None:
        if step == 2:
            kept["weights"] = copy.deepcopy(whole.bare.state_dict())
            kept["average"] = copy.deepcopy(whole.average.state_dict())
            kept["state"] = copy.deepcopy(whole.state())

    whole.fit([keep])
    second = build(store, tiny_recipe, *overrides)
    second.load_state(kept["weights"], kept["average"], kept["state"])
    second.fit([])
    torch.testing.assert_close(second.average.state_dict(), whole.average.state_dict(), rtol=0, atol=0)
    assert second.evaluate() == whole.evaluate()
    assert not torch.equal(whole.average.state_dict()["fc.weight"], whole.bare.state_dict()["fc.weight"])


@pytest.mark.gpu
@pytest.mark.parametrize("tricks", [(), (*EVERYTHING, "clip.kind=agc")], ids=["plain", "every trick"])
@pytest.mark.parametrize("kind", ["fp32", "bf16", "fp16"])
def test_a_step_never_synchronizes_on_a_gpu(
    kind: str, tricks: tuple[str, ...], store: Store, tiny_recipe: Path
) -> None:
    device = torch.device("cuda", 0)
    recipe = load_recipe(str(tiny_recipe), [f"precision.kind={kind}", *tricks]).resolved()
    place = replace(PLACE, device=device)
    data = (
        open_train(store.split("train"), recipe.data, store.num_classes, place, seed=0),
        open_eval(store.split("val"), recipe.data, store.num_classes, place),
    )
    trainer = Trainer(recipe, *data, store.num_classes, Ranks(0, 0, 1, 1, device))

    def strict_from_the_second_step(step: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if step < trainer.total_steps else "default")

    try:
        trainer.fit([strict_from_the_second_step])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == trainer.total_steps


def test_the_learning_rate_of_every_step_is_the_schedules(store: Store, tiny_recipe: Path) -> None:
    trainer = build(store, tiny_recipe)
    used = []
    trainer.fit([lambda step: used.append(trainer.optimizer.param_groups[0]["lr"])])
    peak = 0.1 * 16 / 256
    assert used[:3] == pytest.approx([peak / 2, peak, peak])
    assert len(used) == trainer.total_steps == 8
    assert used[2:] == sorted(used[2:], reverse=True)


def test_going_on_from_a_state_equals_going_on(store: Store, tiny_recipe: Path) -> None:
    whole, first, second = (build(store, tiny_recipe) for _ in range(3))
    whole.fit([])
    kept: dict[str, Any] = {}

    def keep(step: int) -> None:
        if step == 5:
            kept["weights"] = {name: value.clone() for name, value in first.bare.state_dict().items()}
            kept["state"] = copy.deepcopy(first.state())  # the live one shares memory with the optimizer

    first.fit([keep])
    second.load_state(kept["weights"], {}, kept["state"])
    assert second.step == 5
    second.fit([])
    torch.testing.assert_close(second.bare.state_dict(), whole.bare.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_another_network_is_refused(store: Store, tiny_recipe: Path) -> None:
    small, large = build(store, tiny_recipe), build(store, tiny_recipe, "model.name=resnet34d")
    with pytest.raises(CheckpointError, match="does not fit resnet34d"):
        large.load_state(dict(small.bare.state_dict()), {}, small.state())


def test_every_validation_picture_counts_once(store: Store, tiny_recipe: Path) -> None:
    """24 pictures in batches of 16: the padding of the second must not count."""
    trainer = build(store, tiny_recipe)
    seen: Counter[int] = Counter()
    for batch in trainer.eval_data.batches():
        seen.update({int(k): float(w) for k, w in zip(batch.ids, batch.weight, strict=True) if w})
    assert seen == Counter(range(24))
    scores = trainer.evaluate()
    assert (scores["top1"] * 24) % 1 == pytest.approx(0, abs=1e-9)


def test_no_step_at_all_is_an_error(store: Store, tiny_recipe: Path) -> None:
    with pytest.raises(RecipeError, match="epochs is 0 epochs"):
        build(store, tiny_recipe, "epochs=0")


def test_leaving_an_epoch_closes_what_feeds_it(store: Store, tiny_recipe: Path) -> None:
    trainer = build(store, tiny_recipe)
    closed = []
    original = trainer.train_data.batches

    def watched(epoch: int, *arguments: Any) -> Iterator[Any]:
        try:
            yield from original(epoch, *arguments)
        finally:
            closed.append(epoch)

    trainer.train_data.batches = watched  # type: ignore[method-assign, assignment]

    def stop(step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit([stop])
    assert closed == [0, 1]


def test_dropout_masks_resume_too(store: Store, tiny_recipe: Path) -> None:
    """What a model itself draws is keyed by the step, so no generator state needs saving."""
    options = ("model.name=torchvision:mobilenet_v2", "model.init=default")
    whole, first, second = (build(store, tiny_recipe, *options) for _ in range(3))
    whole.fit([])
    kept: dict[str, Any] = {}

    def keep(step: int) -> None:
        if step == 3:
            kept["weights"] = {name: value.clone() for name, value in first.bare.state_dict().items()}
            kept["state"] = copy.deepcopy(first.state())

    first.fit([keep])
    second.load_state(kept["weights"], {}, kept["state"])
    second.fit([])
    torch.testing.assert_close(second.bare.state_dict(), whole.bare.state_dict(), rtol=0, atol=0)


def test_ranks_and_steps_draw_differently() -> None:
    seeds = {_step_seed(seed, step, rank) for seed in range(3) for step in range(50) for rank in range(8)}
    assert len(seeds) == 3 * 50 * 8
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_summary_tells_how_long_the_source_really_slept(store: Store, tiny_recipe: Path) -> None:
    """The oracle is the sleeping source and the clock around `fit`; nothing before `fit` may count."""
    trainer = build(store, tiny_recipe)
    original, slept = trainer.train_data.batches, []

    def slow(*arguments: Any) -> Iterator[Any]:
        for batch in original(*arguments):
            started = time.perf_counter()
            time.sleep(0.1)
            slept.append(time.perf_counter() - started)
            yield batch

    trainer.train_data.batches = slow  # type: ignore[method-assign, assignment]
    time.sleep(0.3)
    started = time.perf_counter()
    trainer.fit([])
    whole = time.perf_counter() - started
    summary = trainer.summary()
    time.sleep(0.05)
    assert summary["images_per_s"] == pytest.approx(8 * 16 / whole, rel=0.05)
    assert summary["data_wait_fraction"] >= 0.8 * sum(slept) / whole
    assert summary["data_wait_fraction"] <= 1
