"""That `step` and `table5` measure the real thing, name their peers, and say what they left out. No speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.floor import rates
from benchmarks.measure import Effort, Result
from benchmarks.peers.registry import composer_problem
from benchmarks.rungs import step, step_loops, step_memory, step_peers, table5
from benchmarks.rungs.step_cases import Yardsticks
from benchmarks.rungs.step_loops import Loop
from benchmarks.rungs.step_parts import parts_ms
from benchmarks.rungs.step_recipes import Layout, PrecisionName, recipe_for, variants
from fastbot.errors import ModelError, RunError
from fastbot.models.counting import measure
from fastbot.models.registry import build_model
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.specs import PrecisionSpec
from pipelines.batch import Batch

CPU = torch.device("cpu")
ONCE = Effort(repeats=1, warmups=0)
# `make peers` installs it, into an environment of its own.
WITHOUT_COMPOSER = [f"composer's loop: {problem}" for problem in [composer_problem()] if problem]


@pytest.fixture(autouse=True, scope="module")
def small_rates() -> Iterator[None]:
    """A device's rates in a moment, and no thread to be waited for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "_SIDES", (128,))
        patch.setattr(rates, "_COPIES", (4096,))
        yield
    torch.set_num_threads(before)


def tiny(model: str = "resnet18b", **keywords: Any) -> Recipe:
    keywords = {"size": 32, "precisions": [PrecisionName.fp32]} | keywords
    return variants(recipe_for(model), [2], **keywords)[0]


def timm_loop(recipe: Recipe, batch: Batch, device: torch.device) -> Loop:
    pytest.importorskip("timm")
    from benchmarks.rungs import step_timm_loop

    return step_timm_loop.timm_loop(recipe, batch, device)


def by_case(results: list[Result]) -> dict[str, Result]:
    return {result.case: result for result in results}


@pytest.fixture(scope="module")
def results() -> list[Result]:
    pytest.importorskip("timm")
    left_out: list[str] = []
    found = step.run([tiny(layouts=[Layout.contiguous])], CPU, ONCE, leave_out=left_out.append)
    assert left_out == WITHOUT_COMPOSER
    return found


def test_a_step_beside_its_peers(results: list[Result]) -> None:
    ours, pytorch, timm = (
        f"{whose}, resnet18b, fp32, contiguous, 2 x 32 px" for whose in ("fastbot", "PyTorch's loop", "timm's loop")
    )
    assert [(result.case, result.peer) for result in results] == [
        *((ours, pytorch), (ours, timm), (pytorch, pytorch), (timm, timm))
    ]
    found = by_case(results)
    assert [found[name].details["network"] for name in (ours, pytorch, timm)] == [
        *("fastbot's resnet18b", "torchvision's resnet18", "timm's resnet18")
    ]


def test_details_agree_with_each_other(results: list[Result]) -> None:
    details, floor = results[0].details, results[0].details["floor"]
    assert (details["dtype"], details["memory_format"], details["compiled"]) == ("fp32", "contiguous", False)
    assert (details["batch_size"], details["size"], details["model"]) == (2, 32, "resnet18b")
    assert details["step_ms"] == pytest.approx(2000 / results[0].value)
    assert details["of_unfused_floor"] == pytest.approx(floor["bytes_unfused_ms"] / details["step_ms"])
    multiply_adds = measure(build_model("resnet18b", 1000), 32).multiply_adds
    flops_per_s = 2 * 3 * multiply_adds * results[0].value
    assert details["flop_utilization"] == pytest.approx(flops_per_s / (1e12 * floor["matrix_tflops"]))
    assert set(details["parts_ms"]) == {"forward", "backward", "optimizer"}
    assert min(details["parts_ms"].values()) > 0
    assert floor["roofline_ms"] >= max(floor["arithmetic_ms"], floor["bytes_unfused_ms"]) > floor["bytes_fused_ms"] > 0
    assert details["peak_mb"] > 10
    assert " MB" not in results[0].notes  # a CPU's is the whole process
    assert "parts_ms" not in results[-1].details


