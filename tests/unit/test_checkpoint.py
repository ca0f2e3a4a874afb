from __future__ import annotations

import dataclasses
import errno
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from fastbot import checkpoint as module
from fastbot.checkpoint import Checkpoint, CheckpointFolder, Conditions, Identity
from fastbot.errors import CheckpointError
from fastbot.recipe_files import load_recipe
from fastbot.resuming import changed_conditions, load_newest, refuse_another_training

CONDITIONS = Conditions({"torch": "2"}, num_threads=2, world_size=1, device="cpu", backend="torch")


def identity(*overrides: str, manifest: str = "a") -> Identity:
    recipe = load_recipe("demo", overrides)
    return Identity(recipe.training_digest(), manifest, recipe.resolved().as_dict(), ("cat", "dog"), CONDITIONS)


def model(value: float = 0.0) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    nn.init.constant_(network[0].weight, value)
    nn.init.constant_(network[0].bias, -value)
    return network  # type: ignore[no-any-return]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    state = {"step": 7, "optimizer": {"lr": [0.1]}, "sums": torch.arange(4.0), "results": {"top1": float("nan")}}
    folder.save(7, model(1.5), state, identity(), best=False)
    loaded = folder.load()
    torch.testing.assert_close(loaded.weights, dict(model(1.5).state_dict()))
    assert loaded.state["step"] == 7
    torch.testing.assert_close(loaded.state["sums"], torch.arange(4.0))
    assert loaded.identity == identity()


def test_last_and_best_point_to_what_is_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step, best in ((1, True), (2, False), (3, True), (4, False), (5, False)):
        folder.save(step, model(step), {"step": step}, identity(), best=best)
    assert folder.load("last").state["step"] == 5
    assert folder.load("best").state["step"] == 3
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000003", "step-00000005"]


@pytest.mark.parametrize("moment", ["_write", "sync"])
def test_a_failed_write_leaves_the_earlier_checkpoint(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(1), {"step": 1}, identity(), best=True)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, moment, full)
    with pytest.raises(CheckpointError, match=r"step-00000002 cannot be written: .*No space left.*Earlier checkpoints"):
        folder.save(2, model(2), {"step": 2}, identity(), best=True)
    assert folder.load("last").state["step"] == folder.load("best").state["step"] == 1


def test_a_file_system_that_refuses_bytes_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    """A real limit, met by safetensors' and torch's own writers, which raise their own errors."""
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(1), {"step": 1}, identity(), best=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (100, 1500):  # within the weights; after them, within the state
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(CheckpointError, match="cannot be written"):
                folder.save(2, model(2), {"step": torch.arange(2000)}, identity(), best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert folder.load("last").state["step"] == folder.load("best").state["step"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "step-00000001"]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "scrambled"])
def test_a_damaged_file_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    file = folder.save(1, model(), {"step": 1}, identity(), best=False) / name
    content = file.read_bytes()
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "scrambled": b"\0" * 40}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint .* is damaged"):
        folder.load()


