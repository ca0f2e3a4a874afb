"""`fastbot predict`: the same numbers as evaluating the same pictures, and one line for each that is bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets_tools.photographs import load
from datasets_tools.store import Store
from fastbot.build import model_on
from fastbot.checkpoint import Conditions, Identity
from fastbot.cli import main
from fastbot.recipe import Recipe
from fastbot.recipe_files import load_recipe
from fastbot.runs import RunFolder
from pipelines.pipeline import Place, open_eval

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    """A run of weights as they start, with a moving average of other ones: that is what predicts."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "tiny.toml").write_text(TINY)
    recipe = load_recipe(str(folder / "tiny.toml"))
    run = RunFolder(folder / "run")
    run.create(recipe, (), resume=False)
    torch.manual_seed(0)
    store = Store(store_path)
    model, average = network(recipe, store), network(recipe, store).state_dict()
    identity = Identity("digest", "digest", recipe.as_dict(), store.class_names, Conditions({}, 1, 1, "cpu", "turbo"))
    run.checkpoints.save(1, model, {}, identity, best=True, average=average)
    return run.path


TINY = """
name = "tiny"
about = "a network as it starts"
epochs = 1
[model]
name = "resnet18d"
[data]
eval = { resize_size = 70, crop_size = 64, global_batch_size = 8 }
[ema]
decay = 0.9
"""


def network(recipe: Recipe, store: Store) -> torch.nn.Module:
    """Return a network whose logits of the store's pictures differ and are of a usual size."""
    model = model_on(recipe, store.num_classes, CPU).eval()
    pipeline = open_eval(store.split("val"), recipe.data, store.num_classes, Place("torch", CPU))
    with closing(pipeline), torch.no_grad():
        logits = torch.cat([model(batch.images) for batch in pipeline.batches()])
        scale = (logits - logits.mean(dim=0)).std()
        model.fc.weight *= 2 / scale
        model.fc.bias.copy_(-2 * logits.mean(dim=0) / scale)
    return model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    """The validation pictures of the store as files, named by their ids."""
    folder = tmp_path_factory.mktemp("pictures")
    split = Store(store_path).split("val")
    for sample_id in range(len(split)):
        (folder / f"{sample_id:03d}.jpg").write_bytes(split.encoded(sample_id).tobytes())
    return folder


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["predict", *map(str, arguments)])
    printed = capsys.readouterr()
    assert left.value.code == code, printed.err
    return printed.out, printed.err


def evaluated(run: Path, store: Store, *, crop_size: int, resize_size: int) -> Iterator[torch.Tensor]:
    """Yield the probabilities of each validation picture, by evaluation's own pipeline and the moving average."""
    folder = RunFolder(run)
    recipe = folder.recipe()
    spec = recipe.data.eval.model_copy(update={"crop_size": crop_size, "resize_size": resize_size})
    data = recipe.data.model_copy(update={"eval": spec})
    model = model_on(recipe, store.num_classes, CPU).eval()
    model.load_state_dict(folder.checkpoints.load("best").average)
    with closing(open_eval(store.split("val"), data, store.num_classes, Place("torch", CPU))) as pipeline:
        for batch in pipeline.batches():
            with torch.no_grad():
                yield from model(batch.images).softmax(dim=1)[batch.weight > 0]


@pytest.mark.parametrize("options", [(), ("--size", "56", "--crop-ratio", "0.95", "--rounding", "ceil")], ids=str)
def test_a_picture_is_predicted_as_it_is_evaluated(
    capsys: pytest.CaptureFixture[str], run: Path, pictures: Path, store: Store, options: tuple[str, ...]
) -> None:
    everything = ("--backend", "torch", "--top", str(store.num_classes), "--json")
    printed, _ = predicted(capsys, run, pictures, *everything, *options)
    crop_size, resize_size = (56, 59) if options else (64, 70)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [Path(line["picture"]).stem for line in lines] == [f"{k:03d}" for k in range(len(lines))]
    rows = list(evaluated(run, store, crop_size=crop_size, resize_size=resize_size))
    assert len(rows) == len(lines) == len(store.split("val"))
    assert len({line["predictions"][0]["class"] for line in lines}) > 1, "else nothing would tell pictures apart"
    for line, row in zip(lines, rows, strict=True):
        found = {guess["class"]: guess["probability"] for guess in line["predictions"]}
        expected = dict(zip(store.class_names, row.tolist(), strict=True))
        assert found == {name: pytest.approx(value, abs=1e-5) for name, value in expected.items()}
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_five_lines_a_picture(capsys: pytest.CaptureFixture[str], run: Path, pictures: Path) -> None:
    printed, _ = predicted(capsys, run, pictures / "000.jpg", pictures / "003.jpg")
    lines = printed.splitlines()
    assert [line for line in lines if line.endswith(".jpg")] == [f"{pictures}/000.jpg", f"{pictures}/003.jpg"]
    assert len(lines) == 12
    assert {line.index("%") for line in lines if "%  " in line} == {9}, "aligned"


