"""The folder an evaluation leaves: scores, classes one by one, and who was taken for whom.

OUT/per_class.csv        a row for each class
OUT/confusion.csv        all cells, true classes down, predicted ones across; of very many classes, instead:
OUT/confusion_pairs.csv  the cells that are not 0, one a row
OUT/confusion.png        the same as a picture; of very many classes there is none
OUT/scores.json          what was scored, how, and the result; written last
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastbot.errors import RunError
from fastbot.evaluation.confusion import NO_CLASS, Confusion
from fastbot.evaluation.drawing import draw_confusion

SCORES, PER_CLASS, MATRIX, PAIRS, PICTURE = (
    "scores.json",
    "per_class.csv",
    "confusion.csv",
    "confusion_pairs.csv",
    "confusion.png",
)
# A table and a picture of so many classes squared are still opened by what people open such files with; 20,000 classes
# would be a gigabyte.
MOST_DENSE = 2000

_Row = Sequence[str | int]


def check_folder(folder: Path) -> None:
    """Make the folder of a report, so that what keeps it from being written shows before anything is scored.

    Raises:
        RunError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}. Choose another --out") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"{folder} cannot be written to. Choose another --out")


def write_report(folder: Path, confusion: Confusion, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
    """Write the files of a report, each whole or not at all; those of a report before are replaced, others are left.

    Args:
        folder: which exists.
        confusion: classes one by one.
        settings: what was scored and how, plain values.
        scores: the result.

    Raises:
        RunError: a file cannot be written.
    """
    try:
        for name in (SCORES, MATRIX, PAIRS, PICTURE):  # what this report may not have
            (folder / name).unlink(missing_ok=True)
        _write_text(folder / PER_CLASS, _csv(_per_class(confusion)))
        if confusion.num_classes <= MOST_DENSE:
            _write_text(folder / MATRIX, _csv(_matrix(confusion)))
            title = f"{settings['run']} on {settings['split']}: top-1 {scores['top1']:.2%}"
            _whole(folder / PICTURE, lambda aside: draw_confusion(confusion, title, aside))
        else:
            _write_text(folder / PAIRS, _csv(_pairs(confusion)))
        content = {**settings, "scores": {name: _plain(value) for name, value in scores.items()}}
        _write_text(folder / SCORES, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise RunError(
            f"the report cannot be written to {folder}: {error}. Free space, or choose another --out"
        ) from error


def _per_class(confusion: Confusion) -> Iterable[_Row]:
    yield "label", "class", "samples", "top1", "top5", "most_confused_with", "times"
    others, times = confusion.most_confused()
    for label, name in enumerate(confusion.class_names):
        samples, other = int(confusion.samples[label]), int(others[label])
        shares = [f"{hits[label] / samples:.6f}" if samples else "" for hits in (confusion.top1, confusion.top5)]
        taken_for = "" if other == NO_CLASS else confusion.class_names[other]
        yield label, name, samples, *shares, taken_for, int(times[label])


def _matrix(confusion: Confusion) -> Iterable[_Row]:
    yield "", *confusion.class_names
    for name, row in zip(confusion.class_names, confusion.matrix().tolist(), strict=True):
        yield name, *row


def _pairs(confusion: Confusion) -> Iterable[_Row]:
    yield "truth", "prediction", "pictures"
    names = confusion.class_names
    cells = zip(confusion.truth.tolist(), confusion.prediction.tolist(), confusion.pictures.tolist(), strict=True)
    for truth, prediction, pictures in cells:
        yield names[truth], names[prediction], pictures


def _csv(rows: Iterable[_Row]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _plain(value: float) -> float | None:
    """Return a number as JSON has it: there is no nan."""
    return value if math.isfinite(value) else None


def _write_text(file: Path, text: str) -> None:
    _whole(file, lambda aside: aside.write_text(text, encoding="utf-8", errors="surrogateescape"))


def _whole(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside, and give it its name last."""
    aside = file.with_name(f".{file.name}.writing")
    try:
        write(aside)
        aside.replace(file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
