from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from answering import ask_here, echoed, example, failing
from torch import nn

from benchmarks.rungs import fresh_process, startup, startup_answers
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.startup import Setting
from fastbot.errors import RunError

_OVERRIDES = ("data.global_batch_size=4", "data.crop_size=32")


def test_every_start_has_its_moments_and_parts(
    store_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = []

    def ask(question: Any, *arguments: object, environment: dict[str, str] | None = None) -> Answer:
        caches.append((environment or {}).get("NUMBA_CACHE_DIR"))
        return ask_here(question, *arguments)

    monkeypatch.setattr(fresh_process, "ask", ask)
    results = startup.run(Setting(store_path, str(tiny_recipe), _OVERRIDES, "torch", "cpu"), repeats=2)
    names = ["fastbot, numba's cache empty", "fastbot", "plain loop on torchvision's DataLoader"]
    assert [result.case for result in results] == [
        f"{moment}, {name}" for moment in ("first batch", "first step") for name in names
    ]
    assert [len(result.samples) for result in results] == [1, 2, 2] * 2
    assert {result.peer for result in results} == {results[2].case, results[5].case}
    for batch, step in zip(results[:3], results[3:], strict=True):
        assert 0 < batch.value < step.value
        assert step.details["parts_s"].keys() == {
            *("interpreter", "imports", "store", "pipeline", "first_batch", "model", "first_step")
        }
    ours = {cache for cache in caches if cache}
    assert len(ours) == 1, "what the first process compiles the others find"
    assert caches.count(None) == 3


def test_parts_add_up_and_the_model_is_no_part_of_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 17.0, 25.0])
    monkeypatch.setattr(startup_answers, "age_s", lambda: 0.5)
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    watch = startup_answers.Stopwatch()
    for name in ("imports", "first_batch", "model", "first_step"):
        with watch.part(name):
            pass
    answer = watch.answer()
    assert answer["parts_s"] == {"interpreter": 0.5, "imports": 1, "first_batch": 2, "model": 4, "first_step": 8}
    assert (answer["first_batch_s"], answer["first_step_s"]) == (3.5, 15.5)


def test_a_network_that_torchvision_lacks_is_refused(store_path: Path) -> None:
    with pytest.raises(RunError, match="model.name is mobilenet: .* choose a recipe of one"):
        startup.run(Setting(store_path, "bot-mobilenet", (), "torch", "cpu"))


@pytest.mark.parametrize(("ours", "theirs"), [("resnet50v1", "resnet50"), ("torchvision:resnet18", "resnet18")])
def test_the_peer_has_the_network_of_the_recipe(ours: str, theirs: str) -> None:
    import torchvision

    assert startup._torchvision_name(ours) == theirs
    assert isinstance(torchvision.models.get_model(theirs), nn.Module)


@pytest.fixture
def _found_by_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )


@pytest.mark.usefixtures("_found_by_children")
def test_a_process_of_its_own_answers() -> None:
    """And says what it says where it fails."""
    began = time.perf_counter()
    answer = fresh_process.ask(example)
    assert 0 < answer["age_s"] < time.perf_counter() - began + 0.02  # Linux counts in hundredths
    assert not answer["imported"]
    with pytest.raises(RunError, match=r"(?s)fresh_process .*ZeroDivisionError"):
        fresh_process.ask(failing)


@pytest.mark.usefixtures("_found_by_children")
def test_what_a_process_is_asked_reaches_it() -> None:
    answer = fresh_process.ask(echoed, [1, "two"], environment={"ECHOED": "three"})
    assert answer == {"given": [1, "two"], "variable": "three"}
