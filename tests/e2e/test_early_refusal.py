"""What can be refused at once is refused before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command import environment

# Runs a command in this process, and says which of the packages that take long were imported by then.
WATCHED = """
import sys
from fastbot.cli import main
try:
    main(sys.argv[1:])
finally:
    print("imported:", *sorted({"torch", "matplotlib", "tensorboard", "numba"} & sys.modules.keys()))
"""


def early(*arguments: str | Path, code: int) -> str:
    """Run a command that must end without any of those packages, and return all it printed."""
    command = [sys.executable, "-c", WATCHED, *map(str, arguments)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
    return done.stdout + done.stderr


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    """A run folder that is somebody's."""
    (tmp_path / "taken" / "checkpoints" / "last").mkdir(parents=True)
    (tmp_path / "taken" / "recipe.toml").write_text("")
    return tmp_path / "taken"


def test_a_wrong_training_is_refused_at_once(store_path: Path, tmp_path: Path, taken: Path) -> None:
    run = tmp_path / "run"
    wrong = {
        "there is no recipe nope": (2, "nope", store_path, run),
        "epochs is 'many' (demo)": (2, "demo", store_path, run, "epochs=many"),
        "absent: no such folder": (1, "demo", tmp_path / "absent", run),
        f"{taken}: is not a store": (1, "demo", taken, run),
        f"{taken} already holds a run": (1, "demo", store_path, taken),
    }
    for message, (code, recipe, data, out, *overrides) in wrong.items():
        said = early("train", recipe, "--data", data, "--out", out, *overrides, code=code)
        assert message in said.partition("error: ")[2]
    assert not run.exists()


def test_the_versions_are_told_at_once() -> None:
    from importlib import metadata

    lines = early("--version", code=0).splitlines()
    assert lines[0] == f"fastbot {metadata.version('fastbot')}"
    assert f"torch {metadata.version('torch')}" in lines


def test_a_folder_that_is_no_run_is_not_evaluated(store_path: Path, tmp_path: Path) -> None:
    assert "is not a run folder" in early("eval", tmp_path, "--data", store_path, code=1)
