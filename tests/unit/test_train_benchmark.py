from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.measure import Case, Effort, Result, measure
from benchmarks.rungs import train, training
from benchmarks.rungs.training import Course, build_trainer, open_pipeline, recipe_of
from datasets_tools.store import Store
from fastbot.distributed import joined
from fastbot.errors import RunError
from fastbot.recipe import Recipe


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_PATIENCE_S", 0.0)


def test_a_training_stands_beside_its_parts(tiny_recipe: Path, store: Store) -> None:
    recipe = recipe_of(str(tiny_recipe), batch_size=8, size=16)
    results = train.run(recipe, store, backend="torch", device="cpu", steps=1, effort=Effort(repeats=2))
    found = {(result.case, result.peer): result for result in results}
    assert found.keys() == {
        ("train", "loader alone"),
        ("train", "step alone"),
        ("loader alone", "step alone"),
        ("step alone", "step alone"),
    }
    whole, step = found["train", "loader alone"], found["step alone", "step alone"]
    loader = found["loader alone", "step alone"]
    parts = zip(whole.samples, loader.samples, step.samples, strict=True)
    expected = statistics.median(max(both / one, both / other) for both, one, other in parts)
    assert whole.details["of_the_slower"] == pytest.approx(expected)
    assert 0 < whole.details["data_wait_share"] < 1
    assert whole.details["host_mb"] > 10
    assert "share the cores" in whole.notes
    assert all((result.details["backend"], result.details["device"]) == ("torch", "cpu") for result in results)


def test_what_sharing_the_cores_allows_is_the_sum_of_both_times() -> None:
    """2 s and 6 s for 60 pictures are 8 s when one waits for the other: 7.5 a second. Reached are 5."""
    rates = {"train": 5.0, "loader alone": 30.0, "step alone": 10.0}
    results = [Result("train", case, case, "images/s", (rate,), (1.0,)) for case, rate in rates.items()]
    first, *others = train._described(results, {"data_wait_share": 0.25}, shares_cores=True)
    assert first.details["of_the_slower"] == pytest.approx(0.5)
    assert first.details["of_what_sharing_cores_allows"] == pytest.approx(5 / 7.5)
    assert all("of_the_slower" not in other.details for other in others)
    first, *_ = train._described(results, {"data_wait_share": 0.25}, shares_cores=False)
    assert "of_what_sharing_cores_allows" not in first.details


class _SlowToStart:
    """A trainer whose first steps compile, and whose clocks say so: 10 s a step, 9 of them waiting; then 1 s, 0.25."""

    def __init__(self, recipe: Recipe, num_slow: int) -> None:
        self.recipe, self.ranks = recipe, SimpleNamespace(world_size=1)
        self.step = self.total_steps = 0
        self.train_data: object = None
        self._num_slow = num_slow
        self._train_s = self._wait_s = 0.0
        self.clock = SimpleNamespace(seconds=lambda: self._train_s)
        self.waited = SimpleNamespace(seconds=lambda: self._wait_s)

    def fit(self, _: object) -> None:
        while self.step < self.total_steps:
            slow = self.step < self._num_slow
            self._train_s += 10 if slow else 1
            self._wait_s += 9 if slow else 0.25
            self.step += 1


def test_steps_before_a_turn_are_no_part_of_the_wait(tiny_recipe: Path) -> None:
    trainer = _SlowToStart(recipe_of(str(tiny_recipe)), training.WARM_STEPS)
    watched = train._Watched(Course(trainer, None))  # type: ignore[arg-type]
    watched.ready()
    for _ in range(2):
        watched.go(3)
    assert watched.share(repeats=1) == 0.25


def test_the_wait_is_of_the_turns_that_count(tiny_recipe: Path) -> None:
    """The first turn, which finds how long turns are, compiles here."""
    trainer = _SlowToStart(recipe_of(str(tiny_recipe)), training.WARM_STEPS + 2)
    watched = train._Watched(Course(trainer, None))  # type: ignore[arg-type]
    case = Case("train", partial(watched.go, 2), "train", before=watched.ready)
    measure("train", [case], Effort(repeats=3, warmups=1))
    assert watched.share(repeats=3) == 0.25


def test_courses_that_share_a_trainer_keep_their_own_places(tiny_recipe: Path, store: Store) -> None:
    """And none comes to an end: an epoch has 4 steps here."""
    recipe = recipe_of(str(tiny_recipe), size=16)
    with joined("cpu") as ranks:
        pipeline, synthetic = (open_pipeline(recipe, store, name, ranks) for name in ("torch", "synthetic"))
        trainer = build_trainer(recipe, pipeline, store, ranks)
        first, second = Course(trainer, pipeline), Course(trainer, synthetic)
        assert first.go(3) == 3 * recipe.data.global_batch_size
        assert second.go(1) == recipe.data.global_batch_size
        first.go(2)
        assert trainer.step == 5
        second.go(1)
        assert trainer.step == 2
        pipeline.close()
        synthetic.close()


def test_a_teacher_is_refused(store: Store) -> None:
    recipe = recipe_of("bot-resnet50d-distill", ["data.global_batch_size=8"], size=32)
    with joined("cpu") as ranks:
        pipeline = open_pipeline(recipe, store, "synthetic", ranks)
        with pytest.raises(RunError, match=r"distillation\.kind=none"):
            build_trainer(recipe, pipeline, store, ranks)
        pipeline.close()
