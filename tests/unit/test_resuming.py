"""Which checkpoint a run goes on from, on one rank and on several: threads here, whose folders differ as disks do."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from fastbot.checkpoint import CheckpointFolder, Conditions, Identity
from fastbot.cli import train
from fastbot.distributed import Ranks
from fastbot.errors import CheckpointError, RunError
from fastbot.hooks import Results
from fastbot.resuming import check_agreed, load_newest, load_on_all
from fastbot.runs import RunFolder

IDENTITY = Identity("digest", "manifest", {}, ("a",), Conditions({}, 1, 2, "cpu", "synthetic"))
WORLD_SIZE = 2
T = TypeVar("T")


class Table:
    """Where ranks that are threads leave what they say."""

    def __init__(self) -> None:
        self.said: list[Any] = [None] * WORLD_SIZE
        self.barrier = threading.Barrier(WORLD_SIZE, timeout=20)


@dataclass(frozen=True)
class ThreadRanks(Ranks):
    table: Table

    def each_says(self, value: T) -> list[T]:
        self.table.said[self.rank] = value
        self.table.barrier.wait()
        said = list(self.table.said)
        self.table.barrier.wait()
        return said

    def first_says(self, value: T) -> T:
        return self.each_says(value)[0]


def on_each(work: Callable[[Ranks], object]) -> list[object]:
    """Return what each rank returns or raises."""

    def guarded(ranks: Ranks) -> object:
        try:
            return work(ranks)
        except (CheckpointError, RunError) as error:
            return error

    table = Table()
    all_ranks = [ThreadRanks(rank, rank, WORLD_SIZE, WORLD_SIZE, torch.device("cpu"), table) for rank in (0, 1)]
    with ThreadPoolExecutor(WORLD_SIZE) as pool:
        return list(pool.map(guarded, all_ranks))


def save(path: Path, *steps: int, best: int = 0) -> CheckpointFolder:
    folder = CheckpointFolder(path)
    for step in steps:
        folder.save(step, nn.Linear(1, 1), {"step": step, "results": {}}, IDENTITY, best=step == best)
    return folder


def damage(folder: CheckpointFolder, name: str) -> None:
    (folder.path / name / "state.pt").write_bytes(b"")


def test_a_damaged_last_is_followed_by_the_best_and_then_by_what_is_whole(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 2, best=1)
    assert load_newest(folder)[0].state["step"] == 2
    damage(folder, "last")
    checkpoint, warnings = load_newest(folder)
    assert checkpoint.state["step"] == 1
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: checkpoint {tmp_path}/step-00000002 is damaged: ")
    assert warnings[0].endswith(". Taking step-00000001 instead")
    damage(folder, "best")
    with pytest.raises(CheckpointError, match="step-00000002 is damaged"):
        load_newest(folder)


def test_without_names_the_newest_folder_that_is_whole_is_taken(tmp_path: Path) -> None:
    folder = save(tmp_path, 8, 9, 100_000_000, best=8)
    for name in ("last", "best"):
        (tmp_path / name).unlink()
    save(tmp_path / "other", 9)  # it was dropped
    (tmp_path / "other" / "step-00000009").rename(tmp_path / "step-00000009")
    assert load_newest(folder)[0].state["step"] == 100_000_000
    damage(folder, "step-100000000")
    assert load_newest(folder)[0].state["step"] == 9


def test_a_last_that_points_nowhere_is_passed_over(tmp_path: Path) -> None:
    folder = save(tmp_path, 1, 2, best=1)
    (tmp_path / "step-00000002").rename(tmp_path / "gone")
    checkpoint, warnings = load_newest(folder)
    assert (checkpoint.state["step"], len(warnings)) == (1, 1)


def test_every_rank_reads_what_the_first_one_does(tmp_path: Path) -> None:
    """Rank 1's `best` is another one."""
    folders = [save(tmp_path / "0", 1, 2, best=1), save(tmp_path / "1", 1, 2, best=1)]
    (tmp_path / "1" / "best").unlink()
    (tmp_path / "1" / "best").symlink_to("step-00000002")
    read = on_each(lambda ranks: load_on_all(folders[ranks.rank], lambda: folders[ranks.rank].load("best"), ranks))
    assert [checkpoint.state["step"] for checkpoint in read] == [1, 1]  # type: ignore[attr-defined]


