"""`fastbot bench`: the benchmark suite, found through the entry-point group `fastbot.benchmarks`.

fastbot never imports the suite by name: whoever registers a typer application in that group is the suite. It is
loaded only when asked for, because it imports everything it measures.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from fastbot.errors import RunError

_GROUP = "fastbot.benchmarks"

# Everything after `bench`, `--help` too, is the suite's to read.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(context: typer.Context) -> None:
    """Measure this machine: `fastbot bench --help` lists the benchmarks.

    Example: [bold]fastbot bench loader --data corpus --json loader.jsonl[/]
    """
    suites = entry_points(group=_GROUP)
    if not suites:
        raise RunError("no benchmark suite is installed. Install fastbot again, from its checkout: pip install -e .")
    suite: typer.Typer = next(iter(suites)).load()
    command = typer.main.get_command(suite)
    if code := command.main(context.args or ["--help"], "fastbot bench", standalone_mode=False):
        raise typer.Exit(code)
