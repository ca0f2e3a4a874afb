"""`fastbot doctor --data`, as a user sees it; every part gets a hundredth of a second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stores import StoredPicture, flip_bytes, write_store
from trained_runs import recipe_of, save_run, trained_network

from datasets_tools.store import Store
from fastbot.cli import main
from fastbot.diagnosis import examination


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_READ_S", "_PAGE_IN_S", "_DECODE_S", "_AUGMENT_S", "_COPY_S", "_STEP_S"):
        monkeypatch.setattr(examination, name, 0.01)
    monkeypatch.setenv("COLUMNS", "200")


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--device", "cpu", *map(str, arguments)])
    said = capsys.readouterr()
    assert left.value.code == code, said
    assert "Traceback" not in said.err
    return said.err if code else said.out


def test_every_part_is_measured_and_one_setting_named(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "doctor.json"
    printed = doctor(
        capsys, "--data", store_path, "--recipe", tiny_recipe, "--backend", "torch", "--threads", "2", "--json", file
    )
    written = json.loads(file.read_text())
    rows = {(figure["part"], figure["variant"]): figure for figure in written["figures"]}
    measured = {key for key, figure in rows.items() if figure["images_per_s"] is not None}
    assert measured == {
        ("disk", "in order"),
        ("disk", "at random"),
        ("decode", "1 thread"),
        ("decode", "2 threads"),
        ("augment", ""),
        ("model step", ""),
    }
    assert rows["host to device", ""]["how"] == "not needed: the device is the CPU"
    assert rows["model step", ""]["how"].startswith("resnet18d, fp32, batch ")
    assert written["diagnosis"]["advice"] in printed
    assert f"limit     {written['diagnosis']['limit']}" in printed
    assert written["situation"]["threads"] == 2
    assert written["conditions"]["num_pictures"] == 72
    assert written["conditions"]["versions"].keys() >= {"fastbot", "torch", "numba"}
    for part in ("disk, in order", "decode, 2 threads", "augment", "model step"):
        assert part in printed


def test_rates_of_the_disk_are_in_pictures_of_the_store(
    capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "doctor.json"
    doctor(capsys, "--data", store_path, "--backend", "torch", "--json", file)
    mean_bytes = float(Store(store_path).split("train").sizes.mean())
    for figure in json.loads(file.read_text())["figures"][:2]:
        assert figure["images_per_s"] * mean_bytes == pytest.approx(figure["details"]["mb_per_s"] * 1e6, rel=1e-3)


def test_without_a_model_its_row_says_how_to_ask(capsys: pytest.CaptureFixture[str], store_path: Path) -> None:
    printed = doctor(capsys, "--data", store_path, "--backend", "torch", "--threads", "1")
    assert "not asked for: add --recipe NAME, or --model NAME and --batch-size N" in printed
    assert "of the pipeline without a model" in printed


def test_a_model_by_name_and_a_batch_size(capsys: pytest.CaptureFixture[str], store_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    doctor(
        capsys, "--data", store_path, "--model", "resnet18d", "--batch-size", "2", "--backend", "torch", "--json", file
    )
    details = json.loads(file.read_text())["figures"][-1]["details"]
    # The default recipe's fp16 is for GPUs.
    assert details == {
        "model": "resnet18d",
        "precision": "fp32",
        "batch_size": 2,
        "micro_batches": 1,
        "bn_batch": "micro_batch",
        "teacher": False,
        "ema": False,
    }


def tricky(tiny_recipe: Path, tmp_path: Path, teacher: str) -> Path:
    """Return a recipe with all that a step costs more for."""
    file = tmp_path / "tricky.toml"
    tables = f'[ema]\ndecay = 0.9\n[distillation]\nkind = "teacher"\nteacher = "{teacher}"\n'
    text = tiny_recipe.read_text().replace("[model]", "micro_batches = 2\n[model]\nbn_batch = 4")
    file.write_text(text + tables)
    return file


def test_micro_batches_groups_teacher_and_average_are_the_recipes(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    classes = Store(store_path).class_names
    network = trained_network(recipe_of("torchvision:shufflenet_v2_x0_5"), num_classes=len(classes))
    save_run(tmp_path / "teacher", recipe_of("torchvision:shufflenet_v2_x0_5"), network, class_names=classes)
    file, recipe = tmp_path / "doctor.json", tricky(tiny_recipe, tmp_path, str(tmp_path / "teacher"))
    printed = doctor(capsys, "--data", store_path, "--recipe", recipe, "--backend", "torch", "--json", file)
    step = json.loads(file.read_text())["figures"][-1]
    size = step["details"]["batch_size"]
    norm = min(4, size // 2)
    words = f"2 micro-batches of {size // 2}, batch norm over {norm}, a teacher, a moving average, batch {size}"
    assert words in step["how"]
    assert words in " ".join(printed.split())
    assert {key: step["details"][key] for key in ("micro_batches", "bn_batch", "teacher", "ema")} == {
        "micro_batches": 2,
        "bn_batch": 4,
        "teacher": True,
        "ema": True,
    }


def test_a_teacher_that_is_not_there_yet_is_left_out_and_told_of(
    capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    file, recipe = tmp_path / "doctor.json", tricky(tiny_recipe, tmp_path, "runs/nobody")
    doctor(capsys, "--data", store_path, "--recipe", recipe, "--backend", "torch", "--json", file)
    step = json.loads(file.read_text())["figures"][-1]
    assert "; without its teacher: distillation.teacher runs/nobody is not there. Train the teacher" in step["how"]
    assert step["details"]["teacher"] is False


@pytest.mark.parametrize(
    ("batch_size", "words"),
    [(15, "micro_batches is 2 and does not divide a rank's share of the batch, 15 rows"), (20, "model.bn_batch is 4")],
)
def test_a_batch_that_the_trainer_would_refuse_is_refused(
    batch_size: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    store_path: Path,
    tiny_recipe: Path,
    tmp_path: Path,
) -> None:
    recipe = tricky(tiny_recipe, tmp_path, "runs/nobody")
    assert words in doctor(capsys, "--data", store_path, "--recipe", recipe, "--batch-size", str(batch_size), code=2)


def test_a_store_of_one_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = b"\x80" * (5 * 7 * 3)
    write_store(tmp_path / "one", {"val": [StoredPicture("only", data, 5, 7, raw=True)]})
    printed = doctor(capsys, "--data", tmp_path / "one", "--backend", "torch")
    assert "one, val: 1 picture of 0.1 kB and 7 x 5 pixels on average" in printed
    assert "change " in printed


def test_shards_are_read_where_they_lie(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = [StoredPicture(str(k), bytes([k]) * (8 * 8 * 3), 8, 8, raw=True) for k in range(6)]
    write_store(tmp_path / "shards", {"train": pictures}, num_shards=3)
    assert "train: 6 pictures" in doctor(capsys, "--data", tmp_path / "shards", "--backend", "torch")


def test_a_store_without_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_store(tmp_path / "none", {"train": []})
    assert "no split has pictures" in doctor(capsys, "--data", tmp_path / "none", code=1)


def test_damaged_pictures_are_left_out_and_told_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pictures = [StoredPicture(str(k), bytes([k]) * (64 * 64 * 3), 64, 64, raw=True) for k in range(8)]
    store = write_store(tmp_path / "damaged", {"train": pictures})
    flip_bytes(store.split("train"), 3)
    printed = doctor(capsys, "--data", tmp_path / "damaged", "--backend", "torch")
    assert "pictures were damaged: see `fastbot store verify`" in printed


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--recipe", "nothing"), 2, "`fastbot recipes` lists all"),
        (("--model", "resnet50dd"), 2, "Did you mean resnet50d"),
        (("--backend", "fast"), 2, "backend is 'fast'; it must be one of auto, turbo, dali"),
        (("--batch-size", "8"), 2, "--model"),
        (("--threads", "0"), 2, "--threads"),
        (("--json", "/nowhere/doctor.json"), 1, "/nowhere cannot be written to"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    store_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(examination, "steps", None)  # to call it would be a TypeError
    assert words in doctor(capsys, "--data", store_path, *arguments, code=code)


def test_a_missing_store(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = doctor(capsys, "--data", tmp_path / "absent", code=1)
    assert f"{tmp_path / 'absent'}: no such folder" in said


def test_options_of_measuring_need_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--data" in doctor(capsys, "--threads", "2", code=2)


def test_ctrl_c_ends_with_130(
    capsys: pytest.CaptureFixture[str], store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(examination, "page_in", interrupted)
    assert "limit" not in doctor(capsys, "--data", store_path, "--backend", "torch", code=130)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_on_a_gpu_the_bus_is_measured_too(
    backend: str, capsys: pytest.CaptureFixture[str], store_path: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    file = tmp_path / "doctor.json"
    arguments = (
        "--device",
        "cuda",
        "--data",
        store_path,
        "--recipe",
        tiny_recipe,
        "--backend",
        backend,
        "--json",
        file,
    )
    doctor(capsys, *arguments)
    rows = {figure["part"]: figure for figure in json.loads(file.read_text())["figures"]}
    assert rows["host to device"]["details"]["gb_per_s"] > 0
    assert {rows[part]["resource"] for part in ("augment", "model step")} == {"GPU"}
    assert rows["decode"]["resource"] == ("GPU" if rows["decode"]["details"]["backend"] == "dali" else "CPU")
