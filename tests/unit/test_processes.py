"""Other programs, and the end of everything that they have started."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.machine import with_descendants
from benchmarks.processes import orphans_ended, run_whole


def runs(pid: int) -> bool:
    """Whether a process does; a zombie does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid: int) -> bool:
    """Whether a process that was killed is gone before long."""
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


@pytest.fixture
def bystander() -> Iterator[int]:
    """A child that was there before."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


def test_a_program_that_runs_over_its_limit_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    """A launcher's ranks are in sessions of their own."""
    child = tmp_path / "child"
    script = f"setsid sleep 60 & echo $! > {child}; wait"
    began = time.monotonic()
    with (tmp_path / "log").open("wb") as log, pytest.raises(subprocess.TimeoutExpired):
        run_whole(["bash", "-c", script], 1, output=log)
    assert time.monotonic() - began < 30
    assert ends(int(child.read_text()))


def test_what_a_program_leaves_behind_is_ended_and_nothing_else(tmp_path: Path, bystander: int) -> None:
    child, grandchild = tmp_path / "child", tmp_path / "grandchild"
    inner = f"setsid sleep 60 & echo $! > {grandchild}; exit 1"
    script = f"setsid sleep 60 & echo $! > {child}; setsid bash -c '{inner}' & wait $!; exit 3"
    with (tmp_path / "log").open("wb") as log, orphans_ended():
        assert run_whole(["bash", "-c", script], 30, output=log) == 3
        left = [int(file.read_text()) for file in (child, grandchild)]
        assert all(map(runs, left))
    assert all(map(ends, left))
    assert runs(bystander)
    assert set(with_descendants(os.getpid())).isdisjoint(left)


def test_nothing_is_left_where_the_program_ends_well(tmp_path: Path) -> None:
    before = set(with_descendants(os.getpid()))
    with (tmp_path / "log").open("wb") as log, orphans_ended():
        assert run_whole(["true"], 30, output=log) == 0
    assert set(with_descendants(os.getpid())) <= before
