"""How the command line ends where something is wrong: one line that says it, and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn, cast

import typer
from rich.console import Console

from datasets_tools.wording import rule
from fastbot.launcher import under_launcher

# Typer has it from click, or from a copy of click that it brings along: which one depends on its version.
UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])


def fail(error: Exception, code: int) -> NoReturn:
    """Print what went wrong and exit.

    Args:
        error: what was raised; its notes are printed too.
        code: the exit code.
    """
    if os.environ.get("FASTBOT_DEBUG"):
        raise error
    _print_error("\n".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())]))
    if under_launcher():
        # One of several ranks: the others may wait for this one in a collective, and leaving must not wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def refuse(error: Any) -> NoReturn:
    """Print what is wrong with a command and exit.

    Typer's own frame around it would break paths and commands at the terminal's width: nobody could copy them.

    Args:
        error: a `UsageError`.
    """
    if message := error.format_message():  # empty: the help was asked for by giving no arguments, and is printed
        if error.ctx is not None:
            print(error.ctx.get_usage(), file=sys.stderr)
        _print_error(rule(message))
        if error.ctx is not None:
            print(f"Try '{error.ctx.command_path} --help' for help.", file=sys.stderr)
    sys.exit(error.exit_code)


def _print_error(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print("[bold red]error:[/] ", end="")
    # No markup: a message may hold brackets. No control characters: file names in it may hold any.
    print("".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text), file=sys.stderr)
