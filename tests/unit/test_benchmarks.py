"""That every benchmark runs at a tiny size, names the peers it compares with, and is written down."""

from __future__ import annotations

import os
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import torch

from benchmarks import lines, measure, units
from benchmarks.floor.rates import Rates
from benchmarks.measure import Effort, Result
from benchmarks.pages import tables
from benchmarks.rungs import augment, augment_gpu, plan
from benchmarks.rungs.augment_stages import drawing
from fastbot.errors import RunError
from pipelines.batch import BatchPlan
from pipelines.spec import DataSpec

SUITE = Path(__file__).parents[2] / "benchmarks" / "gpu_suite.sh"


def check(results: list[Result]) -> None:
    assert {result.peer for result in results} <= {result.case for result in results}
    assert all(result.value > 0 for result in results)


def test_plans() -> None:
    groups: list[list[Result]] = []
    results = plan.run(Effort(1), num_samples=2048, publish=lambda found: groups.append([*found]))
    check(results)
    assert [len(group) for group in groups] == [2] * 4
    assert [*chain(*groups)] == results
    assert len(results) == 8
    for result in results:
        assert f"{result.details['cpu_us_per_sample']:.2f} of a core" in result.notes


def test_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "device_rates", lambda device, dtype: Rates(1.0, 4e6))
    results = augment.run(torch.device("cpu"), batch_size=2, size=8, titles=["normalize"], effort=Effort(1))
    check(results)
    peers = {result.peer for result in results if result.case == "normalize, fastbot float32"}
    assert {"normalize, DALI", "normalize, copy float32", "normalize, kornia"} <= peers
    for result in results:
        if result.case in ("normalize, fastbot float32", "normalize, copy float32"):
            # 8 x 8 pixels of three colours: a byte read, four written.
            assert result.details["gigabytes_per_s"] == pytest.approx(result.value * 8 * 8 * 3 * 5 / 1e9)
            assert result.details["of_copy_bandwidth"] == pytest.approx(result.value * 8 * 8 * 3 * 5 / 4e6)
            assert result.notes.endswith("% of a large copy's")


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(RunError, match="--only nope: there is no such scenario; there are hsv, contrast"):
        augment.run(torch.device("cpu"), titles=["nope"])


def test_every_batch_of_a_training_has_new_draws() -> None:
    plans: list[BatchPlan] = []
    spec = DataSpec(global_batch_size=4)

    def stage(pixels: torch.Tensor, plan: BatchPlan) -> torch.Tensor:
        plans.append(plan)
        return pixels

    for train in (True, False):
        plans.clear()
        transform = drawing(stage, spec, train=train)
        for _ in range(40):  # more than an epoch of plans
            transform(torch.zeros(4, 2, 2, 3))
        assert len({plan.jitter.tobytes() for plan in plans}) == (40 if train else 1)


def test_all_cases_of_a_turn_fill_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that says a batch takes 1 ms of ours, and 20 ms of theirs."""
    now = 0.0
    batches = {"ours": 0, "theirs": 0}
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)

    def case(name: str, seconds: float) -> measure.Case:
        def transform(pixels: torch.Tensor) -> torch.Tensor:
            nonlocal now
            now += seconds
            batches[name] += 1
            return pixels

        return augment._case(name, transform, ["theirs"], torch.zeros(4, 2, 2, 3))

    results = measure.measure("augment", [case("ours", 1e-3), case("theirs", 2e-2)], augment.EFFORT)
    assert [result.value for result in results] == pytest.approx([4 / 1e-3, 4 / 2e-2])
    assert augment.EFFORT.repeats >= 5
    assert batches["ours"] / batches["theirs"] == pytest.approx(20, rel=0.02)


def test_the_stages_of_a_gpu_run_on_whatever_is_there() -> None:
    pixels = torch.randint(0, 256, (32, 16, 16, 3), dtype=torch.uint8)
    found = augment_gpu.cases(pixels, torch.bfloat16)
    assert set(found) == {*("copy", "BoT", "RSB", "torchvision v2 per sample", "torchvision v2 per batch", "kornia")}
    for name, transform in found.items():
        images = transform(pixels)
        if name == "copy":
            assert images.nbytes == pixels.numel() * (1 + 2) // 2  # each of these bytes is read, and written
        else:
            assert images.shape == (32, 3, 16, 16)
            assert images.dtype == (torch.float32 if name == "kornia" else torch.bfloat16)


@pytest.mark.slow
def test_all_augmentation() -> None:
    """Slow where numba has not compiled all of it before."""
    results = augment.run(torch.device("cpu"), batch_size=2, size=8, effort=Effort(1))
    check(results)
    assert {result.case.partition(",")[0] for result in results} == {
        *("hsv", "contrast", "normalize", "mixup", "cutmix", "erasing", "rsb")
    }
    assert ("rsb, fastbot float32", "rsb, timm") in {(result.case, result.peer) for result in results}


@pytest.mark.gpu
def test_augmentation_on_a_gpu() -> None:
    results = augment_gpu.run(batch_size=32, size=32, repeats=1, batches=1)
    check(results)
    assert {"BoT", "RSB", "copy"} <= {result.case for result in results}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_augmentation_on_a_gpu_needs_one() -> None:
    with pytest.raises((RunError), match="CUDA"):
        augment_gpu.run()


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (0.2983, "0.298"), (16.04, "16"), (99.94, "99.9"), (123.6, "124"), (7654.3, "7,654")],
)
def test_figures_have_three_digits_or_more(value: float, written: str) -> None:
    assert units.figure(value) == written


def test_a_table_has_notes_where_there_are_some(tmp_path: Path) -> None:
    for notes, end in (("", "| theirs |"), ("half", "| theirs | half |")):
        file = tmp_path / f"{notes or 'none'}.jsonl"
        result = Result("b", "ours", "theirs", "s", (0.5, 0.5), (2.0, 2.0), notes, {"threads": 3})
        lines.append([result], {"threads": "1, 3"}, file)
        header, rule, row = tables.table(file).splitlines()[-3:]
        assert row.startswith("| ours | 3 | 0.5 | 0% | 2.00 ")
        assert row.endswith(end)
        assert header.count("|") == rule.count("|") == row.count("|")


@pytest.mark.parametrize("part", ["tests", "ladder", "all"])
def test_the_gpu_suite_goes_on_after_what_fails(tmp_path: Path, part: str) -> None:
    """With a Python that can do nothing: every part fails, is told of, and leaves its log."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho cannot >&2\nexit 7\n")
    python.chmod(0o755)
    command = ["bash", str(SUITE), part, str(tmp_path / "out")]
    done = subprocess.run(
        command, env=os.environ | {"PYTHON": str(python)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    summary = (tmp_path / "out" / f"summary-{part}.log").read_text()
    for name in ("tests", "ladder"):
        assert (f"== {name}: exit 7" in summary) == (part in (name, "all"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"summary-{part}.log", f"logs-{part}.tar.gz"}


def test_the_gpu_suite_has_parts(tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(SUITE), "nonsense", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, [*tmp_path.iterdir()]) == (2, [])
    assert "all|tests|ladder" in done.stderr
