"""Results as JSON lines: what is written is read again, and what is no result is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_results import line, result

from benchmarks import hardware, lines
from benchmarks.lines import load
from benchmarks.publishing import publishing
from fastbot.errors import RunError

OURS = result("ours", samples=[1.0, 2.0, 4.0], ratios=[1.0, math.nan, 0.5], unit="s", notes="a note", size=32)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "made" / "results.jsonl"
    lines.append([OURS], {"batch_size": 64}, file)
    lines.append([result("theirs")], {}, file)
    first, second = load(file)
    assert replace(first.result, ratios=()) == replace(OURS, ratios=())
    assert first.result.ratios[::2] == OURS.ratios[::2]
    assert math.isnan(first.result.ratios[1])
    assert first.device == hardware.cpu_model() == first.conditions["cpu"]
    assert (first.conditions["batch_size"], first.conditions["device"]) == (64, "cpu")
    assert first.versions["torch"] == torch.__version__.partition("+")[0]
    assert "looks" in first.conditions["machine"]["during"]
    assert second.key == ("loader", "theirs", "theirs")


def test_a_line_says_what_it_is_of(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    lines.append([OURS], {}, file)
    found = json.loads(file.read_text())
    assert (found["seconds"], found["repeats"], found["noisy"], found["ratios"]) == (2.0, 3, True, [1.0, None, 0.5])


def test_lines_of_before_are_still_read() -> None:
    """They have no `noisy`, and do not say on what kind of device they were measured."""
    known = json.loads(line(OURS).json())
    del known["noisy"]
    assert lines.Line.of(json.dumps(known)).result.case == "ours"


def test_on_a_machine_with_a_gpu_a_rung_is_of_what_it_ran_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu", lambda: {"name": "NVIDIA H100", "driver": "1"})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    file = tmp_path / "results.jsonl"
    lines.append([OURS], {}, file, device="cpu")
    lines.append(
        [OURS, replace(OURS, details={"device": "cpu"})], {"device": "auto"}, file, device=torch.device("cuda", 0)
    )
    found = load(file)
    cpu = hardware.cpu_model()
    assert [one.device for one in found] == [cpu, "NVIDIA H100", cpu]
    assert [one.conditions["device"] for one in found] == ["cpu", "cuda", "cpu"]
    assert {(one.conditions["cpu"], one.conditions["gpu"]["name"]) for one in found} == {(cpu, "NVIDIA H100")}


def changed(**changes: Any) -> str:
    return json.dumps(json.loads(line(OURS).json()) | changes)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        changed(unit="parsecs"),
        changed(samples=[], ratios=[]),
        changed(ratios=[1.0]),
        changed(samples=["fast", 1, 2]),
        changed(samples=None),
        changed(samples=[math.nan, 1.0, 2.0]),
        changed(details=None),
        changed(conditions="x"),
        changed(versions=[]),
    ],
)
def test_a_line_that_is_no_result_is_named(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(f"{changed()}\n{bad}\n")
    with pytest.raises(
        RunError, match=r"results\.jsonl, line 2: is no result of a benchmark .*Remove that line, or measure again"
    ):
        load(file)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_file_without_results_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "results.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RunError, match=r"results\.jsonl: (has no results|cannot be read)"):
        load(file)


def measure_two_groups(file: Path) -> None:
    settings = {"left_out": ["one"]}
    with publishing(settings, file, "a title", device="cpu") as publish:
        publish([result("first")])
        assert [one.result.case for one in load(file)] == ["first"]
        settings["left_out"].append("another")
        publish([result("second"), result("third")])
        raise KeyboardInterrupt


def test_what_is_measured_stays_whatever_ends_the_rung(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure_two_groups(file)
    assert [one.conditions["left_out"] for one in load(file)] == [["one"], ["one", "another"], ["one", "another"]]
    shown = capsys.readouterr()
    assert "a title" in shown.out
    assert "third" in shown.out
    assert shown.err == "interrupted: the group of cases under way is not kept\n"


def test_a_rung_without_results_shows_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with publishing({}, tmp_path / "results.jsonl", "a title", device="cpu"):
        pass
    assert capsys.readouterr().out == ""