def test_where_one_rank_cannot_read_it_none_goes_on(tmp_path: Path) -> None:
    folders = [save(tmp_path / "0", 2), save(tmp_path / "1", 1)]
    first, second = on_each(lambda ranks: load_on_all(folders[ranks.rank], folders[ranks.rank].load, ranks))
    assert isinstance(second, CheckpointError)
    assert "step-00000002 is not there" in str(second)
    assert "all ranks must see the same folder, on disks that all machines share" in str(second)
    assert isinstance(first, RunError)
    assert str(first) == f"rank 1: {second}"


def test_where_the_first_rank_cannot_read_any_none_goes_on(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    first, second = on_each(lambda ranks: load_on_all(folder, folder.load, ranks))
    assert isinstance(first, CheckpointError)
    assert str(second) == f"rank 0: {first}"


def test_a_run_that_saves_meanwhile_is_read_again(tmp_path: Path) -> None:
    """Between the first rank's reading and the second's, the run drops what the first has read."""
    folder, read = save(tmp_path, 1), []

    def first() -> Any:
        checkpoint = folder.load("last")
        read.append(checkpoint.path.name)
        if len(read) == 1:
            save(tmp_path, 2)
        return checkpoint

    checkpoints = on_each(lambda ranks: load_on_all(folder, first, ranks))
    assert [checkpoint.state["step"] for checkpoint in checkpoints] == [2, 2]  # type: ignore[attr-defined]
    assert read == ["step-00000001", "step-00000002"]


def restored(ranks: Ranks, run: RunFolder) -> tuple[int, list[str]]:
    trainer = SimpleNamespace(ranks=ranks, step=0, total_steps=9)
    trainer.load_state = lambda weights, average, state: setattr(trainer, "step", state["step"])
    notes, _ = train._restore(run, trainer, IDENTITY, Results())  # type: ignore[arg-type]
    check_agreed(ranks, trainer.step, IDENTITY, unevaluated=False)
    return trainer.step, notes


def test_a_rank_that_sees_other_files_takes_what_the_first_one_takes(tmp_path: Path) -> None:
    """Rank 1 sees `last` damaged, then not at all; alone it would take the best, or start from the beginning."""
    runs = [RunFolder(tmp_path / str(rank)) for rank in (0, 1)]
    for run in runs:
        save(run.checkpoints.path, 1, 2, best=1)
    damage(runs[0].checkpoints, "last")
    (first, notes), (second, _) = on_each(lambda ranks: restored(ranks, runs[ranks.rank]))  # type: ignore[misc]
    assert (first, second) == (1, 1)
    assert "Taking step-00000001 instead" in notes[0]


def test_a_rank_without_the_files_ends_all(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / str(rank)) for rank in (0, 1)]
    save(runs[0].checkpoints.path, 2)
    first, second = on_each(lambda ranks: restored(ranks, runs[ranks.rank]))
    assert isinstance(second, CheckpointError)
    assert str(first) == f"rank 1: {second}"


def test_a_first_rank_without_files_starts_all_from_the_beginning(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / str(rank)) for rank in (0, 1)]
    save(runs[1].checkpoints.path, 2)
    assert [step for step, _ in on_each(lambda ranks: restored(ranks, runs[ranks.rank]))] == [0, 0]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"training_digest": "b"}, "recipe"), ({"manifest_digest": "b"}, "store"), ({"teacher": "b"}, "teacher")],
)
def test_ranks_that_would_train_differently_are_told(change: dict[str, str], what: str) -> None:
    identities = [IDENTITY, dataclasses.replace(IDENTITY, **change)]
    for error in on_each(lambda ranks: check_agreed(ranks, 5, identities[ranks.rank], unevaluated=False)):
        assert isinstance(error, RunError)
        assert f"rank 1 and rank 0 do not train the same: {what} is 'b' and " in str(error)
    for error in on_each(lambda ranks: check_agreed(ranks, ranks.rank, IDENTITY, unevaluated=False)):
        assert "optimizer steps done is 1 and 0" in str(error)
    for error in on_each(lambda ranks: check_agreed(ranks, 5, IDENTITY, unevaluated=ranks.is_first)):
        assert "an evaluation due is False and True" in str(error)
    assert on_each(lambda ranks: check_agreed(ranks, 5, IDENTITY, unevaluated=False)) == [None, None]