def test_what_is_damaged_is_said_in_a_sentence(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    file = folder.save(1, model(), {"step": 1}, identity(), best=False) / "state.pt"
    content = file.read_bytes()
    for damaged in (content[: len(content) // 2], b"hello\n", b""):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"is damaged: \w+ [^.]*\. Use another one, or train anew$"):
            folder.load()


def test_a_checkpoint_of_another_format_says_so(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    file = folder.save(1, model(), {"step": 1}, identity(), best=False) / "checkpoint.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(CheckpointError, match="checkpoint of format 9; this fastbot reads format 1"):
        folder.load()


def test_a_digest_of_an_older_fastbot_is_no_other_recipe(tmp_path: Path) -> None:
    """Its digest may have been taken of more than decides the training: as long as no key differs, it goes on."""
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(), {"step": 1}, dataclasses.replace(identity(), training_digest="older"), best=False)
    refuse_another_training(folder.load(), identity())


def test_another_recipe_is_refused_by_key(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(), {"step": 1}, identity(), best=False)
    refuse_another_training(folder.load(), identity("run.log_every=3"))
    with pytest.raises(
        CheckpointError, match=r"another recipe: data\.global_batch_size is 32, was 64; optimizer\.learn"
    ):
        refuse_another_training(folder.load(), identity("data.global_batch_size=32"))
    with pytest.raises(CheckpointError, match="another store"):
        refuse_another_training(folder.load(), identity(manifest="b"))
    with pytest.raises(
        CheckpointError, match=r"another teacher: the weights behind distillation\.teacher have changed"
    ):
        refuse_another_training(folder.load(), dataclasses.replace(identity(), teacher="c"))


def test_an_average_is_saved_beside_the_weights_and_is_what_is_evaluated(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(1), {"step": 1}, identity(), best=True, average=model(2).state_dict())
    loaded = folder.load()
    torch.testing.assert_close(loaded.weights, dict(model(1).state_dict()))
    torch.testing.assert_close(loaded.evaluated, dict(model(2).state_dict()))
    folder.save(2, model(3), {"step": 2}, identity(), best=False)
    torch.testing.assert_close(folder.load("last").evaluated, dict(model(3).state_dict()))


def test_changed_conditions_are_named(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(), {"step": 1}, identity(), best=False)
    assert changed_conditions(folder.load(), CONDITIONS) == []
    changed = dataclasses.replace(CONDITIONS, versions={"torch": "3", "ffcv": "1"}, num_threads=4)
    assert changed_conditions(folder.load(), changed) == [
        "torch was 2, is 3",
        "ffcv was None, is 1",
        "num_threads was 2, is 4",
    ]


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    assert not folder.exists()
    with pytest.raises(CheckpointError, match="has saved no checkpoint of that name, nor any other$"):
        folder.load()


@pytest.mark.parametrize("left", ["last", "best", "step-00000003"])
def test_whatever_is_left_of_a_checkpoint_says_that_the_run_has_saved(left: str, tmp_path: Path) -> None:
    (tmp_path / left).symlink_to("gone")
    assert CheckpointFolder(tmp_path).exists()


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CheckpointFolder(tmp_path).save(1, model(), {"step": 1}, identity(), best=False)

    def stale(*arguments: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "listdir", stale)
    with pytest.raises(OSError, match="Stale"):
        CheckpointFolder(tmp_path).exists()


def test_a_disk_that_is_not_mounted_is_not_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(tmp_path / "scratch")
    with pytest.raises(CheckpointError, match="checkpoints leads to .*scratch, which is not there. Bring it back"):
        CheckpointFolder(tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_while_a_step_is_saved_again_loses_neither(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the folder that `last` points to is moved aside, after that, and when the new one is there."""
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(1), {"step": 1}, identity(), best=True)
    folder.save(2, model(2), {"step": 2}, identity(), best=False)
    original, done = Path.rename, []

    def kill(path: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(path)
        return original(path, target)

    monkeypatch.setattr(Path, "rename", kill)
    monkeypatch.setattr(CheckpointFolder, "_point", lambda *arguments: kill(*arguments[:2]))
    with pytest.raises(KeyboardInterrupt):
        folder.save(2, model(2), {"step": 2}, identity(), best=True)
    monkeypatch.undo()
    assert folder.exists()
    checkpoint, warnings = load_newest(folder)
    assert (checkpoint.state["step"], warnings) == (2, [])
    folder.save(3, model(3), {"step": 3}, identity(), best=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last", "step-00000001", "step-00000003"]


def test_a_reader_that_a_save_overtakes_reads_the_newer_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(1), {"step": 1}, identity(), best=False)
    original, read = module.read_checkpoint, []

    def overtaken(path: Path) -> Checkpoint:
        read.append(path.name)
        if len(read) == 1:
            folder.save(2, model(2), {"step": 2}, identity(), best=False)  # drops step 1
        return original(path)

    monkeypatch.setattr(module, "read_checkpoint", overtaken)
    assert folder.load("last").state["step"] == 2
    assert read == ["step-00000001", "step-00000002"]


def test_what_cannot_be_dropped_does_not_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS keeps a file that somebody reads under another name: the folder is not empty, and stays."""
    folder = CheckpointFolder(tmp_path)
    folder.save(1, model(), {"step": 1}, identity(), best=False)

    def not_empty(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(os, "rmdir", not_empty)
    folder.save(2, model(), {"step": 2}, identity(), best=False)
    assert folder.load().state["step"] == 2


def test_an_unknown_name_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        folder.save(step, model(), {"step": step}, identity(), best=step == 1)
    (tmp_path / ".step-00000003.writing").mkdir()
    there = "There are: best, last, step-00000001, step-00000002$"
    with pytest.raises(CheckpointError, match=rf"bset is not there: .* no checkpoint of that name\. {there}"):
        folder.load("bset")


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "/", "last/"])
def test_what_is_no_name_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints")
    folder.save(1, model(), {"step": 1}, identity(), best=False)
    with pytest.raises(CheckpointError, match=r"^checkpoint '.*' is not there: .* There are: last, step-00000001$"):
        folder.load(name)
