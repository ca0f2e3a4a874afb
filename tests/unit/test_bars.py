"""Bars are for terminals: elsewhere, and before there is anything to show, nothing is drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from rich.console import Console

from fastbot.cli.bars import Bar, bytes_bar, pictures_bar

BARS = pytest.mark.parametrize("bar", [bytes_bar, pictures_bar])
MakeBar = Callable[[Console], AbstractContextManager[Bar]]


def _console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, force_interactive=terminal, width=80), file


@BARS
def test_nothing_is_drawn_where_there_is_no_terminal(bar: MakeBar) -> None:
    console, file = _console(terminal=False)
    with bar(console) as drawn:
        drawn.update("reading", 5, 10)
        drawn.update("reading", 10, 10)
    assert file.getvalue() == ""


@BARS
def test_what_fails_at_once_leaves_no_bar(bar: MakeBar) -> None:
    console, file = _console(terminal=True)
    with pytest.raises(ValueError, match="no such file"), bar(console):
        raise ValueError("no such file")
    assert file.getvalue() == ""


@BARS
def test_in_a_terminal_the_work_is_shown(bar: MakeBar) -> None:
    console, file = _console(terminal=True)
    with bar(console) as drawn:
        drawn.update("reading [x]", 10, 10)
    assert "reading [x]" in file.getvalue()
    assert "10/10" in file.getvalue()
