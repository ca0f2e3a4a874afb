"""The ladder: rungs in processes of their own, those that fail named, and a report of the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import typer
from benchmark_results import result
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import climbing as climbing_module
from benchmarks import ladder, lines
from benchmarks.climbing import DONE, Climb
from benchmarks.lines import load
from benchmarks.profiles import CORPUS_S, MINUTES, RUNGS, Profile, Rung
from benchmarks.suite import app
from datasets_tools.errors import StoreError
from fastbot.errors import RunError

PLAN = Rung("plan --samples 2048 --repeats 1", 180)


def climb(
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    *rungs: Rung,
    minutes: float = 1.0,
    data: Path | None = None,
    begin_with: str = "",
) -> list[str]:
    monkeypatch.setattr(ladder, "RUNGS", {Profile.quick: rungs})
    return ladder.run(out, Profile.quick, data, minutes, [], begin_with)


def climbing(out: Path) -> Climb:
    return Climb(out, time.monotonic() + 60, Console())


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let rungs write a line instead of measuring, and "stop" be interrupted after it; return those that were begun."""
    begun: list[str] = []

    def run(self: Climb, rung: Rung, data: Path | None, later_s: float) -> str:
        begun.append(rung.title)
        lines.append([result(rung.title, benchmark=rung.title)], {}, self.file(rung))
        if rung.title == "stop":
            raise KeyboardInterrupt
        if rung.title == "terminate":
            sys.exit(143)
        return DONE

    monkeypatch.setattr(Climb, "run", run)
    return begun


def test_it_runs_rungs_names_what_failed_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = climb(tmp_path / "out", monkeypatch, Rung("nonsense", 120), PLAN, minutes=5)
    assert failed == ["nonsense"]
    for page in ("report.md", "report.html"):
        assert "nonsense: failed with exit code 2" in (tmp_path / "out" / page).read_text(), "nobody takes it for all"
    assert {line.result.benchmark for line in load(tmp_path / "out" / "plan.jsonl")} == {"plan"}
    assert "nonsense" in (tmp_path / "out" / "logs" / "nonsense.log").read_text()
    assert (tmp_path / "out" / "report.html").is_file()
    shown = capsys.readouterr().out
    assert "nonsense: failed with exit code 2" in shown
    assert "plan: done" in shown


def test_when_the_time_is_over_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert climb(tmp_path / "out", monkeypatch, PLAN, minutes=0.01) == ["plan"]
    assert "not run, the time is over" in capsys.readouterr().out
    assert not (tmp_path / "out" / "report.html").exists()


