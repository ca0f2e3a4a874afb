"""Bad input: one clear line, the right exit code, and nothing lost. The commands run in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from in_process import error
from recipes import TINY_RECIPE
from stores import flip_bytes

from datasets_tools.conversion.convert import ConvertOptions, convert
from datasets_tools.sources.demo import DemoSource
from datasets_tools.store import Store
from fastbot.cli import main
from fastbot.runs import RunFolder
from pipelines.backends import choose


@pytest.fixture
def damaged(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the small store, to be damaged."""
    return Path(shutil.copytree(store_path, tmp_path / "damaged"))


@pytest.fixture(scope="module")
def trained_once(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three steps."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(TINY_RECIPE)
    with pytest.raises(SystemExit) as left:
        main(train(folder / "tiny.toml", store_path, folder / "run", "epochs=3 steps"))
    assert left.value.code == 0
    return folder / "run"


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return Path(shutil.copytree(trained_once, tmp_path / "trained", symlinks=True))


def train(recipe: Path, data: Path, run: Path, *more: str) -> list[str]:
    return ["train", str(recipe), "--data", str(data), "--out", str(run), "--backend", "torch", *more]


def test_an_unknown_recipe_key_suggests_the_nearest(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    said = error(capsys, 2, *train(Path("demo"), store_path, tmp_path / "run", "optimizer.lerning_rate=1"))
    assert "optimizer.lerning_rate is not a recipe key (demo). Did you mean optimizer.learning_rate?" in said
    assert not (tmp_path / "run").exists()


def test_a_value_of_the_wrong_type(capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path) -> None:
    said = error(capsys, 2, *train(Path("demo"), store_path, tmp_path / "run", "data.crop_size=large"))
    assert "data.crop_size is 'large' (demo)" in said


def test_a_missing_data_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = error(capsys, 1, *train(Path("demo"), tmp_path / "absent", tmp_path / "run"))
    assert str(tmp_path / "absent") in said
    assert not (tmp_path / "run").exists()


def test_a_benchmark_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: No such command 'nope'." in error(capsys, 2, "bench", "nope").splitlines()


def test_a_missing_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data" in error(capsys, 2, "train", "demo")


def test_a_backend_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str], store_path: Path) -> None:
    said = error(capsys, 2, "train", "demo", "--data", store_path, "--out", "x", "--backend", "fast")
    assert "fast" in said
    assert "dali" in said


