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
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


def ask(question: Callable[..., Answer], *arguments: object, environment: Mapping[str, str] | None = None) -> Answer:
    """Let a new process call a function, and return what it returned.

    Args:
        question: a function of a module; what it returns can be written as JSON.
        arguments: its arguments, which can be written as JSON.
        environment: variables that the process gets besides this one's.

    Raises:
        RunError: the process failed.
    """
    from fastbot.errors import RunError  # here: a process that answers imports it when it needs it

    name = f"{question.__module__}:{question.__name__}"
    command = [sys.executable, "-m", __name__, name, json.dumps(arguments)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{' '.join(command)} failed:\n{done.stderr}")
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


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
