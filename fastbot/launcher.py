"""Ranks on this machine, started by torchrun's own elastic launcher; and whether a launcher started this process.

PyTorch is imported where ranks are started: how a failing command leaves is asked without it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fastbot.errors import RunError

# Names a file that a stopped run's first rank makes once it has saved: the launcher sees no exit codes then.
_FAREWELL = "FASTBOT_FAREWELL_FILE"

# A rank that trains and was asked to stop saves once the evaluation that it is at is done: PyTorch's own 30 seconds are
# shorter than many. As long as ranks wait for each other: one that takes longer waits for a dead one.
_TO_SAVE_S = 30 * 60


def under_launcher() -> bool:
    """Return whether torchrun (ours or the user's), or another launcher of several ranks, started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE") or 1) > 1


def launch(num_processes: int, arguments: Sequence[str], *, saves: bool = False) -> int:
    """Run `python -m fastbot ARGUMENTS` in `num_processes` ranks on this machine and wait for them.

    SIGTERM and Ctrl-C are passed on to the ranks. A third leaves at once, and kills them.

    Args:
        num_processes: ranks.
        arguments: as after `fastbot`.
        saves: whether ranks that are asked to stop save first: they are given time for it.

    Returns:
        0, or the exit code of a rank that failed; that rank has said why.

    Raises:
        RunError: a rank was killed, or the command was stopped before it was done or could save.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="fastbot",
        max_restarts=0,
    )
    # Else this PyTorch has but its own 30 s, or the user has chosen.
    if saves and hasattr(config, "shutdown_timeout") and "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in os.environ:
        config.shutdown_timeout = _TO_SAVE_S
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the ranks' own lines say it better
    others = _children()
    with tempfile.TemporaryDirectory(prefix="fastbot-") as folder:
        os.environ[_FAREWELL] = str(Path(folder) / "stopped")
        try:
            elastic_launch(config, sys.executable)("-m", "fastbot", *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode > 0:
                return int(failure.exitcode)
            raise RunError(
                f"rank {rank} was killed by signal {-failure.exitcode}. Go on from the last checkpoint with --resume"
            ) from error
        except SignalException as error:
            for pid in _children() - others:  # the leader of a session of its own: it would outlive this process
                with suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)
            if not Path(os.environ[_FAREWELL]).exists():
                when = (
                    "before it could save. Go on from the last checkpoint with --resume" if saves else "before its end"
                )
                raise RunError(f"it was stopped {when}") from error
    return 0


def _children() -> set[int]:
    """Return the processes that this thread has started and that are there, where the kernel tells."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(map(int, file.read_text().split())) if file.exists() else set()


def say_farewell() -> None:
    """Tell the launcher, if there is one, that all is saved: should it have been asked to stop, nothing is lost."""
    if _FAREWELL in os.environ:
        Path(os.environ[_FAREWELL]).touch()
