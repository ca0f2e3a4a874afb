"""`python -m fastbot`, which is also what torchrun starts, and what the `fastbot` script calls.

The command line is imported when it runs: worker processes import the script that started them once more, and need
nothing of it.
"""

from __future__ import annotations

import sys
from typing import NoReturn

STOPPED = 130  # what shells say of a program that Ctrl-C ended


def main() -> NoReturn:
    """Run the command line; see `fastbot.cli.main`."""
    try:
        from fastbot.cli import main as run
    except KeyboardInterrupt:  # importing takes a second: time enough to think better of it
        sys.exit(STOPPED)
    run()


if __name__ == "__main__":
    main()
