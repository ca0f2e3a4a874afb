from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import lines
from benchmarks.measure import Result
from benchmarks.rungs import scaling, scaling_projection, scaling_rank, step_cases, step_recipes
from benchmarks.rungs.scaling_projection import GPUS, Rates, compute_of, projected
from benchmarks.rungs.scaling_rank import Question
from benchmarks.scaling_model import Compute, Network
from benchmarks.suite import app
from fastbot.errors import RunError


def question(store: Path, recipe: Path, **changes: Any) -> Question:
    known = {"overrides": ["data.crop_size=16"], "batch_size": 4, "backend": "torch", "device": "cpu"}
    return Question(str(store), str(recipe), **{**known, "steps": 1, "turns": 1, **changes})


def test_ranks_are_compared_with_one_that_has_as_many_cores(
    store_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core for each of four ranks gives a quarter of what four cores give one; three quarters of that are reached."""
    rates = {(1, 4): 300.0, (1, 2): 200.0, (2, 2): 360.0, (1, 1): 100.0, (4, 1): 300.0, (8, 1): 240.0}
    asked = []

    def answered(group: Any, _: Question) -> dict[str, list[float]]:
        asked.append((group.ranks, group.cores_each))
        rate = rates[asked[-1]]
        return {"with_exchange": [rate, rate], "without_exchange": [rate * 1.25, rate * 1.25]}

    monkeypatch.setattr(scaling, "_asked", answered)
    monkeypatch.setattr(scaling, "cores", lambda: 4)
    results = scaling.run(question(store_path, tiny_recipe), (1, 2, 4, 8), repeats=2)
    assert len(asked) == 2 * len(rates), "the same rank alone is asked once a round"
    found = {(result.details["ranks"], result.details["threads"]): result for result in results}
    assert found.keys() == rates.keys()
    efficiencies = {group: result.details["efficiency"] for group, result in found.items() if group[0] > 1}
    assert efficiencies == {(2, 2): pytest.approx(0.9), (4, 1): pytest.approx(0.75), (8, 1): pytest.approx(0.3)}
    assert found[4, 1].peer == "1 rank, 1 core each"
    assert found[4, 1].details["communication_share"] == pytest.approx(0.2)
    assert found[1, 4].details["communication_share"] == 0
    assert "8 ranks share 4 cores: 50% is all that they can reach" in found[8, 1].notes
    assert "share" not in found[4, 1].notes
    assert all(len(result.samples) == 2 for result in results)
    assert all((result.details["backend"], result.details["device"]) == ("torch", "cpu") for result in results)


def test_a_start_is_one_sample_and_starts_take_turns(
    store_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns of one process have their noise in common: here the second start is twice as fast as the first."""
    asked: list[int] = []

    def answered(group: Any, _: Question) -> dict[str, list[float]]:
        asked.append(group.ranks)
        rate = 100.0 * asked.count(group.ranks) * group.ranks
        return {"with_exchange": [rate, 9 * rate, rate * 0.9], "without_exchange": [rate * 2, 9 * rate, rate * 1.8]}

    monkeypatch.setattr(scaling, "_asked", answered)
    monkeypatch.setattr(scaling, "cores", lambda: 1)
    two, one = scaling.run(question(store_path, tiny_recipe, turns=3), (2,), repeats=2)
    assert asked == [2, 1, 2, 1]
    assert [*one.samples, *two.samples] == [100, 200, 200, 400]
    assert [*two.ratios] == [2, 2]
    assert two.details["communication_share"] == pytest.approx(0.5), "with and without are of the same turn"
    assert two.details["images_per_s_without_exchange"] == 600


def test_one_rank_alone_needs_no_launcher(store_path: Path, tiny_recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run_whole(command: list[str], limit_s: float, **_: object) -> int:
        commands.append(command)
        file = command[command.index(scaling_rank.__name__) + 1]
        Path(file).write_text('{"with_exchange": [1.0], "without_exchange": [1.0]}')
        return 0

    monkeypatch.setattr(scaling, "run_whole", run_whole)
    for ranks in (1, 2):
        scaling._asked(scaling._Group(ranks, 1), question(store_path, tiny_recipe))
    assert ["torch.distributed.run" in command for command in commands] == [False, True]


@pytest.mark.slow
def test_two_ranks_train_and_say_what_the_exchange_takes(store_path: Path, tiny_recipe: Path) -> None:
    found = scaling._asked(scaling._Group(2, 1), question(store_path, tiny_recipe))
    assert found.keys() == {"with_exchange", "without_exchange"}
    assert all(len(rates) == 1 and rates[0] > 0 for rates in found.values())


@pytest.mark.slow
def test_a_rank_that_fails_says_why(store_path: Path, tiny_recipe: Path) -> None:
    with pytest.raises(RunError, match="backend is 'nothing'"):
        scaling._asked(scaling._Group(1, 1), question(store_path, tiny_recipe, backend="nothing"))


def test_gradients_stay_where_they_are_without_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    with scaling_rank._without_exchange(model)():
        pass
    entered: list[str] = []
    monkeypatch.setattr(scaling_rank, "DistributedDataParallel", _Parallel)
    for wrapped in (_Parallel(entered), torch.nn.Sequential()):
        if isinstance(wrapped, torch.nn.Sequential):
            wrapped._orig_mod = _Parallel(entered)
        scaling_rank._without_exchange(wrapped)()
    assert entered == ["no_sync"] * 2, "also under torch.compile's wrapper"


class _Parallel(torch.nn.Module):
    def __init__(self, entered: list[str]) -> None:
        super().__init__()
        self._entered = entered

    def no_sync(self) -> None:
        self._entered.append("no_sync")


def test_the_model_is_printed_with_what_it_assumes(tmp_path: Path) -> None:
    file = tmp_path / "model.jsonl"
    done = CliRunner().invoke(app, ["scaling", "--model", "--images-per-s", "2500", "--json", str(file)])
    assert done.exit_code == 0, done.output
    for words in ("simulated, not measured", "network_gb_s 50", "4 bytes a gradient", "3,584 x H100, CoreWeave"):
        assert words in done.output
    found = lines.load(file)
    assert [line.result.details["gpus"] for line in found] == [1, *GPUS]
    assert all(line.result.details["simulated"] for line in found)
    assert found[0].result.value == pytest.approx(2500)


def test_more_gpus_do_more_and_less_each() -> None:
    results = projected(Compute(1e-3, 1e-4), Network(), batch_size=32, bytes_each=4)
    rates = [result.value for result in results]
    efficiencies = [result.details["efficiency"] for result in results]
    assert rates == sorted(rates)
    assert efficiencies[0] == 1
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert all(result.peer == results[0].case for result in results)


def write_steps(file: Path, seconds: dict[tuple[str, str, bool, int], float]) -> None:
    """Write what `step` would, of given seconds by whose loop, model, whether it is compiled, and batch size."""
    for (whose, model, is_compiled, batch_size), took in seconds.items():
        (recipe,) = step_recipes.variants(step_recipes.recipe_for(model, ["precision.kind=bf16"]), [batch_size])
        case = step_cases.title(whose, recipe.model_copy(update={"compile": is_compiled}))
        details = {"model": recipe.model.name, "batch_size": batch_size, "size": recipe.data.crop_size}
        for peer in ("PyTorch's loop", "timm's loop"):  # a row for each
            row = Result("step", case, peer, "images/s", (batch_size / took,), (1.0,), "", details)
            lines.append([row], {}, file)


def test_rates_come_from_a_file_of_steps(tmp_path: Path) -> None:
    """1 ms and 0.1 ms a picture: 100 pictures in 11 ms, 400 in 41 ms. Without compiling, at one batch size alone."""
    file = tmp_path / "step.jsonl"
    compiled = {("fastbot", "resnet50", True, batch): 1e-3 + 1e-4 * batch for batch in (100, 400)}
    others = {
        ("fastbot", "resnet50", False, 100): 0.1,
        ("fastbot", "mobilenet", True, 100): 1e-4,
        ("timm's loop", "resnet50", True, 100): 1e-4,
    }
    write_steps(file, compiled | others)
    compute, words = compute_of(Rates(file=file), batch_size=32)
    assert compute.fixed_s == pytest.approx(1e-3)
    assert compute.per_image_s == pytest.approx(1e-4)
    assert words == "fastbot, resnet50v1, bf16, compiled, 224 px in step.jsonl, at batches 100, 400"
    compute, words = compute_of(Rates(file=file, case="fastbot, resnet50v1, bf16, 224 px"), batch_size=32)
    assert compute.fixed_s == 0
    assert compute.per_image_s == pytest.approx(1e-3)
    assert "no fixed part is known" in words
    only = "it has fastbot, resnet50v1, bf16, compiled, 224 px; fastbot, resnet50v1, bf16, 224 px"
    with pytest.raises(RunError, match=f"has no case other: {only}. Give one"):
        compute_of(Rates(file=file, case="other"), batch_size=32)


def test_a_fixed_part_is_never_less_than_none(tmp_path: Path) -> None:
    """A small batch that is measured too fast: 0.1 ms a picture, then 0.15."""
    file = tmp_path / "step.jsonl"
    write_steps(file, {("fastbot", "resnet50", False, 100): 10e-3, ("fastbot", "resnet50", False, 400): 60e-3})
    compute, words = compute_of(Rates(file=file), batch_size=32)
    assert compute.fixed_s == 0
    assert compute.per_image_s == pytest.approx(1.5e-4)
    assert "of 100, 400 no fixed part can be told" in words


def test_measuring_needs_a_store() -> None:
    done = CliRunner().invoke(app, ["scaling"])
    assert isinstance(done.exception, RunError) or "--data is missing" in done.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_more_ranks_than_gpus_are_refused(store_path: Path, tiny_recipe: Path) -> None:
    with pytest.raises(RunError, match="PyTorch sees no CUDA device"):
        scaling.run(question(store_path, tiny_recipe, device="cuda"), (1,), repeats=1)


def test_nothing_is_said_of_a_file_without_steps(tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    lines.append([Result("convert", "a", "a", "s", (1.0,), (1.0,))], {}, file)
    with pytest.raises(RunError, match="it has no step of fastbot on resnet50"):
        scaling_projection.compute_of(Rates(file=file), 32)
