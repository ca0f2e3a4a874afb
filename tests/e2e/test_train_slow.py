"""The slow tier of training: every kind of kill moment, several ranks, torchrun as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import REPOSITORY, environment, fastbot, start

from fastbot.runs import RunFolder

pytestmark = pytest.mark.slow

NUM_KILLS = 6


def last_weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "model.safetensors").read_bytes()


def test_kills_at_random_moments_change_nothing(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    """Each process is killed some random time after its first step, in a step or while it writes a checkpoint."""
    options = ("--data", store_path, "--backend", "torch", "epochs=6", "run.checkpoint_steps=1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    fastbot("train", tiny_recipe, *options, "--out", whole)
    delays = np.random.default_rng(0).uniform(0.0, 0.6, NUM_KILLS)
    for delay in delays:
        _train_and_kill(delay, killed, "train", tiny_recipe, *options, "--out", killed, "--resume")
    fastbot("train", tiny_recipe, *options, "--out", killed, "--resume")
    assert last_weights(killed) == last_weights(whole)


def test_sigterm_reaches_every_rank(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", store_path, "--out", run, "--backend", "torch", 'run.eval_every="9999 steps"')
    process = start("train", tiny_recipe, *options, "--nproc", "2", "epochs=500")
    _wait_for(lambda: _lines(run) >= 2)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "continue with --resume" in printed
    assert (run / "checkpoints" / "last" / "state.pt").exists()
    assert "Traceback" not in printed


def test_a_rank_that_dies_ends_the_run_with_one_error(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", store_path, "--out", run, "--backend", "torch", "--nproc", "2", "epochs=500")
    process = start("train", tiny_recipe, *options)
    _wait_for(lambda: _lines(run) >= 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1, printed
    assert "was killed by signal 9. Go on from the last checkpoint with --resume" in printed


def test_torchrun_starts_ranks_as_well(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--data", str(store_path), "--out", str(run), "--backend", "torch", "epochs=3 steps"]
    command = [*launcher, "-m", "fastbot", "train", str(tiny_recipe), *options]
    done = subprocess.run(command, env=environment(), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "summary.json").read_text())["world_size"] == 2


def test_a_run_goes_on_with_another_number_of_ranks(store_path: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    """The global batches are the same; the weights only nearly, and the user is told."""
    run = tmp_path / "run"
    options = ("--data", store_path, "--out", run, "--backend", "torch", "run.checkpoint_steps=2", "epochs=500")
    process = start("train", tiny_recipe, *options)
    _wait_for(lambda: _lines(run) >= 3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    before = _lines(run)
    process = start("train", tiny_recipe, *options, "--resume", "--nproc", "2")
    _wait_for(lambda: _lines(run) > before + 2)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert "world_size was 1, is 2" in printed


def _train_and_kill(delay_s: float, run: Path, *arguments: str | Path) -> None:
    lines = _lines(run)
    process = start(*arguments)
    _wait_for(lambda: _lines(run) > lines or process.poll() is not None)
    time.sleep(delay_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _lines(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def _wait_for(condition, timeout_s: float = 180) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)


def test_groups_of_batch_norm_make_any_split_of_a_batch_the_same_training(
    store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    # Two steps: the second depends on the gradients of the first. From then on training magnifies the order of sums.
    options = ("--data", store_path, "--backend", "torch", 'epochs="2 steps"', 'schedule.warmup="1 steps"')
    ranks, parts = ("--nproc", "2"), ("micro_batches=2",)
    splits = {"whole": (), "ranks": ranks, "parts": parts, "parts of ranks": (*ranks, *parts)}
    losses = {}
    for name, split in splits.items():
        fastbot("train", tiny_recipe, *options, *split, "model.bn_batch=4", "--out", tmp_path / name)
        losses[name] = train_losses(tmp_path / name)
    assert len(losses["whole"]) == 2
    for name in splits:
        assert losses[name] == pytest.approx(losses["whole"], rel=2e-3), name
    fastbot("train", tiny_recipe, *options, "--out", tmp_path / "plain")  # statistics of all 16 pictures
    assert train_losses(tmp_path / "plain")[0] != pytest.approx(losses["whole"][0], rel=1e-2)


def train_losses(run: Path) -> list[float]:
    return [record["loss"] for record in RunFolder(run).records() if record["kind"] == "train"]
