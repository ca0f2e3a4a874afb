"""`fastbot eval` on other splits and by other labels. The commands run in this process."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recipes import TINY_RECIPE
from stores import StoredPicture, write_store
from torchvision.transforms import functional

from datasets_tools.photographs import load
from fastbot.build import model_on
from fastbot.cli import main
from fastbot.runs import RunFolder

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


VAL = [picture(number, 60) for number in range(9)]
V2 = [picture(number, 100) for number in range(6)]
# Of some pictures another class than their own, of some two, of the last two none.
REAL = [[0], [1, 2], [0], [0, 1], [2], [2, 1], [0], [], []]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a second set to evaluate on, and two label sets of `val`."""
    folder = tmp_path_factory.mktemp("eval") / "data"
    splits = {
        "train": [picture(number, 20) for number in range(18)],
        "val": VAL,
        "v2": V2,
    }
    label_sets = {"val": {"real": REAL, "anything": [[0, 1, 2]] * 9}}
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


def predictions(run: Path, pictures: Sequence[StoredPicture]) -> list[int]:
    """Return the class that the best model gives each picture, prepared by Pillow and torchvision alone."""
    folder = RunFolder(run)
    model = model_on(folder.recipe(), len(CLASSES), torch.device("cpu")).eval()
    model.load_state_dict(folder.checkpoints.load("best").weights)
    images = [
        Image.frombytes("RGB", (SIZE, SIZE), sample.data) if sample.raw else Image.open(io.BytesIO(sample.data))
        for sample in pictures
    ]
    crops = [np.asarray(functional.center_crop(functional.resize(image, 36), 32), np.float32) for image in images]
    normalized = (np.stack(crops) - (123.68, 116.779, 103.939)) / (58.393, 57.12, 57.375)
    with torch.no_grad():
        return model(torch.from_numpy(normalized).float().permute(0, 3, 1, 2)).argmax(dim=1).tolist()


def percentage(hits: Sequence[bool]) -> str:
    return f"{sum(hits) / len(hits):.2%}"


def test_any_split_is_scored_by_name(capsys: pytest.CaptureFixture[str], run: Path, data: Path) -> None:
    printed = scored(capsys, run, data, "--split", "v2")
    assert "split v2" in printed
    expected = [guess == sample.label for guess, sample in zip(predictions(run, V2), V2, strict=True)]
    assert 0 < sum(expected) < len(V2), "a model that is always right or wrong would prove little"
    assert f"top-1 {percentage(expected)}, top-5 100.00%, loss " in printed


def test_a_label_set_counts_the_pictures_that_have_labels(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path
) -> None:
    printed = scored(capsys, run, data, "--labels", "real")
    assert "real: 7 of 9 pictures have any" in printed
    guesses = predictions(run, VAL)
    expected = [guess in real for guess, real in zip(guesses, REAL, strict=True) if real]
    assert expected != [guess == sample.label for guess, sample in zip(guesses, VAL, strict=True)][:7]
    assert f"top-1 {percentage(expected)}, top-5 100.00%" in printed
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