def test_results_of_a_former_climb_are_not_reported_as_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the time is over before their rung."""
    for name in ("plan", "of_others"):
        lines.append([result("old")], {}, tmp_path / f"{name}.jsonl")
    assert climb(tmp_path, monkeypatch, PLAN, minutes=0.01) == ["plan"]
    assert not (tmp_path / "plan.jsonl").exists()
    assert (tmp_path / "of_others.jsonl").exists()


@pytest.mark.parametrize("how", ["stop", "terminate"])
def test_an_interrupted_climb_says_so_and_reports_what_it_has(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made_up: list[str],
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    with pytest.raises(KeyboardInterrupt if how == "stop" else SystemExit):
        climb(tmp_path, monkeypatch, Rung("plan", 9), Rung(how, 9), Rung("never", 9))
    assert made_up == ["plan", how]
    assert "interrupted" in capsys.readouterr().out
    report = (tmp_path / "report.md").read_text()
    assert "| plan |" in report
    assert f"| {how} |" in report
    assert f"- {how}: interrupted\n- never: not run, interrupted" in report


@pytest.mark.parametrize(("how", "code"), [("stop", 130), ("terminate", 143)])
def test_an_interrupted_command_ends_as_a_shell_expects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: list[str], how: str, code: int
) -> None:
    monkeypatch.setattr(ladder, "RUNGS", {Profile.quick: [Rung(how, 9)]})
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ended = CliRunner().invoke(app, ["all", "--quick", "--out", str(tmp_path)])
    assert (ended.exit_code, made_up) == (code, [how])


def test_a_climb_that_goes_on_keeps_and_reports_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: list[str]
) -> None:
    rungs = [Rung(name, 9) for name in ("first", "second", "third")]
    lines.append([result("kept")], {}, tmp_path / "first.jsonl")
    lines.append([result("old")], {}, tmp_path / "third.jsonl")
    assert climb(tmp_path, monkeypatch, *rungs, begin_with="second") == []
    assert made_up == ["second", "third"]
    report = (tmp_path / "report.md").read_text()
    assert [f"| {case} |" in report for case in ("kept", "second", "third", "old")] == [True, True, True, False]


def test_a_file_that_a_killed_rung_left_torn_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.jsonl").write_text('{"benchmark": "b')
    assert climb(tmp_path, monkeypatch, Rung("torn", 9), Rung("whole", 9), begin_with="whole") == []
    assert "left out of the report" in capsys.readouterr().out
    assert "| whole |" in (tmp_path / "report.md").read_text()


def test_without_a_corpus_the_rungs_that_need_none_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endings = {"corpus": "failed with exit code 2", "plan": "done"}
    monkeypatch.setattr(Climb, "ended", lambda _, words, *__: endings[words[0]])
    assert climb(tmp_path, monkeypatch, Rung("decode --data {data}", 30), PLAN) == ["decode"]
    shown = capsys.readouterr().out
    assert "corpus: failed with exit code 2" in shown
    assert "decode: not run, there is no store" in shown
    assert "plan: done" in shown


def test_no_corpus_is_made_that_nothing_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def ended(self: Climb, words: Sequence[str], *_: object) -> str:
        begun.append(words[0])
        return "done"

    monkeypatch.setattr(Climb, "ended", ended)
    assert climb(tmp_path, monkeypatch, PLAN) == []
    assert begun == ["plan"]


@pytest.mark.parametrize("rungs", [(PLAN, Rung("decode --data {data}", 9)), (PLAN,)])
def test_a_wrong_store_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rungs: tuple[Rung, ...]
) -> None:
    """Also where no rung would have read it."""
    with pytest.raises(StoreError, match="nonsense"):
        climb(tmp_path, monkeypatch, *rungs, data=tmp_path / "nonsense")
    assert not (tmp_path / "logs").exists()


def test_an_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"--out .*file: no folder can be made there"):
        ladder.run(tmp_path / "file", Profile.quick, None, 1.0)


def test_a_rungs_temporary_files_are_removed(tmp_path: Path) -> None:
    script = f"echo $TMPDIR > {tmp_path}/where; touch $TMPDIR/left; kill -9 $$"
    ended = climbing(tmp_path).ended([], "leaves", 30, ["sh", "-c", script])
    folder = Path((tmp_path / "where").read_text().strip())
    assert ended == "failed with exit code -9"
    assert folder.name.startswith("fastbot-rung-")
    assert not folder.exists()


def test_a_rung_keeps_to_some_of_the_cores_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Sequence[str]] = []

    def ended(self: Climb, words: Sequence[str], name: str, seconds: float, before: Sequence[str]) -> str:
        used.append(before)
        return "done"

    monkeypatch.setattr(Climb, "ended", ended)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 2, 9, 4, 5})
    for cores in (0, 2, 8):
        climbing(tmp_path).run(Rung("plan", 9, cores=cores), None)
    listed = [[], ["taskset", "--cpu-list", "2,4"], ["taskset", "--cpu-list", "2,4,5,7,9"]]
    assert used == listed


def test_time_that_is_left_over_is_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rung may take more than its limit where all that follow still get theirs, and never more than there is."""
    limits: list[float] = []

    def ended(self: Climb, words: Sequence[str], name: str, seconds: float, before: Sequence[str]) -> str:
        limits.append(seconds)
        return "done"

    monkeypatch.setattr(Climb, "ended", ended)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    climb(tmp_path / "ample", monkeypatch, Rung("first", 30), Rung("second", 10), minutes=2)
    climb(tmp_path / "exact", monkeypatch, Rung("first", 90), Rung("second", 30), minutes=2)
    climb(tmp_path / "short", monkeypatch, Rung("first", 90), Rung("second", 300), minutes=2)
    assert limits == [90, 120, 90, 120, 90, 120]


