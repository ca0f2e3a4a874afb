"""`fastbot train` and `fastbot eval`, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from command import fastbot, start
from safetensors.torch import load_file

from datasets_tools.store import Store
from pipelines.backends.choose import available

SUMMARY_KEYS = {
    "top1", "top5", "images_per_s", "data_wait_fraction", "wall_s", "steps", "world_size", "backend", "recipe",
}  # fmt: skip


def records(run: Path, kind: str) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


def test_a_run_leaves_everything_and_eval_scores_it_again(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fastbot("train", tiny_recipe, "--data", store_path, "--out", run, "--backend", "torch")
    summary = json.loads((run / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert (summary["steps"], summary["world_size"], summary["backend"], summary["recipe"]) == (8, 1, "torch", "tiny")
    assert 0 <= summary["data_wait_fraction"] <= 1
    assert [record["step"] for record in records(run, "train")] == list(range(1, 9))
    assert [record["step"] for record in records(run, "eval")] == [4, 8]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.glob("events.out.tfevents.*"))

    printed = fastbot("eval", run, "--data", store_path, "--checkpoint", "last", "--backend", "torch")
    assert f"top-1 {summary['top1']:.2%}" in printed

    again = fastbot("train", tiny_recipe, "--data", store_path, "--out", run, code=1)
    assert "already holds a run" in again


@pytest.mark.parametrize("backend", ["dali", "ffcv", "synthetic"])
def test_every_backend_trains(backend: str, store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    if not available()[backend].usable:
        pytest.skip(f"{backend} is not installed")
    run = tmp_path / "run"
    options = ("--data", store_path, "--out", run, "--backend", backend, 'epochs="3 steps"')
    fastbot("train", tiny_recipe, *options)
    assert json.loads((run / "summary.json").read_text())["backend"] == backend
    assert len(records(run, "train")) == 3


def test_a_killed_run_resumes_to_the_very_same_weights(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = ("--data", store_path, "--backend", "torch", "run.checkpoint_steps=1")
    fastbot("train", tiny_recipe, *options, "--out", whole)

    process = start("train", tiny_recipe, *options, "--out", killed)
    wait_for_step(killed, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    steps_done = (killed / "checkpoints" / "last").readlink().name
    assert steps_done != "step-00000008", "killed too late to test anything"

    printed = fastbot("train", tiny_recipe, *options, "--out", killed, "--resume")
    assert "going on from step" in printed
    assert "not bit-identical" not in printed
    assert weights(killed) == weights(whole)
    losses = [[record["loss"] for record in records(run, "train")] for run in (whole, killed)]
    assert losses[0] == losses[1]


def test_sigterm_saves_and_leaves(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", store_path, "--out", run, "--backend", "torch", "epochs=200", 'run.eval_every="9999 steps"')
    process = start("train", tiny_recipe, *options)
    wait_for_step(run, 2)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert "continue with --resume" in printed
    assert load_file(run / "checkpoints" / "last" / "model.safetensors")


def test_two_ranks_train_as_one(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    # A network without batch statistics: those depend on how the batch is split over ranks.
    options = ("--data", store_path, "--backend", "torch", "model.name=timm:test_convnext", "model.init=default")
    for ranks in (1, 2):
        fastbot("train", tiny_recipe, *options, "--out", tmp_path / str(ranks), "--nproc", str(ranks))
    one, two = (records(tmp_path / str(ranks), "train") for ranks in (1, 2))
    assert [record["loss"] for record in one] == pytest.approx([record["loss"] for record in two], rel=1e-4)
    scores = [records(tmp_path / str(ranks), "eval")[-1] for ranks in (1, 2)]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=1e-4)
    assert json.loads((tmp_path / "2" / "summary.json").read_text())["world_size"] == 2


def wait_for_step(run: Path, step: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    file = run / "metrics.jsonl"
    while time.monotonic() < deadline:
        if file.exists() and len(file.read_text().splitlines()) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {step} within {timeout_s} s")


def test_the_small_store_is_what_these_tests_count_on(store_path: Path) -> None:
    store = Store(store_path)
    assert (len(store.split("train")), len(store.split("val"))) == (72, 24)
