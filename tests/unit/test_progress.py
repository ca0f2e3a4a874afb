"""What a terminal shows of a measurement, and that nothing else gets any of it."""

from __future__ import annotations

import io
import sys

import pytest

from benchmarks.measure import Case, Effort, measure
from benchmarks.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_which_turn_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress("loader", 3) as tell:
        for name in ("first", "second", "third"):
            tell(name)
    shown = terminal.getvalue()
    assert all(words in shown for words in ("loader: first", "0/3", "loader: second", "1/3", "loader: third", "2/3"))


def test_a_file_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measure("loader", [Case("first", lambda: 1, "first")], Effort(repeats=2))
    assert capsys.readouterr() == ("", "")


def test_every_turn_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the warm-up, too: the total is reached with the last."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    measure("b", [Case(name, lambda: 1, "one") for name in ("one", "two")], Effort(repeats=2, warmups=1))
    assert "5/6" in terminal.getvalue()
    assert "6/6" not in terminal.getvalue()