def test_an_unknown_rung_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--rung nonsense: is not on the ladder\. Take of .*plan"):
        ladder.run(tmp_path, Profile.quick, tmp_path, 1.0, ["nonsense"])
    with pytest.raises(RunError, match=r"--from nonsense: is not on the ladder\. Take one of .*plan"):
        ladder.run(tmp_path, Profile.quick, tmp_path, 1.0, begin_with="nonsense")


def test_two_sizes_are_refused() -> None:
    with pytest.raises(RunError, match="Give one of them"):
        CliRunner().invoke(app, ["all", "--quick", "--gpu"], catch_exceptions=False)


@pytest.mark.parametrize("profile", list(Profile))
def test_every_rung_is_a_command_that_understands_its_arguments(profile: Profile, tmp_path: Path) -> None:
    """Parsed by the commands themselves, without running them."""
    suite = typer.main.get_command(app)
    for rung in RUNGS[profile]:
        name, *words = rung.command.split()
        command = suite.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, [*words, "--json", str(tmp_path / "results.jsonl")])
    assert not (tmp_path / "results.jsonl").exists()


def test_quick_has_every_rung() -> None:
    expected = {"decode", "loader", "augment", "step", "train", "table3", "table5", "scaling", "startup", "memory"}
    assert expected <= {rung.title for rung in RUNGS[Profile.quick]}


@pytest.mark.parametrize("profile", list(Profile))
def test_rungs_have_files_of_their_own(profile: Profile) -> None:
    assert len({rung.title for rung in RUNGS[profile]}) == len(RUNGS[profile])


@pytest.mark.parametrize("profile", [Profile.quick, Profile.full])
def test_the_limits_of_all_rungs_fit_the_time(profile: Profile) -> None:
    assert CORPUS_S[profile] + sum(rung.limit_s for rung in RUNGS[profile]) <= 60 * MINUTES[profile]


def test_what_a_gpu_is_wanted_for_fits_two_calls() -> None:
    """The first of 5.5 minutes; the second of 9, `--from augment-gpu`; what is less wanted, `--from delivery_turbo`."""
    rungs = RUNGS[Profile.gpu]
    titles = [rung.title for rung in rungs]
    second, third = titles.index("augment-gpu"), titles.index("delivery_turbo")
    parts = (rungs[:second], MINUTES[Profile.gpu]), (rungs[second:third], 9.0), (rungs[third:], 5.0)
    for part, minutes in parts:
        assert CORPUS_S[Profile.gpu] + sum(rung.limit_s for rung in part) <= 60 * minutes
    assert titles[:second] == ["step", "train", "table3"]


def test_more_ranks_than_gpus_are_no_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_up: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    climb(tmp_path, monkeypatch, Rung("first", 9, gpus=1), Rung("second", 9, gpus=2), Rung("third", 9))
    assert made_up == ["first", "third"]


def test_cores_are_taken_before_their_second_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that numbers the two threads of a core one after the other: 0 and 1, 2 and 3."""
    for cpu in range(8):
        (tmp_path / str(cpu)).write_text(f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}\n")
    monkeypatch.setattr(climbing_module, "_SIBLINGS", f"{tmp_path}/{{cpu}}")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert climbing_module._on_cores(4) == ["taskset", "--cpu-list", "0,2,4,6"]
    assert climbing_module._on_cores(6) == ["taskset", "--cpu-list", "0,1,2,3,4,6"]


def test_a_user_without_a_name_can_climb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that runs with a number alone."""
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    for name in ("TORCHINDUCTOR_CACHE_DIR", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert climbing_module._environment("here")["TORCHINDUCTOR_CACHE_DIR"].endswith("987654")


@pytest.mark.parametrize("place", ["file/results.jsonl", "folder"])
def test_a_file_of_results_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    ended = CliRunner().invoke(app, ["plan", "--samples", "2048", "--json", str(tmp_path / place)])
    assert ended.exit_code == 2
    assert "cannot be written" in ended.output


def test_results_are_not_appended_to_what_is_none(tmp_path: Path) -> None:
    """After measuring it would be too late: nothing could read them there."""
    (tmp_path / "notes.txt").write_text("hello\n")
    ended = CliRunner().invoke(app, ["plan", "--samples", "2048", "--json", str(tmp_path / "notes.txt")])
    assert ended.exit_code == 2
    assert "line 1" in ended.output
    assert (tmp_path / "notes.txt").read_text() == "hello\n"
