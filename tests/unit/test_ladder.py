"""The ladder: rungs in processes of their own, those that fail named, and a report of the others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import ladder
from benchmarks.ladder import RUNGS, Profile, Rung
from benchmarks.lines import load
from benchmarks.suite import app
from fastbot.errors import RunError


def climb(out: Path, monkeypatch: pytest.MonkeyPatch, *rungs: Rung, minutes: float = 1.0, data: Path) -> list[str]:
    monkeypatch.setattr(ladder, "RUNGS", {Profile.quick: rungs})
    return ladder.run(out, Profile.quick, data, minutes, [])


def test_it_runs_rungs_names_what_failed_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Rung("plan --samples 2048 --repeats 1", 60)
    failed = climb(tmp_path / "out", monkeypatch, Rung("nonsense", 30), good, data=tmp_path)
    assert failed == ["nonsense"]
    assert {line.result.benchmark for line in load(tmp_path / "out" / "plan.jsonl")} == {"plan"}
    assert "nonsense" in (tmp_path / "out" / "logs" / "nonsense.log").read_text()
    assert (tmp_path / "out" / "report.html").is_file()
    shown = capsys.readouterr().out
    assert "nonsense: failed with exit code 2" in shown
    assert "plan: done" in shown


def test_a_rung_that_runs_over_its_limit_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    """A launcher's ranks are in sessions of their own."""
    child = tmp_path / "child"
    script = f"setsid sleep 60 & echo $! > {child}; wait"
    began = time.monotonic()
    with (tmp_path / "log").open("wb") as log:
        assert "limit of 1 s" in ladder._ended(["bash", "-c", script], log, 1)
    assert time.monotonic() - began < 30
    status = Path(f"/proc/{child.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_when_the_time_is_over_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rung = Rung("plan --samples 2048 --repeats 1", 60)
    assert climb(tmp_path / "out", monkeypatch, rung, minutes=0.01, data=tmp_path) == ["plan"]
    assert "not run, the time is over" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report.html").exists()


def test_an_unknown_rung_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--rung nonsense: is not on the ladder\. Take of .*plan"):
        ladder.run(tmp_path, Profile.quick, tmp_path, 1.0, ["nonsense"])


def test_two_sizes_are_refused() -> None:
    with pytest.raises(RunError, match="Give one of them"):
        CliRunner().invoke(app, ["all", "--quick", "--gpu"], catch_exceptions=False)


@pytest.mark.parametrize("profile", list(Profile))
def test_every_rung_is_a_command_that_understands_its_arguments(profile: Profile) -> None:
    """Parsed by the commands themselves, without running them."""
    suite = typer.main.get_command(app)
    for rung in RUNGS[profile]:
        name, *words = rung.command.split()
        command = suite.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, [*words, "--json", "results.jsonl"])


def test_quick_has_every_rung() -> None:
    assert len({rung.title for rung in RUNGS[Profile.quick]}) == len(RUNGS[Profile.quick])
    expected = {"decode", "loader", "augment", "step", "train", "table3", "table5", "scaling", "startup", "memory"}
    assert expected <= {rung.title for rung in RUNGS[Profile.quick]}