def test_without_a_network_of_its_own_a_library_trains_ours() -> None:
    recipe = tiny("resnet50v1", size=32)
    batch = step_loops.synthetic_batch(recipe, CPU)
    assert step_loops.pytorch_loop(recipe, batch, CPU).network == "fastbot's resnet50v1"
    assert timm_loop(recipe, batch, CPU).network == "fastbot's resnet50v1"
    assert timm_loop(tiny("resnet18d"), batch, CPU).network == "timm's resnet18d"


@pytest.mark.parametrize("build", [step_loops.ours, step_loops.pytorch_loop, timm_loop])
def test_loops_train(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps as are asked for, in training mode: batch norms count them, and weights move."""
    trained: list[nn.Module] = []
    original = nn.Module.train

    def remembering(self: nn.Module, mode: bool = True) -> nn.Module:
        trained.append(self)
        return original(self, mode)

    monkeypatch.setattr(nn.Module, "train", remembering)
    recipe = tiny()
    loop = build(recipe, step_loops.synthetic_batch(recipe, CPU), CPU)
    model = next(module for module in trained if isinstance(getattr(module, "fc", None), nn.Linear))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    loop.train(3)
    assert {buffer.item() for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked")} == {3}
    after = dict(model.named_parameters())
    assert all(not torch.equal(after[name], before[name]) for name in ("conv1.weight", "fc.weight", "fc.bias"))


def test_parts_make_the_trainers_step() -> None:
    """From the same start, timed parts move the weights as the trainer's own steps do."""
    recipe = tiny()
    batch = step_loops.synthetic_batch(recipe, CPU)
    parts, whole = (step_loops.ours(recipe, batch, CPU) for _ in range(2))
    assert parts.trainer is not None
    assert whole.trainer is not None
    whole.train(2)
    for group, like in zip(parts.trainer.optimizer.param_groups, whole.trainer.optimizer.param_groups, strict=True):
        group["lr"] = like["lr"]
    parts_ms(parts.trainer, batch, steps=1)  # after one that is not counted
    for mine, theirs in zip(parts.trainer.bare.parameters(), whole.trainer.bare.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_what_does_not_fit_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    pytest.importorskip("timm")
    monkeypatch.setitem(step_peers.PEERS, "PyTorch's loop", too_large)
    left_out: list[str] = []
    results = step.run([tiny()], CPU, ONCE, leave_out=left_out.append)
    assert left_out == ["PyTorch's loop, resnet18b, fp32, 2 x 32 px: more memory than cpu has", *WITHOUT_COMPOSER]
    assert {result.peer for result in results} == {"timm's loop, resnet18b, fp32, 2 x 32 px"}


def test_composer_trains_in_fp32_alone_on_a_cpu() -> None:
    problem = step_peers.problem_of(
        "composer's loop", tiny().model_copy(update={"precision": PrecisionSpec(kind="bf16")}), CPU
    )
    assert problem == "on a CPU composer trains in fp32 alone, not in bf16"


def test_nothing_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step, "synthetic_batch", too_large)
    left_out: list[str] = []
    with pytest.raises(RunError, match="Take a smaller --batch-size"):
        step.run([tiny()], CPU, ONCE, leave_out=left_out.append)
    assert left_out == ["bot-efficient, 2 images: more memory than cpu has"]


def test_a_teacher_is_refused() -> None:
    with pytest.raises(RunError, match=r"bot-resnet50d-distill distils a teacher.*distillation.kind=none"):
        step.run([load_recipe("bot-resnet50d-distill")], CPU, ONCE)


@pytest.mark.parametrize(
    ("model", "recipe", "network", "size"),
    [
        ("resnet50", "bot-efficient", "resnet50v1", 224),
        ("resnet50d", "bot-resnet50d", "resnet50d", 224),
        ("inceptionv3", "bot-inceptionv3", "inception_v3", 299),
        ("mobilenet", "bot-mobilenet", "mobilenet", 224),
        ("timm:resnet26", "bot-efficient", "timm:resnet26", 224),
    ],
)
def test_recipes_of_models(model: str, recipe: str, network: str, size: int) -> None:
    found = recipe_for(model)
    assert (found.name, found.model.name, found.data.crop_size) == (recipe, network, size)


def test_variants_are_all_combinations() -> None:
    found = variants(recipe_for("resnet50"), [8, 16], 64, list(PrecisionName), list(Layout))
    seen = {
        (each.precision.kind, each.precision.tf32, each.channels_last, each.data.global_batch_size) for each in found
    }
    assert len(found) == len(seen) == 4 * 2 * 2
    assert {kinds[:2] for kinds in seen} == {("fp32", False), ("fp32", True), ("fp16", False), ("bf16", False)}
    assert {each.data.crop_size for each in found} == {64}


def test_what_is_not_asked_for_stays_the_recipes() -> None:
    recipe = recipe_for("resnet50", ["precision.kind=bf16", "channels_last=false"])
    (found,) = variants(recipe, [8])
    assert (found.precision, found.channels_last, found.data.crop_size) == (recipe.precision, False, 224)


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(ModelError, match="no model is named resnet51"):
        step.run([tiny("resnet51")], CPU, ONCE)


def test_a_process_s_peak_is_found_and_then_forgotten() -> None:
    high = step_memory.peak_mb(lambda: torch.ones(50_000_000), CPU)
    low = step_memory.peak_mb(lambda: None, CPU)
    assert 150 < high - low < 250  # 200 MB that are gone again


def test_table_5() -> None:
    rows = table5.recipes(2, 32, PrecisionName.fp32)
    assert [row.model.name for row in rows] == ["resnet50v1", "resnet50b", "resnet50c", "resnet50d"]
    results = table5.run([rows[0], rows[3]], CPU, ONCE)
    assert [result.details["model"] for result in results] == ["resnet50v1", "resnet50d"]
    assert {result.peer for result in results} == {results[0].case}
    assert {result.benchmark for result in results} == {"table5"}
    assert [round(result.details["parameters"] / 1e6, 2) for result in results] == [25.56, 25.58]
    assert [result.details["paper_ratio"] for result in results] == [1.0, 0.97]
    assert "25.58 M parameters, 4.33 G multiply-adds at 224 px (paper: 25 M, 4.3 G, 0.97 of" in results[1].notes


def test_the_papers_column_is_what_the_networks_have() -> None:
    """Except for the baseline, which table 1 rounds to 3.9 and table 5 cuts to 3.8."""
    yardsticks = Yardsticks(CPU)
    for recipe in table5.recipes(2, None, PrecisionName.fp32):
        gmacs = yardsticks.floor(recipe).network.multiply_adds / 1e9
        printed = table5.PAPER[recipe.model.name].gmacs
        assert printed == (3.8 if recipe.model.name == "resnet50v1" else round(gmacs, 1))


def test_table_5_needs_its_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(table5, "ours", too_large)
    left_out: list[str] = []
    with pytest.raises(RunError, match="the baseline, does not fit cpu"):
        table5.run(table5.recipes(2, 32, PrecisionName.fp32)[:2], CPU, ONCE, left_out.append)
    assert len(left_out) == 2


@pytest.mark.gpu
def test_a_step_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    recipe = variants(recipe_for("resnet18b"), [16], 64, [PrecisionName.fp16])
    results = by_case(step.run(recipe, device, ONCE, compiled=(False, True)))
    ours = results["fastbot, resnet18b, fp16, compiled, 16 x 64 px"]
    assert ours.details["compiled"]
    assert 20 < ours.details["peak_mb"] < 5000


def test_without_timm_its_loop_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_peers, "is_installed", lambda name: False)
    left_out: list[str] = []
    results = step.run([tiny()], CPU, ONCE, leave_out=left_out.append)
    assert left_out == ["timm's loop: timm is not installed (pip install timm)", *WITHOUT_COMPOSER]
    assert {result.peer for result in results} == {"PyTorch's loop, resnet18b, fp32, 2 x 32 px"}
