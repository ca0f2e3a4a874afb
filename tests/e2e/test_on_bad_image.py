"""`fastbot train` on a store with a damaged picture: what `--on-bad-image` makes of it, and of a resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command import fastbot
from stores import flip_bytes

from datasets_tools.store import Store
from fastbot.checkpoint import read_checkpoint


@pytest.fixture
def damaged(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the small store in which one training and one validation picture are damaged."""
    path = Path(shutil.copytree(store_path, tmp_path / "damaged"))
    flip_bytes(Store(path).split("train"), 5)
    flip_bytes(Store(path).split("val"), 3)
    return path


def summary(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return values


def test_a_run_goes_on_and_counts_what_it_could_not_use(damaged: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", damaged, "--out", run, "--backend", "torch", "--on-bad-image", "replace")
    printed = fastbot("train", tiny_recipe, *options)
    assert summary(run)["bad_pictures"] == 2
    assert "2 pictures could not be used" in printed
    assert printed.count("sample 5 ") == 1, "two epochs, one line"
    assert printed.count("sample 3 ") == 1


def test_a_run_that_a_bad_picture_ended_goes_on_when_told_to(damaged: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", damaged, "--out", run, "--backend", "torch", "run.checkpoint_steps=1")
    said = fastbot("train", tiny_recipe, *options, code=1)
    assert "sample 5 " in said or "sample 3 " in said
    assert "--resume --on-bad-image skip" in said
    printed = fastbot("train", tiny_recipe, *options, "--resume", "--on-bad-image", "skip")
    assert "on_bad_image was fail, is skip" in printed
    assert summary(run)["steps"] == 8
    last = read_checkpoint(run / "checkpoints" / "last")
    assert last.state["bad_pictures"] == {"train": [5], "eval": [3]}
    assert last.identity.conditions.on_bad_image == "skip"


@pytest.mark.slow
def test_ranks_count_a_picture_once(damaged: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--data", damaged, "--out", run, "--backend", "torch", "--on-bad-image", "skip", "--nproc", "2")
    fastbot("train", tiny_recipe, *options)
    assert summary(run)["world_size"] == 2
    assert summary(run)["bad_pictures"] == 2
