"""`python -m fastbot` before there is a command line."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from fastbot.__main__ import main


def test_a_stop_while_the_command_line_is_imported_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "fastbot.cli", Interrupted("fastbot.cli"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130
