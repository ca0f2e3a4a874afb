"""`fastbot eval` on other splits and by other labels. The commands run in this process."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from recipes import TINY_RECIPE
from stores import StoredPicture, write_store

from datasets_tools.photographs import load
from fastbot.cli import main

CLASSES = ("cat", "coffee", "person")
PHOTOGRAPHS = ("chelsea", "coffee", "astronaut")
SIZE = 40


def picture(number: int, start: int) -> StoredPicture:
    """Return the `number`th piece of its class's photograph; every third is stored raw."""
    label = number % len(CLASSES)
    pixels = load(PHOTOGRAPHS[label])[start + 4 * number :, 7 * number :][:SIZE, :SIZE]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg")
    raw = number // len(CLASSES) % 3 == 0
    return StoredPicture(f"{start}/{number}", pixels.tobytes() if raw else buffer.getvalue(), SIZE, SIZE, label, raw)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a second set to evaluate on, and two label sets of `val`."""
    folder = tmp_path_factory.mktemp("eval") / "data"
    splits = {
        "train": [picture(number, 20) for number in range(18)],
        "val": [picture(number, 60) for number in range(9)],
        "v2": [picture(number, 100) for number in range(6)],
    }
    label_sets = {
        "val": {
            "real": [[sample.label] if number < 7 else [] for number, sample in enumerate(splits["val"])],
            "anything": [[0, 1, 2]] * 9,
        }
    }
    write_store(folder, splits, CLASSES, num_shards=2, label_sets=label_sets)
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    arguments = ["train", folder / "tiny.toml", "--data", data, "--out", folder / "run", "--backend", "torch"]
    assert command(*arguments, "epochs=3 steps") == 0
    return folder / "run"


def command(*arguments: str | Path) -> object:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code


def scored(capsys: pytest.CaptureFixture[str], run: Path, data: Path, *more: str) -> str:
    """Run `fastbot eval` and return what it prints of its own scores."""
    capsys.readouterr()
    code = command("eval", run, "--data", data, "--backend", "torch", *more)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out[printed.out.index("scored ") :]


def test_any_split_is_scored_by_name(capsys: pytest.CaptureFixture[str], run: Path, data: Path) -> None:
    printed = scored(capsys, run, data, "--split", "v2")
    assert "split v2" in printed
    top1 = float(re.search(r"top-1 ([\d.]+)%, top-5 100.00%, loss ", printed)[1])
    assert top1 in [round(100 * hits / 6, 2) for hits in range(7)]


def test_a_label_set_counts_the_pictures_that_have_labels(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path
) -> None:
    printed = scored(capsys, run, data, "--labels", "real")
    assert "real: 7 of 9 pictures have any" in printed
    assert float(re.search(r"top-1 ([\d.]+)%", printed)[1]) in [round(100 * hits / 7, 2) for hits in range(8)]
    assert "loss" not in printed
    assert "top-1 100.00%, top-5 100.00%" in scored(capsys, run, data, "--labels", "anything")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--labels", "rael"], "has no label set 'rael'; it has real, anything"),
        (["--labels", "real", "--split", "v2"], "split v2 has no label set 'real'; it has none"),
        (["--split", "v3"], "has no split 'v3'; it has train, val, v2"),
    ],
    ids=["label set", "label set of another split", "split"],
)
def test_what_the_store_does_not_have_is_named(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, options: list[str], said: str
) -> None:
    capsys.readouterr()
    assert command("eval", run, "--data", data, "--backend", "torch", *options) == 1
    assert said in capsys.readouterr().err
