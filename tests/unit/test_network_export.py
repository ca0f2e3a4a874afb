"""What an export refuses, and that nothing half-written or different is ever left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from trained_runs import recipe_of, save_run, trained_network

from fastbot.errors import CheckpointError, ModelError, RunError
from fastbot.interchange import safetensors_file
from fastbot.interchange.aside import whole_or_absent
from fastbot.interchange.counterparts import Library, counterpart, is_same_network
from fastbot.interchange.export import export
from fastbot.interchange.formats import FormatName
from fastbot.runs import RunFolder
from fastbot.specs import EmaSpec, ModelSpec, TeacherSpec

SMALL = "timm:test_resnet"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    recipe = recipe_of(SMALL)
    return save_run(tmp_path_factory.mktemp("runs") / "run", recipe, trained_network(recipe))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_average_is_exported_where_there_is_one(tmp_path: Path) -> None:
    recipe = recipe_of(SMALL).model_copy(update={"ema": EmaSpec()})
    average = trained_network(recipe, seed=2)
    run = save_run(tmp_path / "run", recipe, trained_network(recipe, seed=1), average=average)
    export(run, "safetensors", tmp_path / "a.safetensors")
    weights = load_file(tmp_path / "a.safetensors")
    assert weights.keys() == average.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in average.state_dict().items())


@pytest.mark.parametrize(
    ("library", "model", "message"),
    [
        ("torchvision", {"name": "resnet50v1"}, r"of resnet50v1\. Export it --to safetensors, onnx or torchscript"),
        ("timm", {"name": "resnet50v1"}, r"timm has no model .* of resnet50v1\. Export it --to safetensors, onnx or"),
        ("torchvision", {"name": "resnet18d"}, "of resnet18d. Export it --to timm, hf, safetensors, onnx or torch"),
        ("torchvision", {"name": "mobilenet"}, "Export it --to timm, hf, safetensors"),
        ("timm", {"name": "torchvision:vgg11"}, "timm has no model .*Export it --to safetensors, onnx or"),
        ("timm", {"name": "resnet18b", "blur_pool": True}, "of resnet18b with blur_pool. Export it --to safetensors"),
    ],
)
def test_a_model_without_counterpart_is_refused_with_the_formats_that_hold_it(
    library: Library, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        counterpart(library, ModelSpec(**model))


def test_what_is_refused_leaves_nothing(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of timm:test_resnet. Export it --to timm, hf, safetensors"):
        export(run, "torchvision", tmp_path / "a.pth")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("safetensors", "a.pth", r"ends in \.safetensors\. Call it a\.safetensors"),
        ("torchvision", "a.safetensors", r"ends in \.pth or \.pt\. Call it a\.pth"),
        ("timm", "a", r"a file for timm ends in \.safetensors or \.pth or \.pt"),
        ("onnx", "model.v2", r"ends in \.onnx\. Call it model\.onnx"),
    ],
)
def test_a_file_is_called_as_its_library_expects(
    to: FormatName, name: str, message: str, run: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=message):
        export(run, to, tmp_path / name)


@pytest.mark.parametrize("to", ["safetensors", "torchvision", "timm", "hf"])
def test_weights_alone_cannot_hold_the_preprocessing(to: FormatName, run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"a file for {to} holds weights alone. It is for --to onnx and --to torchsc"):
        export(run, to, tmp_path / "a.pth", with_preprocessing=True)


def test_a_file_is_replaced_only_when_asked(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "deeper" / "a.safetensors"
    export(run, "safetensors", out)
    whole = load_file(out)
    out.write_text("an earlier one")
    with pytest.raises(RunError, match="safetensors is already there. Choose another --out, or replace it with --over"):
        export(run, "safetensors", out)
    assert out.read_text() == "an earlier one"
    export(run, "safetensors", out, overwrite=True)
    assert load_file(out).keys() == whole.keys()
    assert names_in(out.parent) == ["a.safetensors"]


def test_a_model_card_does_not_tell_where_the_teacher_lay(tmp_path: Path) -> None:
    taught = recipe_of("resnet18d", 32).model_copy(update={"distillation": TeacherSpec(teacher="/home/me/big")})
    run = save_run(tmp_path / "run", taught, trained_network(taught))
    export(run, "hf", tmp_path / "folder")
    card = (tmp_path / "folder" / "README.md").read_text()
    assert 'teacher = "big"' in card
    assert "/home/me" not in card


def test_an_empty_folder_is_free(run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    export(run, "hf", tmp_path / "folder")
    assert names_in(tmp_path / "folder") == ["README.md", "config.json", "model.safetensors"]


def test_a_folder_is_replaced_whole_and_only_when_asked(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "folder"
    export(run, "hf", out)
    (out / "README.md").write_text("an earlier one")
    (out / "more").touch()
    with pytest.raises(RunError, match="folder is already there"):
        export(run, "hf", out)
    export(run, "hf", out, overwrite=True)
    assert names_in(tmp_path) == ["folder"]
    assert names_in(out) == ["README.md", "config.json", "model.safetensors"]
    assert "# tiny" in (out / "README.md").read_text()


@pytest.mark.parametrize(("to", "name"), [("torchvision", "mine.pth"), ("hf", "mine")])
def test_a_folder_of_somebody_else_is_never_replaced(to: FormatName, name: str, run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text("mine")
    with pytest.raises(RunError, match="is a folder that no export has made"):
        export(run, to, tmp_path / name, overwrite=True)
    assert (tmp_path / name / "config.json").read_text() == "mine"


def test_a_file_that_gives_other_logits_is_not_kept(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("an earlier one")
    real = safetensors_file.load

    def slightly_off(*arguments: object) -> object:
        network = real(*arguments)  # type: ignore[arg-type]
        return lambda images: network(images) * torch.tensor(1.001)

    monkeypatch.setattr(safetensors_file, "load", slightly_off)
    with pytest.raises(RunError, match=r"is not kept: loaded back, its logits differ by 0\.001 of the largest one"):
        export(run, "safetensors", out, overwrite=True)
    assert names_in(tmp_path) == ["a.safetensors"]
    assert out.read_text() == "an earlier one"


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (lambda images: torch.zeros(2, 5), r"it fails: it puts out \(2, 5\), not \(1, 5\)"),  # as when traced
        (lambda images: 1 / 0, "it fails: division by zero"),
        (lambda images: torch.full((len(images), 5), torch.nan), "its logits differ by nan of the largest one"),
    ],
)
def test_what_is_broken_once_loaded_is_not_kept(
    logits: Any, message: str, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safetensors_file, "load", lambda trained, path: logits)
    with pytest.raises(RunError, match=f"is not kept: loaded back, {message}"):
        export(run, "safetensors", tmp_path / "a.safetensors")
    assert names_in(tmp_path) == []


def test_a_full_disk_leaves_what_was_there(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(trained: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_file, "write", full)
    with pytest.raises(RunError, match="cannot be written: .*No space left on device.*Free space"):
        export(run, "safetensors", tmp_path / "a.safetensors")
    assert names_in(tmp_path) == []


def test_a_network_that_diverged_is_refused(tmp_path: Path) -> None:
    recipe = recipe_of(SMALL)
    network = trained_network(recipe)
    with torch.no_grad():
        next(iter(network.parameters()))[0] = float("nan")
    run = save_run(tmp_path / "run", recipe, network)
    with pytest.raises(CheckpointError, match="weight holds nan or infinity. Its training diverged"):
        export(run, "safetensors", tmp_path / "a.safetensors")


def test_missing_runs_and_checkpoints_are_named(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        export(RunFolder(tmp_path), "safetensors", tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="step-00000001 is not there"):
        export(run, "safetensors", tmp_path / "a.safetensors", checkpoint="step-00000001")


@pytest.mark.parametrize(
    ("to", "module", "missing", "line"),
    [
        ("onnx", "onnx_file", "onnxruntime", "pip install onnx onnxscript onnxruntime"),
        ("timm", "timm_file", "timm", "pip install timm"),
        ("hf", "hugging_face", "timm", "pip install timm"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    to: FormatName, module: str, missing: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for name in {"timm_file", module}:
        monkeypatch.delitem(sys.modules, f"fastbot.interchange.{name}", raising=False)
    with pytest.raises(ModelError, match=f"--to {to} needs .*{line}$"):
        export(RunFolder(tmp_path), to, tmp_path / "a")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("resnet50b", "torchvision:resnet50", True),
        ("timm:resnet50", "torchvision:resnet50", True),
        ("resnet18v1", "timm:resnet18", True),
        ("resnet50v1", "resnet50b", False),
        ("resnet50v1", "torchvision:resnet50", False),
        ("resnet50v1", "resnet50v1", True),
        ("resnet18c", "resnet18b", False),
        ("mobilenet", "timm:mobilenetv1_100", False),  # timm's own has ReLU6
        ("torchvision:vgg11", "timm:vgg11", False),
    ],
)
def test_names_of_the_same_network(one: str, other: str, same: bool) -> None:
    assert is_same_network(one, other) is same
    assert is_same_network(other, one) is same


def test_what_raises_leaves_nothing_aside(tmp_path: Path) -> None:
    def write() -> None:
        with whole_or_absent(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert names_in(tmp_path) == []


def test_of_two_at_once_the_last_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole_or_absent(tmp_path / "folder") as first:
        first.mkdir()
        (first / "first").touch()
        monkeypatch.setattr("os.getpid", os.getppid)  # another process, and one that is there
        with whole_or_absent(tmp_path / "folder") as second:
            second.mkdir()
            (second / "second").touch()
        monkeypatch.undo()
        assert names_in(tmp_path / "folder") == ["second"]
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == ["first"]


KILLED = """
import sys, time
from pathlib import Path
from fastbot.interchange.aside import whole_or_absent
with whole_or_absent(Path(sys.argv[1])) as aside:
    aside.mkdir()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_kill_left_aside_is_in_nobodys_way(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "folder"], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    with killed.stdout as told:
        assert told.readline() == "writing\n"
        killed.kill()
        killed.wait()
    assert names_in(tmp_path) != []
    with whole_or_absent(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "whole").touch()
    assert names_in(tmp_path) == ["folder"]
    assert names_in(tmp_path / "folder") == ["whole"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match="cannot be written: .*choose another --out"),
        whole_or_absent(tmp_path / "file" / "a"),
    ):
        pytest.fail("there is nowhere to write to")


def test_a_network_of_tied_weights_is_exported(run: RunFolder) -> None:
    from fastbot.interchange.trained import load_trained

    trained = load_trained(run)
    first: Tensor = next(iter(trained.network.parameters()))
    trained.network.register_buffer("tied", first.detach())
    weights = trained.weights()
    assert len({tensor.data_ptr() for tensor in weights.values() if tensor.numel()}) == len(weights)
