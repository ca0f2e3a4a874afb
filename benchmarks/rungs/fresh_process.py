"""One question, answered by a process of its own: `python -m MODULE QUESTION ARGUMENTS`; the last line is the answer.

What was imported, compiled, allocated or started for one answer is not there for another. A question is a function of
a module of the suite, `benchmarks.rungs.NAME:FUNCTION`. Nothing but Python itself is imported here, so that a question
can tell what its own imports take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

Answer = dict[str, Any]

# The longest answer, thousands of batches on a laptop, takes minutes: by then it waits for what does not come.
_LIMIT_S = 1800.0


def ask(
    question: Callable[..., Answer],
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    limit_s: float = _LIMIT_S,
) -> Answer:
    """Let a new process call a function, and return what it returned.

    Args:
        question: a function of a module; what it returns can be written as JSON.
        arguments: its arguments, which can be written as JSON.
        environment: variables that the process gets besides this one's.
        limit_s: seconds after which the process and all that it has started are ended.

    Raises:
        RunError: the process failed, or did not end in time.
    """
    # Here: a process that answers imports them when it needs them.
    from benchmarks.processes import run_whole
    from fastbot.errors import RunError

    name = f"{question.__module__}:{question.__name__}"
    command = [sys.executable, "-m", __name__, name, json.dumps(arguments)]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            code = run_whole(command, limit_s, output=output, errors=errors, environment=environment)
        except subprocess.TimeoutExpired as error:
            raise RunError(
                f"{' '.join(command)} did not end within {limit_s:g} s. Lower --batch-size, --size or how often "
                f"it is done; it said:\n{_text(errors)}"
            ) from error
        if code:
            raise RunError(f"{' '.join(command)} failed with exit code {code}:\n{_text(errors)}")
        answer: Answer = json.loads(_text(output).splitlines()[-1])
    return answer


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def age_s() -> float:
    """Return the seconds since this process started, to the hundredth that Linux counts in."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of the file, in ticks since the machine started
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main() -> None:
    """Answer the question on the command line."""
    module, _, function = sys.argv[1].partition(":")
    print(json.dumps(getattr(import_module(module), function)(*json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
