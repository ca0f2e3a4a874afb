from __future__ import annotations

import io
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmarks.measure import Effort, Result
from benchmarks.rungs import table3, table3_cells, table3_page, training
from benchmarks.rungs.table3 import Settings
from benchmarks.rungs.table3_page import NETWORKS, Network
from benchmarks.rungs.training import Course
from datasets_tools.store import Store
from fastbot.errors import RunError
from fastbot.trainer import Trainer
from pipelines.backends.synthetic import SyntheticBackend
from pipelines.errors import PipelineError
from pipelines.pipeline import Pipeline


@pytest.fixture(autouse=True)
def _tiny(tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_PATIENCE_S", 0.0)
    for name in ("_TRIAL_STEPS", "_TRIALS", "_TRIAL_WARM_STEPS"):
        monkeypatch.setattr(table3_cells, name, 1)
    monkeypatch.setattr(table3_cells, "warmed", lambda course: training.warmed(course, 1))
    tiny = {"tiny": Network(str(tiny_recipe), 8.0, 4.0, 2.0)}
    monkeypatch.setattr("benchmarks.rungs.table3.NETWORKS", {**NETWORKS, **tiny})


def cell(number_format: str, batch_size: int, rate: float, *, reduced: bool = False) -> Result:
    """A cell of ResNet-50 whose FP32 with small batches does 100 images/s."""
    result = Result(
        "table3",
        table3_page.title_of("resnet50", number_format, batch_size),
        table3_page.title_of("resnet50", "FP32", 256),
        "images/s",
        (rate, rate * 1.02, rate * 0.98),
        (rate / 100,) * 3,
    )
    known = {"network": "resnet50", "format": number_format, "channels_last": True, "compile": False}
    return table3_page.described(result, {**known, "micro_batches": 1, "ranks": 1}, reduced=reduced)


def printed(results: list[Result], *, reduced: bool) -> str:
    console = Console(width=250, file=io.StringIO())
    with console.capture() as captured:
        console.print(table3_page.page(results, (256, 1024), reduced=reduced))
    return captured.get()


def test_every_cell_runs_and_is_compared_with_the_first(store: Store) -> None:
    settings = Settings(("tiny",), (2, 4), ("FP32", "TF32"), 16, "synthetic", "cpu", steps=1)
    results = table3.run(store, settings, Effort(repeats=1))
    assert [result.case for result in results] == [
        *("tiny, FP32, batch 2", "tiny, FP32, batch 4", "tiny, TF32, batch 2", "tiny, TF32, batch 4")
    ]
    assert {result.peer for result in results} == {"tiny, FP32, batch 2"}
    for result in results:
        assert result.value > 0
        assert result.details["reduced"]
        assert "minutes_per_epoch" not in result.details
        assert result.details["tried"].keys() == {"channels last", "contiguous"}
        best = max(result.details["tried"], key=result.details["tried"].__getitem__)
        assert result.details["channels_last"] == (best == "channels last")
        assert (result.details["backend"], result.details["device"]) == ("synthetic", "cpu")


def test_a_batch_that_does_not_fit_is_divided(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that takes four pictures."""

    def limited(recipe, *others):  # type: ignore[no-untyped-def]
        if recipe.data.global_batch_size // recipe.micro_batches > 4:
            raise torch.cuda.OutOfMemoryError
        return training.build_trainer(recipe, *others)

    monkeypatch.setattr(table3_cells, "build_trainer", limited)
    settings = Settings(("tiny",), (4, 12), ("FP32",), 16, "synthetic", "cpu", steps=1)
    small, large = table3.run(store, settings, Effort(repeats=1))
    assert (small.details["micro_batches"], large.details["micro_batches"]) == (1, 3)
    assert "did not fit: in 3 micro-batches" in large.notes
    assert "did not fit" not in small.notes


def test_what_the_backend_takes_divides_a_batch_further(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes four pictures beside a backend that needs no memory, and two beside this one."""

    class Limited(Course):
        def __init__(self, trainer: Trainer, pipeline: Pipeline) -> None:
            super().__init__(trainer, pipeline)
            rows = trainer.recipe.data.global_batch_size // trainer.recipe.micro_batches
            self._fits = rows <= (4 if isinstance(pipeline.backend, SyntheticBackend) else 2)

        def go(self, steps: int) -> int:
            if not self._fits:
                raise torch.OutOfMemoryError
            return super().go(steps)

    monkeypatch.setattr(table3_cells, "Course", Limited)
    settings = Settings(("tiny",), (2, 4), ("FP32",), 16, "torch", "cpu", steps=1)
    small, large = table3.run(store, settings, Effort(repeats=1))
    assert (small.details["micro_batches"], large.details["micro_batches"]) == (1, 2)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(), True),
        (MemoryError(), True),
        (RuntimeError("Critical error in pipeline: Can't allocate 268435456 bytes on device 0."), True),
        (PipelineError("DALI failed on batch 3 of epoch 0: CUDA allocation failed"), True),
        (RuntimeError("shapes do not match"), False),
        (PipelineError("the pipeline is closed"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, *, expected: bool) -> None:
    assert table3_cells.is_out_of_memory(error) == expected


def test_other_errors_of_first_steps_are_not_taken_for_a_lack_of_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(table3_cells, "build_trainer", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        table3.run(store, Settings(("tiny",), (2, 4), ("FP32",), 16, "synthetic", "cpu"), Effort(repeats=1))


def test_a_networks_cells_are_published_before_the_next_one_begins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[list[str]] = []

    def network(model: str, *_: object) -> list[Result]:
        if published:
            raise RunError("the second one failed")
        return [cell(model, 256, 100.0)]

    monkeypatch.setattr(table3, "_network", network)
    with pytest.raises(RunError, match="the second one failed"):
        table3.run(
            store,
            Settings(("tiny", "mobilenet"), device="cpu"),
            Effort(),
            lambda group: published.append([result.case for result in group]),
        )
    assert published == [[table3_page.title_of("resnet50", "tiny", 256)]]


def test_settings_are_chosen_by_the_median_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial that another process slowed down, one that it did not touch, and a usual one."""
    now, seconds = [0.0], iter([8.0, 0.5, 2.0])

    def go() -> int:
        now[0] += next(seconds)
        return 16

    monkeypatch.setattr(table3_cells, "_TRIALS", 3)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert table3_cells._median_rate(go, lambda: None) == 8


_LARGE = {"mean_width": 471.0, "mean_height": 389.0, "mean_bytes": 112_000.0}
_SMALL = {"mean_width": 310.0, "mean_height": 256.0, "mean_bytes": 25_000.0}


@pytest.mark.parametrize(
    ("store", "device", "changes", "reduced"),
    [
        ({"corpus": {"seed": 0}, **_LARGE}, "cuda", {}, False),
        ({"corpus": {}, **_LARGE}, "cuda", {}, False),
        ({"corpus": {}, **_SMALL}, "cuda", {}, True),
        ({"corpus": {}, **_LARGE, "mean_bytes": 30_000.0}, "cuda", {}, True),
        ({"corpus": {"seed": 0}, **_LARGE}, "cpu", {}, True),
        ({"corpus": {"seed": 0}, **_LARGE}, "cuda", {"size": 128}, True),
        ({"corpus": {"seed": 0}, **_LARGE}, "cuda", {"batch_sizes": (64, 128)}, True),
    ],
)
def test_papers_minutes_stand_only_beside_pictures_like_imagenets(
    store: dict[str, object], device: str, changes: dict[str, Any], *, reduced: bool
) -> None:
    assert Settings(**changes).is_reduced(torch.device(device), store) == reduced


def test_the_page_says_whose_batches_are_how_large() -> None:
    words = " ".join(printed([cell("FP32", size, 100.0) for size in (256, 1024)], reduced=False).split())
    assert "those of 8 GPUs together: 32 and 128 on each" in words
    assert "Ours are those of one" in words


def test_without_fp32_there_is_no_diagonal() -> None:
    results = [cell(name, size, 100.0) for name in ("BF16", "FP16") for size in (256, 1024)]
    words = printed(results, reduced=False)
    assert "1.00 (to" not in words
    assert "none: it leads from FP32" in words


def test_minutes_are_those_of_imagenets_epoch() -> None:
    result = cell("FP16", 1024, 1_281_167 / 60)
    assert result.details["minutes_per_epoch"]["median"] == pytest.approx(1)
    assert result.details["minutes_per_epoch"]["least"] == pytest.approx(1 / 1.02)
    assert result.details["minutes_per_epoch"]["most"] == pytest.approx(1 / 0.98)


def test_the_page_has_the_papers_figures_only_beside_its_experiment() -> None:
    rates = {("FP32", 256): 100.0, ("FP32", 1024): 110.0, ("FP16", 256): 240.0, ("FP16", 1024): 290.0}
    full = printed([cell(*place, rate) for place, rate in rates.items()], reduced=False)
    for words in ("213.53 min", "2.90 (to FP16, 1024)", "FP32: 13.3 min", "FP16: 4.4 min, speed-up 3.0"):
        assert words in full
    reduced = printed([cell(*place, rate, reduced=True) for place, rate in rates.items()], reduced=True)
    for words in ("13.3", "4.4 min", "min,"):
        assert words not in reduced
    assert "290/s" in reduced
    assert "reduced form" in reduced


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "mobilenet"])
def test_the_papers_speed_ups_are_those_of_its_minutes(name: str) -> None:
    network = NETWORKS[name]
    assert math.isclose(network.before / network.after, network.speed_up, rel_tol=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"models": ("resnet51",)}, "model 'resnet51' is not in table 3"),
        ({"formats": ("fp32",)}, "choose of FP32, FP16, TF32, BF16"),
        ({"batch_sizes": (8, 8)}, "a smaller and a larger"),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(RunError, match=words):
        Settings(**arguments)  # type: ignore[arg-type]
