"""Starting ranks, and leaving as one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch.distributed.launcher.api as elastic
from torch.distributed.elastic.multiprocessing.api import SignalException

from fastbot.cli.failures import fail
from fastbot.errors import RunError
from fastbot.launcher import launch, under_launcher


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "FASTBOT_DEBUG", "FASTBOT_FAREWELL_FILE"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("FASTBOT_FAREWELL_FILE", None)


LAUNCHED = pytest.mark.parametrize(
    ("environment", "launched"),
    [({}, False), ({"WORLD_SIZE": "1"}, False), ({"WORLD_SIZE": "2"}, True), ({"TORCHELASTIC_RUN_ID": "x"}, True)],
)


@LAUNCHED
def test_torchrun_and_other_launchers_are_seen(
    environment: dict[str, str], launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert under_launcher() == launched


@LAUNCHED
def test_one_of_several_ranks_leaves_without_waiting_for_the_others(
    environment: dict[str, str], launched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.exit` would run what PyTorch registered to run at exit, which may wait for ranks that wait for this one."""

    class LeftAtOnce(BaseException):
        pass

    def leave(code: int) -> None:
        raise LeftAtOnce(code)

    monkeypatch.setattr(os, "_exit", leave)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LeftAtOnce if launched else SystemExit, match="^1$"):
        fail(RunError("no"), 1)


def test_ranks_may_take_as_long_to_stop_as_an_evaluation_does(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []

    def launched(config: Any, program: str) -> Any:
        configs.append(config)
        return lambda *arguments: None

    monkeypatch.setattr(elastic, "elastic_launch", launched)
    assert launch(2, ["train"], saves=True) == 0
    if not hasattr(configs[0], "shutdown_timeout"):
        pytest.skip("this PyTorch has a limit of its own")
    assert configs[0].shutdown_timeout >= 600
    assert launch(2, ["eval"]) == 0
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "77")
    assert launch(2, ["train"], saves=True) == 0
    assert [config.shutdown_timeout for config in configs[1:]] == [30, 77], "nothing to save; as the user says"


def test_a_launcher_that_leaves_before_its_ranks_takes_them_along(monkeypatch: pytest.MonkeyPatch) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ranks: list[subprocess.Popen[bytes]] = []

    def stopped(*arguments: str) -> None:
        command = [sys.executable, "-c", "input()"]
        ranks.append(subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True))
        raise SignalException("stopped", signal.SIGINT)

    monkeypatch.setattr(elastic, "elastic_launch", lambda config, program: stopped)
    try:
        with pytest.raises(RunError, match="stopped before it could save.*--resume"):
            launch(2, ["train"], saves=True)
        with pytest.raises(RunError, match="stopped before its end"):
            launch(2, ["eval"])
        assert ranks[0].wait(20) == -signal.SIGKILL
        assert bystander.poll() is None
    finally:
        for process in (*ranks, bystander):
            process.kill()
            process.communicate()
