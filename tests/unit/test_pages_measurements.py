"""Which lines are of the same measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_results import CORPUS, line, result, write

from benchmarks.pages.measurements import gather, kind_of_device, merged, settings
from fastbot.errors import RunError


def test_details_stand_before_what_the_rung_was_set_to() -> None:
    of_case = line(result("ours", threads=2), threads="1, 2", batch_size=64, corpus=CORPUS, unrelated="x")
    found = settings(of_case)
    assert (found["threads"], found["batch_size"], found["cores"]) == ("2", "64", "2")
    assert (found["corpus"], found["device"]) == ("972b8ea31691", "cpu")
    assert "unrelated" not in found


def test_a_store_that_is_no_corpus_is_told_by_its_manifest() -> None:
    assert settings(line(result("ours"), store="ab" * 32, corpus={}))["store"] == "ab" * 6
    of_corpus = settings(line(result("ours"), store="ab" * 32, corpus=CORPUS))
    assert (of_corpus["corpus"], "store" in of_corpus) == ("972b8ea31691", False)


@pytest.mark.parametrize(
    ("name", "said", "kind"),
    [
        ("a processor", None, "cpu"),
        ("NVIDIA H100", None, "cuda"),  # as lines were written that do not say
        ("a processor", "cuda:1", "cuda"),
        ("NVIDIA H100", "cpu", "cpu"),
    ],
)
def test_the_kind_of_a_device(name: str, said: str | None, kind: str) -> None:
    found = line(result("ours"), device=name)
    if said:
        found = replace(found, conditions={**found.conditions, "device": said})
    assert settings(found)["device"] == kind_of_device(found) == kind


def test_runs_by_other_backends_are_not_pooled() -> None:
    runs = [line(result("ours"), backend=backend) for backend in ("turbo", "dali", "turbo")]
    assert [len(one.result.samples) for one in merged(runs)] == [10, 5]


@pytest.mark.parametrize("commit", ["abc1234-dirty", "unknown"])
def test_of_code_that_nobody_knows_the_last_run_counts_alone(commit: str) -> None:
    runs = [line(result("ours", samples=[value], ratios=[value]), commit=commit) for value in (1.0, 2.0)]
    assert merged(runs)[0].result.samples == (2.0,)


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"torch": "2.9"}},
        {"conditions": {"cores": 2, "python": "3.10.1"}},
        {"conditions": {"cores": 2, "python": "3.11.7", "gpu": {"driver": "1"}}},
    ],
)
def test_runs_with_other_versions_are_left_aside(changes: dict[str, Any]) -> None:
    new = line(result("ours", samples=[1.0], ratios=[1.0]))
    old = replace(new, **changes)
    assert merged([old, new])[0].result.samples == (1.0,)
    assert merged([new, new])[0].result.samples == (1.0, 1.0)


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
