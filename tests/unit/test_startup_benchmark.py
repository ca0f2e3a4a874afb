from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import ask_here, echoed, example, failing, sleeping
from torch import nn

from benchmarks.peers.files import extract
from benchmarks.rungs import fresh_process, startup, startup_answers
from benchmarks.rungs.fresh_process import Answer
from benchmarks.rungs.startup import Setting
from datasets_tools.store import Store
from fastbot.errors import RunError

_OVERRIDES = ("data.global_batch_size=4", "data.crop_size=32")


def test_every_start_has_its_moments_and_parts(
    store_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def ask(question: Any, *arguments: object, environment: dict[str, str] | None = None) -> Answer:
        asked.append((question.__name__, environment or {}))
        return ask_here(question, *arguments)

    monkeypatch.setattr(fresh_process, "ask", ask)
    results = startup.run(Setting(store_path, str(tiny_recipe), _OVERRIDES, "torch", "cpu"), repeats=2)
    names = ["fastbot, compilers' caches empty", "fastbot", "plain loop on torchvision's DataLoader"]
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
    assert [name for name, _ in asked] == ["stock", "fastbot", "fastbot", "stock", "fastbot", "stock"]
    caches = [environment for name, environment in asked if name == "fastbot"]
    assert caches == [caches[0]] * 3, "what the first process compiles the others find"
    kept = {"NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME"}
    assert caches[0].keys() == kept
    assert len(set(caches[0].values())) == len(kept)
    assert not any(environment for name, environment in asked if name == "stock")


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
def test_a_process_that_does_not_end_is_ended() -> None:
    with pytest.raises(RunError, match=r"(?s)did not end within 1\.5 s.*asleep"):
        fresh_process.ask(sleeping, 600, limit_s=1.5)


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_plain_loop_has_the_recipes_precision(
    precision: str, expected: torch.dtype, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    plain = torch.nn.functional.cross_entropy

    def remembered(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found.append(logits.dtype)
        return plain(logits, labels)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", remembered)
    extract(Store(store_path).split("train"), tmp_path)
    startup_answers.stock(str(tmp_path), "resnet18", 4, 32, 1, "cpu", precision, False)
    assert found == [expected]


@pytest.mark.usefixtures("_found_by_children")
def test_what_a_process_is_asked_reaches_it() -> None:
    answer = fresh_process.ask(echoed, [1, "two"], environment={"ECHOED": "three"})
    assert answer == {"given": [1, "two"], "variable": "three"}
