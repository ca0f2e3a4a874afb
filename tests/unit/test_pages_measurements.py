from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_results import CORPUS, line, result, write

from benchmarks.pages.measurements import gather, merged, settings
from fastbot.errors import RunError


def test_details_stand_before_what_the_rung_was_set_to() -> None:
    of_case = line(result("ours", threads=2), threads="1, 2", batch_size=64, corpus=CORPUS, unrelated="x")
    assert settings(of_case) == {"threads": "2", "batch_size": "64", "cores": "2", "corpus": "972b8ea31691"}


def test_runs_of_a_commit_count_together() -> None:
    runs = [line(result("ours", samples=[value] * 2, ratios=[value] * 2)) for value in (1.0, 3.0)]
    (together,) = merged(runs)
    assert together.result.samples == together.result.ratios == (1.0, 1.0, 3.0, 3.0)


def test_runs_of_former_commits_are_left_aside() -> None:
    runs = [line(result("ours", samples=[value], ratios=[value]), commit=commit) for value, commit in _RUNS]
    (together,) = merged(runs)
    assert together.result.samples == (1.0, 3.0)


_RUNS = ((1.0, "new"), (2.0, "old"), (3.0, "new"))


def test_other_settings_and_devices_are_measurements_of_their_own() -> None:
    ours = result("ours")
    assert len(merged([line(ours, size=1), line(ours, size=2), line(ours, size=2, device="another")])) == 3


def test_folders_are_searched(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", line(result("second")))
    write(tmp_path / "a" / "a.jsonl", line(result("first")))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "b.log").write_text("no results")
    assert [one.result.case for one in gather([tmp_path])] == ["first", "second"]


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no \.jsonl file\. Give a folder"):
        gather([tmp_path])
