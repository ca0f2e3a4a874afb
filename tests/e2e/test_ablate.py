"""`fastbot ablate`, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from command import fastbot, start
from in_process import error
from stores import flip_bytes

from datasets_tools.store import Store
from fastbot.cli import main

FITS = ("data.global_batch_size=24", "data.mix.group=24")
ROWS = "+ cosine decay,+ distill w/o mixup"
SMALL = (
    "epochs=2", 'schedule.warmup="2 steps"', "model.name=resnet18d", "precision.kind=fp32",
    "data.global_batch_size=24", "data.crop_size=32", "data.eval.crop_size=32", "data.eval.resize_size=36",
    "run.log_every=1", "--backend", "torch", "--device", "cpu",
)  # fmt: skip


def ablate(store: Path, out: Path, *more: str, seeds: int = 1) -> tuple[str | Path, ...]:
    return ("ablate", "table6", *SMALL, "--data", store, "--out", out, "--rows", ROWS, "--seeds", str(seeds), *more)


def results(out: Path) -> dict[str, Any]:
    """What ablation.json says, without what no two runs share."""
    found: dict[str, Any] = json.loads((out / "ablation.json").read_text())
    for row in (*found["teachers"], *found["rows"]):
        for result in row["seeds"].values():
            for name in ("images_per_s", "wall_s"):
                assert result.pop(name) > 0
    return found


def test_a_row_learns_from_a_teacher_and_the_table_follows(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    printed = fastbot(*ablate(store_path, out, "--rows", "+ distill w/o mixup", "--teacher", "epochs=1"))
    assert "1/2 ResNet-152-D (resnet18d), seed 0: top-1" in printed
    assert "2/2 + distill w/o mixup, seed 0: top-1" in printed
    assert "Teachers: ResNet-152-D (resnet18d, 1 epochs)" in printed

    found = results(out)
    (teacher,), (row,) = found["teachers"], found["rows"]
    assert (teacher["seeds"]["0"]["steps"], row["seeds"]["0"]["steps"]) == (3, 6)
    assert row["seeds"]["0"]["conditions"]["backend"] == "torch"
    recipe = tomllib.loads((out / "bot-resnet50d-distill" / "seed-0" / "recipe.toml").read_text())
    assert recipe["distillation"]["teacher"] == str(out / "bot-resnet152d-teacher" / "seed-0")
    log = (out / "bot-resnet50d-distill" / "seed-0" / "log.txt").read_text()
    assert log.startswith("$ fastbot train bot-resnet50d-distill epochs=2")
    assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert "| + distill w/o mixup | 2 |" in (out / "ablation.md").read_text()

    # Nothing of it is trained again, not even if the file of results is lost; and another ablation is refused.
    (out / "ablation.json").unlink()
    with pytest.raises(SystemExit) as left:
        main(list(map(str, ablate(store_path, out, "--rows", "+ distill w/o mixup", "--teacher", "epochs=1"))))
    assert left.value.code == 0
    assert "trainings 2, 2 of them finished" in capsys.readouterr().out
    assert results(out) == found
    refused = error(capsys, 1, *ablate(store_path, out, "--rows", "+ distill w/o mixup"))
    assert "the recipe of 'ResNet-152-D' was another (--teacher: epochs=1, now none)" in refused


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_and_killed_it_goes_on_to_the_same_results(store_path: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    printed = fastbot(*ablate(store_path, whole, seeds=2), timeout_s=600)
    assert "6/6 + distill w/o mixup, seed 1: top-1" in printed

    process = start(*ablate(store_path, broken, seeds=2))
    wait_for_step(broken / "bot-resnet50d-cosine" / "seed-0", 3)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "stopped; the trainings have saved. The same command goes on" in said
    assert "continue with --resume" in (broken / "bot-resnet50d-cosine" / "seed-0" / "log.txt").read_text()

    process = start(*ablate(store_path, broken, seeds=2))
    wait_for_step(broken / "bot-resnet50d-distill" / "seed-0", 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert results(broken)["rows"][1]["seeds"] == {}, "killed too late to test anything"

    fastbot(*ablate(store_path, broken, seeds=2), timeout_s=600)
    assert results(broken) == results(whole)
    assert (broken / "ablation.md").read_text().count("±") == (whole / "ablation.md").read_text().count("±")


def wait_for_step(run: Path, step: int, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    file = run / "metrics.jsonl"
    while not (file.exists() and len(file.read_text().splitlines()) >= step):
        assert time.monotonic() < deadline, f"no step {step} within {timeout_s} s"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tabel6"], 2, "there is no suite tabel6. Did you mean table6?"),
        (["table6", "--seeds", "0"], 2, "--seeds"),
        (["table6", "--jobs", "0"], 2, "--jobs"),
        (["table6", "--scale-epochs", "0"], 2, "--scale-epochs"),
        (["table6", "--scale-epochs", "nan"], 2, "--scale-epochs"),
        (["table6", "--rows", "cosine decay"], 2, "has no row 'cosine decay'. Did you mean + cosine decay?"),
        (["table6", "seed=1"], 2, "an ablation sets seed itself"),
        (["table6", "model.nmae=x"], 2, "model.nmae is not a recipe key"),
        (["table4", "--teacher", "epochs=1"], 2, "suite table4 has no teachers"),
        (["table6", "model.name=resnet9000"], 2, "resnet9000"),
        (["table6", "--teacher", "model.name=resnet9000", *FITS], 2, "Found for training ResNet-152-D (resnet9000)"),
        (["table6"], 2, "fewer than one global_batch_size of 512"),
        (["table6", "--nproc", "7", *FITS], 2, "7 ranks cannot share out a global_batch_size of 24"),
        (["table6", "micro_batches=5", *FITS], 2, "micro_batches is 5"),
        (["table6", 'epochs="0.1 epochs"', *FITS], 2, "no step at all"),
        (["table6", "schedule.warmup=121", *FITS], 2, "schedule.warmup is 363 of 360 steps"),
        (["table6", "schedule.warmup=31", "--rows", "Efficient", FITS[0]], 2, "Found for training Efficient, seed 0"),
        (["table5", "clip={kind='agc'}", "model.name=torchvision:squeezenet1_1", FITS[0]], 2, "classifier"),
        (["table5", "distillation={kind='teacher', teacher='nowhere'}", FITS[0]], 2, "nowhere is not there"),
        (["table5", "data.order={kind='weighted', weights=[1, 2]}", FITS[0]], 2, "order.weights has 2 numbers"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert message in error(capsys, code, "ablate", *arguments, "--data", store_path, "--out", out)
    assert not out.exists()


def test_a_store_is_needed_and_must_be_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--data" in error(capsys, 2, "ablate", "table6", "--out", tmp_path / "out")
    assert "no store" in error(
        capsys, 1, "ablate", "table6", "--data", tmp_path / "no store", "--out", tmp_path / "out"
    )


def test_a_report_is_of_the_suite_that_was_trained(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from ablations import trained

    from fastbot.ablation.results import write_ablation

    assert "holds no ablation" in error(capsys, 1, "ablate", "table6", "--out", tmp_path, "--report-only")
    write_ablation(trained({"Efficient": (0.8, 0.9)}), tmp_path)
    said = error(capsys, 1, "ablate", "table5", "--out", tmp_path, "--report-only")
    assert "holds an ablation of suite table6, not of table5" in said
    with pytest.raises(SystemExit) as left:
        main(["ablate", "table6", "--out", str(tmp_path), "--report-only"])
    assert left.value.code == 0
    assert {file.name for file in tmp_path.iterdir()} == {"ablation.json", "ablation.md", "ablation.png"}


@pytest.mark.parametrize(
    ("more", "left_out"),
    [
        (["--seeds", "3"], "--seeds"),
        (["--rows", "Efficient", "epochs=3"], "--rows, epochs=3"),
        (["--one-teacher", "--data", "store"], "--data, --one-teacher"),
    ],
)
def test_a_report_takes_nothing_that_it_would_not_heed(
    more: list[str], left_out: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = error(capsys, 2, "ablate", "table6", "--out", tmp_path, "--report-only", *more)
    assert f"reports all that is finished in --out: leave out {left_out}" in said


@pytest.mark.parametrize("name", ["recipe.toml", "manifest.json"])
def test_runs_and_stores_are_no_place_for_an_ablation(
    name: str, capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("")
    said = error(capsys, 1, *ablate(store_path, tmp_path))
    what = {"recipe.toml": "a run", "manifest.json": "a store"}[name]
    assert f"{tmp_path} is {what}: nothing else is written into it. Choose another --out" in said
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_stopped_before_anything_could_be_saved_it_does_not_say_that_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store_path: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("fastbot.ablation.running.Runner.run", lambda runner: False)
    with pytest.raises(SystemExit) as left:
        main(list(map(str, ablate(store_path, tmp_path / "out"))))
    assert left.value.code == 0
    assert "stopped; no training had anything to save yet. The same command goes on" in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "times"), [("precision.kind=fp16", 1), ("precision.kind=fp32", 0)])
def test_fp16_on_a_cpu_is_warned_of_once_and_on_screen(
    precision: str,
    times: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    store_path: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("fastbot.ablation.running.Runner.run", lambda runner: False)
    with pytest.raises(SystemExit) as left:
        main(list(map(str, ablate(store_path, tmp_path / "out", precision, seeds=2))))
    assert left.value.code == 0
    assert capsys.readouterr().out.count("warning   precision.kind is fp16 on a CPU") == times


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    said = error(capsys, 1, *ablate(store_path, tmp_path / "out", "--device", "cuda"))
    assert "PyTorch sees no CUDA device here" in said
    assert not (tmp_path / "out").exists()


def test_a_training_that_fails_ends_the_ablation(store_path: Path, tmp_path: Path) -> None:
    """Its pictures are damaged, which only who reads them notices."""
    damaged = Path(shutil.copytree(store_path, tmp_path / "damaged"))
    split = Store(damaged).split("train")
    for sample_id in range(len(split)):
        flip_bytes(split, sample_id)
    printed = fastbot(*ablate(damaged, tmp_path / "out"), code=1)
    assert "error: training ResNet-152-D (resnet18d), seed 0 failed with exit code 1. The end of" in printed
    assert "is damaged: the crc32" in printed
    assert "To see it again:\n    fastbot train bot-resnet152d-teacher" in printed
