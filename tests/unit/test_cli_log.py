from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fastbot.cli import main

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
