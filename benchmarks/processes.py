"""Other programs that are run to their end, or ended with everything that they have started."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from benchmarks.machine import with_descendants


def run_whole(
    command: Sequence[str],
    limit_s: float,
    *,
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a program and return its exit code.

    Where this ends otherwise (the limit, Ctrl-C, any error), all that the program has started is killed: the ranks of a
    launcher are in sessions of their own, and would train on.

    Args:
        command: the program and its arguments.
        limit_s: seconds.
        output: gets what it prints.
        errors: gets its standard error; by default `output` gets that, too.
        environment: variables that it gets besides this process's.

    Raises:
        TimeoutExpired: the limit came first.
    """
    variables = {**os.environ, **(environment or {})}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors or subprocess.STDOUT, env=variables
    ) as process:
        try:
            return process.wait(limit_s)
        except BaseException:
            for pid in list(with_descendants(process.pid)):
                _kill(pid)
            raise


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended meanwhile
        return
