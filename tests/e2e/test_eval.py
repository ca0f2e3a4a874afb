"""`fastbot eval` on other splits, by other labels and of other crops. The commands run in this process."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from command import fastbot
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


def predictions(
    run: Path, pictures: Sequence[StoredPicture], resize_size: int = 36, crop_size: int = 32, *, flip: bool = False
) -> list[int]:
    """Return the class that the best model gives each picture, prepared by Pillow and torchvision alone."""
    folder = RunFolder(run)
    model = model_on(folder.recipe(), len(CLASSES), torch.device("cpu")).eval()
    model.load_state_dict(folder.checkpoints.load("best").weights)
    images = [
        Image.frombytes("RGB", (SIZE, SIZE), sample.data) if sample.raw else Image.open(io.BytesIO(sample.data))
        for sample in pictures
    ]
    crops = [
        np.asarray(functional.center_crop(functional.resize(image, resize_size), crop_size), np.float32)
        for image in images
    ]
    normalized = (np.stack(crops) - (123.68, 116.779, 103.939)) / (58.393, 57.12, 57.375)
    batch = torch.from_numpy(normalized).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model(batch) + (model(functional.hflip(batch)) if flip else 0)
    return logits.argmax(dim=1).tolist()


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


def report(folder: Path) -> tuple[list[list[int]], dict[str, object]]:
    """Return the cells of a report, true classes down, and what `scores.json` says."""
    with (folder / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header[1:]) == tuple(row[0] for row in rows) == CLASSES
    return [[int(cell) for cell in row[1:]] for row in rows], json.loads((folder / "scores.json").read_text())


def test_another_crop_and_flips_are_scored_and_reported(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, tmp_path: Path
) -> None:
    options = ("--size", "38", "--crop-ratio", "0.95", "--flip", "--batch-size", "4", "--out", str(tmp_path / "out"))
    printed = scored(capsys, run, data, *options)
    assert "crop        40 -> 38 px (38 / 0.95 = 40), bilinear; logits of mirror images averaged in" in printed
    guesses = predictions(run, VAL, 40, 38, flip=True)
    cells = Counter((sample.label, guess) for sample, guess in zip(VAL, guesses, strict=True))
    matrix, scores = report(tmp_path / "out")
    assert matrix == [[cells[i, j] for j in range(3)] for i in range(3)]
    assert scores["scores"]["top1"] == sum(cells[i, i] for i in range(3)) / len(VAL)
    assert (scores["resize_size"], scores["crop_size"], scores["flip"], scores["batch_size"]) == (40, 38, True, 4)
    missed = [label for label in range(3) if sum(cells[label, guess] for guess in range(3)) > cells[label, label]]
    assert missed
    assert printed.count("top-1") == 1 + len(missed), "the split, and each of its classes that has a miss"
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def altered(run: Path, other: Path, before: str, after: str) -> Path:
    """Return a copy of a run, with another line in its recipe."""
    shutil.copytree(run, other, symlinks=True)
    recipe = (other / "recipe.toml").read_text()
    assert before in recipe
    (other / "recipe.toml").write_text(recipe.replace(before, after))
    return other


def test_what_was_trained_in_fp16_is_scored_in_fp32_on_a_cpu(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, tmp_path: Path
) -> None:
    """Which `eval` says in its report, and has nothing to warn of; so has `predict`."""
    other = altered(run, tmp_path / "run", '[precision]\nkind = "fp32"', '[precision]\nkind = "fp16"')
    assert RunFolder(other).recipe().precision.kind == "fp16"
    picture_file = tmp_path / "picture.jpg"
    Image.fromarray(load(PHOTOGRAPHS[0])[:SIZE, :SIZE]).save(picture_file)
    told, reports = [], []
    for number, each in enumerate((run, other)):
        out = tmp_path / f"out{number}"
        assert command("eval", each, "--data", data, "--backend", "torch", "--device", "cpu", "--out", out) == 0
        reports.append(json.loads((out / "scores.json").read_text()))
        assert "fp16" not in capsys.readouterr().err
        assert command("predict", each, picture_file, "--backend", "torch", "--device", "cpu") == 0
        printed = capsys.readouterr()
        assert "fp16" not in printed.err
        told.append(printed.out)
    assert [report["precision"] for report in reports] == ["fp32", "fp32"]
    assert reports[1]["scores"] == reports[0]["scores"]
    assert told[1] == told[0]


def test_the_recipe_says_whether_flips_are_averaged(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, tmp_path: Path
) -> None:
    other = altered(run, tmp_path / "run", "eval_flip = false", "eval_flip = true")
    assert "mirror images" in scored(capsys, other, data)
    assert "mirror images" not in scored(capsys, other, data, "--no-flip")


def test_a_report_by_a_label_set_counts_by_its_rule(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, tmp_path: Path
) -> None:
    scored(capsys, run, data, "--labels", "real", "--out", str(tmp_path))
    cells: Counter[tuple[int, int]] = Counter()
    for guess, real in zip(predictions(run, VAL), REAL, strict=True):
        cells.update((label, label if guess in real else guess) for label in real)
    matrix, scores = report(tmp_path)
    assert matrix == [[cells[i, j] for j in range(3)] for i in range(3)]
    assert scores["labels"] == "real"
    assert scores["scores"]["num_samples"] == 7


def test_two_processes_report_what_one_does(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, tmp_path: Path
) -> None:
    """Nine pictures, four at a time: each rank has padding, and a last batch of padding alone."""
    options = ("--batch-size", "4", "--out")
    scored(capsys, run, data, *options, str(tmp_path / "1"))
    fastbot("eval", run, "--data", data, "--backend", "torch", "--nproc", "2", *options, tmp_path / "2")
    for name in ("per_class.csv", "confusion.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    one, two = (report(tmp_path / ranks)[1] for ranks in ("1", "2"))
    assert (one.pop("world_size"), two.pop("world_size")) == (1, 2)
    first, second = one.pop("scores"), two.pop("scores")
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert (first["top1"], first["top5"]) == (second["top1"], second["top5"])
    assert one == two


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--size", "0"], 2, "--size"),
        (["--size", "100000"], 2, "--size is 100000; it must be from 1 to 4096 pixels"),
        (["--crop-ratio", "1.5"], 2, "--crop-ratio is 1.5; the crop's share of the resized short side is in (0, 1]"),
        (["--rounding", "ceil"], 2, "--rounding ceil has no effect"),
        (["--checkpoint", "bset"], 1, "of that name. There are: best, last, step-"),
        (["--out", "FILE"], 1, "Choose another --out"),
    ],
    ids=["size", "large", "ratio", "rounding", "checkpoint", "out"],
)
def test_bad_options_are_named(
    capsys: pytest.CaptureFixture[str], run: Path, data: Path, options: list[str], code: int, said: str
) -> None:
    capsys.readouterr()
    options = [str(run / "recipe.toml") if option == "FILE" else option for option in options]
    assert command("eval", run, "--data", data, "--backend", "torch", *options) == code
    assert said in capsys.readouterr().err
