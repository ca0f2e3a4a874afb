"""`python -m fastbot`, which is also what torchrun starts, and what the `fastbot` script calls.

The command line is imported when it runs: worker processes import the script that started them once more, and need
nothing of it.
"""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; see `fastbot.cli.main`."""
    from fastbot.cli import main as run

    run()


if __name__ == "__main__":
    main()
