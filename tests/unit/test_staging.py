from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from datasets_tools.errors import ConversionError
from datasets_tools.staging import atomic_folder, write_whole

HOLD = """
import os, sys, time
from pathlib import Path
from datasets_tools.staging import atomic_folder, write_whole
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "a" / "store [1]"


def hold(destination: Path) -> subprocess.Popen[str]:
    """Start a process that is in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(destination)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_it_appears_whole_at_the_end(destination: Path) -> None:
    with atomic_folder(destination) as folder:
        (folder / "file").write_text("content")
        assert not destination.exists()
    assert (destination / "file").read_text() == "content"
    assert [path.name for path in destination.parent.iterdir()] == ["store [1]"]


def test_an_error_leaves_nothing(destination: Path) -> None:
    def interrupted() -> None:
        with atomic_folder(destination) as folder:
            (folder / "file").write_text("content")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(destination.parent.iterdir()) == []


def test_an_empty_folder_is_taken_over(destination: Path) -> None:
    destination.mkdir(parents=True)
    with atomic_folder(destination) as folder:
        (folder / "file").write_text("content")
    assert (destination / "file").exists()


def test_what_a_user_has_is_never_touched(destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "mine").write_text("mine")
    with (
        pytest.raises(ConversionError, match="is not empty; nothing is ever overwritten"),
        atomic_folder(destination),
    ):
        pass
    with pytest.raises(ConversionError, match="is no folder"), atomic_folder(destination / "mine"):
        pass
    assert (destination / "mine").read_text() == "mine"


def test_what_a_killed_process_left_is_removed_by_the_next_one(destination: Path) -> None:
    with hold(destination) as process:
        process.kill()
    assert not destination.exists()
    assert len(list(destination.parent.iterdir())) == 1
    with atomic_folder(destination):
        pass
    assert [path.name for path in destination.parent.iterdir()] == ["store [1]"]


def test_what_a_living_process_writes_is_left_alone(destination: Path) -> None:
    with hold(destination) as process:
        with pytest.raises(ConversionError, match="another process is writing there"), atomic_folder(destination):
            pass
        (partial,) = destination.parent.iterdir()
        assert (partial / "half").exists()
        process.communicate("")
    assert (destination / "half").exists()


def test_a_small_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file", b"first")
    write_whole(tmp_path / "file", b"second")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", b"third")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"second"


def test_a_mount_point_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(ConversionError, match="is a mount point.*Name a folder inside it"), atomic_folder(tmp_path):
        pass


def test_the_current_folder_can_be_a_destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_folder(Path()) as folder:
        (folder / "file").write_text("content")
    assert (tmp_path / "here" / "file").exists()


def test_a_file_system_without_locks_is_no_hindrance(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with atomic_folder(destination) as folder:
        (folder / "file").write_text("content")
    assert (destination / "file").exists()