def test_any_kind_of_picture_is_taken_and_bad_ones_are_named(
    capsys: pytest.CaptureFixture[str], run: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    (folder / "below").mkdir(parents=True)
    pixels = Image.fromarray(load("chelsea")[:90, :120])
    pixels.save(folder / "a.png")
    pixels.convert("L").save(folder / "below" / "b.webp")
    pixels.convert("CMYK").save(folder / "c.jpg")
    (folder / "cut.jpg").write_bytes((pictures / "000.jpg").read_bytes()[:600])
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("left out")
    (tmp_path / "empty").mkdir()
    odd = tmp_path / "odd\nname"
    shutil.copy(pictures / "001.jpg", odd)
    arguments = (folder, tmp_path / "empty", tmp_path / "absent.jpg", odd)
    printed, errors = predicted(capsys, run, *arguments, "--top", "1", code=1)
    named = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert named == [f"{folder}/{name}" for name in ("a.png", "c.jpg", "below/b.webp")] + [f"{tmp_path}/odd\\nname"]
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 4
    for line, said in zip(
        lines,
        ("cut.jpg: is a broken JPEG", "text.jpg: is no picture", "empty: holds no file", "absent.jpg: cannot be read"),
        strict=True,
    ):
        assert said in line
    assert "Traceback" not in errors


def test_orientation_is_applied_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path
) -> None:
    upright = load("astronaut")[:100, :140]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    stored.save(tmp_path / "turned.png", exif=exif)
    stored.save(tmp_path / "plain.png")
    Image.fromarray(upright).save(tmp_path / "upright.png")

    def probabilities(name: str, *options: str) -> object:
        printed, _ = predicted(capsys, run, tmp_path / name, "--json", *options)
        return json.loads(printed)["predictions"]

    assert probabilities("turned.png") == probabilities("upright.png") != probabilities("plain.png")
    assert probabilities("turned.png", "--exif", "ignore") == probabilities("plain.png")


def test_a_network_of_yes_and_no_gives_each_class_its_own_probability(
    capsys: pytest.CaptureFixture[str], run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "run"
    shutil.copytree(run, other, symlinks=True)
    recipe = load_recipe(str(other / "recipe.toml"), ["loss.kind=bce"])
    RunFolder(other).create(recipe, (), resume=True)
    one, _ = predicted(capsys, run, pictures / "000.jpg", "--json", "--top", "12")
    two, _ = predicted(capsys, other, pictures / "000.jpg", "--json", "--top", "12")
    soft, own = ([guess["probability"] for guess in json.loads(line)["predictions"]] for line in (one, two))
    assert sum(soft) == pytest.approx(1, abs=1e-4)
    odds = np.log(own) - np.log1p(-np.array(own))  # the logits
    np.testing.assert_allclose(np.exp(odds) / np.exp(odds).sum(), soft, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("RUN",), 2, "IMAGE"),
        (("RUN", "x.jpg", "--size", "0"), 2, "--size"),
        (("RUN", "x.jpg", "--crop-ratio", "0"), 2, "--crop-ratio is 0;"),
        (("RUN", "x.jpg", "--checkpoint", "bset"), 1, "bset is not there"),
        (("NORUN", "x.jpg"), 1, "is not a run folder"),
    ],
    ids=["no image", "size", "ratio", "checkpoint", "not a run"],
)
def test_bad_input_is_named(
    capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    given = [{"RUN": str(run), "NORUN": str(tmp_path)}.get(word, word) for word in arguments]
    _, errors = predicted(capsys, *given, code=code)
    assert said in errors


def test_nothing_is_left_behind(
    capsys: pytest.CaptureFixture[str], run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    predicted(capsys, run, pictures / "000.jpg")
    assert not list(tmp_path.iterdir())
