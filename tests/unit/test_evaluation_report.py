"""The folder of an evaluation, read back by other people's readers."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastbot.errors import RunError
from fastbot.evaluation import report
from fastbot.evaluation.confusion import Confusion, confusion_of
from fastbot.evaluation.report import check_folder, write_report

NAMES = ("cat, tabby", 'dog "barks"', "$x_1$ späte Fähre", "none")
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([[0, 1], [1, 0], [1, 2], [1, 0], [1, 2], [0, 1]])
SETTINGS = {"run": "runs/a", "split": "val", "crop_size": 32}


@pytest.fixture
def confusion() -> Confusion:
    return confusion_of(PREDICTIONS, LABELS, NAMES)


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.reader(opened))


def test_the_files_hold_the_results(confusion: Confusion, tmp_path: Path) -> None:
    write_report(tmp_path, confusion, SETTINGS, {"top1": 0.5, "loss": math.nan})
    assert rows(tmp_path / "per_class.csv") == [
        ["label", "class", "samples", "top1", "top5", "most_confused_with", "times"],
        ["0", NAMES[0], "3", "0.333333", "0.666667", NAMES[1], "2"],
        ["1", NAMES[1], "2", "1.000000", "1.000000", "", "0"],
        ["2", NAMES[2], "1", "0.000000", "0.000000", NAMES[0], "1"],
        ["3", NAMES[3], "0", "", "", "", "0"],
    ]
    matrix = [["1", "2", "0", "0"], ["0", "2", "0", "0"], ["1", "0", "0", "0"], ["0", "0", "0", "0"]]
    named = [[name, *row] for name, row in zip(NAMES, matrix, strict=True)]
    assert rows(tmp_path / "confusion.csv") == [["", *NAMES], *named]
    assert json.loads((tmp_path / "scores.json").read_text()) == SETTINGS | {"scores": {"top1": 0.5, "loss": None}}
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300
        assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 10
    assert len(list(tmp_path.iterdir())) == 4, "nothing is left aside"


def test_of_very_many_classes_there_are_pairs(
    confusion: Confusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, confusion, SETTINGS, {"top1": 0.5})
    (tmp_path / "mine.txt").write_text("stays")
    monkeypatch.setattr(report, "MOST_DENSE", 3)
    write_report(tmp_path, confusion, SETTINGS, {"top1": 0.5})
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"scores.json", "per_class.csv", "confusion_pairs.csv", "mine.txt"}, "none of the report before"
    assert rows(tmp_path / "confusion_pairs.csv") == [
        ["truth", "prediction", "pictures"],
        [NAMES[0], NAMES[0], "1"],
        [NAMES[0], NAMES[1], "2"],
        [NAMES[1], NAMES[1], "2"],
        [NAMES[2], NAMES[0], "1"],
    ]


def test_a_thousand_classes_are_drawn_a_pixel_each_at_least(tmp_path: Path) -> None:
    labels = np.arange(1000)
    many = confusion_of((labels[::-1])[:, None].copy(), labels, [f"{k}" for k in labels])
    write_report(tmp_path, many, SETTINGS, {"top1": 0.0})
    with Image.open(tmp_path / "confusion.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    blue = (pixels[:, :, 2] - pixels[:, :, 0] > 60)[:, : pixels.shape[1] * 3 // 4]  # without the bar of shades
    assert blue.any(axis=1).sum() >= 1000, "every class's cell is seen"


def test_a_folder_that_cannot_be_is_refused_before_anything_is_scored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made: .* Choose another --out"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "new" / "one")
    assert (tmp_path / "new" / "one").is_dir()


def test_a_report_that_cannot_be_written_leaves_no_scores(
    confusion: Confusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path, confusion, SETTINGS, {"top1": 0.5})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "draw_confusion", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_report(tmp_path, confusion, SETTINGS, {"top1": 0.5})
    assert not (tmp_path / "scores.json").exists(), "it is written last: who finds it has a whole report"
    assert not list(tmp_path.glob(".*"))
