"""Running fastbot's commands in the process of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastbot.cli import main


def error(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> str:
    """Run a command that must fail, and return the one line it says."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert left.value.code == code, said
    assert "Traceback" not in said
    return said
