from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from fastbot import cli
from fastbot.cli import _show_log, main

LOG = logging.getLogger("pipelines")


@pytest.fixture(autouse=True)
def _log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    level = LOG.level
    monkeypatch.setattr(LOG, "handlers", [])
    yield
    LOG.setLevel(level)


def _logged(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what reaches stderr of an information and a warning after two commands."""
    for _ in range(2):
        with pytest.raises(SystemExit):
            main(["recipes", "demo"])
    LOG.info("for your information")
    LOG.warning("a warning")
    return capsys.readouterr().err


def test_what_pipelines_log_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _logged(capsys) == "for your information\na warning\n"


def test_what_two_pipelines_say_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert _logged(capsys) == "for your information\na warning\n"
    LOG.info("for your information")
    LOG.info("something else")
    LOG.warning("a warning")
    assert capsys.readouterr().err == "something else\na warning\n"


def test_other_ranks_only_warn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert _logged(capsys) == "a warning\n"


def _warned(file: str, category: type[Warning]) -> list[str]:
    """Return which warnings, of one that a file of this name gives, are left to Python's own way of showing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _show_log()
        warnings.warn_explicit("mind this", category, file, 7)
    return [f"{warning.filename}: {warning.message}" for warning in caught]


def test_a_warning_for_people_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["recipes", "demo", "loss.smoothing=all", "loss.label_smoothing=0"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: loss.smoothing has no effect in recipe demo: ")
    assert _warned(cli.__file__, UserWarning) == []
    assert capsys.readouterr().err == "warning: mind this\n"


def test_other_warnings_say_where_they_are_from() -> None:
    assert _warned("/site/other.py", UserWarning) == ["/site/other.py: mind this"]
    assert _warned(cli.__file__, DeprecationWarning) == [f"{cli.__file__}: mind this"]
