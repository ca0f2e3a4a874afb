"""The runner with trainings that are only counted, each as long as it is told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from fastbot.ablation import running
from fastbot.ablation.children import Child
from fastbot.ablation.progress import Progress
from fastbot.ablation.running import Runner
from fastbot.ablation.trainings import Changes, Training, plan_trainings, select_rows
from fastbot.errors import RunError
from fastbot.suite_files import load_suite


class FakeChild:
    """Ends when it has been looked at so many times, or some looks after it was asked to stop."""

    def __init__(self, training: Training, looks: int, code: int) -> None:
        self.training, self._looks, self._code = training, looks, code
        self.stopped = self.killed = False

    def exit_code(self) -> int | None:
        self._looks -= 1
        return None if self._looks > 0 else self._code

    def ask_to_stop(self) -> None:
        self.stopped, self._looks = True, min(self._looks, 3)

    def kill(self) -> None:
        self.killed = True

    def failure(self) -> RunError:
        return RunError(f"{self.training} failed")


class Laboratory:
    """Starts fake trainings and keeps the record."""

    def __init__(self, rows: Sequence[str], seeds: int, looks: int = 4) -> None:
        suite = load_suite("table6")
        self.trainings = plan_trainings(suite, select_rows(suite, rows), seeds, Changes(), Path("out"))
        self.looks, self.codes, self.unsaved = looks, dict[str, int](), set[str]()
        self.children = list[FakeChild]()
        self.kept, self.most = list[str](), 0
        self.places = list[int]()
        self.stop_after = 10**9

    def start(self, training: Training, place: int) -> Child:
        code = self.codes.get(str(training), 0)
        self.children.append(FakeChild(training, self.looks if code == 0 else 2, code))
        self.places.append(place)
        self.most = max(self.most, len(self.children) - len(self.kept))
        if training.teacher is not None:
            teacher = next(other for other in self.trainings if other.folder.resolve() == training.teacher)
            assert str(teacher) in self.kept, "a row began before its teacher was finished"
        return cast(Child, self.children[-1])

    def keep(self, training: Training) -> bool:
        child = next(child for child in self.children if child.training is training)
        if child.stopped or str(training) in self.unsaved:
            return False
        self.kept.append(str(training))
        return True

    def run(self, jobs: int) -> bool:
        progress = Progress(Console(file=io.StringIO()), self.trainings, 0)
        asked = lambda: len(self.kept) >= self.stop_after  # noqa: E731
        return Runner(self.trainings, jobs, self.start, self.keep, asked, progress).run()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_PERIOD_S", 0.0)


@pytest.mark.parametrize("jobs", [1, 2, 3, 50])
def test_everything_is_trained_and_never_more_at_a_time_than_asked(jobs: int) -> None:
    laboratory = Laboratory(["Efficient", "+ distill w/o mixup", "+ distill w/ mixup"], seeds=3)
    assert laboratory.run(jobs)
    assert sorted(laboratory.kept) == sorted(map(str, laboratory.trainings))
    assert laboratory.most <= jobs
    assert set(laboratory.places) <= set(range(jobs))
    if jobs == 1:
        assert laboratory.kept == list(map(str, laboratory.trainings))


def test_rows_without_a_teacher_need_not_wait_for_one() -> None:
    laboratory = Laboratory(["Efficient", "+ distill w/o mixup"], seeds=1)
    assert laboratory.run(2)
    assert [str(child.training) for child in laboratory.children[:2]] == ["ResNet-152-D, seed 0", "Efficient, seed 0"]


def test_a_failed_training_stops_the_others_and_says_so() -> None:
    laboratory = Laboratory(["Efficient", "+ cosine decay", "+ label smoothing"], seeds=1)
    laboratory.codes["Efficient, seed 0"] = 1
    with pytest.raises(RunError, match="Efficient, seed 0 failed"):
        laboratory.run(2)
    failed, other = laboratory.children
    assert (failed.stopped, other.stopped, other.killed) == (False, True, False)


def test_asked_to_stop_it_lets_trainings_save_and_says_that_not_all_is_trained() -> None:
    laboratory = Laboratory(["Efficient", "+ cosine decay", "+ label smoothing"], seeds=2)
    laboratory.stop_after = 3
    assert not laboratory.run(2)
    assert 3 <= len(laboratory.kept) <= 4
    assert [child.stopped for child in laboratory.children] == [
        str(child.training) not in laboratory.kept for child in laboratory.children
    ]


def test_a_training_that_somebody_else_stopped_ends_it_too() -> None:
    laboratory = Laboratory(["Efficient"], seeds=1)
    laboratory.unsaved.add("Efficient, seed 0")
    with pytest.raises(RunError, match="Efficient, seed 0 was asked to stop by somebody else, and has saved"):
        laboratory.run(1)


def test_whoever_does_not_wait_for_saving_ends_trainings_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(["Efficient", "+ cosine decay"], seeds=1, looks=10**9)

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        laboratory.run(2)
    assert all(child.killed for child in laboratory.children)
