"""Locks of folders end with the processes that hold them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastbot.errors import RunError
from fastbot.locks import check_unlocked, locked

BUSY = "somebody is at work here"
HOLDER = "import sys, time; from pathlib import Path; from fastbot.locks import locked\n"
HOLDER += "with locked(Path(sys.argv[1]), '', 0): print('locked', flush=True); time.sleep(60)"


def test_a_folder_is_locked_until_its_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout as told:
        assert told.readline() == "locked\n"
        with pytest.raises(RunError, match=BUSY):
            check_unlocked(tmp_path, BUSY, 0.0)
        with pytest.raises(RunError, match=BUSY), locked(tmp_path, BUSY, 0.0):
            pass
        holder.kill()
        holder.wait()
    check_unlocked(tmp_path, BUSY, 0.0)
    with locked(tmp_path, BUSY, 0.0):
        pass


def test_looking_for_a_lock_leaves_nothing(tmp_path: Path) -> None:
    check_unlocked(tmp_path, BUSY, 0.0)
    check_unlocked(tmp_path / "none", BUSY, 0.0)
    assert not list(tmp_path.iterdir())


def test_several_may_look_at_once(tmp_path: Path) -> None:
    with locked(tmp_path, BUSY, 0.0):
        pass
    check_unlocked(tmp_path, BUSY, 0.0)
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