def test_a_batch_that_does_not_divide_over_ranks(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastbot import distributed
    from fastbot.distributed import Ranks, pick_device

    monkeypatch.setattr(distributed, "joined", lambda device: _Joined(Ranks(0, 0, 3, 3, pick_device("cpu"))))
    said = error(capsys, 2, *train(Path("demo"), store_path, tmp_path / "run"))
    assert "64" in said
    assert "3" in said


class _Joined:
    def __init__(self, ranks: object) -> None:
        self._ranks = ranks

    def __enter__(self) -> object:
        return self._ranks

    def __exit__(self, *raised: object) -> None: ...


def test_more_pictures_a_batch_than_the_store_has(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    said = error(capsys, 2, *train(Path("bot-baseline"), store_path, tmp_path / "run"))
    assert "72 samples, fewer than one global_batch_size of 256" in said


def test_a_store_of_another_version(capsys: pytest.CaptureFixture[str], damaged: Path, tmp_path: Path) -> None:
    file = damaged / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["format_version"] = 99
    file.write_text(json.dumps(manifest))
    said = error(capsys, 1, *train(Path("demo"), damaged, tmp_path / "run"))
    assert "99" in said
    assert str(damaged) in said


def test_a_truncated_beton(capsys: pytest.CaptureFixture[str], damaged: Path, tmp_path: Path) -> None:
    file = damaged / "train.beton"
    file.write_bytes(file.read_bytes()[:-1])
    assert "train.beton" in error(capsys, 1, *train(Path("demo"), damaged, tmp_path / "run"))


def test_a_manifest_that_disagrees_with_the_file(
    capsys: pytest.CaptureFixture[str], damaged: Path, tmp_path: Path
) -> None:
    file = damaged / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["splits"]["train"]["max_height"] += 1
    file.write_text(json.dumps(manifest))
    said = error(capsys, 1, *train(Path("demo"), damaged, tmp_path / "run"))
    assert "max_height" in said


@pytest.mark.parametrize("backend", ["torch", "dali", "ffcv"])
def test_flipped_bytes_are_named_by_sample(
    backend: str, capsys: pytest.CaptureFixture[str], damaged: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    if not choose.available()[backend].usable:
        pytest.skip(f"{backend} is not installed")
    flip_bytes(Store(damaged).split("train"), 5)
    arguments = [argument.replace("torch", backend) for argument in train(tiny_recipe, damaged, tmp_path / "run")]
    said = error(capsys, 1, *arguments)
    assert "sample 5 (" in said
    assert "is damaged: the crc32 of its bytes" in said


def test_a_second_training_in_the_same_run(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path, tiny_recipe: Path
) -> None:
    with RunFolder(trained).locked():
        for more in (["--resume"], []):
            assert "another training is at work in" in error(capsys, 1, *train(tiny_recipe, store_path, trained, *more))
        with pytest.raises(SystemExit) as left:  # who reads is not kept out
            main(["eval", str(trained), "--data", str(store_path), "--backend", "torch"])
        assert left.value.code == 0


def test_a_damaged_summary_does_not_keep_from_scoring(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path
) -> None:
    (trained / "summary.json").write_text("{")
    with pytest.raises(SystemExit) as left:
        main(["eval", str(trained), "--data", str(store_path), "--backend", "torch"])
    printed = capsys.readouterr()
    assert left.value.code == 0
    assert "warning: " in printed.err
    assert "summary.json is damaged" in printed.err
    assert "top-1" in printed.out


def test_a_file_called_like_another_format_is_wrong_usage(capsys: pytest.CaptureFixture[str], trained: Path) -> None:
    said = error(capsys, 2, "export", trained, "--to", "onnx", "--out", trained / "a.pth")
    assert "a.pth: the name of a file for onnx ends in .onnx. Call it a.onnx" in said


def test_what_is_already_something_is_not_written_into(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path, tiny_recipe: Path
) -> None:
    said = error(capsys, 1, *train(tiny_recipe, store_path, store_path))
    assert f"{store_path} is a store: nothing else is written into it" in said
    for out, kind in ((store_path, "a store"), (trained, "a run")):
        said = error(capsys, 1, "eval", trained, "--data", store_path, "--out", out)
        assert f"{out} is {kind}: nothing else is written into it" in said


def test_resuming_says_where_there_is_nothing_to_resume(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for out in ("empty", "absent"):
        said = resumed(capsys, *train(tiny_recipe, store_path, tmp_path / out, "epochs=3 steps"))
        assert "start     training tiny" in said
        assert f"{out} has no checkpoint yet: starting from the beginning" in said
        assert "warning: --resume: " in said


def test_a_checkpoint_of_another_recipe(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path, tiny_recipe: Path
) -> None:
    before = (trained / "recipe.toml").read_text()
    said = error(capsys, 1, *train(tiny_recipe, store_path, trained, "epochs=3", "--resume"))
    assert "is of another recipe: epochs is 3 epochs, was 3 steps" in said
    assert (trained / "recipe.toml").read_text() == before


def resumed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Resume a run to its end, and return what was said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--resume"])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    return printed.out


@pytest.mark.parametrize("overrides", [(), ("epochs=3 steps",), ("run.log_every=2",)])
def test_a_resumed_run_needs_no_overrides_again(
    overrides: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    trained: Path,
    store_path: Path,
    tiny_recipe: Path,
) -> None:
    said = resumed(capsys, *train(tiny_recipe, store_path, trained, *overrides))
    assert "epochs=3 steps" in said
    assert "going on from step 3 of 3" in said
    assert 'epochs = "3 steps"' in (trained / "recipe.toml").read_text()
    assert "going on from step 3 of 3" in resumed(capsys, *train(tiny_recipe, store_path, trained))


def test_a_recipe_that_was_changed_meanwhile_is_refused_by_key(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path, tiny_recipe: Path
) -> None:
    tiny_recipe.write_text(TINY_RECIPE.replace("crop_size = 32\n", "crop_size = 24\n"))
    said = error(capsys, 1, *train(tiny_recipe, store_path, trained, "--resume"))
    assert f"{trained} is of another recipe: data.crop_size is 24, was 32. " in said
    said = error(capsys, 1, *train(Path("demo"), store_path, trained, "--resume"))
    assert "is of another recipe: channels_last" in said or "is of another recipe: data." in said
    own = trained / "recipe.toml"
    assert "going on from step 3 of 3" in resumed(capsys, *train(own, store_path, trained))


def test_more_classes_than_the_model_has(
    capsys: pytest.CaptureFixture[str], trained: Path, store_path: Path, tmp_path: Path
) -> None:
    manifest = json.loads((store_path / "manifest.json").read_text())
    checkpoint = trained / "checkpoints" / "last" / "checkpoint.json"
    header = json.loads(checkpoint.read_text())
    header["identity"]["class_names"] = manifest["class_names"][:-1]
    checkpoint.write_text(json.dumps(header))
    said = error(capsys, 1, "eval", trained, "--data", store_path, "--checkpoint", "last", "--backend", "torch")
    assert "the model has 11 classes" in said
    assert "has 12" in said


def test_another_store_is_not_resumed_on(
    capsys: pytest.CaptureFixture[str], trained: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    source = DemoSource(seed=1, train_per_class=6, val_per_class=2)
    convert(source, other, ConvertOptions(fastbot_version="test"), lambda progress: None)
    said = error(capsys, 1, *train(tiny_recipe, other, trained, "epochs=3 steps", "--resume"))
    assert "was trained on another store" in said


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path) -> None:
    assert "is not a run folder" in error(capsys, 1, "eval", tmp_path, "--data", store_path)


def test_ffcv_where_it_is_missing(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> object:
        raise ImportError("No module named 'ffcv'")

    monkeypatch.setattr(choose, "import_module", missing)
    arguments = train(Path("demo"), store_path, tmp_path / "run")
    said = error(capsys, 1, *[argument.replace("torch", "ffcv") for argument in arguments])
    assert "backend ffcv cannot run here: No module named 'ffcv'" in said
    assert "apt-get install libturbojpeg0-dev libjpeg-dev libopencv-dev pkg-config" in said


def test_a_loss_that_is_not_finite_stops_the_run(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    said = error(
        capsys,
        1,
        *train(tiny_recipe, store_path, tmp_path / "run", "optimizer.learning_rate=1e18", "schedule.warmup=0"),
    )
    assert "the loss is" in said
    assert "between steps" in said
    assert "Lower optimizer.learning_rate" in said


def test_brackets_in_names_are_not_markup(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    """Rich would take `[/x]` for a closing tag, and swallow `[red]`."""
    run = tmp_path / "a[/x]" / "b[red]"
    with pytest.raises(SystemExit) as left:
        main(train(tiny_recipe, store_path, run, "epochs=3 steps"))
    assert left.value.code == 0
    assert str(run / "curves.png") in capsys.readouterr().out
    store = tmp_path / "store[/w]"
    shutil.copytree(store_path, store)
    with pytest.raises(SystemExit) as left:
        main(["store", "show", str(store), "--out", str(tmp_path / "sheet.png")])
    assert left.value.code == 0


def test_a_store_inside_its_own_source_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    said = error(capsys, 2, "convert", "folder", tmp_path, tmp_path / "train" / "store")
    assert "inside the source" in said
    assert not (tmp_path / "train" / "store").exists()


def test_a_pipe_is_a_bad_picture_not_a_wait(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import os

    folder = tmp_path / "source" / "train" / "cat"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.jpg")
    said = error(capsys, 1, "convert", "folder", tmp_path / "source", tmp_path / "store", "--workers", "1")
    assert "pipe.jpg" in said
    assert "no regular file" in said


def test_milestones_beyond_the_end_are_pointed_out(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    overrides = ("schedule.kind=step", "schedule.milestones=[1, 30]", "epochs=2")
    with pytest.raises(SystemExit):
        main(train(tiny_recipe, store_path, tmp_path / "run", *overrides))
    said = capsys.readouterr().err
    assert f"warning: schedule.milestones has 30 epochs in recipe {tiny_recipe}, not before its end at 2 epochs" in said
