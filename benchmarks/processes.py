"""Other programs that are run to their end, or ended with everything that they have started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from benchmarks.machine import with_descendants

# Linux, prctl.h.
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
# A killed process is gone at once, unless it waits for a device.
_PATIENCE_S = 10.0


@contextmanager
def orphans_ended() -> Iterator[None]:
    """End, afterwards, all processes that were started within and are still there, whoever has started them.

    What a process leaves behind when it ends becomes a child of this one meanwhile, so that it is found.

    Raises:
        OSError: the kernel refuses to make this process the one that orphans go to.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = set(with_descendants(os.getpid()))
    was = ctypes.c_int()
    _checked(libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(was), 0, 0, 0))
    _checked(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    try:
        yield
    finally:
        _end_all_but(before)
        _checked(libc.prctl(_PR_SET_CHILD_SUBREAPER, was.value, 0, 0, 0))


def _checked(code: int) -> None:
    if code != 0:
        raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")


def _end_all_but(kept: set[int]) -> None:
    """Kill this process's other descendants, again as long as there are some: they may start more meanwhile."""
    deadline = time.monotonic() + _PATIENCE_S
    while (found := set(with_descendants(os.getpid())) - kept) and time.monotonic() < deadline:
        for pid in found:
            _kill(pid)
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # another's child: it comes to this process when its parent has ended
                continue
        time.sleep(0.01)


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
