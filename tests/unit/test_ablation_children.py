from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from command import environment

from fastbot.ablation import children
from fastbot.ablation.children import Child, locked, shared_cpus
from fastbot.ablation.progress import last_reading
from fastbot.ablation.trainings import Changes, Training, plan_trainings, select_rows
from fastbot.errors import RecipeError, RunError
from fastbot.suite_files import load_suite


def training(out: Path) -> Training:
    suite = load_suite("table6")
    return plan_trainings(suite, select_rows(suite, ["Efficient"]), 1, Changes(), out)[0]


def never(line: str) -> None:
    pytest.fail(f"nobody was to be told: {line}")


def wait_for(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_training_shows_the_end_of_its_log_and_its_command(tmp_path: Path) -> None:
    options = ["--data", str(tmp_path / "no store")]
    with locked(tmp_path / "out", never) as lock:
        child = Child(training(tmp_path / "out"), options, sorted(os.sched_getaffinity(0)), lock)
        wait_for(lambda: child.exit_code() is not None)
    assert child.exit_code() == 1
    message = str(child.failure())
    assert message.startswith("training Efficient, seed 0 failed with exit code 1. The end of ")
    assert "    error: " in message
    assert f"fastbot train bot-resnet50d seed=0 --data '{tmp_path}/no store' --out" in message
    assert child.log.read_text().startswith("$ fastbot train bot-resnet50d seed=0")


def test_what_a_wrong_recipe_ends_in_is_no_training_to_go_on_with(tmp_path: Path) -> None:
    wrong = replace(training(tmp_path / "out"), arguments=("bot-resnet50d", "epochs=many"))
    with locked(tmp_path / "out", never) as lock:
        child = Child(wrong, ["--data", str(tmp_path)], sorted(os.sched_getaffinity(0)), lock)
        wait_for(lambda: child.exit_code() is not None)
    failure = child.failure()
    assert isinstance(failure, RecipeError)
    assert "goes on from here" not in str(failure)
    assert "Put that right" in str(failure)


def test_a_training_is_asked_to_stop_and_killed(tmp_path: Path) -> None:
    with locked(tmp_path, never) as lock:
        for end, name in ((Child.ask_to_stop, "SIGTERM"), (Child.kill, "SIGKILL")):
            child = Child(training(tmp_path), ["--data", "x"], [min(os.sched_getaffinity(0))], lock)
            end(child)
            wait_for(lambda child=child: child.exit_code() is not None)  # type: ignore[misc]
            assert f"was ended by {name}" in str(child.failure())
            child.kill()  # of what has ended is nothing


def test_what_a_training_has_started_in_sessions_of_its_own_is_killed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch's launcher starts ranks, and a rank may start something as well."""
    launcher = tmp_path / "launcher"
    launcher.write_text(
        "#!/bin/sh\nsetsid sh -c 'setsid sleep 300 & echo started $$ $!; wait' &\necho started $$\nwait\n"
    )
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    with locked(tmp_path, never) as lock:
        child = Child(training(tmp_path), ["--data", "x"], [min(os.sched_getaffinity(0))], lock)
        wait_for(lambda: child.log.read_text().count("started") == 2)
        lines = child.log.read_text().splitlines()
        started = [int(word) for line in lines if line.startswith("started") for word in line.split()[1:]]
        assert len({os.getsid(process) for process in started}) == len(started) == 3
        child.kill()
        try:
            wait_for(lambda: not any(map(is_running, started)), timeout_s=10)
        finally:
            for process in filter(is_running, started):
                os.kill(process, signal.SIGKILL)
    assert "was ended by SIGKILL" in str(child.failure())


def test_a_folder_is_locked_as_long_as_a_process_that_has_the_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_LOCK_PATIENCE_S", 0.0)
    told: list[str] = []
    with locked(tmp_path, never) as lock:
        left_behind = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
        with pytest.raises(RunError, match="another `fastbot ablate` is at work in"), locked(tmp_path, told.append):
            pass
    assert len(told) == 1
    assert told[0].startswith("waiting   up to 0 s for another `fastbot ablate`")
    with pytest.raises(RunError, match="or a training that one left behind"), locked(tmp_path, told.append):
        pass
    left_behind.kill()
    left_behind.wait()
    with locked(tmp_path, never):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"file/out cannot be made: .* Choose another --out"),
        locked(tmp_path / "file" / "out", never),
    ):
        pass


PARENT = """
import subprocess, sys
from fastbot.ablation.children import _stop_with_parent
child = subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=_stop_with_parent)
print(child.pid, flush=True)
child.wait()
"""


def test_a_killed_ablation_leaves_no_training_behind() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment(), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_for(lambda: not is_running(child))


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("allowed", "quota", "jobs", "shares"),
    [
        (8, 8, 1, [8]),
        (8, 8, 2, [4, 4]),
        (8, 8, 3, [2, 2, 2]),
        (8, 4, 2, [2, 2]),
        (2, 2, 4, [1, 1, 1, 1]),
    ],
)
def test_trainings_at_a_time_share_the_cores(
    allowed: int, quota: int, jobs: int, shares: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(10, 10 + allowed)))
    monkeypatch.setattr(children, "cores", lambda: quota)
    parts = shared_cpus(jobs)
    assert [len(part) for part in parts] == shares
    used = [cpu for part in parts for cpu in part]
    assert set(used) <= set(range(10, 10 + allowed))
    if jobs <= allowed:
        assert len(set(used)) == len(used)


def test_the_last_reading_is_the_last_whole_line_of_training(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert last_reading(file) == {}
    lines = [f'{{"kind": "train", "step": {step}, "loss": 0.5}}' for step in range(1000)]
    file.write_text("\n".join([*lines, '{"kind": "eval", "step": 999}', '{"kind": "train", "st']))
    assert last_reading(file)["step"] == 999
    file.write_text('{"kind": "train", "st')
    assert last_reading(file) == {}
