"""What happens after steps, on a trainer whose pixels cost nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import ALONE, pipelines

from datasets_tools.store import Store
from fastbot.checkpoint import Conditions, Identity
from fastbot.display import Silent
from fastbot.errors import RunError
from fastbot.hooks import Evaluate, ReadMetrics, Results, Save, SaveOrStop, Stopped
from fastbot.recipe_files import load_recipe
from fastbot.runs import RunFolder, build_journal
from fastbot.trainer import Trainer
from pipelines.batch import Batch
from pipelines.pipeline import Pipeline

SCORES = {"loss": 1.0, "top1": 0.5, "top5": 0.5}
IDENTITY = Identity("digest", "manifest", {}, ("a",), Conditions({}, 1, 1, "cpu", "synthetic"))


def train(store: Store, file: Path, folder: Path, *overrides: str, stop_after: int | None = None) -> RunFolder:
    """Train with every hook; `stop_after` asks to stop once that step is done."""
    recipe = load_recipe(str(file), overrides).resolved()
    trainer = Trainer(recipe, *pipelines(store, recipe), store.num_classes, ALONE)
    run, results = RunFolder(folder), Results()
    run.create(recipe, [], resume=False)
    with build_journal(run, 0, writes=True) as journal:
        metrics = ReadMetrics(trainer, journal, Silent(), recipe.run.log_every)
        save = Save(trainer, run, IDENTITY, results, metrics)
        stop = SaveOrStop(trainer, save, recipe.run, lambda: stop_after is not None and trainer.step >= stop_after)
        every, before = recipe.run.eval_every, stop.before_evaluation
        evaluate = Evaluate(trainer, journal, Silent(), metrics, save, results, every, before)
        trainer.fit((metrics, evaluate, stop))
    return run


def train_steps(run: RunFolder) -> list[int]:
    return [record["step"] for record in run.records() if record["kind"] == "train"]


def test_metrics_are_read_every_n_steps_and_at_the_end(store: Store, tiny_recipe: Path, tmp_path: Path) -> None:
    run = train(store, tiny_recipe, tmp_path / "run", "run.log_every=3")
    assert train_steps(run) == [3, 6, 8]
    assert all(record["images_per_s"] > 0 for record in run.records() if record["kind"] == "train")


def test_a_last_evaluation_of_nan_fails_the_run(
    store: Store, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def evaluate(self: Trainer) -> dict[str, float]:
        steps.append(self.step)
        return {"loss": math.nan, "top1": 0.0, "top5": 0.0}

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    with pytest.raises(RunError, match="the validation loss is nan at the end, step 8"):
        train(store, tiny_recipe, tmp_path / "run")
    assert steps == [4, 8]  # training may recover from an earlier one
    assert RunFolder(tmp_path / "run").checkpoints.load().state["step"] == 4


def test_a_stop_loses_no_reading(store: Store, tiny_recipe: Path, tmp_path: Path) -> None:
    """The reading of the very step at which a run stops is reported before the checkpoint is written."""
    with pytest.raises(Stopped, match="stopped at step 3; continue with --resume"):
        train(store, tiny_recipe, tmp_path / "run", "run.log_every=3", stop_after=3)
    run = RunFolder(tmp_path / "run")
    assert train_steps(run) == [3]
    assert run.checkpoints.load().state["step"] == 3
    assert run.checkpoints.load().state["sums"].sum() == 0


@pytest.mark.parametrize("step", [4, 8])  # the last step too: whoever resumes evaluates, and is done
def test_a_stop_is_not_kept_waiting_by_an_evaluation(
    step: int, store: Store, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = []
    monkeypatch.setattr(Trainer, "evaluate", lambda self: evaluated.append(self.step) or SCORES)
    with pytest.raises(Stopped, match=f"stopped at step {step};"):
        train(store, tiny_recipe, tmp_path / "run", stop_after=step)
    assert step not in evaluated
    state = RunFolder(tmp_path / "run").checkpoints.load().state
    assert (state["step"], state["unevaluated"]) == (step, True)


def test_an_evaluation_made_up_for_is_saved_at_the_same_step(store: Store, tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(store, tiny_recipe, tmp_path / "run", stop_after=4)
    run, recipe = RunFolder(tmp_path / "run"), load_recipe(str(tiny_recipe)).resolved()
    trainer, results = Trainer(recipe, *pipelines(store, recipe), store.num_classes, ALONE), Results()
    saved = run.checkpoints.load()
    trainer.load_state(saved.weights, saved.average, saved.state)
    with build_journal(run, trainer.step, writes=True) as journal:
        metrics = ReadMetrics(trainer, journal, Silent(), recipe.run.log_every)
        save = Save(trainer, run, IDENTITY, results, metrics)
        every, nobody = recipe.run.eval_every, SaveOrStop(trainer, save, recipe.run, lambda: False)
        Evaluate(trainer, journal, Silent(), metrics, save, results, every, nobody.before_evaluation).now(trainer.step)
    best = run.checkpoints.load("best").state
    assert (best["step"], best["unevaluated"], best["results"]["top1"]) == (4, False, results.top1)
    assert [record["step"] for record in run.records() if record["kind"] == "eval"] == [4]


def test_a_stop_between_readings_keeps_the_sums(store: Store, tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(store, tiny_recipe, tmp_path / "run", "run.log_every=3", stop_after=2)
    assert RunFolder(tmp_path / "run").checkpoints.load().state["sums"][3] == 2 * 16  # rows seen since step 0


def test_a_loss_that_is_not_finite_never_replaces_a_good_checkpoint(
    store: Store, tiny_recipe: Path, tmp_path: Path
) -> None:
    overrides = ("optimizer.learning_rate=1e18", "run.checkpoint_steps=1", "run.log_every=4", "schedule.warmup=0")
    with pytest.raises(RunError, match=r"the loss is (nan|inf) between steps"):
        train(store, tiny_recipe, tmp_path / "run", *overrides)
    run = RunFolder(tmp_path / "run")
    if run.checkpoints.exists():
        assert math.isfinite(float(run.checkpoints.load().state["sums"].sum()))
    assert not (run.checkpoints.path / "best").exists()


def test_a_batch_of_which_every_picture_was_skipped_teaches_nothing_and_breaks_nothing(
    store: Store, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Pipeline.batches

    def second_weightless(self: Pipeline, *arguments: Any) -> Iterator[Batch]:
        for step, batch in enumerate(original(self, *arguments)):
            yield replace(batch, weight=torch.zeros_like(batch.weight)) if step == 1 else batch

    monkeypatch.setattr(Pipeline, "batches", second_weightless)
    run = train(store, tiny_recipe, tmp_path / "run")
    assert train_steps(run) == [1, 3, 4, 5, 7, 8]
    assert all(math.isfinite(record["loss"]) for record in run.records())
    assert all(value.isfinite().all() for value in run.checkpoints.load().weights.values())


def test_checkpoints_come_every_so_many_steps_and_after_evaluations(
    store: Store, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    original = Save.now

    def watched(self: Save, step: int, *, best: bool = False) -> None:
        saved.append(step)
        original(self, step, best=best)

    monkeypatch.setattr(Save, "now", watched)
    run = train(store, tiny_recipe, tmp_path / "run", "run.checkpoint_steps=3")
    assert saved == [3, 4, 6, 8]
    evaluations = {record["step"]: record["top1"] for record in run.records() if record["kind"] == "eval"}
    assert evaluations.keys() == {4, 8}
    best = run.checkpoints.load("best").state
    assert best["results"]["best_top1"] == max(evaluations.values())
    assert evaluations[best["step"]] == max(evaluations.values())


def test_a_checkpoint_is_due_after_so_many_minutes(store: Store, tiny_recipe: Path, tmp_path: Path) -> None:
    overrides = ("run.checkpoint_minutes=1e-9", 'run.eval_every="99 steps"')
    with pytest.raises(Stopped):
        train(store, tiny_recipe, tmp_path / "run", *overrides, stop_after=2)
    assert RunFolder(tmp_path / "run").checkpoints.load().state["step"] == 2
    assert torch.is_tensor(RunFolder(tmp_path / "run").checkpoints.load().state["sums"])
