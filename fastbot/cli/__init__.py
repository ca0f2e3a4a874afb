"""The command line: one file per command; the only place that wires all three packages.

Modules here import PyTorch and the like inside their commands, so that `fastbot --help` answers at once.
Exit codes: 0 done, 1 the run failed, 2 wrong usage or a wrong recipe.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn, TextIO

import typer

from datasets_tools.errors import DataError
from fastbot.cli import (
    ablate,
    bench,
    convert,
    doctor,
    evaluate,
    export,
    import_weights,
    models,
    predict,
    recipes,
    store,
    train,
)
from fastbot.cli.failures import UsageError, fail, refuse
from fastbot.cli.versions import versions
from fastbot.errors import FastbotError, ModelError, RecipeError
from pipelines.errors import PipelineError, SpecError

app = typer.Typer(
    name="fastbot",
    help="Train image classifiers as fast as the machine allows, and as two papers say.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(convert.app, name="convert")
app.add_typer(store.app, name="store")
app.command(name="train")(train.train)
app.command(name="ablate")(ablate.ablate)
app.command(name="eval")(evaluate.evaluate)
app.command(name="predict")(predict.predict)
app.command(name="export")(export.export)
app.command(name="import")(import_weights.import_weights)
app.command(name="recipes")(recipes.recipes)
app.command(name="models")(models.models)
app.command(name="doctor")(doctor.doctor)
app.command(name="bench", context_settings=bench.PASS_THROUGH)(bench.bench)


def _print_versions(asked: bool) -> None:
    if asked:
        print("\n".join(f"{name} {version}" for name, version in versions().items()))
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_versions,
            is_eager=True,
            help="Print the versions of fastbot and of the packages that results depend on.",
        ),
    ] = False,
) -> None:
    if debug:
        os.environ["FASTBOT_DEBUG"] = "1"  # ranks that a launcher starts inherit it


def main(arguments: Sequence[str] | None = None, application: typer.Typer = app, name: str = "fastbot") -> NoReturn:
    """Run one command and exit: 0 done, 1 the run failed, 2 wrong usage or a wrong recipe.

    Args:
        arguments: of the command line; by default those of this process.
        application: whose command it is.
        name: of the program.
    """
    # Decoding threads share the cores with the threads of the step: one that waits must not spin. Measured in
    # docs/performance.md; it must be set before PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _show_log()
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        command = typer.main.get_command(application)
        code = command.main(given, name, standalone_mode=False, obj=given)  # `train --nproc` starts ranks with it
    except UsageError as error:
        refuse(error)
    except (RecipeError, ModelError, SpecError) as error:
        fail(error, 2)
    except (FastbotError, PipelineError, DataError, MemoryError) as error:
        fail(error, 1)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fail(OSError(f"{error}. Free space, then run it again (training goes on with --resume)") if full else error, 1)
    sys.exit(code or 0)


class _Lines(logging.Handler):
    """Prints a line for each record, on what stderr is at that time: a display may have put itself in its place.

    What is for information is printed once: a pipeline that trains and one that evaluates say the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if record.levelno > logging.INFO or line not in self._told:
            self._told.add(line)
            print(line, file=sys.stderr)


def _show_log() -> None:
    """Show what is logged: of several ranks all warnings, and what the first alone has to say."""
    for name in ("pipelines", "fastbot"):
        log = logging.getLogger(name)
        if not log.handlers:
            log.addHandler(_Lines())
        log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING)
    warnings.showwarning = _show_warning


_show_others = warnings.showwarning
_OWN = tuple(str(Path(__file__).parents[2] / package) + os.sep for package in ("fastbot", "pipelines"))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show what this package warns its users of as one line of the log, and other packages' warnings as ever."""
    if issubclass(category, UserWarning) and filename.startswith(_OWN):
        logging.getLogger("fastbot").warning("warning: %s", message)
    else:
        _show_others(message, category, filename, lineno, file, line)
