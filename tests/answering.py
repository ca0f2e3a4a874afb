"""Questions of benchmarks, answered in this process, where they take no start of another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks.rungs.fresh_process import Answer, age_s


def ask_here(
    question: Callable[..., Answer], *arguments: object, environment: Mapping[str, str] | None = None
) -> Answer:
    """Do as `fresh_process.ask`."""
    return question(*arguments)


def example() -> Answer:
    """Tell this process's age, and whether it has imported what a question has not asked for."""
    return {"age_s": age_s(), "imported": "torch" in sys.modules}


def failing() -> Answer:
    """Fail."""
    return {"never": 1 // 0}


def sleeping(seconds: float) -> Answer:
    """Say so, and sleep."""
    print("asleep", file=sys.stderr, flush=True)
    time.sleep(seconds)
    return {}


def echoed(given: list[object]) -> Answer:
    """Return what was given, and a variable of the environment."""
    return {"given": given, "variable": os.environ["ECHOED"]}
