"""The script for a machine with a GPU: whatever ends it, its logs stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

SUITE = Path(__file__).parents[2] / "benchmarks" / "gpu_suite.sh"
# A Python that can do nothing, and whose ladder tells of its arguments and takes a minute.
PYTHON = """#!/bin/sh
case "$*" in
*"benchmarks all"*)
    echo "called with $*"
    touch "$(dirname "$0")/begun"
    exec sleep ${LADDER_S:-60}
    ;;
esac
exit 7
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return {**os.environ, "PYTHON": str(python)}


def logged(out: Path, part: str, name: str) -> str:
    with tarfile.open(out / f"logs-{part}.tar.gz") as archive:
        file = archive.extractfile(f"logs/{name}.log")
        assert file is not None
        return file.read().decode()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_suite_keeps_its_logs(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    # Whoever runs the tests in the background may have them ignore Ctrl-C, which a shell could not undo.
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", heeding, "bash", str(SUITE), "ladder", str(out)]
    with subprocess.Popen(command, env=environment) as suite:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        suite.send_signal(number)
        assert suite.wait(30) == code
    assert "== interrupted" in (out / "summary-ladder.log").read_text()
    assert "called with -m benchmarks all --gpu" in logged(out, "ladder", "ladder")


def test_a_second_call_goes_on_with_the_ladder(tmp_path: Path, environment: dict[str, str]) -> None:
    environment |= {"FROM": "table5", "LADDER_S": "0"}
    done = subprocess.run(["bash", str(SUITE), "ladder", str(tmp_path / "out")], env=environment, check=False)
    assert done.returncode == 0
    called = logged(tmp_path / "out", "ladder", "ladder").splitlines()[0]
    assert called == f"called with -m benchmarks all --gpu --out {tmp_path}/out --minutes 5.50 --from table5"
